use std::{
    fmt,
    hash::{Hash, Hasher},
};

use howdah_config::SyncMode;
use howdah_guard::Core;

use crate::{Settings, World, member::Entry, world::MEMBERS};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two members acknowledge commits at the same time.
    TwoPrimaries {
        /// By index.
        members: (usize, usize),
    },
    /// A member acknowledges under a leadership that is over.
    OldTerm {
        /// By index.
        member: usize,
    },
    /// A member took over without an acknowledged commit of a member that it could have asked.
    LostReachable {
        /// By index.
        member: usize,
        /// Who had it.
        other: usize,
    },
    /// Commits were acknowledged of two clusters.
    TwoClusters {
        /// By index.
        member: usize,
    },
    /// An acknowledged commit is not on the member that took over, in synchronous mode or by mere switchovers.
    LostCommit {
        /// By index.
        member: usize,
    },
    /// The store says that a member leads, and it concludes that it does not.
    GaveUp {
        /// By index.
        member: usize,
    },
    /// Everything works again, and yet no member takes writes.
    NoLeader,
    /// Everything works again, and a member follows the primary with other rows.
    OtherRows {
        /// By index.
        member: usize,
    },
    /// Everything works again, and yet a member has not come back.
    NotBack {
        /// By index.
        member: usize,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::TwoPrimaries { members: (a, b) } => {
                write!(f, "m{a} and m{b} acknowledge commits at once")
            }
            Violation::OldTerm { member } => {
                write!(f, "m{member} acknowledges under a leadership that is over")
            }
            Violation::LostCommit { member } => {
                write!(f, "m{member} took over without an acknowledged commit")
            }
            Violation::LostReachable { member, other } => {
                write!(
                    f,
                    "m{member} took over without an acknowledged commit that m{other} had, which it could ask"
                )
            }
            Violation::TwoClusters { member } => write!(f, "m{member} has made a second cluster"),
            Violation::GaveUp { member } => write!(f, "m{member} gives up a leadership that it holds"),
            Violation::NoLeader => f.write_str("all is well again and no member takes writes"),
            Violation::OtherRows { member } => write!(f, "m{member} follows the primary and has other rows"),
            Violation::NotBack { member } => write!(f, "all is well again and m{member} has not come back"),
        }
    }
}

/// What was promised to clients so far.
#[derive(Clone, Default)]
pub(crate) struct Checker {
    pub(crate) settings: Option<std::rc::Rc<Settings>>,
    /// Commits made in all.
    pub(crate) committed: usize,
    /// The longest log that was acknowledged.
    acked: Vec<Entry>,
    /// The newest leadership that has acknowledged.
    newest_term: u64,
    lost: Option<usize>,
    /// The member that took over without what another one had.
    lost_reachable: Option<(usize, usize)>,
    /// The cluster whose commits were acknowledged.
    system: Option<u64>,
    /// What no agent can prevent has happened: in pause, or just after it, two have written; or the store was wiped, and
    /// the first to come was a member without data that has seen nothing of the cluster.
    pub(crate) excused: bool,
    /// Something else than a request has happened.
    pub(crate) disturbed: bool,
}

impl Hash for Checker {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (
            self.committed,
            &self.acked,
            self.newest_term,
            self.lost,
            self.lost_reachable,
            self.system,
            self.excused,
            self.disturbed,
        )
            .hash(state);
    }
}

impl Checker {
    /// A store that was lost and set up again counts terms from one: an order of terms means nothing from now on.
    pub(crate) fn forget_terms(&mut self) {
        self.newest_term = u64::MAX;
    }

    /// The longest part of what was acknowledged that a log has.
    pub(crate) fn acked_part(&self, wal: &[Entry]) -> usize {
        self.acked.iter().zip(wal).take_while(|(a, b)| a == b).count()
    }

    /// A member was promoted with this log; `owed` is what it could have learnt of.
    pub(crate) fn promoted(&mut self, member: usize, wal: &[Entry], owed: Option<(usize, Vec<Entry>)>) {
        if let Some((other, owed)) = owed
            && !wal.starts_with(&owed)
        {
            self.lost_reachable = Some((member, other));
        }
        let synchronous = self
            .settings
            .as_ref()
            .is_some_and(|settings| settings.dynamic.synchronous_mode != SyncMode::Off);
        if (synchronous || !self.disturbed) && !wal.starts_with(&self.acked) {
            self.lost = Some(member);
        }
        if !wal.starts_with(&self.acked) {
            // What is lost by now is lost once.
            self.acked = wal.to_vec();
        }
    }
}

