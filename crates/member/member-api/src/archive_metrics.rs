//! How archiving goes, as metrics. They are there where an archiver runs; those of the archive itself where the leader has looked.

use howdah_backup::{ArchiveState, Report};
use jiff::Timestamp;

/// A metric: its name, what it is, `gauge` or `counter`, its value.
pub(crate) type Metric = (&'static str, &'static str, &'static str, f64);

#[allow(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
fn number(value: u64) -> f64 {
    value as f64
}

fn seconds(moment: Timestamp) -> f64 {
    moment.as_duration().as_secs_f64()
}

pub(crate) fn of(report: &Report) -> Vec<Metric> {
    let backlog = &report.backlog;
    let gauge = |name, help, value| (name, help, "gauge", value);
    let mut metrics = vec![
        gauge(
            "howdah_archive_pending_files",
            "WAL files that wait to be archived.",
            number(backlog.files),
        ),
        gauge(
            "howdah_archive_pending_bytes",
            "Their bytes.",
            number(backlog.bytes),
        ),
        gauge(
            "howdah_archive_oldest_pending_seconds",
            "How long the oldest one waits.",
            number(backlog.oldest_seconds.unwrap_or(0)),
        ),
        gauge(
            "howdah_archive_wal_disk_free_bytes",
            "Bytes that are free on the disk of pg_wal.",
            number(backlog.free),
        ),
        gauge(
            "howdah_archive_failing",
            "Value is 1 if the last attempt to archive has failed, 0 otherwise.",
            f64::from(u8::from(report.failing_since.is_some())),
        ),
        gauge(
            "howdah_archive_given_up_segments",
            "Segments that were given up and are not noted in the archive yet.",
            number(report.dropped),
        ),
        (
            "howdah_archive_archived_total",
            "WAL files that the archiver has archived since it was started.",
            "counter",
            number(report.archived),
        ),
        (
            "howdah_archive_failed_total",
            "Attempts that have failed since then.",
            "counter",
            number(report.failed),
        ),
    ];
    let mut known =
        |name, help, value: Option<f64>| metrics.extend(value.map(|value| gauge(name, help, value)));
    known(
        "howdah_archive_wal_disk_full_in_seconds",
        "When the disk of pg_wal is full if the backlog goes on growing.",
        backlog.full_in.map(number),
    );
    known(
        "howdah_archive_last_archived_timestamp_seconds",
        "Epoch seconds when the last WAL file was archived.",
        report.last_archived_at.map(seconds),
    );
    metrics.extend(report.archive.iter().flat_map(of_archive));
    metrics
}

fn of_archive(archive: &ArchiveState) -> Vec<Metric> {
    let unreadable = (
        "howdah_archive_unreadable",
        "Value is 1 if the archive could not be looked at, 0 otherwise.",
        "gauge",
        f64::from(u8::from(archive.trouble.is_some())),
    );
    if archive.place.is_empty() {
        return vec![unreadable];
    }
    let gaps = u64::try_from(archive.gaps.len()).unwrap_or(u64::MAX);
    let mut metrics = vec![
        unreadable,
        (
            "howdah_archive_backups",
            "Backups that can be restored.",
            "gauge",
            number(archive.backups),
        ),
        (
            "howdah_archive_gaps",
            "Places where segments are missing between others, up to five.",
            "gauge",
            number(gaps),
        ),
        (
            "howdah_archive_drill_failed",
            "Value is 1 if the last restore drill has failed, 0 otherwise.",
            "gauge",
            f64::from(u8::from(archive.drill_trouble.is_some())),
        ),
    ];
    for (name, help, moment) in [
        (
            "howdah_archive_last_backup_timestamp_seconds",
            "Epoch seconds when the newest backup that can be restored was finished.",
            archive.last_backup_at,
        ),
        (
            "howdah_archive_restorable_from_timestamp_seconds",
            "Epoch seconds from when on every moment can be restored.",
            archive.restorable_from,
        ),
        (
            "howdah_archive_restorable_to_timestamp_seconds",
            "Epoch seconds up to when every moment can be restored.",
            archive.restorable_to,
        ),
        (
            "howdah_archive_proved_timestamp_seconds",
            "Epoch seconds when a drill has last restored a backup.",
            archive.proved_at,
        ),
    ] {
        metrics.extend(moment.map(|moment| (name, help, "gauge", seconds(moment))));
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_has_no_metric() {
        let names = |report: &Report| of(report).into_iter().map(|metric| metric.0).collect::<Vec<_>>();
        let mut report = Report::default();
        assert!(
            !names(&report)
                .iter()
                .any(|name| name.ends_with("timestamp_seconds"))
        );
        report.archive = Some(ArchiveState {
            trouble: Some("no answer".to_owned()),
            ..ArchiveState::default()
        });
        assert!(names(&report).contains(&"howdah_archive_unreadable"));
        assert!(!names(&report).contains(&"howdah_archive_backups"));
        report.archive = Some(ArchiveState {
            place: "s3://b/p".to_owned(),
            restorable_to: Some(Timestamp::UNIX_EPOCH),
            ..ArchiveState::default()
        });
        assert!(names(&report).contains(&"howdah_archive_restorable_to_timestamp_seconds"));
        assert!(!names(&report).contains(&"howdah_archive_restorable_from_timestamp_seconds"));
    }
}
