use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use howdah_config::{Dynamic, SlotKind};
use howdah_dcs::{LeaseId, SyncState, Term, Topology, View};
use howdah_pgconf::DbState;
use howdah_types::{BootTime, Lsn, MemberName, Origins, SystemId, Tags, Timeline};
use serde::Serialize;

use crate::{Action, Copied, Keeper, LeaseState, Promise, SyncRule};

/// Everything a member knows when it decides. Gathered before; nothing is asked for in between.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Now.
    pub now: BootTime,
    /// The time of day in seconds since 1970, only for what a user scheduled.
    pub wall: i64,
    /// Ourselves.
    pub me: Me,
    /// The cluster's configuration.
    pub config: Dynamic,
    /// The store.
    pub dcs: Dcs,
    /// Whether we lead.
    pub lease: LeaseState,
    /// What we have promised another leader.
    pub promise: Option<Promise>,
    /// What the keeper has of other members' promises.
    pub failsafe: Failsafe,
    /// Our PostgreSQL.
    pub postgres: Postgres,
    /// The guard has a PostgreSQL that runs, whatever its files look like.
    pub server_runs: bool,
    /// The machine's watchdog device is required, and cannot be used: we must not lead.
    pub watchdog_failed: bool,
    /// A PostgreSQL that the guard cannot fence, since it does not know of it.
    pub unguarded: Option<Unguarded>,
    /// The long action that runs.
    pub action: Option<RunningAction>,
    /// What other members said when they were asked last.
    pub peers: Peers,
    /// What was requested of this member through its API, or the agent's own end.
    pub request: Option<Request>,
    /// Host and port that PostgreSQL's files tell it to stream from, also while it does not answer.
    pub told_upstream: Option<(String, u16)>,
    /// What was remembered from the last decision.
    pub memory: Memory,
}

/// A PostgreSQL that the guard has neither started nor promoted: it was done by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Unguarded {
    /// Its postmaster.
    pub pid: u32,
    /// It is a primary, or may be one.
    pub may_write: bool,
}

/// What does not change while an agent runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Me {
    /// Our name.
    pub name: MemberName,
    /// Our tags.
    pub tags: Tags,
    /// We have what a new cluster is made from.
    pub may_bootstrap: bool,
    /// The lease of this life, whether it leads or not.
    pub lease: Option<LeaseId>,
}

/// What the store said.
#[allow(clippy::large_enum_variant, reason = "one lives at a time, and moves once")]
#[derive(Clone, Debug, PartialEq)]
pub enum Dcs {
    /// A consistent read just before this decision.
    Fresh(Arc<View>),
    /// It did not answer.
    Down {
        /// Since when.
        since: BootTime,
    },
}

/// Our PostgreSQL as it was seen just before this decision.
#[allow(clippy::large_enum_variant, reason = "one lives at a time, and moves once")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Postgres {
    /// There is no data directory, or it is empty.
    Missing,
    /// It is there and cannot be read: a disk that fails, a control file that is torn.
    Unreadable {
        /// What the system said.
        why: String,
    },
    /// It does not run.
    Stopped(Stopped),
    /// The postmaster lives and takes no connections yet.
    Starting {
        /// Since when.
        since: BootTime,
    },
    /// It has said that it takes connections, and does not answer.
    Silent {
        /// Since when.
        since: BootTime,
    },
    /// It answers.
    Running(Running),
}

/// A data directory without a postmaster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Stopped {
    /// Which cluster it belongs to.
    #[serde(serialize_with = "text")]
    pub system_id: SystemId,
    /// How it was stopped.
    pub state: DbState,
    /// The timeline of its last checkpoint.
    pub timeline: Timeline,
    /// Where its last checkpoint begins.
    pub checkpoint: Lsn,
    /// It has a `standby.signal`: it would start as replica.
    pub standby: bool,
    /// A rewind was begun and not finished: it can be rewound or copied, and must not be started.
    pub damaged: bool,
    /// Which promotions began its timelines.
    #[serde(skip_serializing_if = "Origins::is_empty")]
    pub origins: Origins,
}

