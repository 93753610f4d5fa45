use std::time::Duration;

use howdah_dcs::{Answer, StoreError, Watcher};
use howdah_http::StreamBody;
use serde_json::json;

use crate::{Endpoints, store::store_error, transport::Transport, wire};

/// How long a watch may take to begin.
const BEGIN: Duration = Duration::from_secs(5);

/// Watches all keys of one cluster.
pub(crate) struct EtcdWatcher {
    body: serde_json::Value,
    transport: Transport,
    stream: Option<StreamBody>,
}

impl EtcdWatcher {
    pub(crate) fn new(prefix: &str, endpoints: Endpoints) -> Self {
        let body =
            json!({"create_request": {"key": wire::b64(prefix), "range_end": wire::range_end(prefix)}});
        EtcdWatcher {
            body,
            transport: Transport::new(endpoints),
            stream: None,
        }
    }

    async fn next_change(&mut self) -> Result<(), StoreError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let deadline = howdah_clock::now() + BEGIN;
                let stream = self
                    .transport
                    .stream("/watch", &self.body, deadline)
                    .await
                    .map_err(store_error)?;
                self.stream.insert(stream)
            }
        };
        // What it says does not matter: the first piece means that the watch stands (changes before it may have been
        // missed), every other one that something has changed.
        match stream.next().await {
            Ok(Some(_)) => Ok(()),
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

impl Watcher for EtcdWatcher {
    fn changed(&mut self) -> Answer<'_, Result<(), StoreError>> {
        Box::pin(self.next_change())
    }
}
