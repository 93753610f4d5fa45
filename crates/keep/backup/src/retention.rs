//! What retention deletes, what it keeps, and why: a pure plan, which is printed before anything goes.

use std::collections::{BTreeMap, BTreeSet};

use howdah_types::Timeline;
use jiff::{SignedDuration, Timestamp};

use crate::{Backup, Catalogue};

/// How long an unfinished backup without a note of its own is left alone: longer than any backup takes.
const UNFINISHED: SignedDuration = SignedDuration::from_hours(24 * 7);

/// What is to be kept. Each rule keeps; a backup that none keeps goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest full backups with their deltas, at least this many.
    pub count: Option<u32>,
    /// Whatever restoring to any moment of this last while needs.
    pub window: Option<SignedDuration>,
    /// Everything from this backup on.
    pub from: Option<String>,
    /// Below so many complete full backups nothing is deleted.
    pub at_least: u32,
    /// Below so many verified full backups nothing is deleted.
    pub verified: u32,
    /// The cluster writes elsewhere by now (another major version): once all of this is older than the window, it goes.
    pub is_retired: bool,
}

/// A plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Backups that stay, each with why.
    pub keep: BTreeMap<String, String>,
    /// Backups that go, oldest first, each with why.
    pub delete: Vec<(String, String)>,
    /// Objects that go, in this order: sentinels, other objects of backups, WAL.
    pub objects: Vec<String>,
    /// How many of these are WAL.
    pub wal: usize,
    /// The first segment number that stays; WAL before it goes, unless a permanent backup needs it.
    pub floor: Option<u64>,
    /// Why nothing is deleted although the policy asks for it.
    pub refused: Option<String>,
}