impl World {
    /// Prepares the checker; the world keeps the settings for what happens inside other steps.
    pub(crate) fn watch(&mut self, settings: &Settings) {
        self.checker.settings = Some(std::rc::Rc::new(settings.clone()));
    }

    /// Looks at the world at the end of a tick.
    pub(crate) fn check(&mut self, settings: &Settings) {
        let writers: Vec<usize> = (0..MEMBERS).filter(|i| self.acknowledges(*i)).collect();
        let synchronous = settings.dynamic.synchronous_mode != SyncMode::Off;
        // Pause takes the fence down until the leader's own agent has seen its end and has the lease again; what is started by
        // hand meanwhile has the length of one. That is said in docs/safety.md; what follows from two that wrote then is not
        // counted.
        let by_hand = |guard: &Core| self.paused_once && (guard.is_unleased() || guard.pid().is_none());
        let is_unfenced = |i: &usize| {
            let guard = &self.nodes[*i].guard;
            guard.is_unfenced() || by_hand(guard)
        };
        if writers.len() > 1 && writers.iter().any(is_unfenced) {
            self.checker.excused = true;
        }
        if self.checker.excused {
            return;
        }
        if let Some(member) = self.checker.lost {
            self.violation = Some(Violation::LostCommit { member });
        }
        if let Some((member, other)) = self.checker.lost_reachable {
            self.violation = Some(Violation::LostReachable { member, other });
        }
        // What no process can prevent while both are frozen and no member is waited for; a watchdog device does.
        let covered = synchronous || settings.watchdog.is_some();
        let excused = |i: usize| self.nodes[i].both_frozen && !covered;
        if let [a, b, ..] = writers[..]
            && !excused(a)
            && !excused(b)
        {
            self.violation = Some(Violation::TwoPrimaries { members: (a, b) });
        }
        for i in writers {
            let (term, excused) = (self.nodes[i].pg.term, excused(i));
            let counts = self.checker.newest_term != u64::MAX;
            if counts && term < self.checker.newest_term && !excused {
                self.violation = Some(Violation::OldTerm { member: i });
            }
            if counts && term < self.checker.newest_term {
                // What it acknowledges after another member took over is lost by the freeze, not by a later decision.
                continue;
            }
            self.checker.newest_term = self.checker.newest_term.max(term);
            let system = self.nodes[i].pg.system;
            if *self.checker.system.get_or_insert(system) != system {
                self.violation = Some(Violation::TwoClusters { member: i });
            }
            let wal = self.nodes[i].pg.wal.clone();
            if wal.len() > self.checker.acked.len() || !self.checker.acked.starts_with(&wal) {
                self.checker.acked = wal;
            }
        }
        if self.tick + 1 >= settings.end {
            self.check_end();
        }
        if let Some(violation) = self.violation.clone() {
            let ends: Vec<String> = (0..MEMBERS).map(|i| self.end_of(i).to_string()).collect();
            self.say(|| format!("VIOLATION: {violation} (WAL ends at {})", ends.join(", ")));
        }
    }

    /// Long after the last fault there is a leader and every member is back.
    fn check_end(&mut self) {
        if self.violation.is_some() {
            return;
        }
        let leads = (0..MEMBERS).any(|i| self.acknowledges(i));
        let synchronous = self
            .checker
            .settings
            .as_ref()
            .is_some_and(|settings| settings.dynamic.synchronous_mode != SyncMode::Off);
        // No member may lead without a member that never starts, when no other was synchronous as it broke; nor in a store
        // that was wiped, when agents that were started since then, or have not seen it, do not know who was.
        let waits = |i: usize| {
            let memory = &self.nodes[i].memory;
            self.nodes[i].pg.broken || !memory.cluster_known || memory.last_sync.is_none()
        };
        if !leads && synchronous && (0..MEMBERS).any(waits) {
            return;
        }
        if !leads {
            self.violation = Some(Violation::NoLeader);
            return;
        }
        let back = |i: usize| self.nodes[i].pg.broken || self.acknowledges(i) || self.streams(i).is_some();
        if let Some(member) = (0..MEMBERS).find(|i| !back(*i)) {
            self.violation = Some(Violation::NotBack { member });
        }
        let differs = |i: &usize| {
            self.streams(*i)
                .is_some_and(|primary| !self.nodes[primary].pg.wal.starts_with(&self.nodes[*i].pg.wal))
        };
        if let Some(member) = (0..MEMBERS).find(differs) {
            self.violation = Some(Violation::OtherRows { member });
        }
    }
}
