use std::{collections::BTreeMap, time::Duration};

use howdah_clock::now;
use howdah_dcs::{Answer, Change, Changes, KeyTree, StoreError, Watcher};
use howdah_http::Method;

use crate::{
    agent::{Agent, Failure, Line},
    wire::{encoded, key_of, raw_key},
};

/// How long Consul holds a query that nothing answers.
const HELD: Duration = Duration::from_secs(50);

/// A query may take a sixteenth longer, and its way.
const PATIENCE: Duration = Duration::from_secs(60);

/// Watches all keys of one cluster by queries that Consul answers when something has changed.
pub(crate) struct ConsulWatcher {
    line: Line,
    prefix: String,
    index: u64,
    /// The revision of each key as it was told last.
    known: BTreeMap<String, u64>,
    changes: Changes,
}

impl ConsulWatcher {
    pub(crate) fn new(tree: KeyTree, agent: Agent) -> Self {
        ConsulWatcher {
            line: Line::new(agent),
            prefix: encoded(key_of(tree.prefix())),
            index: 0,
            known: BTreeMap::new(),
            changes: Changes::new(tree),
        }
    }

    async fn next(&mut self) -> Result<Change, Failure> {
        loop {
            let began = self.index == 0;
            let path = format!(
                "/v1/kv/{}?recurse=true&index={}&wait={}s",
                self.prefix,
                self.index,
                HELD.as_secs()
            );
            let answer = self.line.ask(Method::GET, &path, None, now() + PATIENCE).await?;
            // One that is lower means that Consul was restored; one that is missing would ask again and again.
            if answer.index == 0 {
                return Err(Failure::Unknown("the answer has no X-Consul-Index".into()));
            }
            let restored = answer.index < self.index;
            self.index = if restored { 0 } else { answer.index };
            let keys: Vec<_> = answer
                .body
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(raw_key)
                .collect();
            let now_known: BTreeMap<String, u64> =
                keys.iter().map(|key| (key.path.clone(), key.modified)).collect();
            let mut change = None;
            let mut tell = |seen: Change| change = Some(change.map_or(seen, |known: Change| known.max(seen)));
            for key in &keys {
                if self.known.get(&key.path) != Some(&key.modified) {
                    tell(self.changes.see(&key.path, Some(&key.value)));
                }
            }
            for path in self.known.keys().filter(|path| !now_known.contains_key(*path)) {
                tell(self.changes.see(path, None));
            }
            self.known = now_known;
            // What was changed before the first answer may have been missed.
            if began || restored {
                return Ok(Change::Other);
            }
            if let Some(change) = change {
                return Ok(change);
            }
        }
    }
}

impl Watcher for ConsulWatcher {
    fn changed(&mut self) -> Answer<'_, Result<Change, StoreError>> {
        Box::pin(async move {
            self.next().await.map_err(|failure| {
                self.index = 0;
                self.known.clear();
                self.changes.forget();
                failure.into()
            })
        })
    }
}
