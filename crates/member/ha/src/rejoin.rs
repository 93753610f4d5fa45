//! Whether a member's WAL belongs to the history of the leader that it is to follow.

use howdah_pgconf::{DbState, Divergence, HistoryLine, divergence, share_history};
use howdah_types::{Lsn, Origins, Timeline, have_forked};

/// What is known of a member's own WAL.
#[derive(Clone, Debug)]
pub struct OwnWal<'a> {
    /// The timeline of the running server, or of the control file.
    pub timeline: Timeline,
    /// The history of that timeline.
    pub history: &'a [HistoryLine],
    /// Where it ends.
    pub end: OwnEnd,
    /// Which promotions began its timelines.
    pub origins: &'a Origins,
}

/// Where a member's own WAL ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnEnd {
    /// The server runs.
    Running {
        /// What it has replayed, or written.
        position: Lsn,
        /// It is a replica.
        in_recovery: bool,
    },
    /// It is stopped.
    Stopped {
        /// As its control file says.
        state: DbState,
        /// Its last checkpoint.
        checkpoint: Lsn,
        /// The data is a copy that has never run.
        has_backup_label: bool,
    },
}

/// What is known of the leader's WAL, asked after the own.
#[derive(Clone, Copy, Debug)]
pub struct LeaderWal<'a> {
    /// Its timeline.
    pub timeline: Timeline,
    /// The history of that timeline; empty for the first.
    pub history: &'a [HistoryLine],
    /// Which promotions began its timelines; empty of a leader that does not say.
    pub origins: &'a Origins,
    /// It has flushed so much; a replica gets no more.
    pub flushed: Lsn,
}

/// How a member's WAL relates to a leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The leader's history contains it: streaming can go on.
    Contained,
    /// It has left the leader's history: a rewind or a copy is needed.
    Left,
    /// A timeline of it has the number of one of the leader's and is another one. pg_rewind believes that one number is one
    /// timeline, so only a copy helps.
    OtherPromotion,
}

