//! Failsafe mode: a leader that the store does not answer goes on while every member of the topology has promised not to lead.
//!
//! A promise is worth as much as a renewal by the store. The leader counts it from the moment at which it asked, the member from
//! the moment at which it agreed, which is later. It asks all of `/failsafe`, and no member leads that is not in it.

use std::time::Duration;

use howdah_dcs::{Term, Topology};
use howdah_types::{BootTime, MemberName};
use serde::Serialize;

/// What this member has promised another one: not to lead before `until`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Promise {
    /// Who goes on as leader.
    pub leader: MemberName,
    /// Where its PostgreSQL is (`postgres://host:port/database`).
    pub conn_url: String,
    /// Where its API is (`http[s]://host:port/patroni`).
    pub api_url: String,
    /// When it asked, by its own clock. Only our agents say so.
    pub asked: Option<BootTime>,
    /// The end, by our clock.
    pub until: BootTime,
}

/// A round of questions to all other members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// When it was begun: the promises count from here.
    pub asked: BootTime,
    /// How long they must last.
    pub length: Duration,
    /// Whom to ask, at which address.
    pub members: Topology,
    /// An answer that is not there by then is a refusal.
    pub deadline: BootTime,
}

/// The longest wait for answers: Patroni's.
const PATIENCE: Duration = Duration::from_secs(2);

/// Members that have not agreed are asked again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Who was asked when, for how long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Round {
    asked: BootTime,
    until: BootTime,
    members: Topology,
}

/// What a leader has of the other members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Promises {
    /// Whom to ask under which leadership; `None` while the failsafe mode is off, or the topology is not certain.
    topology: Option<(Term, Topology)>,
    /// The round that is under way.
    asking: Option<Round>,
    /// The round in which all have promised.
    promised: Option<Round>,
    /// The last round.
    last_asked: Option<BootTime>,
    /// Rounds up to this one are no longer relied on.
    settled: Option<BootTime>,
    next_ask: BootTime,
}

impl Promises {
    /// Whom to ask under this leadership.
    pub(crate) fn tell(&mut self, term: Term, members: Option<Topology>) {
        self.topology = members.map(|members| (term, members));
    }

    /// Until when the other members have promised not to lead.
    pub(crate) fn until(&self) -> Option<BootTime> {
        self.promised.as_ref().map(|round| round.until)
    }

    /// When those promises were asked for.
    pub(crate) fn asked(&self) -> Option<BootTime> {
        self.promised.as_ref().map(|round| round.asked)
    }

    /// Whom it was told to ask under this leadership.
    pub(crate) fn told(&self, term: Term) -> Option<&Topology> {
        let told = self.topology.as_ref().filter(|(of, _)| *of == term);
        told.map(|(_, members)| members)
    }

    /// Who is asked, and was asked for all that counts or may come to count. `/failsafe` may name them, and no other member.
    pub(crate) fn covered(&self, term: Term) -> Topology {
        let mut members = self.told(term).cloned().unwrap_or_default();
        for round in self.rounds() {
            members.retain(|name, _| round.members.contains_key(name));
        }
        members
    }

    /// No promise counts, or may come to count.
    pub(crate) fn is_idle(&self) -> bool {
        self.rounds().next().is_none()
    }

    fn rounds(&self) -> impl Iterator<Item = &Round> {
        self.asking.iter().chain(&self.promised)
    }

    /// Promises that were asked for up to then are not relied on.
    pub(crate) fn settled(&self) -> Option<BootTime> {
        self.settled
    }

    /// When the next round is due under this leadership, whose right was last confirmed by a request of `confirmed`.
    pub(crate) fn due(&self, term: Term, confirmed: BootTime, ttl: Duration) -> BootTime {
        match &self.topology {
            Some((of, _)) if *of == term && self.asking.is_none() => (confirmed + ttl / 2).max(self.next_ask),
            Some(_) | None => BootTime::FAR_FUTURE,
        }
    }

    /// Begins a round; `stop_at`: when PostgreSQL must stop without its answers.
    pub(crate) fn ask(&mut self, now: BootTime, stop_at: BootTime, length: Duration) -> Option<Question> {
        let (_, members) = self.topology.clone()?;
        self.asking = Some(Round {
            asked: now,
            until: now + length,
            members: members.clone(),
        });
        self.last_asked = Some(now);
        Some(Question {
            asked: now,
            length,
            members,
            deadline: now + (now.until(stop_at) / 2).min(PATIENCE),
        })
    }

    /// The round of `asked` has ended. True: all have promised, and that counts.
    pub(crate) fn hear(&mut self, asked: BootTime, agreed: bool, now: BootTime) -> bool {
        let Some(round) = self.asking.take_if(|round| round.asked == asked) else {
            return false;
        };
        if agreed {
            self.promised = Some(round);
        } else {
            self.next_ask = now + ASK_AGAIN;
        }
        agreed
    }

    /// The store has confirmed the lease for at least as long: no promise is relied on, not even one that is still to come.
    pub(crate) fn settle(&mut self) {
        self.asking = None;
        self.promised = None;
        self.settled = self.last_asked;
    }

    /// The leadership is over. Members keep what they have promised: PostgreSQL may not have ended yet.
    pub(crate) fn end(&mut self) {
        self.topology = None;
        self.asking = None;
        self.promised = None;
    }
}
