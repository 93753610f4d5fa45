//! What a restore would take: which backup, which timelines, which segments; or why it cannot reach its target.

use std::fmt;

use howdah_types::{Lsn, Timeline};
use jiff::Timestamp;
use thiserror::Error;

use crate::{Backup, Catalogue, Path, Segment};

/// Where recovery is to end (PostgreSQL's `recovery_target*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// At the end of what is archived.
    Latest,
    /// As soon as the backup is consistent.
    Immediate,
    /// Before the first transaction that committed after this moment.
    Time(Timestamp),
    /// At a position.
    Lsn(Lsn),
    /// At a restore point (`pg_create_restore_point`).
    Name(String),
    /// At a transaction.
    Xid(u64),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Latest => f.write_str("the end of the archive"),
            Target::Immediate => f.write_str("the end of the backup"),
            Target::Time(time) => time.fmt(f),
            Target::Lsn(lsn) => write!(f, "position {lsn}"),
            Target::Name(name) => write!(f, "restore point '{name}'"),
            Target::Xid(xid) => write!(f, "transaction {xid}"),
        }
    }
}

/// Which timeline recovery is to follow (`recovery_target_timeline`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetTimeline {
    /// The newest one that is in the archive.
    #[default]
    Latest,
    /// The backup's own.
    Current,
    /// This one.
    Id(Timeline),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// Where to end.
    pub target: Target,
    /// On which timeline.
    pub timeline: TargetTimeline,
    /// From this backup; chosen if `None`.
    pub backup: Option<&'a str>,
    /// The major version that will run it; `None` for the backup's own.
    pub major: Option<u32>,
    /// When the last transaction in the archive committed, if that is known.
    pub last_commit: Option<Timestamp>,
}

/// What a restore takes.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The backups, the full one first.
    pub chain: Vec<&'a Backup>,
    /// The timelines, in order.
    pub path: Path,
    /// The first segment that replay needs.
    pub first: Segment,
    /// The last one that it can reach, or needs for a position.
    pub last: Segment,
    /// How many segments.
    pub segments: u64,
    /// Bytes of the backups' objects.
    pub backup_bytes: u64,
    /// Bytes of the segments' objects.
    pub wal_bytes: u64,
    /// What cannot be told beforehand.
    pub notes: Vec<String>,
}

/// Why a target cannot be reached.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The archive is empty.
    #[error(
        "the archive has no complete backup: check the prefix (it ends with the cluster's uid and major version), or make \
         one with 'howdah backup create'"
    )]
    NoBackup,
    /// A name that is not there.
    #[error("there is no backup {0}: 'howdah backup list' shows those that there are")]
    UnknownBackup(String),
    /// Its sentinel never came, or cannot be read.
    #[error("backup {0} is not usable: {1}")]
    Incomplete(String, String),
    /// A delta without its base.
    #[error("backup {0} builds on {1}, which is not there: choose an older backup")]
    BrokenChain(String, String),
    /// Too early.
    #[error("{0} is before the end of the first backup ({1}): choose that or a later moment")]
    BeforeFirst(String, String),
    /// Too late.
    #[error(
        "{target} is after {end}: choose an earlier moment, or restore to the end of the archive (without a target)"
    )]
    AfterLast {
        /// What was asked.
        target: String,
        /// What there is.
        end: String,
    },
    /// WAL is missing.
    #[error(
        "segment {segment} is missing from the archive, and replay from backup {backup} needs it: choose a moment before \
         it, or a later backup"
    )]
    Gap {
        /// The first one.
        segment: Segment,
        /// From where.
        backup: String,
    },
    /// A timeline that does not descend from any usable backup.
    #[error("timeline {timeline} cannot be reached from {from}: {reason}")]
    Timeline {
        /// What was asked.
        timeline: Timeline,
        /// From where.
        from: String,
        /// Why.
        reason: &'static str,
    },
    /// Another major.
    #[error(
        "the backup is of PostgreSQL {backup}, and PostgreSQL {wanted} cannot run its files: restore with {backup}, then \
         upgrade"
    )]
    Major {
        /// The backup's.
        backup: u32,
        /// What was asked.
        wanted: u32,
    },
}

