use std::time::Duration;

use howdah_dcs::{Answer, Change, Changes, KeyTree, StoreError, Watcher};
use howdah_http::StreamBody;
use serde_json::{Value, json};

use crate::{Endpoints, transport::Transport, wire};

/// How long a watch may take to begin.
const BEGIN: Duration = Duration::from_secs(5);

/// Watches all keys of one cluster.
pub(crate) struct EtcdWatcher {
    body: serde_json::Value,
    transport: Transport,
    stream: Option<StreamBody>,
    /// The beginning of a message whose end has not come yet.
    rest: Vec<u8>,
    changes: Changes,
}

/// No message is larger: etcd's own limit for a request is 1.5 MiB, and a base64 of it is larger by a third.
const LONGEST: usize = 8 << 20;

impl EtcdWatcher {
    pub(crate) fn new(tree: KeyTree, endpoints: Endpoints) -> Self {
        let prefix = tree.prefix();
        let body =
            json!({"create_request": {"key": wire::b64(prefix), "range_end": wire::range_end(prefix)}});
        EtcdWatcher {
            body,
            transport: Transport::new(endpoints),
            stream: None,
            rest: Vec::new(),
            changes: Changes::new(tree),
        }
    }

    async fn next_change(&mut self) -> Result<Change, StoreError> {
        loop {
            if let Some(change) = self.next_piece().await? {
                return Ok(change);
            }
        }
    }

    async fn next_piece(&mut self) -> Result<Option<Change>, StoreError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                self.rest.clear();
                self.changes.forget();
                let deadline = howdah_clock::now() + BEGIN;
                let stream = self
                    .transport
                    .stream("/watch", &self.body, deadline)
                    .await
                    .map_err(StoreError::from)?;
                self.stream.insert(stream)
            }
        };
        match stream.next().await {
            Ok(Some(piece)) => {
                self.rest.extend_from_slice(&piece);
                Ok(self.read_messages())
            }
            Ok(None) => {
                self.stream = None;
                Err(StoreError::Unreachable("the watch has ended".into()))
            }
            Err(error) => {
                self.stream = None;
                Err(StoreError::Unreachable(error.to_string()))
            }
        }
    }
}

impl EtcdWatcher {
    /// What the whole messages say that have come; the gateway ends each with a line feed. The first one means that the
    /// watch stands: changes before it may have been missed.
    fn read_messages(&mut self) -> Option<Change> {
        let end = self.rest.iter().rposition(|byte| *byte == b'\n');
        let Some(end) = end else {
            if self.rest.len() > LONGEST {
                self.rest.clear();
                return Some(Change::Other);
            }
            return None;
        };
        let lines: Vec<u8> = self.rest.drain(..=end).collect();
        lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| self.read_message(line))
            .max()
    }

    fn read_message(&mut self, line: &[u8]) -> Change {
        let message: Value = serde_json::from_slice(line).unwrap_or_default();
        let events = message["result"]["events"].as_array();
        let Some(events) = events.filter(|events| !events.is_empty()) else {
            return Change::Other;
        };
        let mut change = Change::Positions;
        for event in events {
            let raw = wire::raw_key(&event["kv"]);
            // A put is the default, which the gateway leaves out.
            let deleted = event["type"] == "DELETE";
            change = change.max(self.changes.see(&raw.path, (!deleted).then_some(&*raw.value)));
        }
        change
    }
}

impl Watcher for EtcdWatcher {
    fn changed(&mut self) -> Answer<'_, Result<Change, StoreError>> {
        Box::pin(self.next_change())
    }
}
