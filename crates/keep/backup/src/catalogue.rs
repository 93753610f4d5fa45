use std::collections::{BTreeMap, BTreeSet};

use howdah_pgconf::HistoryLine;
use howdah_types::{Lsn, Timeline};
use jiff::Timestamp;

use crate::{
    BackupName, Codec, Layout, Path, Proof, Receipt, Segment, SegmentSize, Sentinel, WalName,
    history::{Step, path},
};

/// One object of a listing, by its name relative to the archive's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// When the store says that it was written. Shown; nothing is ordered by it.
    pub modified: Timestamp,
}

/// A base backup.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// Its name.
    pub name: String,
    /// What the name says.
    pub parsed: BackupName,
    /// Its sentinel; `None` for one that is not finished, or cannot be read.
    pub sentinel: Option<Sentinel>,
    /// Why its sentinel cannot be used.
    pub trouble: Option<String>,
    /// Our receipt; `None` for backups of WAL-G.
    pub receipt: Option<Receipt>,
    /// When the store got its sentinel; for one that is not finished, its newest object.
    pub modified: Timestamp,
    /// The names of all its objects, the sentinel first.
    pub objects: Vec<String>,
    /// Their lengths in bytes, by name, as the store says.
    pub sizes: BTreeMap<String, u64>,
    /// Bytes of its objects.
    pub stored: u64,
    /// When all of its objects were read and compared last.
    pub verified: Option<Timestamp>,
    /// What a verification has found to be damaged.
    pub damage: Option<String>,
    /// What the last drill has shown of it.
    pub proof: Option<Proof>,
    /// Until when a backup that runs is left alone.
    pub running_until: Option<Timestamp>,
}

impl Backup {
    /// Whether everything of it is there, as far as its sentinel says.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sentinel.is_some()
    }

    /// Its timeline.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.receipt
            .as_ref()
            .map_or(self.parsed.segment.timeline, |receipt| receipt.timeline)
    }

    /// Where its WAL begins; from its name where its sentinel does not say it.
    #[must_use]
    pub fn start(&self, size: SegmentSize) -> Lsn {
        self.sentinel
            .as_ref()
            .and_then(|sentinel| sentinel.start)
            .unwrap_or_else(|| {
                let number = self.parsed.segment.number(size).unwrap_or_default();
                Lsn(size.start_of(number).0 + u64::from(self.parsed.offset.unwrap_or_default()))
            })
    }

    /// Where a restore of it is consistent.
    #[must_use]
    pub fn finish(&self) -> Option<Lsn> {
        let sentinel = self.sentinel.as_ref()?;
        sentinel.finish.or_else(|| {
            // WAL-E writes the segment and the place in it.
            let text = |key: &str| sentinel.others.get(key)?.as_str();
            let Ok(WalName::Segment(segment)) = text("wal_segment_backup_stop")?.parse() else {
                return None;
            };
            let offset = u64::from_str_radix(text("wal_segment_offset_backup_stop")?, 16).ok()?;
            let number = segment.number(SegmentSize::DEFAULT)?;
            Some(Lsn(SegmentSize::DEFAULT.start_of(number).0 + offset))
        })
    }

    /// When it ended by the clock of the server that made it; of the store where that is not known.
    #[must_use]
    pub fn finished(&self) -> Timestamp {
        self.receipt
            .as_ref()
            .map(|receipt| receipt.finished)
            .or_else(|| self.sentinel.as_ref()?.finish_time)
            .unwrap_or(self.modified)
    }

    /// When it began.
    #[must_use]
    pub fn started(&self) -> Option<Timestamp> {
        self.sentinel.as_ref()?.start_time
    }
}

/// Consecutive segments that are missing although later ones are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first one that is missing.
    pub first: Segment,
    /// How many are.
    pub count: u64,
}

/// What can be restored from one backup on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The backup.
    pub backup: String,
    /// The way to the newest timeline that it leads to.
    pub path: Path,
    /// The last segment without one missing before it; `None` if not even the backup's own WAL is there.
    pub last: Option<Segment>,
    /// The first segment that is missing although there are later ones.
    pub gap: Option<Segment>,
    /// Whether all WAL is there that makes the backup consistent.
    pub is_consistent: bool,
}

