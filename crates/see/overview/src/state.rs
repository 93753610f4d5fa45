use std::fmt;

use howdah_types::PgState;

/// How a running replica gets its WAL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Replication {
    /// From its upstream's walsender.
    Streaming,
    /// From the archive.
    InArchiveRecovery,
    /// As another version of Patroni has it.
    Other(String),
}

impl Replication {
    /// From a member's record.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "streaming" => Replication::Streaming,
            "in archive recovery" => Replication::InArchiveRecovery,
            other => Replication::Other(other.to_owned()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Replication::Streaming => "streaming",
            Replication::InArchiveRecovery => "in archive recovery",
            Replication::Other(other) => other,
        }
    }
}

/// What a member's PostgreSQL does. It displays as Patroni's `state`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MemberState {
    /// The server's own state.
    Server(PgState),
    /// It runs as a replica and says how it gets its WAL.
    Replicating(Replication),
}

impl MemberState {
    /// It runs, and is no replica that gets WAL.
    #[must_use]
    pub fn is_running(&self) -> bool {
        *self == MemberState::Server(PgState::Running)
    }

    /// It streams from its upstream.
    #[must_use]
    pub fn streams(&self) -> bool {
        *self == MemberState::Replicating(Replication::Streaming)
    }

    /// Its data directory is being copied.
    #[must_use]
    pub fn is_copying(&self) -> bool {
        *self == MemberState::Server(PgState::CreatingReplica)
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemberState::Server(state) => f.write_str(state.as_str()),
            MemberState::Replicating(replication) => f.write_str(replication.as_str()),
        }
    }
}
