use std::time::Duration;

use howdah_types::MemberName;

use super::{Change, Record};
use crate::{LeaderSeen, LeaseDone, LeaseId, Outcome, Refusal, Term};

/// The length of a lease that nothing is known of.
const ADOPTED_TTL: Duration = Duration::from_secs(30);

/// A change by a client that does not lead (a label, a comment) is no loss: what was read is read again and swapped again,
/// so often.
const SWAPS: u8 = 4;

/// One request to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Read the record, from a quorum.
    Read,
    /// Create one without a holder, if it does not exist.
    Create,
    /// Change it, if it is still at the version of `over`.
    Swap {
        /// What was read.
        over: Record,
        /// What is made of it.
        change: Change,
    },
}

/// How a request ended. One whose end is not known ends the attempt as unknown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// It was read, made or changed, and stands like this now.
    Found {
        /// The record.
        record: Record,
        /// Whether it is held, by what this process has seen of it.
        held: bool,
    },
    /// It does not exist.
    Absent {
        /// Whether the one that was there is held all the same.
        held: bool,
    },
    /// Not done: another client was faster.
    Conflict,
}

/// How an attempt goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// By this request.
    Ask(Request),
    /// Not: it has ended.
    End(Outcome<LeaseDone>),
}

/// What is to be reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Goal {
    Renew,
    Acquire { me: MemberName },
    Release,
}

/// One try of a life to renew the record, to take it, or to give it back: a few requests in a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    goal: Goal,
    lease: LeaseId,
    /// The length of the lease, as far as this process knows it.
    ttl: Option<Duration>,
    swaps: u8,
}

impl Attempt {
    /// To renew the record. `ttl` is the lease's length, if it was begun by this process.
    #[must_use]
    pub fn to_renew(lease: LeaseId, ttl: Option<Duration>) -> Self {
        Self::new(Goal::Renew, lease, ttl)
    }

    /// To take the record for `me`.
    #[must_use]
    pub fn to_acquire(me: MemberName, lease: LeaseId, ttl: Option<Duration>) -> Self {
        Self::new(Goal::Acquire { me }, lease, ttl)
    }

    /// To give the record back.
    #[must_use]
    pub fn to_release(lease: LeaseId, ttl: Option<Duration>) -> Self {
        Self::new(Goal::Release, lease, ttl)
    }

    fn new(goal: Goal, lease: LeaseId, ttl: Option<Duration>) -> Self {
        Attempt {
            goal,
            lease,
            ttl,
            swaps: 0,
        }
    }

    /// The first request. What was seen last may serve to renew, since a swap fails if it is old; it does not serve to
    /// conclude anything.
    #[must_use]
    pub fn begin(&mut self, known: Option<Record>) -> Next {
        match (&self.goal, known) {
            // A lease of unknown length cannot be used: the keeper begins another.
            (Goal::Acquire { .. }, _) if self.ttl.is_none() => Next::End(Outcome::Refused(Refusal::NoLease)),
            (Goal::Renew, Some(record)) if record.lease == Some(self.lease) => self.renew(record),
            (Goal::Renew | Goal::Acquire { .. } | Goal::Release, _) => Next::Ask(Request::Read),
        }
    }

    /// What follows from the answer to the last request, `asked`.
    #[must_use]
    pub fn hear(&mut self, asked: &Request, reply: Reply) -> Next {
        match (asked, reply) {
            (Request::Swap { over, .. }, Reply::Found { record, .. }) => self.done(over, &record),
            (Request::Swap { .. }, _) => match self.goal {
                Goal::Acquire { .. } => Next::End(Outcome::Refused(Refusal::Condition)),
                Goal::Renew | Goal::Release => Next::Ask(Request::Read),
            },
            (Request::Read | Request::Create, Reply::Found { record, held }) => self.found(record, held),
            (Request::Read, Reply::Absent { held }) => self.absent(held),
            (Request::Read | Request::Create, _) => Next::End(Outcome::Refused(Refusal::Condition)),
        }
    }

    fn found(&mut self, record: Record, held: bool) -> Next {
        let ours = record.lease == Some(self.lease);
        match &self.goal {
            Goal::Renew if ours => self.renew(record),
            Goal::Renew => self.not_leading(Some(&record)),
            Goal::Release if ours => self.swap(record, Change::GiveBack),
            Goal::Release => Next::End(Outcome::Refused(Refusal::Condition)),
            Goal::Acquire { me } => match record.leader() {
                Some(leader) if held || ours => Next::End(Outcome::Refused(Refusal::HasLeader(leader))),
                // Deleted and recreated while its holder may still count on it.
                None if held => Next::End(Outcome::Refused(Refusal::Condition)),
                Some(_) | None => {
                    let change = Change::Take {
                        me: me.clone(),
                        lease: self.lease,
                        ttl: self.ttl.unwrap_or(ADOPTED_TTL),
                    };
                    self.swap(record, change)
                }
            },
        }
    }

    fn absent(&self, held: bool) -> Next {
        match self.goal {
            Goal::Renew => self.not_leading(None),
            Goal::Acquire { .. } if !held => Next::Ask(Request::Create),
            Goal::Acquire { .. } | Goal::Release => Next::End(Outcome::Refused(Refusal::Condition)),
        }
    }

