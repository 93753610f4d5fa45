use howdah_types::{Lsn, Timeline};

/// One line of a timeline history file: `timeline` ended at `switch`, and the next line's timeline began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryLine {
    /// The timeline that ended.
    pub timeline: Timeline,
    /// Where it ended.
    pub switch: Lsn,
    /// PostgreSQL's free text.
    pub reason: String,
}

/// The lines of a `.history` file. Comments and lines that are not of the form are passed over, as PostgreSQL does
/// for comments.
#[must_use]
pub fn parse_history(text: &str) -> Vec<HistoryLine> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.splitn(3, '\t');
            Some(HistoryLine {
                timeline: Timeline(fields.next()?.trim().parse().ok()?),
                switch: fields.next()?.trim().parse().ok()?,
                reason: fields.next().unwrap_or_default().trim().to_owned(),
            })
        })
        .collect()
}

/// How local WAL relates to a leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// The leader's history contains ours: streaming can go on.
    None,
    /// We have WAL that the leader's history does not contain: rewind or copy.
    Diverged,
}

/// Compares a local position with a leader's history (Patroni's rule, section 5.10.1 of its behaviour).
///
/// `history` are the lines of the leader's own timeline file, empty for timeline 1. `end` is the end of local WAL;
/// for a primary that was stopped it is the end of its last checkpoint record. For timelines that share a number by
/// accident see [`share_history`].
#[must_use]
pub fn divergence(timeline: Timeline, end: Lsn, leader: Timeline, history: &[HistoryLine]) -> Divergence {
    if timeline == leader {
        return Divergence::None;
    }
    if timeline > leader {
        return Divergence::Diverged;
    }
    match history.iter().find(|line| line.timeline == timeline) {
        Some(line) if end <= line.switch => Divergence::None,
        _ => Divergence::Diverged,
    }
}

/// Whether a leader's history contains ours, both as the lines of the timelines' files. Two promotions that knew nothing
/// of each other may have given their timelines the same number: then they fork from the one before at different places.
#[must_use]
pub fn share_history(ours: &[HistoryLine], leaders: &[HistoryLine]) -> bool {
    let is_theirs = |line: &HistoryLine| {
        leaders
            .iter()
            .any(|theirs| (theirs.timeline, theirs.switch) == (line.timeline, line.switch))
    };
    ours.iter().all(is_theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "1\t0/5000060\tno recovery target specified\n\n# note\n2\t0/7000060\tno recovery target specified\n";

    #[test]
    fn history_files() {
        let lines = parse_history(FILE);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1].switch, Lsn(0x0700_0060));
        assert_eq!(lines[1].reason, "no recovery target specified");
    }

    #[test]
    fn a_number_that_was_given_twice_is_noticed() {
        let leaders = parse_history(FILE);
        assert!(share_history(&[], &leaders) && share_history(&leaders[..1], &leaders));
        let other = parse_history("1\t0/5000098\tno recovery target specified\n");
        assert!(!share_history(&other, &leaders));
    }

    #[test]
    fn rewind_is_needed_only_past_the_switch() {
        let lines = parse_history(FILE);
        let check = |tl, lsn| divergence(Timeline(tl), Lsn(lsn), Timeline(3), &lines);
        assert_eq!(check(3, 0x0900_0000), Divergence::None);
        assert_eq!(check(2, 0x0700_0060), Divergence::None);
        assert_eq!(check(2, 0x0700_0061), Divergence::Diverged);
        assert_eq!(check(1, 0x0400_0000), Divergence::None);
        assert_eq!(check(4, 0x0400_0000), Divergence::Diverged);
        assert_eq!(
            divergence(Timeline(1), Lsn(9), Timeline(2), &[]),
            Divergence::Diverged
        );
    }
}