/// Decides what goes.
///
/// WAL is judged by position alone: what any kept backup could be replayed with on any timeline stays, and so does every
/// history file. Nothing is compared by the time when the store got it, except how long ago an unfinished backup was left.
#[must_use]
pub fn plan(catalogue: &Catalogue, policy: &Policy, now: Timestamp) -> Plan {
    let size = catalogue.size;
    let mut plan = Plan::default();
    if let Some(trouble) = catalogue.troubles.first() {
        plan.refused = Some(format!("what is needed is not known: {trouble}"));
    }
    let line = |backup: &Backup| (backup.timeline(), backup.start(size));
    let mut complete: Vec<&Backup> = catalogue
        .backups
        .iter()
        .filter(|backup| backup.is_complete())
        .collect();
    complete.sort_by_key(|backup| line(backup));
    // One that cannot be restored, or that a drill could not restore, is no reason to give up another one.
    let has_failed = |backup: &Backup| backup.proof.as_ref().is_some_and(|proof| proof.trouble.is_some());
    let usable: Vec<&Backup> = complete
        .iter()
        .copied()
        .filter(|backup| catalogue.usable(backup).is_ok() && !has_failed(backup))
        .collect();
    let fulls: Vec<&Backup> = usable
        .iter()
        .copied()
        .filter(|backup| backup.sentinel.as_ref().is_some_and(|of| !of.is_delta()))
        .collect();

    // Backups that a rule has chosen: they keep all WAL behind them, also if they are permanent.
    let mut chosen: BTreeSet<String> = BTreeSet::new();
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    let mut keep = |backup: &Backup, why: String| {
        kept.entry(backup.name.clone()).or_insert(why);
    };
    // What cannot be read is never taken for superfluous.
    for backup in catalogue.backups.iter().filter(|backup| backup.trouble.is_some()) {
        keep(
            backup,
            format!(
                "it cannot be read: {}",
                backup.trouble.as_deref().unwrap_or_default()
            ),
        );
    }
    for backup in complete.iter().filter(|backup| is_permanent(backup)) {
        keep(backup, "permanent".to_owned());
    }
    let is_over = policy.is_retired && is_older(catalogue, policy.window, now);
    if let Some(newest) = complete.last().filter(|newest| !is_over && has_failed(newest)) {
        keep(newest, "the newest, whose drill has failed".to_owned());
    }
    let mut choose = |backup: &Backup, why: String| {
        chosen.insert(backup.name.clone());
        keep(backup, why);
    };
    if let Some(newest) = usable.last().filter(|_| !is_over) {
        choose(newest, "the newest".to_owned());
    }
    // A restored cluster goes on where it was restored to: its last backup may be an old one.
    let newest_timeline = catalogue.timelines().last().copied().unwrap_or_default();
    let leading: Vec<&Backup> = usable
        .iter()
        .copied()
        .filter(|backup| catalogue.path(backup, newest_timeline).is_some())
        .collect();
    if let Some(backup) = leading.last().filter(|_| !is_over) {
        choose(
            backup,
            format!("the newest that leads to timeline {newest_timeline}"),
        );
    }
    let mut count_is_met = true;
    if let Some(count) = policy.count.filter(|_| !is_over) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let ordinary = fulls.iter().copied().filter(|backup| !is_permanent(backup));
        let there = ordinary.clone().count();
        count_is_met = there >= count;
        if let Some(first) = ordinary.clone().nth(there.saturating_sub(count)) {
            for backup in usable.iter().filter(|backup| line(backup) >= line(first)) {
                choose(
                    backup,
                    format!("one of the newest {count} full backups, or built on one"),
                );
            }
        }
    }
    let mut window_is_met = true;
    if let Some(window) = policy.window.filter(|_| !is_over)
        && let Ok(begin) = now.checked_sub(window)
    {
        for backup in usable.iter().filter(|backup| backup.finished() > begin) {
            choose(backup, "inside the window".to_owned());
        }
        // Where a restore has left a backup behind, one that leads to the newest timeline is needed too.
        for of in [&usable, &leading] {
            match of.iter().rev().find(|backup| backup.finished() <= begin) {
                Some(backup) => choose(backup, "the window begins behind it".to_owned()),
                // Nothing old enough: the oldest is as far back as one can go.
                None => {
                    window_is_met = false;
                    for backup in of {
                        choose(backup, "inside the window".to_owned());
                    }
                }
            }
        }
    }
    if let Some(from) = &policy.from {
        match complete.iter().find(|backup| backup.name == *from) {
            Some(first) => {
                for backup in complete.iter().filter(|backup| line(backup) >= line(first)) {
                    choose(backup, format!("{from} or later"));
                }
            }
            None => plan.refused = Some(format!("there is no complete backup {from}")),
        }
    }
    plan.keep = kept;
    // One that cannot be restored goes with those before it: until then somebody may find what it lacks.
    let oldest = usable
        .iter()
        .filter(|backup| plan.keep.contains_key(&backup.name) && !is_permanent(backup))
        .map(|backup| line(backup))
        .min();
    if !is_over {
        for backup in &complete {
            // While the rules are not met by sound ones, it may be all that there is.
            let may_go = count_is_met && window_is_met && oldest.is_some_and(|oldest| line(backup) < oldest);
            if let Err(why) = catalogue.usable(backup)
                && !may_go
            {
                plan.keep.entry(backup.name.clone()).or_insert(why);
            }
        }
    }
    let no_rule = policy.count.is_none() && policy.window.is_none() && policy.from.is_none();
    if no_rule {
        plan.refused = Some("no rule says what to keep: give a count, a window, or a backup".to_owned());
    }
    keep_bases(catalogue, &mut plan);

    let kept_fulls = fulls
        .iter()
        .filter(|backup| plan.keep.contains_key(&backup.name))
        .count();
    for backup in &complete {
        if !plan.keep.contains_key(&backup.name) {
            plan.delete
                .push((backup.name.clone(), "no rule keeps it".to_owned()));
        }
    }
    for backup in catalogue.unfinished() {
        let is_left = match backup.running_until {
            Some(until) => until < now,
            None => backup
                .modified
                .checked_add(UNFINISHED)
                .is_ok_and(|over| over < now),
        };
        if is_left {
            plan.delete
                .push((backup.name.clone(), "it was never finished".to_owned()));
        } else {
            plan.keep
                .insert(backup.name.clone(), "it is being made".to_owned());
        }
    }
    let kept_verified = fulls
        .iter()
        .filter(|backup| plan.keep.contains_key(&backup.name) && backup.verified.is_some())
        .count();
    if plan.refused.is_none() && !plan.delete.is_empty() && !is_over {
        let below = |kept: usize, bound: u32| kept < usize::try_from(bound).unwrap_or(usize::MAX);
        if below(kept_fulls, policy.at_least) {
            let bound = policy.at_least;
            plan.refused = Some(format!(
                "{kept_fulls} full backups would stay, and at least {bound} must"
            ));
        } else if below(kept_verified, policy.verified) {
            let bound = policy.verified;
            plan.refused = Some(format!(
                "{kept_verified} verified full backups would stay, and at least {bound} must: verify one with 'howdah backup verify'"
            ));
        }
    }
    if plan.refused.is_some() {
        plan.delete.clear();
        return plan;
    }
    objects(catalogue, &mut plan, &chosen, is_over);
    plan
}