    fn renew(&mut self, record: Record) -> Next {
        // A lease that the guard has handed over goes on with the length that its record has.
        let ttl = *self.ttl.get_or_insert(record.ttl);
        let change = Change::Renew {
            lease: self.lease,
            ttl,
        };
        self.swap(record, change)
    }

    fn swap(&mut self, over: Record, change: Change) -> Next {
        if self.swaps == SWAPS {
            return Next::End(Outcome::Failed(
                "the record changes faster than it can be swapped".into(),
            ));
        }
        self.swaps += 1;
        Next::Ask(Request::Swap { over, change })
    }

    fn not_leading(&self, record: Option<&Record>) -> Next {
        let recorded = record.map_or(ADOPTED_TTL, |record| record.ttl);
        Next::End(Outcome::Done(LeaseDone::Renewed {
            ttl: self.ttl.unwrap_or(recorded),
            leader: LeaderSeen::Read(record.and_then(Record::leader)),
        }))
    }

    fn done(&self, over: &Record, record: &Record) -> Next {
        Next::End(Outcome::Done(match self.goal {
            Goal::Renew => LeaseDone::Renewed {
                ttl: self.ttl.unwrap_or(record.ttl),
                leader: LeaderSeen::Read(record.leader()),
            },
            Goal::Acquire { .. } => LeaseDone::Acquired {
                term: Term(over.version),
            },
            Goal::Release => LeaseDone::Ended,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(8);

    fn me() -> MemberName {
        MemberName::new("a").unwrap()
    }

    fn held_by(lease: u64, version: u64) -> Record {
        Record {
            version,
            holder: Some(me()),
            lease: Some(LeaseId(lease)),
            ttl: TTL,
            ..Record::default()
        }
    }

    fn found(record: Record, held: bool) -> Reply {
        Reply::Found { record, held }
    }

    fn acquire() -> Attempt {
        Attempt::to_acquire(me(), LeaseId(1), Some(TTL))
    }

    #[test]
    fn a_record_is_taken_at_the_version_that_was_judged() {
        let mut attempt = acquire();
        assert_eq!(attempt.begin(Some(held_by(2, 5))), Next::Ask(Request::Read));
        let Next::Ask(swap @ Request::Swap { .. }) =
            attempt.hear(&Request::Read, found(held_by(2, 7), false))
        else {
            panic!("its time is over")
        };
        assert!(matches!(&swap, Request::Swap { over, .. } if over.version == 7));
        let done = attempt.clone().hear(&swap, found(held_by(1, 8), true));
        assert_eq!(
            done,
            Next::End(Outcome::Done(LeaseDone::Acquired { term: Term(7) }))
        );
        let lost = attempt.hear(&swap, Reply::Conflict);
        assert_eq!(lost, Next::End(Outcome::Refused(Refusal::Condition)));
    }

    #[test]
    fn a_held_record_is_not_taken_and_our_own_is_told() {
        let refused = acquire().hear(&Request::Read, found(held_by(2, 7), true));
        assert!(
            matches!(refused, Next::End(Outcome::Refused(Refusal::HasLeader(leader))) if leader.lease == Some(LeaseId(2)))
        );
        let ours = acquire().hear(&Request::Read, found(held_by(1, 7), false));
        assert!(
            matches!(ours, Next::End(Outcome::Refused(Refusal::HasLeader(leader))) if leader.lease == Some(LeaseId(1)))
        );
        let deleted = acquire().hear(&Request::Read, Reply::Absent { held: true });
        assert_eq!(deleted, Next::End(Outcome::Refused(Refusal::Condition)));
        let never = acquire().hear(&Request::Read, Reply::Absent { held: false });
        assert_eq!(never, Next::Ask(Request::Create));
    }

    fn renewal() -> Attempt {
        Attempt::to_renew(LeaseId(1), None)
    }

    #[test]
    fn a_renewal_concludes_only_from_a_read() {
        let mut attempt = renewal();
        // What was seen last names another: that may be old.
        assert_eq!(attempt.begin(Some(held_by(2, 5))), Next::Ask(Request::Read));
        let Next::Ask(swap) = attempt.hear(&Request::Read, found(held_by(1, 6), true)) else {
            panic!("it is ours")
        };
        // A label: read again, swapped again, and not for ever.
        let mut asked = swap;
        for version in 7..10 {
            assert_eq!(attempt.hear(&asked, Reply::Conflict), Next::Ask(Request::Read));
            let Next::Ask(again) = attempt.hear(&Request::Read, found(held_by(1, version), true)) else {
                panic!("it is still ours")
            };
            asked = again;
        }
        assert_eq!(attempt.hear(&asked, Reply::Conflict), Next::Ask(Request::Read));
        let end = attempt.hear(&Request::Read, found(held_by(1, 10), true));
        assert!(matches!(end, Next::End(Outcome::Failed(_))), "{end:?}");
    }

    #[test]
    fn an_adopted_lease_keeps_the_length_of_its_record() {
        let mut attempt = renewal();
        let next = attempt.begin(Some(held_by(1, 5)));
        let Next::Ask(Request::Swap { change, .. }) = next else {
            panic!("{next:?}")
        };
        assert_eq!(
            change,
            Change::Renew {
                lease: LeaseId(1),
                ttl: TTL
            }
        );
    }
}
