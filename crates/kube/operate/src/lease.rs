//! Which replica leads: the rule, without the API.
//!
//! A Lease object names a holder and a duration. The holder writes it again and again; each write extends its term to the duration
//! after the moment at which the write was *sent*. Another replica takes the Lease when it has not seen it change for the
//! whole duration by its own clock. It has seen the holder's last write after that was sent, so the holder's term is over by then: no clocks are
//! compared, only their rates, and for these there is [`MARGIN`]. Every write names the version that it replaces, so of two
//! that take it one is refused. (client-go's rule; there the holder counts from the answer.)

use std::time::Duration;

use howdah_types::BootTime;

/// Others take the Lease when it has not changed for this long.
pub(crate) const DURATION: Duration = Duration::from_secs(15);

/// The holder stops this much earlier.
pub(crate) const MARGIN: Duration = Duration::from_secs(2);

/// The duration of a Lease that is given back.
pub(crate) const GIVEN_BACK: Duration = Duration::from_secs(1);

/// The Lease as it was read or written last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Who holds it; empty: no replica.
    pub(crate) holder: String,
    /// For how long.
    pub(crate) duration: Duration,
    /// Changes with each write.
    pub(crate) version: String,
}

impl Record {
    /// The holder has ended and said so. A Lease whose holder was taken out by hand is not: its holder may not know.
    fn is_given_back(&self) -> bool {
        self.holder.is_empty() && self.duration <= GIVEN_BACK
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Make the Lease.
    Create,
    /// Write it for another term, in place of the known version.
    Renew,
    /// Write it as the new holder, in place of the known version.
    Take,
    /// Another one leads.
    Wait,
}

/// A replica that would lead.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    name: String,
    /// The version that was seen last, and when it was seen first.
    seen: Option<(String, BootTime)>,
    /// When another holder was seen last.
    held: Option<BootTime>,
    /// Until when this one leads.
    term: Option<BootTime>,
}

impl Candidate {
    pub(crate) fn new(name: String) -> Self {
        Candidate {
            name,
            seen: None,
            held: None,
            term: None,
        }
    }

    /// Until when this replica may work; the clock's beginning when it may not.
    pub(crate) fn moment(&self) -> BootTime {
        self.term.unwrap_or(BootTime(0))
    }

    /// What is to be done about a Lease that was read at `now`.
    pub(crate) fn decide(&mut self, record: Option<&Record>, now: BootTime) -> Move {
        let Some(record) = record else {
            self.term = None;
            // Deleted by hand: its holder may not know yet.
            let waits = self.held.is_some_and(|held| now.since(held) < DURATION);
            return if waits { Move::Wait } else { Move::Create };
        };
        if record.holder == self.name {
            return Move::Renew;
        }
        // Somebody else's: whatever was believed is over.
        self.term = None;
        if record.is_given_back() {
            return Move::Take;
        }
        self.held = Some(now);
        match &self.seen {
            Some((version, since)) if *version == record.version => {
                let over = now.since(*since) >= record.duration;
                if over { Move::Take } else { Move::Wait }
            }
            _ => {
                self.seen = Some((record.version.clone(), now));
                Move::Wait
            }
        }
    }

    /// A write that was sent at `sent` has succeeded.
    pub(crate) fn wrote(&mut self, sent: BootTime) {
        self.term = Some(sent + (DURATION - MARGIN));
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
