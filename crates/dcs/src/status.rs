use std::collections::BTreeMap;

use howdah_types::Lsn;
use serde::{Deserialize, Serialize};

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
