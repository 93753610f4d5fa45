use std::collections::BTreeMap;

use howdah_types::Lsn;
use serde::{Deserialize, Serialize};

/// A page of WAL. An idle server writes less than that by itself from time to time: positions that have moved by less are not
/// worth a write that all members would read.
pub const LITTLE_WAL: u64 = 8192;

/// What the leader says of itself once a cycle (`status`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its WAL position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optime: Option<Lsn>,
    /// The positions of the slots that are kept everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<BTreeMap<String, Lsn>>,
    /// Slots of members that have gone, kept for `member_slots_ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_slots: Option<Vec<String>>,
}

impl Status {
    /// Whether it says the same but for positions that differ by less than `bytes`.
    #[must_use]
    pub fn is_near(&self, other: &Status, bytes: u64) -> bool {
        let near = |a: Lsn, b: Lsn| a.0.abs_diff(b.0) < bytes;
        let position = match (self.optime, other.optime) {
            (Some(a), Some(b)) => near(a, b),
            (None, None) => true,
            _ => false,
        };
        let slots = match (&self.slots, &other.slots) {
            (Some(ours), Some(theirs)) => {
                ours.len() == theirs.len()
                    && ours
                        .iter()
                        .all(|(name, at)| theirs.get(name).is_some_and(|there| near(*at, *there)))
            }
            (None, None) => true,
            _ => false,
        };
        position && slots && self.retain_slots == other.retain_slots
    }

    /// Parses the key; what is malformed counts as empty.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        // A bare number is how the position was written before Patroni 2.1.
        match text.trim().parse() {
            Ok(optime) => Status {
                optime: Some(Lsn(optime)),
                ..Status::default()
            },
            Err(_) => serde_json::from_str(text).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_moves_are_near() {
        let at = |optime: u64, slot: u64| Status {
            optime: Some(Lsn(optime)),
            slots: Some([("b".to_owned(), Lsn(slot))].into()),
            retain_slots: None,
        };
        assert!(at(100, 100).is_near(&at(156, 99), 64));
        assert!(!at(100, 100).is_near(&at(164, 100), 64));
        assert!(!at(100, 100).is_near(&at(100, 200), 64));
        assert!(!at(100, 100).is_near(&Status::default(), 64));
    }
}