/// Everything that is in an archive.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Backups in the order of their names, which is that of timelines and positions.
    pub backups: Vec<Backup>,
    /// Complete segments: by timeline, by number.
    pub segments: BTreeMap<Timeline, BTreeMap<u64, Object>>,
    /// Timelines whose history file is there, with what it says.
    pub histories: BTreeMap<Timeline, Vec<HistoryLine>>,
    /// Everything else in the folder of WAL that belongs to a segment: labels, partial segments, WAL-G's extras.
    pub beside: Vec<(Segment, Object)>,
    /// The size of segments; PostgreSQL's default until another is known.
    pub size: SegmentSize,
    /// What could not be read, each a sentence. Nothing is deleted while there is any.
    pub troubles: Vec<String>,
}

impl Default for SegmentSize {
    fn default() -> Self {
        SegmentSize::DEFAULT
    }
}

impl Catalogue {
    /// An empty one for segments of this size.
    #[must_use]
    pub fn new(size: SegmentSize) -> Self {
        Catalogue {
            size,
            ..Catalogue::default()
        }
    }

    /// Adds an object of the folder of WAL. Objects that are none of ours are passed over.
    pub fn add_wal(&mut self, object: Object) {
        let Some(file) = object
            .name
            .strip_prefix(Layout::WAL)
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            return;
        };
        let (name, _) = Codec::split(file);
        match name.parse() {
            Ok(WalName::Segment(segment)) => {
                if let Some(number) = segment.number(self.size) {
                    self.segments
                        .entry(segment.timeline)
                        .or_default()
                        .insert(number, object);
                }
            }
            Ok(WalName::Partial(segment) | WalName::Label(segment, _)) => self.beside.push((segment, object)),
            Ok(WalName::History(_)) => {}
            Err(_) => {
                // WAL-G's maps of changed pages and metadata of segments begin with the segment's name.
                if let Some(Ok(WalName::Segment(segment))) = name.get(..24).map(str::parse) {
                    self.beside.push((segment, object));
                }
            }
        }
    }

    /// A backup by its name, or the newest complete one for `LATEST`.
    #[must_use]
    pub fn backup(&self, name: &str) -> Option<&Backup> {
        if name == "LATEST" {
            return self.newest();
        }
        self.backups.iter().find(|backup| backup.name == name)
    }

    /// The backup that a name's `_D_` refers to: the one that begins in that segment.
    #[must_use]
    pub fn base_of(&self, backup: &Backup) -> Option<&Backup> {
        if let Some(base) = backup
            .sentinel
            .as_ref()
            .and_then(|sentinel| sentinel.delta_from.as_deref())
        {
            return self.backups.iter().find(|other| other.name == base);
        }
        let base = backup.parsed.base?;
        self.backups
            .iter()
            .find(|other| other.parsed.segment == base && other.name != backup.name)
    }

    /// Whether a restore of a backup has all that it needs: its archives as far as a receipt names them, the backups that it
    /// builds on, and the WAL that makes it consistent. Else why not.
    ///
    /// # Errors
    /// A sentence.
    pub fn usable(&self, backup: &Backup) -> Result<(), String> {
        if let Some(trouble) = &backup.trouble {
            return Err(format!("it cannot be read: {trouble}"));
        }
        if !backup.is_complete() {
            return Err("it was never finished".to_owned());
        }
        let chain = self
            .chain(backup)
            .map_err(|base| format!("{base}, which it builds on, is missing"))?;
        for link in chain {
            if let Some(damage) = &link.damage {
                return Err(format!("{} is damaged: {damage}", link.name));
            }
            let Some(receipt) = &link.receipt else { continue };
            if !receipt.pages.damaged.is_empty() {
                return Err(format!(
                    "{} has {} damaged pages",
                    link.name,
                    receipt.pages.damaged.len()
                ));
            }
            let parts = format!("{}/", Layout::parts(&link.name));
            let there: BTreeSet<&str> = link
                .objects
                .iter()
                .filter_map(|object| object.strip_prefix(&parts))
                .collect();
            for (part, stored) in &receipt.objects {
                let object = format!("{parts}{part}");
                if let Some(length) = link.sizes.get(&object)
                    && *length != stored.length
                {
                    return Err(format!(
                        "{object} has {length} bytes, and {} were stored",
                        stored.length
                    ));
                }
            }
            let named: BTreeSet<&str> = receipt.objects.keys().map(String::as_str).collect();
            if let Some(part) = named.symmetric_difference(&there).next() {
                let what = if named.contains(part) {
                    "is missing"
                } else {
                    "is not of it"
                };
                return Err(format!("{parts}{part} {what}"));
            }
        }
        if !self.window(backup).is_consistent {
            return Err("the WAL that makes it consistent is missing".to_owned());
        }
        Ok(())
    }

    /// The complete backup that is farthest on, by timeline and position.
    #[must_use]
    pub fn newest(&self) -> Option<&Backup> {
        self.backups
            .iter()
            .filter(|backup| backup.is_complete())
            .max_by_key(|backup| (backup.timeline(), backup.start(self.size)))
    }

    /// The backups that a restore of this one takes, the full one first.
    ///
    /// # Errors
    /// One of them is missing or incomplete: its name.
    pub fn chain<'a>(&'a self, backup: &'a Backup) -> Result<Vec<&'a Backup>, String> {
        let mut chain = vec![backup];
        let mut at = backup;
        while let Some(base) = at
            .sentinel
            .as_ref()
            .and_then(|sentinel| sentinel.delta_from.as_deref())
        {
            let found = self.backup(base).filter(|base| base.is_complete());
            let Some(found) = found.filter(|found| chain.iter().all(|seen| seen.name != found.name)) else {
                return Err(base.to_owned());
            };
            chain.push(found);
            at = found;
        }
        chain.reverse();
        Ok(chain)
    }

    /// The newest timeline by PostgreSQL's own rule for `latest`: histories are looked for one after the other.
    #[must_use]
    pub fn newest_timeline(&self, from: Timeline) -> Timeline {
        let mut newest = from;
        while self.histories.contains_key(&Timeline(newest.0.saturating_add(1))) {
            newest.0 += 1;
        }
        newest
    }

    /// The segments that replay along a path needs and that are there, in order, and the first that is missing between
    /// them.
    #[must_use]
    pub fn contiguous(&self, steps: &[Step]) -> (Vec<(Segment, &Object)>, Option<Segment>) {
        let mut found = Vec::new();
        let before = steps
            .iter()
            .rev()
            .nth(1)
            .and_then(|step| self.segments.get(&step.timeline));
        let goes_on_behind = |branch: u64| before.is_some_and(|of| of.range(branch..).next().is_some());
        for step in steps {
            let there = self.segments.get(&step.timeline);
            let first = self.size.number_at(step.from);
            let end = match step.until {
                // The segment in which the next timeline begins is there under that timeline's name.
                Some(until) => self.size.number_at(until),
                // The newest timeline may have nothing yet. If the one before went on behind the branch, replay would take
                // that for it.
                None => match there.and_then(|there| there.last_key_value()) {
                    Some((last, _)) => (last + 1).max(first),
                    None if goes_on_behind(first) => first + 1,
                    None => first,
                },
            };
            for number in first..end {
                let segment = Segment::new(step.timeline, number, self.size);
                match there.and_then(|there| there.get(&number)) {
                    Some(object) => found.push((segment, object)),
                    None => return (found, Some(segment)),
                }
            }
        }
        (found, None)
    }

    /// The way from a backup to a timeline. One that has branched off before the backup was consistent is not reached.
    #[must_use]
    pub fn path(&self, backup: &Backup, to: Timeline) -> Option<Path> {
        let steps = path(backup.timeline(), backup.start(self.size), to, &self.histories)?;
        let ends = steps.first().and_then(|step| step.until);
        let is_late = matches!((backup.finish(), ends), (Some(finish), Some(until)) if finish > until);
        (!is_late).then_some(steps)
    }

    /// What can be restored from a complete backup on.
    #[must_use]
    pub fn window(&self, backup: &Backup) -> Window {
        // A newer timeline that does not descend from the backup's is none of its own.
        let newest = self.newest_timeline(backup.timeline());
        let path = (backup.timeline().0..=newest.0)
            .rev()
            .find_map(|id| self.path(backup, Timeline(id)))
            .unwrap_or_default();
        let (found, gap) = self.contiguous(&path);
        let last = found.last().map(|(segment, _)| *segment);
        let needed = backup.finish().map(|finish| self.size.number_before(finish));
        let reached = last.and_then(|last| last.number(self.size));
        Window {
            backup: backup.name.clone(),
            is_consistent: matches!((reached, needed), (Some(reached), Some(needed)) if reached >= needed),
            path,
            last,
            gap,
        }
    }

    /// Segments that are missing between others: on each timeline, and where one branches off another. What is before
    /// the first backup is not needed by anything.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        // A permanent backup keeps its own WAL only.
        let is_permanent = |backup: &&Backup| {
            backup
                .sentinel
                .as_ref()
                .is_some_and(|sentinel| sentinel.is_permanent)
        };
        let ordinary = self.backups.iter().filter(|backup| !is_permanent(backup));
        let floor = ordinary
            .map(|backup| self.size.number_at(backup.start(self.size)))
            .min()
            .unwrap_or(0);
        let mut gaps = Vec::new();
        for (timeline, there) in &self.segments {
            let (Some((first, _)), Some((last, _))) = (there.first_key_value(), there.last_key_value())
            else {
                continue;
            };
            let branch = self
                .histories
                .get(timeline)
                .and_then(|lines| lines.last())
                .filter(|line| self.segments.contains_key(&line.timeline))
                .map(|line| self.size.number_at(line.switch));
            let begin = branch.map_or(*first, |branch| branch.min(*first)).max(floor);
            gaps.extend(self.missing(*timeline, begin..*last + 1));
            // What the timeline before lacks up to the branch.
            if let (Some(branch), Some(line)) = (
                branch,
                self.histories.get(timeline).and_then(|lines| lines.last()),
            ) && let Some((end, _)) = self
                .segments
                .get(&line.timeline)
                .and_then(|of| of.last_key_value())
                && end + 1 < branch
            {
                gaps.extend(self.missing(line.timeline, (end + 1).max(floor)..branch));
            }
        }
        gaps.sort_by_key(|gap| gap.first);
        gaps.dedup();
        gaps
    }

    fn missing(&self, timeline: Timeline, range: std::ops::Range<u64>) -> Vec<Gap> {
        let empty = BTreeMap::new();
        let there = self.segments.get(&timeline).unwrap_or(&empty);
        let mut gaps = Vec::new();
        let mut next = range.start;
        let present = there
            .range(range.start.min(range.end)..range.end)
            .map(|(number, _)| *number);
        for number in present.chain([range.end]) {
            if number > next {
                gaps.push(Gap {
                    first: Segment::new(timeline, next, self.size),
                    count: number - next,
                });
            }
            next = number + 1;
        }
        gaps
    }

    /// All segments that replay from a backup on may need, on its timeline and later ones, also behind a missing one.
    #[must_use]
    pub fn segments_from(&self, backup: &Backup) -> Vec<(Segment, &Object)> {
        let first = self.size.number_at(backup.start(self.size));
        let later = self.segments.range(backup.timeline()..);
        let found = later.flat_map(|(timeline, there)| {
            there
                .range(first..)
                .map(|(number, object)| (Segment::new(*timeline, *number, self.size), object))
        });
        found.collect()
    }

    /// Backups that no complete backup needs any longer to be known: those whose sentinel never came.
    #[must_use]
    pub fn unfinished(&self) -> Vec<&Backup> {
        self.backups
            .iter()
            .filter(|backup| !backup.is_complete() && backup.trouble.is_none())
            .collect()
    }

    /// Timelines that have WAL and no history file: nothing leads to them.
    #[must_use]
    pub fn without_history(&self) -> Vec<Timeline> {
        let branched = self.segments.keys().filter(|timeline| timeline.0 > 1);
        branched
            .filter(|timeline| !self.histories.contains_key(timeline))
            .copied()
            .collect()
    }

    /// All timelines that have anything.
    #[must_use]
    pub fn timelines(&self) -> BTreeSet<Timeline> {
        let of_backups = self.backups.iter().map(Backup::timeline);
        self.segments
            .keys()
            .copied()
            .chain(self.histories.keys().copied())
            .chain(of_backups)
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use howdah_pgconf::parse_history;

    /// An archive from a short description: segments as `timeline:first-last`, backups as `name start finish`.
    pub(crate) fn archive(segments: &[(u32, u64, u64)], backups: &[(&str, u64, u64, &str)]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (timeline, first, last) in segments {
            for number in *first..=*last {
                let segment = Segment::new(Timeline(*timeline), number, SegmentSize::DEFAULT);
                catalogue.add_wal(Object {
                    name: format!("wal_005/{segment}.zst"),
                    size: 100,
                    modified: "2026-11-25T10:00:00Z".parse().unwrap(),
                });
            }
        }
        for (name, start, finish, time) in backups {
            catalogue.backups.push(backup(name, *start, *finish, time));
        }
        catalogue
    }

    pub(crate) fn backup(name: &str, start: u64, finish: u64, time: &str) -> Backup {
        let time: Timestamp = time.parse().unwrap();
        Backup {
            name: name.to_owned(),
            parsed: name.parse().unwrap(),
            sentinel: Some(Sentinel {
                start: Some(Lsn(start)),
                finish: Some(Lsn(finish)),
                finish_time: Some(time),
                version: Some(150_018),
                ..Sentinel::default()
            }),
            trouble: None,
            receipt: None,
            modified: time,
            objects: vec![
                Layout::sentinel(name),
                format!("{}/part_001.tar.zst", Layout::parts(name)),
            ],
            sizes: BTreeMap::new(),
            stored: 1000,
            verified: None,
            damage: None,
            proof: None,
            running_until: None,
        }
    }

    const FIRST: &str = "base_000000010000000000000003";

    #[test]
    fn a_window_ends_at_the_first_gap() {
        let mut archive = archive(
            &[(1, 3, 6), (1, 8, 9)],
            &[(FIRST, 0x300_0028, 0x400_0000, "2026-11-25T10:00:00Z")],
        );
        let window = archive.window(&archive.backups[0]);
        assert_eq!(window.last.unwrap().to_string(), "000000010000000000000006");
        assert_eq!(window.gap.unwrap().to_string(), "000000010000000000000007");
        assert!(window.is_consistent);
        assert_eq!(
            archive.gaps(),
            [Gap {
                first: Segment::new(Timeline(1), 7, SegmentSize::DEFAULT),
                count: 1
            }]
        );
        archive.segments.get_mut(&Timeline(1)).unwrap().remove(&3);
        let window = archive.window(&archive.backups[0]);
        assert!(!window.is_consistent);
        assert_eq!(window.last, None);
    }

    #[test]
    fn a_new_timeline_goes_on_in_its_own_copy_of_the_segment() {
        let mut archive = archive(
            &[(1, 3, 4), (2, 5, 7)],
            &[(FIRST, 0x300_0028, 0x400_0000, "2026-11-25T10:00:00Z")],
        );
        archive.histories.insert(
            Timeline(2),
            parse_history("1\t0/5000100\tno recovery target specified\n"),
        );
        let window = archive.window(&archive.backups[0]);
        assert_eq!(window.gap, None);
        assert_eq!(window.last.unwrap().to_string(), "000000020000000000000007");
        assert_eq!(archive.gaps(), []);
        // The old timeline ends before the branch: one is missing.
        archive.segments.get_mut(&Timeline(1)).unwrap().remove(&4);
        assert_eq!(archive.gaps()[0].first.to_string(), "000000010000000000000004");
    }

    #[test]
    fn a_delta_needs_its_chain() {
        let mut archive = archive(
            &[],
            &[
                (FIRST, 0x300_0028, 0x400_0000, "2026-11-25T10:00:00Z"),
                (
                    "base_000000010000000000000007_D_000000010000000000000003",
                    0x700_0028,
                    0x800_0000,
                    "2026-11-25T11:00:00Z",
                ),
            ],
        );
        archive.backups[1].sentinel.as_mut().unwrap().delta_from = Some(FIRST.to_owned());
        let chain = archive.chain(&archive.backups[1]).unwrap();
        assert_eq!(chain.iter().map(|of| &of.name[..]).collect::<Vec<_>>()[0], FIRST);
        archive.backups[0].sentinel.as_mut().unwrap().delta_from = Some(archive.backups[1].name.clone());
        assert!(archive.chain(&archive.backups[1]).is_err(), "a circle");
    }

    #[test]
    fn wal_e_says_the_end_by_segment_and_place() {
        let mut backup = backup(
            "base_000000010000000000000003_00000028",
            0,
            0,
            "2026-11-25T10:00:00Z",
        );
        let text = r#"{"wal_segment_backup_stop":"000000010000000000000003","wal_segment_offset_backup_stop":"00000130"}"#;
        backup.sentinel = Some(serde_json::from_str(text).unwrap());
        assert_eq!(backup.start(SegmentSize::DEFAULT), Lsn(0x300_0028));
        assert_eq!(backup.finish(), Some(Lsn(0x300_0130)));
    }
}