/// Whether everything was written before the window began.
fn is_older(catalogue: &Catalogue, window: Option<SignedDuration>, now: Timestamp) -> bool {
    let Some(begin) = window.and_then(|window| now.checked_sub(window).ok()) else {
        return false;
    };
    let of_backups = catalogue
        .backups
        .iter()
        .map(|backup| backup.modified.max(backup.finished()));
    let of_wal = catalogue
        .segments
        .values()
        .flat_map(|of| of.values())
        .map(|object| object.modified);
    of_backups.chain(of_wal).all(|moment| moment < begin)
}

fn is_permanent(backup: &Backup) -> bool {
    backup
        .sentinel
        .as_ref()
        .is_some_and(|sentinel| sentinel.is_permanent)
}

/// A kept delta keeps what it builds on, also where its sentinel does not say it.
fn keep_bases(catalogue: &Catalogue, plan: &mut Plan) {
    let kept: Vec<String> = plan.keep.keys().cloned().collect();
    let running = catalogue
        .unfinished()
        .into_iter()
        .map(|backup| backup.name.clone());
    for name in kept.into_iter().chain(running) {
        let mut at = catalogue.backup(&name);
        let mut seen = BTreeSet::new();
        while let Some(base) = at
            .and_then(|backup| catalogue.base_of(backup))
            .filter(|base| seen.insert(base.name.clone()))
        {
            plan.keep
                .entry(base.name.clone())
                .or_insert_with(|| format!("{name} builds on it"));
            at = Some(base);
        }
    }
}

fn objects(catalogue: &Catalogue, plan: &mut Plan, chosen: &BTreeSet<String>, is_over: bool) {
    let size = catalogue.size;
    let going: BTreeSet<&str> = plan.delete.iter().map(|(name, _)| name.as_str()).collect();
    // Deltas before what they build on.
    let backups = || {
        catalogue
            .backups
            .iter()
            .rev()
            .filter(|backup| going.contains(&*backup.name))
    };
    // Without its sentinel a backup is none, so that a deletion that is cut short leaves no half of one.
    let sentinels = backups().filter_map(|backup| backup.objects.first().filter(|_| backup.is_complete()));
    let others = backups().flat_map(|backup| backup.objects.iter().skip(usize::from(backup.is_complete())));
    let mut names: Vec<String> = sentinels.chain(others).cloned().collect();

    let kept: Vec<&Backup> = catalogue
        .backups
        .iter()
        .filter(|backup| !going.contains(&*backup.name))
        .collect();
    let floors = Floors::new(catalogue, &kept, chosen, is_over);
    let segments = catalogue
        .segments
        .iter()
        .flat_map(|(timeline, of)| of.iter().map(|(number, object)| (*timeline, *number, object)));
    let beside = catalogue
        .beside
        .iter()
        .filter_map(|(segment, object)| Some((segment.timeline, segment.number(size)?, object)));
    let wal = segments
        .chain(beside)
        .filter(|(timeline, number, _)| floors.is_superfluous(*timeline, *number));
    let before = names.len();
    names.extend(wal.map(|(_, _, object)| object.name.clone()));
    plan.wal = names.len() - before;
    plan.floor = floors.least;
    plan.objects = names;
}

/// Which segments no kept backup can be replayed with.
struct Floors {
    /// The first that a kept backup needs, wherever; `None` where no backup is kept.
    least: Option<u64>,
    /// By timeline, the first that a backup needs which leads there.
    of: BTreeMap<Timeline, u64>,
    /// The newest timeline of a kept backup. On later ones all stays: their first backup is still to come.
    newest: Timeline,
    /// What permanent backups need for themselves: a timeline, the first, the last.
    own: Vec<(Timeline, u64, u64)>,
    is_over: bool,
}

