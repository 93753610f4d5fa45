//! WAL of earlier timelines that a former primary did not archive any more.
//!
//! PostgreSQL marks segments as archived where they are received, so that a new primary archives none of them: what its
//! predecessor had not archived when it died would be missing for ever. The new primary has them, byte for byte.

use std::path::Path;

use howdah_archive::Settings;
use howdah_archiver::{FenceWatch, Opened};
use howdah_backup::{Catalogue, Segment, WalName};
use howdah_pgconf::{HistoryLine, parse_history};

/// Archives what is missing; how many segments.
pub(crate) async fn run(data: &Path, settings: Settings, catalogue: &Catalogue, fence: FenceWatch) -> usize {
    let wal = data.join("pg_wal");
    // A replica's WAL may be behind a branch that it does not know yet.
    if data.join("standby.signal").exists() || data.join("recovery.signal").exists() {
        return 0;
    }
    let names = std::fs::read_dir(&wal).into_iter().flatten().flatten();
    let names: Vec<WalName> = names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let newest = names.iter().filter_map(|name| match name {
        WalName::History(timeline) => Some(*timeline),
        _ => None,
    });
    let Some(newest) = newest.max() else {
        return 0;
    };
    let history = std::fs::read_to_string(wal.join(format!("{:08X}.history", newest.0))).unwrap_or_default();
    let missing = missing(&names, &parse_history(&history), catalogue);
    if missing.is_empty() {
        return 0;
    }
    let opened = Opened::new(settings);
    let mut stored = 0;
    for segment in missing {
        match opened
            .push(&wal.join(segment.to_string()), Some(fence.clone()))
            .await
        {
            Ok(_) => {
                stored += 1;
                tracing::info!(
                    "{segment} of an earlier timeline was missing from the archive, and is archived now."
                );
            }
            Err(error) => {
                tracing::warn!("{segment} of an earlier timeline is missing from the archive: {error}.");
                if error.is_outage() {
                    break;
                }
            }
        }
    }
    stored
}

/// Complete segments of earlier timelines, before the branch to the next one, that a restore from the oldest backup may need.
fn missing(names: &[WalName], history: &[HistoryLine], catalogue: &Catalogue) -> Vec<Segment> {
    let size = catalogue.size;
    let floor = catalogue
        .backups
        .iter()
        .map(|backup| size.number_at(backup.start(size)))
        .min();
    let Some(floor) = floor else {
        return Vec::new();
    };
    let is_missing = |segment: &Segment| {
        let Some(number) = segment.number(size) else {
            return false;
        };
        let ends = history.iter().find(|line| line.timeline == segment.timeline);
        let is_before = ends.is_some_and(|line| number < size.number_at(line.switch));
        let there = catalogue.segments.get(&segment.timeline);
        is_before && number >= floor && !there.is_some_and(|there| there.contains_key(&number))
    };
    let mut found: Vec<Segment> = names
        .iter()
        .filter_map(|name| match name {
            WalName::Segment(segment) => Some(*segment),
            _ => None,
        })
        .filter(is_missing)
        .collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use howdah_backup::Backup;

    use super::*;

    #[test]
    fn only_complete_segments_before_the_branch() {
        let names: Vec<WalName> = [
            "000000010000000000000003",
            "000000010000000000000004",
            "000000010000000000000005",
            "000000010000000000000006",
            "000000020000000000000005",
            "00000002.history",
        ]
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
        let history = parse_history("1\t0/5000100\tno recovery target specified\n");
        let mut catalogue = Catalogue::default();
        // Without a backup nothing needs them.
        assert!(missing(&names, &history, &catalogue).is_empty());
        let name = "base_000000010000000000000003";
        catalogue.backups.push(Backup {
            name: name.to_owned(),
            parsed: name.parse().unwrap(),
            sentinel: None,
            trouble: None,
            receipt: None,
            modified: jiff::Timestamp::UNIX_EPOCH,
            objects: Vec::new(),
            sizes: BTreeMap::new(),
            stored: 0,
            verified: None,
            damage: None,
            proof: None,
            running_until: None,
        });
        let found: Vec<String> = missing(&names, &history, &catalogue)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["000000010000000000000003", "000000010000000000000004"]);
    }
}