/// A PostgreSQL that answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Running {
    /// Which cluster it belongs to.
    #[serde(serialize_with = "text")]
    pub system_id: SystemId,
    /// It is a replica.
    pub in_recovery: bool,
    /// Its position is where its WAL ends. A replica that was started a moment ago may have more than it has replayed.
    pub is_at_end: bool,
    /// The timeline that it writes, or has received last.
    pub timeline: Timeline,
    /// The timeline of the control file, behind `timeline` until a checkpoint follows a promotion.
    pub checkpoint_timeline: Timeline,
    /// Which promotions began the timelines of its WAL.
    #[serde(skip_serializing_if = "Origins::is_empty")]
    pub origins: Origins,
    /// Primary: flushed. Replica: the larger of received and replayed.
    pub lsn: Lsn,
    /// Replica: a WAL receiver is connected.
    pub streaming: bool,
    /// Replica: the host and port in its primary_conninfo.
    pub upstream: Option<(String, u16)>,
    /// `synchronous_standby_names`
    pub sync_names: String,
    /// How far a standby must be for a commit that waits.
    pub commit_level: CommitLevel,
    /// Who streams from us.
    pub walsenders: Vec<WalSender>,
    /// Replica: replayed.
    pub replayed: Lsn,
    /// Our replication slots, but for temporary ones.
    pub slots: Vec<Slot>,
    /// PostgreSQL 17 and later: it copies slots with `failover` from the primary by itself (`sync_replication_slots`).
    pub syncs_slots: bool,
    /// `hot_standby_feedback`
    pub feedback: bool,
}

/// `synchronous_commit`, as far as it says what a commit waits for on a standby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum CommitLevel {
    /// `remote_write`
    Write,
    /// `on`, and every value that does not wait for a standby at all.
    #[default]
    Flush,
    /// `remote_apply`
    Apply,
}

/// One row of `pg_stat_replication`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct WalSender {
    /// `application_name`, which is the member's name.
    pub name: String,
    /// `state` is `streaming`.
    pub streaming: bool,
    /// `sync_priority`: the place of its standby in `synchronous_standby_names` as the process itself has read that, 1 for all of `ANY`.
    /// With 0 it does not take its standby's word for commits.
    pub priority: u32,
    /// `sync_state` is `sync` or `quorum`.
    pub sync: bool,
    /// `write_lsn`
    pub written: Lsn,
    /// `flush_lsn`
    pub lsn: Lsn,
    /// `replay_lsn`
    pub replayed: Lsn,
}

impl WalSender {
    /// How far the standby is in the sense of the commits that wait for it.
    #[must_use]
    pub fn reached(&self, level: CommitLevel) -> Lsn {
        match level {
            CommitLevel::Write => self.written,
            CommitLevel::Flush => self.lsn,
            CommitLevel::Apply => self.replayed,
        }
    }
}

/// One replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Physical or logical.
    pub kind: SlotKind,
    /// A consumer streams through it.
    pub active: bool,
    /// The oldest WAL that it keeps.
    pub restart_lsn: Option<Lsn>,
    /// Logical: what its consumer has confirmed.
    pub confirmed_lsn: Option<Lsn>,
    /// Logical: the oldest transaction whose view of the catalogue it needs.
    pub catalog_xmin: Option<u32>,
    /// It keeps rows from being removed.
    pub has_xmin: bool,
    /// The WAL that it needs is gone.
    pub lost: bool,
    /// PostgreSQL copies it to standbys by itself.
    pub failover: bool,
    /// It is such a copy.
    pub synced: bool,
}

fn text<S: serde::Serializer>(id: &SystemId, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(id)
}

/// The long action that runs, one at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningAction {
    /// Which.
    pub action: Action,
    /// Since when.
    pub since: BootTime,
}

