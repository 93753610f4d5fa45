use std::{collections::HashSet, time::Duration};

use howdah_types::BootTime;

use crate::{Ack, Kind};

/// What the acknowledgements around a fault say.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The longest time between two acknowledgements of any kind after the fault.
    pub outage: Duration,
    /// For how long two members acknowledged: zero is what must be.
    pub overlap: Duration,
    /// Acknowledged rows that the cluster does not have.
    pub lost: usize,
    /// Acknowledged rows in all.
    pub acked: usize,
}

/// Judges the acknowledgements since `fault`; `rows` is what the primary has in the end.
#[must_use]
pub fn judge(acks: &[Ack], fault: BootTime, rows: &HashSet<(String, i64)>) -> Verdict {
    let mut acks = acks.to_vec();
    acks.sort_by_key(|ack| ack.at);
    let mut outage = Duration::ZERO;
    for pair in acks.windows(2) {
        if let [a, b] = pair
            && b.at > fault
        {
            outage = outage.max(b.at.since(a.at.max(fault)));
        }
    }
    Verdict {
        outage,
        overlap: overlap(&acks),
        lost: lost(&acks, rows),
        acked: acks.len(),
    }
}

/// Members in the order in which they first acknowledge in a term; the last acknowledgement of each must come before
/// the first of the next.
fn overlap(acks: &[Ack]) -> Duration {
    let mut terms: Vec<(usize, u32, BootTime, BootTime)> = Vec::new();
    for ack in acks {
        match terms
            .iter_mut()
            .find(|(member, term, ..)| *member == ack.member && *term == ack.term)
        {
            Some((_, _, _, last)) => *last = ack.at,
            None => terms.push((ack.member, ack.term, ack.at, ack.at)),
        }
    }
    let mut worst = Duration::ZERO;
    for (i, (member, _, _, last)) in terms.iter().enumerate() {
        for (other, _, first, _) in terms.iter().skip(i + 1) {
            if other != member {
                worst = worst.max(first.until(*last));
            }
        }
    }
    worst
}

fn lost(acks: &[Ack], rows: &HashSet<(String, i64)>) -> usize {
    acks.iter()
        .map(|ack| match ack.kind {
            Kind::Copy => (ack.n - 99..=ack.n)
                .filter(|n| !rows.contains(&("Copy".to_owned(), *n)))
                .count(),
            kind => usize::from(!rows.contains(&(format!("{kind:?}"), ack.n))),
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(member: usize, term: u32, millis: u64, n: i64) -> Ack {
        Ack {
            member,
            term,
            at: BootTime(millis * 1_000_000),
            kind: Kind::Insert,
            n,
        }
    }

    #[test]
    fn overlaps_and_losses_are_seen() {
        let fault = BootTime(10_000_000);
        let rows: HashSet<_> = [1, 2, 4].map(|n| ("Insert".to_owned(), n)).into();
        let clean = judge(
            &[ack(0, 1, 5, 1), ack(0, 1, 12, 2), ack(1, 2, 50, 4)],
            fault,
            &rows,
        );
        assert_eq!(
            (clean.overlap, clean.lost, clean.outage),
            (Duration::ZERO, 0, Duration::from_millis(38))
        );
        let split = judge(
            &[ack(0, 1, 5, 1), ack(1, 2, 20, 4), ack(0, 1, 30, 3)],
            fault,
            &rows,
        );
        assert_eq!((split.overlap, split.lost), (Duration::from_millis(10), 1));
        // The same member again in a later term is no overlap.
        let back = judge(
            &[ack(0, 1, 5, 1), ack(1, 2, 20, 2), ack(0, 3, 30, 4)],
            fault,
            &rows,
        );
        assert_eq!(back.overlap, Duration::ZERO);
    }
}
