//! When a cluster gets its next pass, if no watch reports a change before.

use std::time::Duration;

use howdah_types::Class;

/// A cluster that is as it should be is compared again after this time.
pub(crate) const RESYNC: Duration = Duration::from_secs(300);
/// One of which no watch reports a part: positions in the WAL, or a Secret without labels.
pub(crate) const UNREPORTED: Duration = Duration::from_secs(20);
/// One that is not as it should be.
pub(crate) const SOON: Duration = Duration::from_secs(3);
/// After a step of the operator's own, and while something moves that no watch reports.
pub(crate) const NOW: Duration = Duration::from_millis(250);
/// The longest time between looks at what no watch reports and what may come at any moment, such as a server that answers.
const EXPECTED: Duration = Duration::from_secs(20);
/// The longest time between passes that fail.
const SELDOM: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wake {
    /// After this time.
    At(Duration),
    /// After this time, or a part of the time since the status has changed last, if that is longer. Hundreds of clusters that wait
    /// for one thing, such as a node, would otherwise keep new ones waiting.
    Growing(Duration),
}

impl Wake {
    /// The pause before the next pass, when the status has been the same for the time `silent`.
    pub(crate) fn after(self, silent: Duration) -> Duration {
        match self {
            Wake::At(time) => time,
            // What is looked at often is expected at any moment.
            Wake::Growing(least) if least < SOON => (silent / 8).clamp(least, EXPECTED),
            Wake::Growing(least) => (silent / 2).clamp(least, RESYNC),
        }
    }

    /// After this many failures in a row for one reason. What was refused is mostly refused until an object changes, and that
    /// starts a pass at once.
    pub(crate) fn after_failures(class: Class, times: u32) -> Wake {
        let doublings = match class {
            Class::Retry => times.saturating_sub(1),
            Class::Refused => times.saturating_add(1),
            Class::Bug => u32::MAX,
        };
        Wake::At((SOON * 2_u32.saturating_pow(doublings.min(10))).min(SELDOM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_the_same_is_looked_at_more_and_more_seldom() {
        let mut looked = vec![0.0];
        let mut silent = Duration::ZERO;
        while silent < Duration::from_mins(5) {
            silent += Wake::Growing(SOON).after(silent);
            looked.push(silent.as_secs_f64());
        }
        // A pod that is missing is asked for after 4 s, and its trouble is told within 10 s.
        assert!(looked.iter().any(|at| (4.5..9.0).contains(at)), "{looked:?}");
        assert!(looked.len() < 16, "{looked:?}");
        assert_eq!(Wake::Growing(NOW).after(Duration::ZERO), NOW);
        assert_eq!(Wake::Growing(NOW).after(Duration::from_secs(2)), NOW);
        assert_eq!(Wake::Growing(NOW).after(Duration::from_hours(1)), EXPECTED);
        assert_eq!(Wake::Growing(SOON).after(Duration::from_hours(1)), RESYNC);
    }

    #[test]
    fn a_refusal_is_tried_more_seldom_than_a_failure() {
        let after = |class, times| Wake::after_failures(class, times).after(Duration::from_hours(1));
        assert_eq!(after(Class::Retry, 1), SOON);
        assert_eq!(after(Class::Retry, 2), SOON * 2);
        assert_eq!(after(Class::Refused, 1), SOON * 4);
        assert_eq!(after(Class::Retry, 100), SELDOM);
        assert_eq!(after(Class::Bug, 1), SELDOM);
    }
}
