use std::{
    fmt,
    hash::{Hash, Hasher},
};

use howdah_config::SyncMode;

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
    /// Everything works again, and yet nobody takes writes.
    NobodyLeads,
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
            Violation::GaveUp { member } => write!(f, "m{member} gives up a leadership that it holds"),
            Violation::NobodyLeads => f.write_str("all is well again and nobody takes writes"),
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
            self.disturbed,
        )
            .hash(state);
    }
}

impl Checker {
    /// A member was promoted with this log.
    pub(crate) fn promoted(&mut self, member: usize, wal: &[Entry]) {
        let synchronous = self
            .settings
            .as_ref()
            .is_some_and(|settings| settings.dynamic.synchronous_mode != SyncMode::Off);
        if (synchronous || !self.disturbed) && !wal.starts_with(&self.acked) {
            self.lost = Some(member);
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
        if let Some(member) = self.checker.lost {
            self.violation = Some(Violation::LostCommit { member });
        }
        // What no process can prevent while both are frozen and nobody is waited for.
        let excused =
            |i: usize| settings.faults.both_freeze && self.nodes[i].guard_frozen_until > 0 && !synchronous;
        if let [a, b, ..] = writers[..]
            && !excused(a)
            && !excused(b)
        {
            self.violation = Some(Violation::TwoPrimaries { members: (a, b) });
        }
        for i in writers {
            let (term, excused) = (self.nodes[i].pg.term, excused(i));
            if term < self.checker.newest_term && !excused {
                self.violation = Some(Violation::OldTerm { member: i });
            }
            self.checker.newest_term = self.checker.newest_term.max(term);
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

    /// Long after the last fault somebody leads and everybody is back.
    fn check_end(&mut self) {
        if self.violation.is_some() {
            return;
        }
        let leads = (0..MEMBERS).any(|i| self.acknowledges(i));
        if !leads {
            self.violation = Some(Violation::NobodyLeads);
            return;
        }
        let back = |i: usize| self.acknowledges(i) || self.streams(i).is_some();
        if let Some(member) = (0..MEMBERS).find(|i| !back(*i)) {
            self.violation = Some(Violation::NotBack { member });
        }
    }
}