impl Floors {
    fn new(catalogue: &Catalogue, kept: &[&Backup], chosen: &BTreeSet<String>, is_over: bool) -> Self {
        let size = catalogue.size;
        let first_of = |backup: &Backup| size.number_at(backup.start(size));
        let (permanent, ordinary): (Vec<&Backup>, Vec<&Backup>) = kept
            .iter()
            .partition(|backup| is_permanent(backup) && !chosen.contains(&backup.name));
        // Permanent backups alone keep all WAL from the newest on.
        let from = if ordinary.is_empty() {
            permanent
                .iter()
                .max_by_key(|backup| first_of(backup))
                .copied()
                .into_iter()
                .collect()
        } else {
            ordinary
        };
        let mut of = BTreeMap::new();
        for backup in &from {
            for timeline in catalogue.timelines() {
                let begins = if timeline == backup.timeline() {
                    Some(first_of(backup))
                } else {
                    let steps = catalogue.path(backup, timeline);
                    steps.and_then(|steps| steps.last().map(|step| size.number_at(step.from)))
                };
                if let Some(begins) = begins {
                    let floor = of.entry(timeline).or_insert(begins);
                    *floor = begins.min(*floor);
                }
            }
        }
        Floors {
            least: from.iter().map(|backup| first_of(backup)).min(),
            of,
            newest: from
                .iter()
                .map(|backup| backup.timeline())
                .max()
                .unwrap_or_default(),
            own: permanent
                .iter()
                .map(|backup| {
                    let last = size.number_before(backup.finish().unwrap_or(backup.start(size)));
                    (backup.timeline(), first_of(backup), last)
                })
                .collect(),
            is_over,
        }
    }

