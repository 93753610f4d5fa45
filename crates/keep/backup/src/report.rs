//! What an archiver and the agent beside it tell each other.

use howdah_types::BootTime;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The WAL that waits, and the disk that it lies on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// Files that PostgreSQL has marked `.ready`.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long the oldest one waits, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_seconds: Option<u64>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// Bytes that are free on the disk of `pg_wal`.
    pub free: u64,
    /// By how many bytes a second the backlog has grown over the last minutes; 0 if it shrinks.
    pub growth: u64,
    /// In how many seconds the disk is full if that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_in: Option<u64>,
}

/// How archiving goes on this member, and what the archive has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What waits.
    pub backlog: Backlog,
    /// Files that were archived since the archiver was started.
    pub archived: u64,
    /// Attempts that failed since then.
    pub failed: u64,
    /// Files that were fetched for the server since then.
    #[serde(default)]
    pub fetched: u64,
    /// How many of them were there before the server asked.
    #[serde(default)]
    pub fetched_ahead: u64,
    /// The last file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_archived: Option<String>,
    /// When it was archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_archived_at: Option<Timestamp>,
    /// Since when nothing could be archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Segments that were given up and are not noted in the archive yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
    /// What the archive has. The leader looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveState>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What an archive had when it was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveState {
    /// What people call it.
    pub place: String,
    /// When it was looked at.
    pub seen: Timestamp,
    /// Why it could not be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Complete backups.
    pub backups: u64,
    /// The newest one that can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<String>,
    /// When it was finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup_at: Option<Timestamp>,
    /// From when on every moment can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restorable_from: Option<Timestamp>,
    /// Up to when: the time of the last segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restorable_to: Option<Timestamp>,
    /// Segments that are missing between others.
    #[serde(default)]
    pub gaps: Vec<String>,
    /// When a drill has proved a restore last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved_at: Option<Timestamp>,
    /// Why the last drill failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill_trouble: Option<String>,
}

/// A shorter failure is not reported: it may be over in a moment.
const LASTING: SignedDuration = SignedDuration::from_secs(60);

/// A disk that is full in less than this is told, in seconds.
const SOON: u64 = 3600;

impl Report {
    /// What is wrong, each a sentence without its full stop. The sentences have no number that changes all the time.
    #[must_use]
    pub fn troubles(&self, now: Timestamp) -> Vec<String> {
        let mut troubles = Vec::new();
        if let (Some(since), Some(reason)) = (self.failing_since, &self.trouble)
            && now.duration_since(since) >= LASTING
        {
            troubles.push(format!("WAL is not archived since {}: {reason}", second(since)));
        }
        if self.backlog.full_in.is_some_and(|left| left < SOON) {
            troubles.push("WAL that waits to be archived fills the disk in less than an hour".to_owned());
        }
        if self.dropped > 0 {
            troubles.push(
                "WAL was given up, since more than HOWDAH_WAL_BACKLOG_LIMIT was waiting: moments from then to the next backup \
                 cannot be restored"
                    .to_owned(),
            );
        }
        let Some(archive) = &self.archive else {
            return troubles;
        };
        if let Some(reason) = &archive.trouble {
            troubles.push(format!("the archive cannot be read: {reason}"));
        } else if archive.backups == 0 {
            troubles.push("the archive has no backup that can be restored".to_owned());
        }
        if let Some(gap) = archive.gaps.first() {
            troubles.push(format!("segments are missing from the archive, {gap} first"));
        }
        troubles
    }
}

/// A moment to the second.
#[must_use]
pub fn second(moment: Timestamp) -> String {
    Timestamp::from_second(moment.as_second())
        .unwrap_or(moment)
        .to_string()
}

/// What the agent says about its member's right to archive, whenever it changes.
///
/// A member that leads does so up to a moment and in a term. Segments that it would archive after that moment may be of a
/// server that another one has succeeded. A member that does not lead is not fenced: its server is a replica, or runs by the
/// hand of a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Up to when it leads; `None` if it does not.
    pub until: Option<BootTime>,
    /// In which term.
    pub term: Option<u64>,
}

impl Fence {
    /// Whether the right has run out without a word from the agent: then the agent hangs, and the guard ends the server.
    #[must_use]
    pub fn has_run_out(&self, now: BootTime) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_in_words() {
        let now: Timestamp = "2026-11-28T10:00:00Z".parse().unwrap();
        let mut report = Report {
            failing_since: Some("2026-11-28T09:59:30.5Z".parse().unwrap()),
            trouble: Some("s3://b does not answer".to_owned()),
            ..Report::default()
        };
        assert!(report.troubles(now).is_empty(), "it may be over in a moment");
        let later = now + SignedDuration::from_secs(60);
        assert_eq!(
            report.troubles(later),
            ["WAL is not archived since 2026-11-28T09:59:30Z: s3://b does not answer"]
        );
        report.failing_since = None;
        report.backlog.full_in = Some(10);
        report.archive = Some(ArchiveState {
            gaps: vec!["000000010000000000000007 (2)".to_owned()],
            ..ArchiveState::default()
        });
        assert_eq!(report.troubles(now).len(), 3);
    }

    #[test]
    fn a_fence_that_is_not_renewed_runs_out() {
        let fence = Fence {
            until: Some(BootTime(10)),
            term: Some(1),
        };
        assert!(!fence.has_run_out(BootTime(9)) && fence.has_run_out(BootTime(10)));
        assert!(!Fence::default().has_run_out(BootTime(u64::MAX)));
    }
}
