use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Key, KeyTree};

/// What a watch tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Only positions in WAL have moved: of the leader, of slots, or of members.
    Positions,
    /// Anything else, or it is not known what.
    Other,
}

/// Tells positions from other changes. A cluster that is written to publishes positions all the time, and they ask for no
/// decision.
#[derive(Debug)]
pub struct Changes {
    tree: KeyTree,
    members: String,
    /// The members' records as they were told last, without positions.
    known: BTreeMap<String, Value>,
}

/// Patroni's names of positions in a member's record.
const POSITIONS: [&str; 3] = ["xlog_location", "receive_lsn", "replay_lsn"];

impl Changes {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(tree: KeyTree) -> Self {
        let members = format!("{}members/", tree.prefix());
        Changes {
            tree,
            members,
            known: BTreeMap::new(),
        }
    }

    /// The key at `path` was written, or deleted: `None`.
    pub fn see(&mut self, path: &str, value: Option<&str>) -> Change {
        if path == self.tree.path(Key::Status) {
            return match value {
                Some(_) => Change::Positions,
                None => Change::Other,
            };
        }
        if !path.starts_with(&self.members) {
            return Change::Other;
        }
        let record = value.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let Some(mut record) = record else {
            self.known.remove(path);
            return Change::Other;
        };
        if let Some(fields) = record.as_object_mut() {
            fields.retain(|name, _| !POSITIONS.contains(&name.as_str()));
        }
        if self.known.get(path) == Some(&record) {
            return Change::Positions;
        }
        self.known.insert(path.to_owned(), record);
        Change::Other
    }

    /// What was missed may have been anything.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use howdah_types::Scope;

    use super::*;

    #[test]
    fn only_positions_are_told_as_positions() {
        let mut changes = Changes::new(KeyTree::new("service", &Scope::new("c").unwrap()));
        let mut see = |path: &str, value: Option<&str>| changes.see(&format!("/service/c/{path}"), value);
        let at = |lsn: u32, state: &str| format!(r#"{{"state":"{state}","xlog_location":{lsn}}}"#);
        assert_eq!(see("status", Some("{\"optime\":1}")), Change::Positions);
        assert_eq!(see("status", None), Change::Other, "deleted by hand");
        assert_eq!(see("leader", Some("a")), Change::Other);
        assert_eq!(
            see("members/a", Some(&at(1, "running"))),
            Change::Other,
            "a new member"
        );
        assert_eq!(see("members/a", Some(&at(2, "running"))), Change::Positions);
        assert_eq!(see("members/a", Some(&at(3, "starting"))), Change::Other);
        assert_eq!(see("members/a", None), Change::Other);
        assert_eq!(
            see("members/a", Some(&at(3, "starting"))),
            Change::Other,
            "it was gone"
        );
        assert_eq!(see("members/a", Some("not json")), Change::Other);
    }
}
