use std::time::Duration;

use howdah_dcs::{Cond, Document, Key, Term};
use howdah_types::{BootTime, MemberName};
use serde::Serialize;

use crate::{Memory, Reason, SlotChange, Snapshot, Unguarded};

/// The next look when nothing wakes the loop earlier and something is in motion.
pub(crate) const SOON: Duration = Duration::from_millis(100);

/// A decision to acquire is stale after this.
pub(crate) const DECISION_LIFE: Duration = Duration::from_secs(2);

/// What a member does now, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// In this order; the first that is refused, fails or stays unknown ends the plan, and the next decision begins
    /// with a new read.
    pub effects: Vec<Effect>,
    /// Decide again at this moment at the latest.
    pub next_wake: BootTime,
    /// For the next decision.
    pub memory: Memory,
    /// Why: the first is the headline.
    pub reasons: Vec<Reason>,
}

impl Plan {
    pub(crate) fn because(&mut self, reason: Reason) -> &mut Self {
        self.reasons.push(reason);
        self
    }

    pub(crate) fn effect(&mut self, effect: Effect) -> &mut Self {
        self.effects.push(effect);
        self
    }

    pub(crate) fn wake(&mut self, at: BootTime) -> &mut Self {
        self.next_wake = self.next_wake.min(at);
        self
    }

    /// Begins a long action, unless the same failed a moment ago.
    pub(crate) fn begin(&mut self, snapshot: &Snapshot, action: Action) -> &mut Self {
        if snapshot.action.is_some() {
            return self;
        }
        match snapshot
            .memory
            .retry_at
            .get(action.name())
            .filter(|at| snapshot.now < **at)
        {
            Some(&until) => {
                self.because(Reason::ActionPaused {
                    action: action.name(),
                    until,
                });
                self.wake(until)
            }
            None => self.effect(Effect::Begin(action)),
        }
    }
}

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

/// Where a replica streams from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Upstream {
    /// The member.
    pub name: MemberName,
    /// Where its PostgreSQL is reached.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A long action; one runs at a time, and the loop never waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Action {
    /// Make a new cluster: initdb, roles, post_bootstrap.
    Bootstrap,
    /// Copy a running member and start as its replica.
    Clone {
        /// Whom to copy.
        from: Upstream,
        /// Whom to follow then.
        follow: Upstream,
    },
    /// Start as replica.
    StartReplica {
        /// The upstream; none when there is no leader.
        follow: Option<Upstream>,
    },
    /// Start as primary, in place, after a crash.
    StartPrimary {
        /// Under this leadership.
        term: Term,
        /// Not later.
        not_after: BootTime,
    },
    /// Leave recovery.
    Promote {
        /// Under this leadership.
        term: Term,
        /// Not later.
        not_after: BootTime,
    },
    /// Stop cleanly, hand leadership to a replica that has everything, and become its replica.
    HandOver {
        /// The member that shall take over; any that can if it is not named.
        candidate: Option<MemberName>,
        /// Also when no member confirms that it has received the end of the WAL. If not, PostgreSQL starts again as primary.
        may_lose: bool,
    },
    /// Stop a primary that no longer leads.
    StopPrimary,
    /// Kill a PostgreSQL that cannot serve, and give leadership back.
    GiveUp,
    /// Kill a PostgreSQL whose data is gone.
    KillServer,
    /// Find out whether our WAL belongs to the leader's history; rewind or copy where it does not; follow it.
    Rejoin {
        /// The leader.
        leader: Upstream,
        /// A rewind did not help, or found nothing to do: copy.
        copy: bool,
    },
    /// Write a checkpoint, so that others can rewind against the new timeline.
    Checkpoint,
    /// Stop and start in the same role.
    Restart {
        /// As primary, under this leadership and not later.
        primary: Option<(Term, BootTime)>,
        /// As replica of.
        follow: Option<Upstream>,
    },
    /// Discard the data and copy it again.
    Reinitialize {
        /// Whom to copy.
        from: Upstream,
        /// Whom to follow then.
        follow: Upstream,
    },
    /// The agent ends: hand over if we lead, else stop.
    Shutdown {
        /// Give leadership to another member first.
        hand_over: bool,
    },
}

impl Action {
    /// Whether PostgreSQL has been started or promoted when the action has succeeded.
    #[must_use]
    pub fn starts_postgres(&self) -> bool {
        match self {
            Action::StartReplica { .. }
            | Action::StartPrimary { .. }
            | Action::Promote { .. }
            | Action::Rejoin { .. }
            | Action::Restart { .. } => true,
            Action::Bootstrap
            | Action::Clone { .. }
            | Action::HandOver { .. }
            | Action::StopPrimary
            | Action::GiveUp
            | Action::KillServer
            | Action::Checkpoint
            | Action::Reinitialize { .. }
            | Action::Shutdown { .. } => false,
        }
    }

    /// Whether a postmaster begins in it, which reads the configuration.
    #[must_use]
    pub fn launches_postgres(&self) -> bool {
        match self {
            Action::Bootstrap
            | Action::Clone { .. }
            | Action::Reinitialize { .. }
            | Action::StartReplica { .. }
            | Action::StartPrimary { .. }
            | Action::Rejoin { .. }
            | Action::Restart { .. } => true,
            Action::Promote { .. }
            | Action::HandOver { .. }
            | Action::StopPrimary
            | Action::GiveUp
            | Action::KillServer
            | Action::Checkpoint
            | Action::Shutdown { .. } => false,
        }
    }

    /// Its name in a few words, as Patroni's messages have it ("restart already in progress").
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Action::Bootstrap => "bootstrap",
            Action::Clone { .. } => "bootstrap from leader",
            Action::StartReplica { .. } => "starting as replica",
            Action::StartPrimary { .. } => "starting as primary",
            Action::Promote { .. } => "promote",
            Action::HandOver { .. } => "switchover",
            Action::StopPrimary => "demote",
            Action::GiveUp => "giving up",
            Action::KillServer => "killing PostgreSQL",
            Action::Rejoin { .. } => "rejoin",
            Action::Checkpoint => "checkpoint",
            Action::Restart { .. } => "restart",
            Action::Reinitialize { .. } => "reinitialize",
            Action::Shutdown { .. } => "shutdown",
        }
    }
}
