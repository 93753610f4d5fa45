use serde::{Deserialize, Serialize};

/// Who is synchronous (`sync`): a leader, and the standbys that have every acknowledged commit of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SyncState {
    /// The leader that wrote it.
    pub leader: String,
    /// A sorted comma list, `None` when there is no synchronous standby.
    pub sync_standby: Option<String>,
    /// How many of the other standbys must have answered that they have no more WAL before one of them takes over. 0 in plain
    /// synchronous mode, where each standby has every commit.
    #[serde(default)]
    pub quorum: u32,
}

impl SyncState {
    /// Parses the key. `{}`, nulls and an empty leader all mean: synchronous mode is not active.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Raw {
            leader: Option<String>,
            sync_standby: Option<String>,
            quorum: Option<u32>,
        }
        let raw: Raw = serde_json::from_str(text).ok()?;
        Some(SyncState {
            leader: raw.leader.filter(|leader| !leader.is_empty())?,
            sync_standby: raw.sync_standby.filter(|names| !names.is_empty()),
            quorum: raw.quorum.unwrap_or(0),
        })
    }

    /// The state with these standbys, sorted.
    #[must_use]
    pub fn new(leader: &str, standbys: &[String]) -> Self {
        let mut names = standbys.to_vec();
        names.sort();
        SyncState {
            leader: leader.to_owned(),
            sync_standby: (!names.is_empty()).then(|| names.join(",")),
            quorum: 0,
        }
    }

    /// The standbys.
    pub fn standbys(&self) -> impl Iterator<Item = &str> {
        self.sync_standby
            .iter()
            .flat_map(|names| names.split(','))
            .map(str::trim)
            .filter(|n| !n.is_empty())
    }

    /// The same leader, standbys and quorum.
    #[must_use]
    pub fn is_same(&self, other: &SyncState) -> bool {
        let count = |state: &SyncState| state.standbys().count();
        self.leader == other.leader
            && self.quorum == other.quorum
            && count(self) == count(other)
            && self.standbys().all(|name| other.is_standby(name))
    }

    /// Whether everyone who may take over by `other` may take over by this state too.
    #[must_use]
    pub fn implies(&self, other: &SyncState) -> bool {
        self.quorum <= other.quorum && other.standbys().all(|name| self.is_standby(name))
    }

    /// Whether a member is a synchronous standby. PostgreSQL compares names without case.
    #[must_use]
    pub fn is_standby(&self, name: &str) -> bool {
        self.standbys().any(|standby| standby.eq_ignore_ascii_case(name))
    }

    /// Whether a member is the leader or a synchronous standby. PostgreSQL compares names without case.
    #[must_use]
    pub fn includes(&self, name: &str) -> bool {
        self.leader.eq_ignore_ascii_case(name) || self.is_standby(name)
    }
}