/// Answers of other members' `GET /patroni`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Peers {
    /// When they were asked last.
    pub asked_at: Option<BootTime>,
    /// Who was asked then.
    pub asked: BTreeSet<MemberName>,
    /// All have answered, or had their time.
    pub complete: bool,
    /// The answers; who did not answer is not in it.
    pub answers: BTreeMap<MemberName, Peer>,
}

/// What one member said of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Peer {
    /// Its PostgreSQL is a running primary.
    pub primary: bool,
    /// Its PostgreSQL answers.
    pub running: bool,
    /// Its PostgreSQL streams from another one, or tries to: it may confirm commits of a member that led.
    pub attached: bool,
    /// Its PostgreSQL is being started.
    pub starting: bool,
    /// Its PostgreSQL could not be started.
    pub start_failed: bool,
    /// Which cluster its data belongs to, if it said so.
    pub system_id: Option<String>,
    /// Primary: flushed. Replica: the larger of received and replayed.
    pub lsn: Lsn,
    /// Its timeline.
    pub timeline: Option<Timeline>,
    /// It may not lead (tags, or a required watchdog that is unusable).
    pub nofailover: bool,
    /// Its priority.
    pub priority: i64,
}

/// What was requested of this member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Request {
    /// `POST /restart`
    Restart,
    /// `POST /reinitialize`
    Reinitialize {
        /// Copy from the leader even if a replica is preferred.
        from_leader: bool,
    },
    /// The agent ends (SIGTERM).
    Shutdown,
}

/// What a decision remembers for the next ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Memory {
    /// The leader that was seen last.
    pub last_leader: Option<LastLeader>,
    /// Since when there is no leader.
    pub leaderless_since: Option<BootTime>,
    /// Since when the store answers.
    pub store_since: Option<BootTime>,
    /// We have given leadership away and do not take part in a race before this moment.
    pub yield_until: Option<BootTime>,
    /// We have handed leadership over, and load balancers need until this moment to notice.
    pub closed_until: Option<BootTime>,
    /// We could not serve as leader: our record tells others not to wait for us until this moment.
    pub unfit_until: Option<BootTime>,
    /// We have handed leadership over and follow its new holder, in maintenance mode too.
    pub handed_over: bool,
    /// Since when we, a replica, do not stream although there is a leader.
    pub not_streaming_since: Option<BootTime>,
    /// When we looked last whether our WAL belongs to the leader's history.
    pub checked_at: Option<BootTime>,
    /// How often we have looked since we streamed last.
    pub checks: u32,
    /// Commits were seen to wait, and `synchronous_standby_names` has not been empty since.
    pub commits_wait: bool,
    /// What is about to be published as synchronous, where the WAL ended when commits were first seen to wait for that, and when.
    pub sync_since: Option<(String, Lsn, BootTime)>,
    /// Rules of `synchronous_standby_names` that a process may go by beside the present one.
    pub sync_rules: Vec<SyncRule>,
    /// The rule that was set last, until it is seen.
    pub sync_set: Option<SyncRule>,
    /// All processes were seen to go by a rule that gives places of their own, and the rules since then are known.
    pub sync_known: bool,
    /// What `/sync` said last in a store that knew the cluster.
    pub last_sync: Option<SyncState>,
    /// What was written to `/sync`, and for which revision. While that is the present one it may still arrive.
    pub sync_put: Vec<(u64, SyncState)>,
    /// A rule was set, and no standby has been made to report since all processes go by it.
    pub sync_nudge: bool,
    /// The revision of `/sync` by which other members have voted for us.
    pub sync_voted: Option<u64>,
    /// What of `/failsafe` was written under this leadership.
    pub topology: Option<Written>,
    /// In the last race we have not compared with members outside of the failsafe topology.
    pub passed_over: bool,
    /// Since when no standby is fit to be synchronous.
    pub no_standby_since: Option<BootTime>,
    /// Since when a request for a handover finds no member that can take over.
    pub no_candidate_since: Option<BootTime>,
    /// When the status was written last.
    pub status_at: Option<BootTime>,
    /// When each slot's member was seen last.
    pub slots_seen: BTreeMap<String, BootTime>,
    /// Logical slots that are here and are, or were, permanent.
    pub slots_permanent: BTreeSet<String>,
    /// When copying logical slots was begun last.
    pub slots_tried_at: Option<BootTime>,
    /// Since when it waits for another member.
    pub slots_wait_since: Option<BootTime>,
    /// For which slots PostgreSQL was stopped.
    pub slot_copies: BTreeMap<String, Copied>,
    /// When the files were last written so that `hot_standby_feedback` is on.
    pub feedback_written: Option<BootTime>,
    /// Long actions that have failed, by name; the same is not begun again before this moment.
    pub retry_at: BTreeMap<&'static str, BootTime>,
    /// A start of PostgreSQL has failed since it served last.
    pub start_failed: bool,
    /// Since when PostgreSQL does not serve although we lead.
    pub not_serving_since: Option<BootTime>,
    /// Since when PostgreSQL serves.
    pub serving_since: Option<BootTime>,
    /// How often it was started in place under this lease since it served for a while.
    pub restarts: u32,
    /// Since when the data directory cannot be read.
    pub unreadable_since: Option<BootTime>,
    /// Since when the store names another system identifier than ours.
    pub other_system_since: Option<BootTime>,
    /// The other members, as the last view showed them that had our own record in it.
    pub known: BTreeMap<MemberName, KnownMember>,
    /// The store lacks what it had: who is not in it may live all the same.
    pub store_forgot: bool,
    /// The store has named a cluster since the agent started.
    pub cluster_known: bool,
    /// Since when the store knows no cluster, although we have its data, or have seen it named.
    pub store_empty_since: Option<BootTime>,
}

