use std::collections::BTreeMap;

use howdah_types::{Lsn, Timeline};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a backup of ours has stored: beside WAL-G's objects, which it needs none of to be restored by WAL-G.
///
/// A restore checks every object against it. A backup without one (WAL-G's own) is restored as its objects are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The version of this document.
    pub format: u32,
    /// The version of the program.
    pub program: String,
    /// The timeline that it was made on.
    pub timeline: Timeline,
    /// Where its WAL begins.
    pub start: Lsn,
    /// Where a restore becomes consistent.
    pub finish: Lsn,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Whether it was made from a replica.
    pub from_replica: bool,
    /// Whether the pages' checksums were looked at, and how many did not fit.
    pub pages: Pages,
    /// Names the key that its archives are encrypted with; `None` for plain ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The archives, by name below `tar_partitions`.
    pub objects: BTreeMap<String, Stored>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its length in bytes.
    pub length: u64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// What a look at every page has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// Pages whose checksum was computed. 0 where the cluster has none.
    pub checked: u64,
    /// Those that do not fit, as `path` and number; the first ones of each file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
}

impl Receipt {
    /// The version that is written.
    pub const FORMAT: u32 = 1;
}