/// Chooses the backup and the way, or says why there is none.
///
/// # Errors
/// See [`Refusal`].
pub fn plan<'a>(catalogue: &'a Catalogue, wish: &Wish<'_>) -> Result<Plan<'a>, Refusal> {
    let backup = choose(catalogue, wish)?;
    if let (Some(wanted), Some(of)) = (
        wish.major,
        backup.sentinel.as_ref().and_then(crate::Sentinel::major),
    ) && wanted != of
    {
        return Err(Refusal::Major { backup: of, wanted });
    }
    let chain = catalogue
        .chain(backup)
        .map_err(|missing| Refusal::BrokenChain(backup.name.clone(), missing))?;
    let timeline = wanted_timeline(catalogue, backup, wish);
    let path = catalogue
        .path(backup, timeline)
        .ok_or_else(|| unreachable_timeline(catalogue, backup, timeline))?;
    let (found, gap) = catalogue.contiguous(&path);
    let missing = |segment| Refusal::Gap {
        segment,
        backup: backup.name.clone(),
    };
    let size = catalogue.size;
    let start = Segment::new(backup.timeline(), size.number_at(backup.start(size)), size);
    let Some((first, _)) = found.first().copied() else {
        return Err(missing(gap.unwrap_or(start)));
    };
    let finish = backup.finish();
    let consistent = finish.map(|finish| size.number_before(finish));
    let needed = match &wish.target {
        Target::Lsn(lsn) => {
            if finish.is_some_and(|finish| *lsn < finish) {
                return Err(Refusal::BeforeFirst(
                    wish.target.to_string(),
                    format!(
                        "backup {} is consistent at {}",
                        backup.name,
                        finish.unwrap_or_default()
                    ),
                ));
            }
            Some(size.number_at(*lsn))
        }
        Target::Immediate => consistent,
        Target::Latest | Target::Time(_) | Target::Name(_) | Target::Xid(_) => None,
    };
    let reached = found.last().map_or(first, |(last, _)| *last);
    let reached_number = reached.number(size).unwrap_or_default();
    if consistent.is_some_and(|consistent| reached_number < consistent) {
        return Err(missing(gap.unwrap_or_else(|| following(reached, size))));
    }
    match (needed, gap) {
        (Some(needed), Some(gap)) if needed > reached_number => return Err(missing(gap)),
        (Some(needed), None) if needed > reached_number => {
            return Err(Refusal::AfterLast {
                target: wish.target.to_string(),
                end: format!("the last archived segment {reached}"),
            });
        }
        // Where the target is cannot be told exactly: the way must be there up to a backup that is later than it.
        (None, Some(gap)) if !is_behind_later(catalogue, wish, &path, gap) => return Err(missing(gap)),
        _ => {}
    }
    let mut notes = Vec::new();
    if let Target::Time(time) = &wish.target {
        check_end(
            *time,
            wish,
            found.last().map(|(_, object)| object.modified),
            &mut notes,
        )?;
    }
    for lost in catalogue.without_history() {
        notes.push(format!(
            "Timeline {lost} has WAL in the archive and no history file: nothing of it can be restored until {:08X}.history is \
             archived.",
            lost.0
        ));
    }
    if let Target::Name(_) | Target::Xid(_) = wish.target {
        notes.push(format!(
            "Whether {} is in the archive shows only in the replay: if it is not, recovery ends with an error.",
            wish.target
        ));
    }
    let last = needed.map_or(reached, |needed| {
        found
            .iter()
            .map(|(segment, _)| *segment)
            .find(|segment| segment.number(size) == Some(needed))
            .unwrap_or(reached)
    });
    let end = last.number(size).unwrap_or_default();
    let used = found
        .iter()
        .filter(|(segment, _)| segment.number(size).is_some_and(|number| number <= end));
    let (segments, wal_bytes) = used.fold((0, 0), |(count, bytes), (_, object)| {
        (count + 1, bytes + object.size)
    });
    Ok(Plan {
        backup_bytes: chain.iter().map(|backup| backup.stored).sum(),
        chain,
        path,
        first,
        last,
        segments,
        wal_bytes,
        notes,
    })
}

