use std::sync::Arc;

use howdah_backup::Report;
use howdah_types::{BootTime, Lsn, MemberName, PgState, Role, Scope, Tags, Timeline};
use serde_json::{Map, Value};

/// What a member publishes of itself after each look at the world; every answer is made from this, without SQL.
#[derive(Clone, Debug)]
pub struct MemberFacts {
    /// Its name.
    pub name: MemberName,
    /// Its cluster.
    pub scope: Scope,
    /// What it does.
    pub role: Role,
    /// The state of PostgreSQL.
    pub state: PgState,
    /// It leads until this moment at least; past: it does not.
    pub leads_until: BootTime,
    /// As configured.
    pub tags: Tags,
    /// Where its WAL is; `None` when PostgreSQL does not answer.
    pub position: Option<Position>,
    /// `pg_postmaster_start_time()`
    pub postmaster_start_time: Option<String>,
    /// The same in seconds since 1970.
    pub postmaster_start_epoch: f64,
    /// `server_version_num`
    pub server_version: Option<u32>,
    /// `streaming` or `in archive recovery`
    pub replication_state: Option<&'static str>,
    /// Rows of `pg_stat_replication` in Patroni's form.
    pub replication: Vec<Value>,
    /// The system identifier.
    pub system_id: Option<String>,
    /// Named in `/sync` of a cluster in plain synchronous mode.
    pub sync_standby: bool,
    /// Named in `/sync` of a cluster in quorum mode.
    pub quorum_standby: bool,
    /// It streams from another server, or is told to.
    pub attached: bool,
    /// It has more WAL than it has replayed, and how much is not known yet.
    pub replaying: bool,
    /// The watchdog device is required, and cannot be used.
    pub watchdog_failed: bool,
    /// The cluster follows another one.
    pub standby_cluster: bool,
    /// The cluster is paused.
    pub pause: bool,
    /// There is no leader.
    pub cluster_unlocked: bool,
    /// A leader that the store does not answer may go on while all members agree.
    pub failsafe_mode: bool,
    /// We lead by what the other members have promised, or have promised a leader to let it.
    pub failsafe_is_active: bool,
    /// When the store answered last, seconds since 1970; 0 for never.
    pub dcs_last_seen: i64,
    /// The store's answer is younger than the lease.
    pub has_view: bool,
    /// The leader's position as the store has it.
    pub leader_lsn: Option<Lsn>,
    /// Parameters that wait for a restart.
    pub pending_restart: Map<String, Value>,
    /// A restart that waits for its time.
    pub scheduled_restart: Option<Value>,
    /// The next decision is due then, and overdue a lease later.
    pub next_run: BootTime,
    /// Length of the lease in nanoseconds.
    pub ttl_nanos: u64,
    /// `maximum_lag_on_failover`
    pub lag_limit: u64,
    /// How archiving goes; `None` where no archiver runs.
    pub archive: Option<Arc<Report>>,
    /// Lines that the log has dropped.
    pub log_lost: u64,
    /// Why the last decision was as it was.
    pub reasons: Vec<Value>,
}

/// A place in the WAL.
#[derive(Clone, Debug, PartialEq)]
pub enum Position {
    /// A primary's.
    Primary {
        /// Flushed.
        location: Lsn,
        /// The timeline.
        timeline: Timeline,
    },
    /// A replica's.
    Replica {
        /// Received.
        received: Lsn,
        /// Replayed.
        replayed: Lsn,
        /// When the last replayed transaction was committed.
        replayed_at: Option<String>,
        /// The same in seconds since 1970.
        replayed_epoch: f64,
        /// Replay is paused.
        paused: bool,
        /// The timeline.
        timeline: Timeline,
        /// Where the upstream's WAL ended, as it said last.
        latest_end: Option<Lsn>,
    },
}

impl MemberFacts {
    /// Whether it leads at `now`, by its own clock.
    #[must_use]
    pub fn leads(&self, now: BootTime) -> bool {
        now < self.leads_until
    }

    /// The timeline.
    #[must_use]
    pub fn timeline(&self) -> Option<Timeline> {
        match &self.position {
            Some(Position::Primary { timeline, .. } | Position::Replica { timeline, .. }) => Some(*timeline),
            None => None,
        }
    }
}