    fn is_superfluous(&self, timeline: Timeline, number: u64) -> bool {
        let is_own =
            |(of, first, last): &(Timeline, u64, u64)| *of == timeline && (*first..=*last).contains(&number);
        if self.own.iter().any(is_own) {
            return false;
        }
        match (self.of.get(&timeline), self.least) {
            (Some(floor), _) => number < *floor,
            (None, Some(least)) => timeline < self.newest && number < least,
            // Without any backup only the archive of a major that is over loses its WAL.
            (None, None) => self.is_over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::archive;

    const NAMES: [&str; 4] = [
        "base_000000010000000000000003",
        "base_000000010000000000000006",
        "base_000000010000000000000009",
        "base_00000001000000000000000C",
    ];

    fn daily() -> Catalogue {
        archive(
            &[(1, 1, 15)],
            &[
                (NAMES[0], 0x300_0028, 0x300_0100, "2026-11-20T01:00:00Z"),
                (NAMES[1], 0x600_0028, 0x600_0100, "2026-11-21T01:00:00Z"),
                (NAMES[2], 0x900_0028, 0x900_0100, "2026-11-22T01:00:00Z"),
                (NAMES[3], 0xC00_0028, 0xC00_0100, "2026-11-23T01:00:00Z"),
            ],
        )
    }

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.delete.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn by_count(count: u32) -> Policy {
        Policy {
            count: Some(count),
            ..Policy::default()
        }
    }

    #[test]
    fn a_backup_whose_drill_has_failed_is_no_reason_to_delete_another_one() {
        let mut archive = archive(
            &[(1, 3, 9)],
            &[
                (
                    "base_000000010000000000000003",
                    0x300_0028,
                    0x400_0000,
                    "2026-11-24T10:00:00Z",
                ),
                (
                    "base_000000010000000000000007",
                    0x700_0028,
                    0x800_0000,
                    "2026-11-25T10:00:00Z",
                ),
            ],
        );
        let mut proof = crate::Proof::new("host".to_owned());
        proof.trouble = Some("an index is not sound".to_owned());
        archive.backups[1].proof = Some(proof);
        let policy = Policy {
            count: Some(1),
            at_least: 1,
            ..Policy::default()
        };
        let plan = plan(&archive, &policy, "2026-11-26T10:00:00Z".parse().unwrap());
        assert!(plan.delete.is_empty(), "{plan:?}");
    }

    #[test]
    fn by_count_and_wal_goes_last() {
        let plan = plan(&daily(), &by_count(2), now());
        assert_eq!(names(&plan), [NAMES[0], NAMES[1]]);
        assert_eq!(plan.floor, Some(9));
        assert_eq!(plan.wal, 8);
        assert!(plan.objects[0].ends_with("_backup_stop_sentinel.json"));
        assert!(plan.objects.last().unwrap().starts_with("wal_005/"));
        assert!(
            plan.objects
                .iter()
                .all(|name| !name.contains("0009") && !name.contains("000C"))
        );
    }

    #[test]
    fn a_window_needs_the_backup_before_it() {
        let of = |hours| Policy {
            window: Some(SignedDuration::from_hours(hours)),
            ..Policy::default()
        };
        // Noon of the 21st: the backup of that night is where a restore to noon begins.
        assert_eq!(names(&plan(&daily(), &of(48), now())), [NAMES[0]]);
        assert_eq!(names(&plan(&daily(), &of(24 * 365), now())), Vec::<&str>::new());
        assert_eq!(names(&plan(&daily(), &of(1), now())).len(), 3);
    }

    #[test]
    fn a_delta_keeps_its_base() {
        let mut archive = daily();
        let delta = archive.backups[3].sentinel.as_mut().unwrap();
        delta.delta_from = Some(NAMES[0].to_owned());
        let plan = plan(&archive, &by_count(1), now());
        assert_eq!(names(&plan), [NAMES[1]]);
        assert_eq!(plan.floor, Some(3));
        assert!(plan.keep[NAMES[0]].contains("builds on it"));
    }

    #[test]
    fn a_permanent_backup_keeps_its_own_wal_only() {
        let mut archive = daily();
        archive.backups[0].sentinel.as_mut().unwrap().is_permanent = true;
        let plan = plan(&archive, &by_count(1), now());
        assert_eq!(names(&plan), [NAMES[1], NAMES[2]]);
        assert_eq!(plan.floor, Some(12));
        // 1 to 11 go, and 3 stays.
        assert_eq!(plan.wal, 10);
    }

    #[test]
    fn what_runs_or_cannot_be_read_stays_with_its_wal() {
        let mut archive = daily();
        archive.backups[0].sentinel = None;
        archive.backups[0].running_until = Some("2026-11-23T12:05:00Z".parse().unwrap());
        archive.backups[1].sentinel = None;
        archive.backups[1].trouble = Some("invalid JSON".to_owned());
        let plan = plan(&archive, &by_count(1), now());
        assert_eq!(names(&plan), [NAMES[2]]);
        assert_eq!(plan.floor, Some(3));
        let later: Timestamp = "2026-11-23T12:06:00Z".parse().unwrap();
        let plan = super::plan(&archive, &by_count(1), later);
        assert_eq!(names(&plan), [NAMES[2], NAMES[0]]);
        assert_eq!(plan.floor, Some(6));
    }

    #[test]
    fn a_restored_cluster_keeps_the_backup_that_it_goes_on_from() {
        let mut archive = daily();
        // Restored to a moment between the first two backups: timeline 2 branched off in segment 4.
        archive.histories.insert(
            Timeline(2),
            howdah_pgconf::parse_history("1\t0/4000100\tbefore 2026-11-20\n"),
        );
        for number in 4..=5 {
            archive.add_wal(crate::Object {
                name: format!("wal_005/00000002000000000000000{number}.zst"),
                size: 1,
                modified: now(),
            });
        }
        let plan = plan(&archive, &by_count(1), now());
        assert_eq!(names(&plan), [NAMES[1], NAMES[2]]);
        assert!(plan.keep[NAMES[0]].contains("timeline 2"), "{:?}", plan.keep);
        // Its WAL stays, and that of the new timeline.
        let gone = |name: &str| plan.objects.iter().any(|object| object.contains(name));
        assert!(gone("000000010000000000000002") && !gone("000000010000000000000003"));
        assert!(!gone("000000020000000000000004") && !gone("000000020000000000000005"));
        // Once the new timeline has its own backup, that counts as the newest, though its position is an earlier one.
        let mut own = crate::catalogue::tests::backup(
            "base_000000020000000000000005",
            0x500_0028,
            0x500_0100,
            "2026-11-24T01:00:00Z",
        );
        own.objects.truncate(1);
        archive.backups.push(own);
        let plan = super::plan(&archive, &by_count(1), now());
        assert_eq!(names(&plan), NAMES);
        assert!(
            plan.objects
                .iter()
                .all(|object| !object.contains("000000020000000000000005")),
            "{:?}",
            plan.objects
        );
    }

    #[test]
    fn a_permanent_backup_that_a_window_needs_keeps_what_is_behind_it() {
        let mut archive = daily();
        archive.backups[1].sentinel.as_mut().unwrap().is_permanent = true;
        let policy = Policy {
            window: Some(SignedDuration::from_hours(48)),
            ..Policy::default()
        };
        let plan = plan(&archive, &policy, now());
        assert_eq!(names(&plan), [NAMES[0]]);
        assert_eq!(plan.floor, Some(6));
        assert!(
            plan.objects
                .iter()
                .all(|object| !object.contains("000000010000000000000007"))
        );
    }

    #[test]
    fn while_a_rule_is_not_met_unsound_ones_stay() {
        let mut archive = daily();
        for backup in &mut archive.backups[..3] {
            backup.damage = Some("wrong key, perhaps".to_owned());
        }
        assert_eq!(names(&plan(&archive, &by_count(3), now())), Vec::<&str>::new());
        assert_eq!(names(&plan(&archive, &by_count(1), now())).len(), 3);
    }

    #[test]
    fn one_that_cannot_be_restored_is_no_reason_to_delete_others() {
        let mut archive = daily();
        archive.segments.get_mut(&Timeline(1)).unwrap().remove(&12);
        let plan = plan(&archive, &by_count(1), now());
        assert_eq!(names(&plan), [NAMES[0], NAMES[1]]);
        assert!(plan.keep[NAMES[3]].contains("WAL"), "{:?}", plan.keep);
        archive.troubles.push("a history is unreadable".to_owned());
        assert!(super::plan(&archive, &by_count(1), now()).refused.is_some());
    }

    #[test]
    fn an_unreadable_delta_keeps_its_base() {
        let mut archive = daily();
        let mut delta = crate::catalogue::tests::backup(
            "base_00000001000000000000000D_D_000000010000000000000003",
            0xD00_0028,
            0xD00_0100,
            "2026-11-23T02:00:00Z",
        );
        delta.sentinel = None;
        delta.trouble = Some("rubbish".to_owned());
        archive.backups.push(delta);
        assert_eq!(names(&plan(&archive, &by_count(1), now())), [NAMES[1], NAMES[2]]);
    }

    #[test]
    fn without_any_backup_wal_stays() {
        let mut archive = daily();
        for backup in &mut archive.backups {
            backup.sentinel = None;
        }
        let later: Timestamp = "2026-12-20T12:00:00Z".parse().unwrap();
        let plan = plan(&archive, &by_count(1), later);
        assert_eq!((plan.delete.len(), plan.wal), (4, 0));
    }

    #[test]
    fn a_retired_prefix_goes_when_it_is_older_than_the_window() {
        let policy = |hours| Policy {
            window: Some(SignedDuration::from_hours(hours)),
            is_retired: true,
            ..Policy::default()
        };
        let later: Timestamp = "2026-12-20T12:00:00Z".parse().unwrap();
        assert_eq!(names(&plan(&daily(), &policy(24 * 7), later)).len(), 4);
        assert_eq!(plan(&daily(), &policy(24 * 7), later).wal, 15);
        assert_eq!(names(&plan(&daily(), &policy(24 * 60), later)).len(), 0);
        let current = Policy {
            is_retired: false,
            ..policy(24 * 7)
        };
        assert_eq!(names(&plan(&daily(), &current, later)).len(), 3);
    }

    #[test]
    fn verified_backups_are_not_given_up_for_others() {
        let mut archive = daily();
        archive.backups[0].verified = Some(now());
        let policy = Policy {
            verified: 1,
            ..by_count(1)
        };
        assert!(
            plan(&archive, &policy, now())
                .refused
                .unwrap()
                .contains("verified")
        );
        archive.backups[3].verified = Some(now());
        assert_eq!(names(&plan(&archive, &policy, now())).len(), 3);
    }

    #[test]
    fn without_a_rule_or_below_the_bound_nothing_goes() {
        assert!(plan(&daily(), &Policy::default(), now()).refused.is_some());
        let policy = Policy {
            at_least: 3,
            ..by_count(1)
        };
        let plan = plan(&daily(), &policy, now());
        assert!(plan.refused.unwrap().contains("at least 3"));
        assert_eq!((plan.objects.len(), plan.delete.len()), (0, 0));
        let gone = Policy {
            from: Some("base_0000000100000000000000FF".to_owned()),
            ..Policy::default()
        };
        assert!(super::plan(&daily(), &gone, now()).refused.is_some());
    }
}