/// Whether a gap is behind a backup that began after a moment: replay ends before it.
fn is_behind_later(catalogue: &Catalogue, wish: &Wish<'_>, path: &Path, gap: Segment) -> bool {
    let Target::Time(time) = &wish.target else {
        return false;
    };
    let size = catalogue.size;
    let gap_at = gap.number(size).unwrap_or_default();
    catalogue.backups.iter().any(|later| {
        let begins = later.start(size);
        let is_on_path = path.iter().any(|step| {
            step.timeline == later.timeline()
                && step.from <= begins
                && step.until.is_none_or(|until| begins < until)
        });
        let began = later
            .started()
            .or_else(|| later.receipt.as_ref().map(|receipt| receipt.started));
        is_on_path && began.is_some_and(|began| began > *time) && size.number_at(begins) < gap_at
    })
}

fn following(segment: Segment, size: crate::SegmentSize) -> Segment {
    Segment::new(
        segment.timeline,
        segment.number(size).unwrap_or_default() + 1,
        size,
    )
}

/// PostgreSQL ends with an error when it finds no transaction after the target.
fn check_end(
    time: Timestamp,
    wish: &Wish<'_>,
    archived: Option<Timestamp>,
    notes: &mut Vec<String>,
) -> Result<(), Refusal> {
    let after = |end: String| {
        Err(Refusal::AfterLast {
            target: time.to_string(),
            end,
        })
    };
    match (wish.last_commit, archived) {
        (Some(commit), _) if time >= commit => after(format!("the last archived transaction ({commit})")),
        (None, Some(archived)) if time > archived => after(format!(
            "the moment when the last segment was archived ({archived})"
        )),
        (None, _) => {
            notes.push(
                "When the last archived transaction committed is not known: if the target is after it, recovery ends with \
                 an error."
                    .to_owned(),
            );
            Ok(())
        }
        (Some(_), _) => Ok(()),
    }
}

fn wanted_timeline(catalogue: &Catalogue, backup: &Backup, wish: &Wish<'_>) -> Timeline {
    match wish.timeline {
        TargetTimeline::Latest => catalogue.newest_timeline(backup.timeline()),
        TargetTimeline::Current => backup.timeline(),
        TargetTimeline::Id(timeline) => timeline,
    }
}

fn unreachable_timeline(catalogue: &Catalogue, backup: &Backup, timeline: Timeline) -> Refusal {
    let is_known = timeline == backup.timeline() || catalogue.histories.contains_key(&timeline);
    Refusal::Timeline {
        timeline,
        from: format!("backup {} on timeline {}", backup.name, backup.timeline()),
        reason: if is_known {
            "it branched off before the backup, or from another timeline; name another timeline or backup"
        } else {
            "its history file is not in the archive"
        },
    }
}

