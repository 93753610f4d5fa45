use howdah_types::{Lsn, Timeline};

/// What a server in recovery shows of the timeline that it has received WAL of.
///
/// PostgreSQL reports it by the WAL receiver alone, and forgets it when the receiver ends; the control file learns it at
/// the next restartpoint, which may be minutes later. What it has received lies in `pg_wal` all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TimelineEvidence {
    /// `pg_control_checkpoint()`: the last restartpoint.
    pub checkpoint: Timeline,
    /// `pg_control_recovery()`: the minimum recovery point.
    pub recovery: Timeline,
    /// `pg_stat_wal_receiver`, while there is one.
    pub receiver: Option<Timeline>,
    /// The newest timeline that has a WAL segment for the end of what was received ([`newest_at`]).
    pub segment: Option<Timeline>,
}

impl TimelineEvidence {
    /// The newest timeline that WAL was received of. It never goes back while the server runs.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.checkpoint
            .max(self.recovery)
            .max(self.receiver.unwrap_or_default())
            .max(self.segment.unwrap_or_default())
    }
}

/// The name of the file that has the WAL at `at`, with segments of that size. `None`: no such size.
#[must_use]
pub fn wal_file(timeline: Timeline, at: Lsn, segment_size: u64) -> Option<String> {
    let segment = at.0.checked_div(segment_size)?;
    let per_file = 0x1_0000_0000u64.checked_div(segment_size)?;
    Some(format!(
        "{:08X}{:08X}{:08X}",
        timeline.0,
        segment.checked_div(per_file)?,
        segment.checked_rem(per_file)?
    ))
}

/// The newest timeline among `names`, files of `pg_wal`, that has the segment in which WAL before `end` lies.
#[must_use]
pub fn newest_at<'a>(
    names: impl IntoIterator<Item = &'a str>,
    end: Lsn,
    segment_size: u64,
) -> Option<Timeline> {
    let file = wal_file(Timeline(0), Lsn(end.0.checked_sub(1)?), segment_size)?;
    let wanted = file.get(8..)?;
    names
        .into_iter()
        .filter(|name| name.len() == 24 && name.ends_with(wanted))
        .filter_map(|name| u32::from_str_radix(name.get(..8)?, 16).ok())
        .max()
        .map(Timeline)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB16: u64 = 16 << 20;

    #[test]
    fn the_receiver_may_go_and_the_timeline_stays() {
        let mut evidence = TimelineEvidence {
            checkpoint: Timeline(1),
            recovery: Timeline(1),
            receiver: Some(Timeline(2)),
            segment: Some(Timeline(2)),
        };
        assert_eq!(evidence.timeline(), Timeline(2));
        evidence.receiver = None;
        assert_eq!(evidence.timeline(), Timeline(2));
        evidence.segment = None;
        assert_eq!(evidence.timeline(), Timeline(1));
    }

    #[test]
    fn segments_are_found_by_the_end_of_the_wal() {
        let names = [
            "000000010000000000000003",
            "000000020000000000000003",
            "000000030000000000000004",
            "00000002.history",
            "000000020000000000000003.partial",
            "archive_status",
        ];
        let at = |end| newest_at(names, Lsn(end), MB16);
        assert_eq!(at(0x0300_0060), Some(Timeline(2)));
        assert_eq!(
            at(0x0400_0000),
            Some(Timeline(2)),
            "the end belongs to the segment before"
        );
        assert_eq!(at(0x0400_0001), Some(Timeline(3)));
        assert_eq!(at(0x0500_0001), None);
        assert_eq!(at(0), None);
        let large = ["0000000A0000000100000002"];
        assert_eq!(newest_at(large, Lsn(0x1_0200_0001), MB16), Some(Timeline(10)));
        assert_eq!(newest_at(large, Lsn(1), 0), None);
    }
}
