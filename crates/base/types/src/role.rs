use std::fmt;

use serde::{Deserialize, Serialize};

/// What a member does in its cluster, in Patroni's words (member records, REST).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Accepts writes. `master` is how agents before Patroni 4 wrote it.
    #[serde(alias = "master")]
    Primary,
    /// Follows another member.
    Replica,
    /// Leads a standby cluster: holds the leader lease while in recovery.
    StandbyLeader,
    /// Was primary, has been stopped and does not follow yet.
    Demoted,
    /// Told to become primary, not yet out of recovery.
    Promoted,
    /// Has no data directory.
    #[default]
    #[serde(other)]
    Uninitialized,
}

impl Role {
    /// Patroni's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
            Role::StandbyLeader => "standby_leader",
            Role::Demoted => "demoted",
            Role::Promoted => "promoted",
            Role::Uninitialized => "uninitialized",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state of a member's PostgreSQL, with Patroni's texts. The order is the index of `patroni_postgres_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the serialised text says it")]
pub enum PgState {
    #[serde(rename = "initializing new cluster")]
    Initializing,
    #[serde(rename = "initdb failed")]
    InitdbFailed,
    #[serde(rename = "running custom bootstrap script")]
    CustomBootstrap,
    #[serde(rename = "custom bootstrap failed")]
    CustomBootstrapFailed,
    #[serde(rename = "creating replica")]
    CreatingReplica,
    #[serde(rename = "running")]
    Running,
    #[serde(rename = "starting")]
    Starting,
    #[serde(rename = "starting after custom bootstrap")]
    StartingAfterCustomBootstrap,
    #[serde(rename = "start failed")]
    StartFailed,
    #[serde(rename = "restarting")]
    Restarting,
    #[serde(rename = "restart failed")]
    RestartFailed,
    #[serde(rename = "stopping")]
    Stopping,
    #[default]
    #[serde(rename = "stopped")]
    Stopped,
    #[serde(rename = "stop failed")]
    StopFailed,
    #[serde(rename = "crashed")]
    Crashed,
    #[serde(other, rename = "unknown")]
    Unknown,
}

impl PgState {
    const TEXTS: [&'static str; 16] = [
        "initializing new cluster",
        "initdb failed",
        "running custom bootstrap script",
        "custom bootstrap failed",
        "creating replica",
        "running",
        "starting",
        "starting after custom bootstrap",
        "start failed",
        "restarting",
        "restart failed",
        "stopping",
        "stopped",
        "stop failed",
        "crashed",
        "unknown",
    ];

    /// Patroni's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::TEXTS.get(self as usize).copied().unwrap_or("unknown")
    }

    /// The value of the metric `patroni_postgres_state`; -1 when unknown.
    #[must_use]
    pub fn metric(self) -> i64 {
        if self == PgState::Unknown { -1 } else { self as i64 }
    }
}

impl fmt::Display for PgState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_serialised_ones() {
        for role in [
            Role::Primary,
            Role::Replica,
            Role::StandbyLeader,
            Role::Demoted,
            Role::Promoted,
        ] {
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert_eq!(serde_json::from_str::<Role>("\"master\"").unwrap(), Role::Primary);
        for text in PgState::TEXTS {
            let state: PgState = serde_json::from_value(text.into()).unwrap();
            assert_eq!(state.as_str(), text);
        }
        assert_eq!(PgState::Crashed.metric(), 14);
    }
}