/// Compares a member's WAL with a leader's.
///
/// Two promotions that know nothing of each other give their timelines the same number. Their histories differ where they were
/// promoted at different positions. At the same position only the timelines' first records tell them apart; where those are not
/// known, a member that was primary on a timeline follows no leader of that number, since a timeline has one primary.
#[must_use]
pub fn relate(own: &OwnWal<'_>, leader: &LeaderWal<'_>) -> Relation {
    if have_forked(own.origins, leader.origins) {
        return Relation::OtherPromotion;
    }
    if own.timeline == leader.timeline {
        let was_primary = match own.end {
            OwnEnd::Running { .. } => false,
            OwnEnd::Stopped {
                state,
                has_backup_label,
                ..
            } => {
                !has_backup_label
                    && matches!(
                        state,
                        DbState::InProduction
                            | DbState::InCrashRecovery
                            | DbState::ShuttingDown
                            | DbState::ShutDown
                    )
            }
        };
        let is_ahead = match own.end {
            OwnEnd::Running {
                position,
                in_recovery,
            } => in_recovery && position > leader.flushed,
            OwnEnd::Stopped { .. } => false,
        };
        if was_primary || is_ahead || !share_history(own.history, leader.history) {
            return Relation::OtherPromotion;
        }
    }
    let end = match own.end {
        OwnEnd::Running { position, .. } => position,
        OwnEnd::Stopped {
            state, checkpoint, ..
        } => match state {
            // Nothing follows the shutdown checkpoint. It belongs to the leader's history if it begins before the switch:
            // records are whole on both sides.
            DbState::ShutDown => Lsn(checkpoint.0 + 1),
            DbState::ShutDownInRecovery | DbState::InArchiveRecovery => return Relation::Contained,
            // Where the WAL of a crashed primary ends is not known without reading it: pg_rewind does.
            DbState::Startup | DbState::ShuttingDown | DbState::InCrashRecovery | DbState::InProduction => {
                return if own.timeline == leader.timeline {
                    Relation::Contained
                } else {
                    Relation::Left
                };
            }
        },
    };
    match divergence(own.timeline, end, leader.timeline, leader.history) {
        Divergence::None => Relation::Contained,
        Divergence::Diverged => Relation::Left,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(timeline: u32, switch: u64) -> HistoryLine {
        HistoryLine {
            timeline: Timeline(timeline),
            switch: Lsn(switch),
            reason: String::new(),
        }
    }

    fn stopped(state: DbState, checkpoint: u64) -> OwnEnd {
        OwnEnd::Stopped {
            state,
            checkpoint: Lsn(checkpoint),
            has_backup_label: false,
        }
    }

    fn running(position: u64) -> OwnEnd {
        OwnEnd::Running {
            position: Lsn(position),
            in_recovery: true,
        }
    }

    #[test]
    fn wal_is_related_to_a_leader_on_timeline_two_that_was_promoted_at_500() {
        use Relation::{Contained, Left, OtherPromotion};
        let theirs = [line(1, 500)];
        let begun = Origins::from([(Timeline(2), "a".to_owned())]);
        let leader = LeaderWal {
            timeline: Timeline(2),
            history: &theirs,
            origins: &begun,
            flushed: Lsn(800),
        };
        let other = [line(1, 400)];
        let origins = |named: Option<(u32, &str)>| -> Origins {
            let named = named.into_iter();
            named
                .map(|(number, origin)| (Timeline(number), origin.to_owned()))
                .collect()
        };
        for (timeline, history, end, origin, expected, why) in [
            (
                1,
                &[][..],
                running(500),
                None,
                Contained,
                "a replica that has not passed the switch",
            ),
            (1, &[], running(501), None, Left, "a replica that has"),
            (
                1,
                &[],
                stopped(DbState::ShutDown, 499),
                None,
                Contained,
                "a primary stopped before it",
            ),
            (
                1,
                &[],
                stopped(DbState::ShutDown, 500),
                None,
                Left,
                "a primary stopped behind it",
            ),
            (
                1,
                &[],
                stopped(DbState::InProduction, 300),
                None,
                Left,
                "a primary that has crashed",
            ),
            (
                1,
                &[],
                stopped(DbState::ShutDownInRecovery, 600),
                None,
                Contained,
                "a stopped replica: it is asked when it runs",
            ),
            (
                2,
                &theirs,
                running(700),
                None,
                Contained,
                "a replica of this leader",
            ),
            (
                2,
                &theirs,
                running(801),
                None,
                OtherPromotion,
                "a replica with WAL that the leader has not",
            ),
            (
                2,
                &other,
                running(450),
                None,
                OtherPromotion,
                "a promotion at another position",
            ),
            (
                2,
                &theirs,
                stopped(DbState::InProduction, 600),
                None,
                OtherPromotion,
                "a primary of that number",
            ),
            (
                2,
                &theirs,
                running(600),
                Some((2, "b")),
                OtherPromotion,
                "a replica of another promotion",
            ),
            (
                1,
                &[],
                stopped(DbState::InProduction, 400),
                Some((2, "b")),
                OtherPromotion,
                "one whose control file has not learnt of it",
            ),
            (
                2,
                &theirs,
                running(700),
                Some((2, "a")),
                Contained,
                "a replica of this promotion",
            ),
            (
                3,
                &[],
                running(600),
                None,
                Left,
                "one that is ahead by a timeline",
            ),
        ] {
            let own = OwnWal {
                timeline: Timeline(timeline),
                history,
                end,
                origins: &origins(origin),
            };
            assert_eq!(relate(&own, &leader), expected, "{why}");
        }
        // A copy has its source's control file.
        let copy = OwnWal {
            timeline: Timeline(2),
            history: &theirs,
            end: OwnEnd::Stopped {
                state: DbState::InProduction,
                checkpoint: Lsn(600),
                has_backup_label: true,
            },
            origins: &origins(None),
        };
        assert_eq!(relate(&copy, &leader), Contained);
    }
}
