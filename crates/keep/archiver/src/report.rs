use howdah_backup::{ArchiveState, Backlog, Report};

use crate::tally::Counts;

/// Puts a report together.
pub(crate) fn report(
    backlog: Backlog,
    counts: Counts,
    dropped: u64,
    archive: Option<ArchiveState>,
) -> Report {
    let (last_archived, last_archived_at) = counts.last.unzip();
    let (failing_since, trouble) = counts
        .failing
        .map(|failing| (failing.since, failing.reason))
        .unzip();
    Report {
        backlog,
        archived: counts.archived,
        failed: counts.failed,
        fetched: counts.fetched,
        fetched_ahead: counts.fetched_ahead,
        last_archived,
        last_archived_at,
        failing_since,
        trouble,
        dropped,
        archive,
    }
}
