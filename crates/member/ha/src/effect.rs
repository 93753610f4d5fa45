use howdah_dcs::{Cond, Document, Key, Term, Topology};
use howdah_types::{BootTime, Lsn, MemberName};
use serde::Serialize;

use crate::{Action, Reason, Unguarded, Upstream};

/// One thing to do. Whatever depends on what was read says so, and is checked again when it is carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Effect {
    /// Try to become leader; dropped if it is later than `not_after`.
    Acquire {
        /// The decision is stale after that.
        not_after: BootTime,
    },
    /// Give leadership back; PostgreSQL does not run as primary.
    Release,
    /// Ask the store at once whether the lease is still ours.
    VerifyLease,
    /// Tell the keeper who is asked when the store does not answer, under this leadership; `None`: nothing but the store counts.
    Failsafe {
        /// It counts for this leadership alone.
        term: Term,
        /// The other members.
        members: Option<Topology>,
    },
    /// The leader does not rely on what we promised it when it asked up to this moment of its clock.
    ForgetPromise {
        /// Whom we have promised not to lead.
        leader: MemberName,
        /// By its clock.
        asked: BootTime,
    },
    /// Write a shared key.
    Put {
        /// The key and its content.
        document: Document,
        /// When.
        cond: Cond,
    },
    /// Mark that a bootstrap begins, bound to our lease: it vanishes with us.
    Claim,
    /// Write the configuration back into a store that has lost it, or has something else in its place.
    RestoreConfig,
    /// Delete a shared key.
    Delete {
        /// Which.
        key: Key,
        /// When.
        cond: Cond,
    },
    /// Ask these members for their state.
    ProbePeers(Vec<MemberName>),
    /// Point the running replica at an upstream, or at none.
    Follow(Option<Upstream>),
    /// Set `synchronous_standby_names` on the running server.
    SetSyncNames(String),
    /// Find out whether commits wait, by one that does; what is found is remembered as `commits_wait`.
    ProveCommitsWait,
    /// Write a little WAL, so that the standby that was just chosen reports its position.
    NudgeStandby,
    /// Create, drop or advance replication slots.
    Slots(Vec<SlotChange>),
    /// Write the row of the newest timeline to the history.
    WriteHistory,
    /// Let the guard take over a PostgreSQL that was started or promoted by hand.
    Adopt(Unguarded),
    /// Begin a long action.
    Begin(Action),
    /// End the agent: something is wrong that a human must mend.
    Fatal(Reason),
}

/// A change to one slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum SlotChange {
    /// Create it, with WAL reserved from now on.
    Create(String),
    /// Its member is gone for longer than `member_slots_ttl`.
    Drop(String),
    /// No member streams through it here; its consumer has got this far.
    Advance(String, Lsn),
    /// Primary: create a logical one.
    CreateLogical {
        /// Its name.
        name: String,
        /// Whose changes it decodes.
        database: String,
        /// Its output plugin.
        plugin: String,
        /// PostgreSQL copies it to standbys by itself.
        failover: bool,
    },
    /// Replica: the consumer of a logical one has got this far on the primary.
    AdvanceLogical {
        /// Its name.
        name: String,
        /// Whose changes it decodes.
        database: String,
        /// What its consumer has confirmed, and we have replayed.
        to: Lsn,
    },
}
