use howdah_types::Lsn;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a drill has shown of a backup: restored into a scratch directory, started, replayed, looked at. It is kept beside the
/// backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// When it ended.
    pub at: Timestamp,
    /// Where.
    pub host: String,
    /// How long the restore of the files took, in milliseconds.
    pub restore_ms: u64,
    /// How long the server replayed WAL until it could be written to, in milliseconds.
    pub replay_ms: u64,
    /// Bytes of the restored files.
    pub bytes: u64,
    /// Where replay ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Lsn>,
    /// When the last transaction that was replayed had committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<Timestamp>,
    /// What was looked at after that, each a sentence.
    #[serde(default)]
    pub checks: Vec<String>,
    /// Why it failed; `None` for a restore that is proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Proof {
    /// One that has shown nothing yet.
    #[must_use]
    pub fn new(host: String) -> Self {
        Proof {
            at: Timestamp::now(),
            host,
            restore_ms: 0,
            replay_ms: 0,
            bytes: 0,
            reached: None,
            last_commit: None,
            checks: Vec::new(),
            trouble: None,
        }
    }
}
