use std::fmt::Display;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{FailoverRequest, HistoryEntry, Key, Status, SyncState, Topology, history_to_json};

/// One of the shared keys with its new content, as Patroni writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Document {
    key: Key,
    text: String,
}

impl Document {
    /// `initialize`: the system identifier of the cluster.
    #[must_use]
    pub fn initialize(system_id: impl Display) -> Self {
        Document {
            key: Key::Initialize,
            text: system_id.to_string(),
        }
    }

    /// `config`: the dynamic configuration.
    #[must_use]
    pub fn config(config: &Map<String, Value>) -> Self {
        Self::json(Key::Config, config)
    }

    /// `failover`: a request; empty without one.
    #[must_use]
    pub fn failover(request: Option<&FailoverRequest>) -> Self {
        match request {
            Some(request) => Self::json(Key::Failover, request),
            None => Document {
                key: Key::Failover,
                text: FailoverRequest::NONE.to_owned(),
            },
        }
    }

    /// `sync`: who has every commit.
    #[must_use]
    pub fn sync(state: &SyncState) -> Self {
        Self::json(Key::Sync, state)
    }

    /// `status`: the leader's position and slots.
    #[must_use]
    pub fn status(status: &Status) -> Self {
        Self::json(Key::Status, status)
    }

    /// `failsafe`: who must agree that the leader goes on without the store.
    #[must_use]
    pub fn failsafe(topology: &Topology) -> Self {
        Self::json(Key::Failsafe, topology)
    }

    /// `history`: the timelines.
    #[must_use]
    pub fn history(entries: &[HistoryEntry]) -> Self {
        Document {
            key: Key::History,
            text: history_to_json(entries).to_string(),
        }
    }

    /// A key's content as it is, such as one that is written back into a store that was wiped.
    #[must_use]
    pub fn verbatim(key: Key, text: String) -> Self {
        Document { key, text }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }

    /// The content.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The documents have names for keys and numbers, texts and lists for values, which JSON always has a form for.
    /// Should that ever change, an empty object is written, which every reader takes for "nothing".
    fn json(key: Key, content: &impl Serialize) -> Self {
        Document {
            key,
            text: serde_json::to_string(content).unwrap_or_else(|_| "{}".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_their_key_and_patronis_form() {
        let sync = Document::sync(&SyncState::new("a", &["c".to_owned(), "b".to_owned()]));
        assert_eq!(sync.key(), Key::Sync);
        assert_eq!(
            SyncState::parse(sync.text()).unwrap().sync_standby.as_deref(),
            Some("b,c")
        );
        assert_eq!(Document::failover(None).text(), "{}");
        assert_eq!(Document::initialize(7_123_456_789_u64).text(), "7123456789");
        assert_eq!(Document::config(&Map::new()).text(), "{}");
    }
}