/// What the keeper has of other members' promises, while we lead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Failsafe {
    /// Whom it was told to ask when the store does not answer.
    pub asks: Option<Topology>,
    /// Whom it asks, and has asked for every promise that counts.
    pub covered: Topology,
    /// No promise counts, or may come to count.
    pub idle: bool,
    /// We lead by promises, longer than by what the store has confirmed.
    pub leads: bool,
}

impl Failsafe {
    /// As the keeper says now.
    #[must_use]
    pub fn of(keeper: &Keeper, now: BootTime) -> Self {
        Failsafe {
            asks: keeper.asks().cloned(),
            covered: keeper.covered(),
            idle: keeper.needs_no_promise(),
            leads: keeper.leads_by_promises(now),
        }
    }
}

/// What a leader has written to `/failsafe`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Written {
    /// Under this leadership.
    pub term: Term,
    /// The revision that it found: what earlier leaders have sent is refused once there is another one.
    pub found: u64,
    /// The revision that its last write was conditional on: until there is another one, what it has sent may still arrive.
    pub put: Option<u64>,
    /// All members that it has written since the store showed what it wants.
    pub members: Topology,
}

/// A data directory that cannot be read for this long is taken for lost. A look may fall into a moment in which
/// PostgreSQL writes its control file.
const UNREADABLE: Duration = Duration::from_secs(5);

impl Memory {
    /// The data directory has been unreadable for too long to be a moment's matter.
    #[must_use]
    pub fn data_is_lost(&self, now: BootTime) -> bool {
        self.unreadable_since
            .is_some_and(|since| now >= since + UNREADABLE)
    }
}

/// A member that the store may have forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct KnownMember {
    /// Its REST address without a path.
    pub api: String,
    /// Since when the store does not show it.
    pub gone: Option<BootTime>,
}

/// Who led last.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct LastLeader {
    /// Its name.
    pub name: MemberName,
    /// Its life.
    pub lease: Option<LeaseId>,
    /// It is an agent of ours, which stops PostgreSQL *before* its lease ends.
    pub ours: bool,
}
