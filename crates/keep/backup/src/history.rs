use std::collections::BTreeMap;

use howdah_pgconf::HistoryLine;
use howdah_types::{Lsn, Timeline};

/// One timeline of a path through an archive: its WAL is replayed from `from` up to `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The timeline.
    pub timeline: Timeline,
    /// Where replay on it begins.
    pub from: Lsn,
    /// Where the next one begins; `None` for the last one.
    pub until: Option<Lsn>,
}

/// The timelines that lead from a position to a target.
pub type Path = Vec<Step>;

/// The way from a position on one timeline to another timeline; `None` if that has not branched off behind it.
#[must_use]
pub fn path(
    from: Timeline,
    start: Lsn,
    to: Timeline,
    histories: &BTreeMap<Timeline, Vec<HistoryLine>>,
) -> Option<Path> {
    let mut steps = Vec::new();
    let mut begin = start;
    if from != to {
        let lines = histories.get(&to)?;
        let at = lines.iter().position(|line| line.timeline == from)?;
        for line in lines.iter().skip(at) {
            if line.switch < begin {
                return None;
            }
            steps.push(Step {
                timeline: line.timeline,
                from: begin,
                until: Some(line.switch),
            });
            begin = line.switch;
        }
    }
    steps.push(Step {
        timeline: to,
        from: begin,
        until: None,
    });
    Some(steps)
}

#[cfg(test)]
mod tests {
    use howdah_pgconf::parse_history;

    use super::*;

    fn histories() -> BTreeMap<Timeline, Vec<HistoryLine>> {
        let texts = [
            (2, "1\t0/5000000\tno recovery target specified\n"),
            (3, "1\t0/5000000\tx\n2\t0/7000000\ty\n"),
            (4, "1\t0/3000000\tx\n"),
        ];
        texts
            .into_iter()
            .map(|(id, text)| (Timeline(id), parse_history(text)))
            .collect()
    }

    #[test]
    fn a_way_over_timelines() {
        let way = path(Timeline(1), Lsn(0x400_0028), Timeline(3), &histories()).unwrap();
        let ends: Vec<_> = way.iter().map(|step| (step.timeline.0, step.until)).collect();
        assert_eq!(
            ends,
            [(1, Some(Lsn(0x500_0000))), (2, Some(Lsn(0x700_0000))), (3, None)]
        );
        // Timeline 4 branched off before this position, and 2 does not lead to 4.
        assert_eq!(
            path(Timeline(1), Lsn(0x400_0028), Timeline(4), &histories()),
            None
        );
        assert_eq!(
            path(Timeline(2), Lsn(0x600_0000), Timeline(4), &histories()),
            None
        );
        assert_eq!(
            path(Timeline(9), Lsn(1), Timeline(9), &histories())
                .unwrap()
                .len(),
            1
        );
    }
}