fn choose<'a>(catalogue: &'a Catalogue, wish: &Wish<'_>) -> Result<&'a Backup, Refusal> {
    if let Some(name) = wish.backup.filter(|name| *name != "LATEST") {
        let backup = catalogue
            .backup(name)
            .ok_or_else(|| Refusal::UnknownBackup(name.to_owned()))?;
        if !backup.is_complete() {
            let why = backup.trouble.clone();
            let why = why.unwrap_or_else(|| "it was not finished".to_owned());
            return Err(Refusal::Incomplete(name.to_owned(), why));
        }
        if let Target::Time(time) = wish.target
            && time < backup.finished()
        {
            return Err(before(&wish.target, backup));
        }
        return Ok(backup);
    }
    let mut complete: Vec<&Backup> = catalogue
        .backups
        .iter()
        .filter(|backup| backup.is_complete())
        .collect();
    complete.sort_by_key(|backup| (backup.timeline(), backup.start(catalogue.size)));
    let first = complete.first().copied().ok_or(Refusal::NoBackup)?;
    let leads = |backup: &Backup| {
        let to = wanted_timeline(catalogue, backup, wish);
        catalogue.path(backup, to).is_some()
    };
    let is_early_enough = |backup: &Backup| match &wish.target {
        Target::Time(time) => backup.finished() <= *time,
        Target::Lsn(lsn) => backup.finish().is_some_and(|finish| finish <= *lsn),
        Target::Latest | Target::Immediate => true,
        // Anywhere: the longest way finds it, wherever it is.
        Target::Name(_) | Target::Xid(_) => true,
    };
    let fits: Vec<&Backup> = complete
        .iter()
        .copied()
        .filter(|backup| is_early_enough(backup))
        .collect();
    if fits.is_empty() {
        return Err(before(&wish.target, first));
    }
    // One that lacks something is taken only where there is no other: its refusal says what.
    let is_sound = |backup: &&&Backup| leads(backup) && catalogue.usable(backup).is_ok();
    let chosen = match wish.target {
        Target::Name(_) | Target::Xid(_) => fits
            .iter()
            .find(is_sound)
            .or_else(|| fits.iter().find(|of| leads(of))),
        _ => fits
            .iter()
            .rev()
            .find(is_sound)
            .or_else(|| fits.iter().rev().find(|of| leads(of))),
    };
    match chosen {
        Some(backup) => Ok(backup),
        None => {
            let backup = fits.last().copied().unwrap_or(first);
            let to = wanted_timeline(catalogue, backup, wish);
            Err(unreachable_timeline(catalogue, backup, to))
        }
    }
}

fn before(target: &Target, backup: &Backup) -> Refusal {
    let end = match target {
        Target::Lsn(_) => format!("{} ends at {}", backup.name, backup.finish().unwrap_or_default()),
        _ => format!("{} ended {}", backup.name, backup.finished()),
    };
    Refusal::BeforeFirst(target.to_string(), end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::archive;
    use howdah_pgconf::parse_history;

    const A: &str = "base_000000010000000000000003";
    const B: &str = "base_000000010000000000000006";

    fn two() -> Catalogue {
        archive(
            &[(1, 3, 9)],
            &[
                (A, 0x300_0028, 0x400_0000, "2026-11-25T09:00:00Z"),
                (B, 0x600_0028, 0x700_0000, "2026-11-25T09:30:00Z"),
            ],
        )
    }

    fn wish(target: Target) -> Wish<'static> {
        Wish {
            target,
            timeline: TargetTimeline::Latest,
            backup: None,
            major: None,
            last_commit: None,
        }
    }

    fn at(time: &str) -> Wish<'static> {
        wish(Target::Time(time.parse().unwrap()))
    }

    #[test]
    fn the_newest_backup_before_the_moment() {
        let archive = two();
        let chosen = |time| plan(&archive, &at(time)).map(|plan| plan.chain[0].name.clone());
        assert_eq!(chosen("2026-11-25T09:29:59Z").unwrap(), A);
        assert_eq!(chosen("2026-11-25T09:30:00Z").unwrap(), B);
        assert!(matches!(
            chosen("2026-11-25T08:59:59Z"),
            Err(Refusal::BeforeFirst(..))
        ));
        assert!(matches!(
            chosen("2026-11-25T10:00:01Z"),
            Err(Refusal::AfterLast { .. })
        ));
        let known = Wish {
            last_commit: Some("2026-11-25T09:50:00Z".parse().unwrap()),
            ..at("2026-11-25T09:51:00Z")
        };
        let refused = plan(&archive, &known).unwrap_err().to_string();
        assert!(
            refused.contains("the last archived transaction (2026-11-25T09:50:00Z)"),
            "{refused}"
        );
    }

    #[test]
    fn a_gap_is_named_before_anything_is_done() {
        let mut archive = two();
        archive.segments.get_mut(&Timeline(1)).unwrap().remove(&8);
        let refused = plan(&archive, &wish(Target::Latest)).unwrap_err();
        assert!(
            refused.to_string().contains("000000010000000000000008"),
            "{refused}"
        );
        // What is before the gap can be reached by position, and what is behind it not.
        assert!(plan(&archive, &wish(Target::Lsn(Lsn(0x7ff_0000)))).is_ok());
        assert!(plan(&archive, &wish(Target::Lsn(Lsn(0x900_0100)))).is_err());
        assert!(plan(&archive, &wish(Target::Immediate)).is_ok());
    }

    #[test]
    fn a_position_takes_what_it_needs() {
        let archive = two();
        let plan = plan(&archive, &wish(Target::Lsn(Lsn(0x500_0100)))).unwrap();
        assert_eq!(plan.chain[0].name, A);
        assert_eq!((plan.segments, plan.wal_bytes), (3, 300));
        assert_eq!(plan.last.to_string(), "000000010000000000000005");
    }

    #[test]
    fn timelines_that_do_not_lead_there() {
        let mut archive = two();
        archive
            .histories
            .insert(Timeline(2), parse_history("1\t0/5000100\tx\n"));
        // Before its first segment is there, replay would take what timeline 1 wrote behind the branch.
        let refused = plan(&archive, &wish(Target::Latest)).unwrap_err().to_string();
        assert!(refused.contains("000000020000000000000005"), "{refused}");
        // It is no gap if timeline 1 ended there: a promotion a moment ago.
        let mut promoted = archive.clone();
        promoted
            .segments
            .get_mut(&Timeline(1))
            .unwrap()
            .retain(|number, _| *number < 5);
        let reached = plan(&promoted, &wish(Target::Latest)).unwrap();
        assert_eq!(reached.last.to_string(), "000000010000000000000004");
        // The second backup is behind the branch: 'latest' is reached from the first one.
        archive.add_wal(crate::Object {
            name: "wal_005/000000020000000000000005.zst".to_owned(),
            size: 100,
            modified: "2026-11-25T10:00:00Z".parse().unwrap(),
        });
        let plan_of = |timeline| {
            plan(
                &archive,
                &Wish {
                    timeline,
                    ..wish(Target::Latest)
                },
            )
        };
        assert_eq!(plan_of(TargetTimeline::Latest).unwrap().chain[0].name, A);
        assert_eq!(plan_of(TargetTimeline::Current).unwrap().chain[0].name, B);
        let refused = plan_of(TargetTimeline::Id(Timeline(7))).unwrap_err().to_string();
        assert!(
            refused.contains("its history file is not in the archive"),
            "{refused}"
        );
    }

    #[test]
    fn empty_half_and_of_another_major() {
        assert_eq!(
            plan(&Catalogue::default(), &wish(Target::Latest)).unwrap_err(),
            Refusal::NoBackup
        );
        let mut archive = two();
        let newer = Wish {
            major: Some(16),
            ..wish(Target::Latest)
        };
        assert!(matches!(plan(&archive, &newer), Err(Refusal::Major { .. })));
        archive.backups[1].sentinel = None;
        assert_eq!(plan(&archive, &wish(Target::Latest)).unwrap().chain[0].name, A);
        let half = Wish {
            backup: Some(B),
            ..wish(Target::Latest)
        };
        assert!(matches!(plan(&archive, &half), Err(Refusal::Incomplete(..))));
    }
}
