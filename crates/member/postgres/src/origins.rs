//! Which promotion began a timeline: a digest of the head of its first WAL record. The record holds the time of the promotion, and its
//! head a checksum of it.
//!
//! Two promotions that know nothing of each other give their timelines the same number, and at the same position the same history
//! file. Their first records differ.

use std::{fs, path::Path};

use howdah_pgconf::{HistoryLine, wal_file};
use howdah_types::{Origins, Timeline};
use serde_json::{Map, Value};

use crate::{DataDir, Server, first_record::first_record};

/// In the data directory, so that a copy and a rewind bring the source's along.
const KEPT: &str = "howdah.timelines.json";

/// The newest timelines are told apart by their origins; older ones matter no more.
const MOST: usize = 8;

impl Server {
    /// What is kept in the data directory.
    #[must_use]
    pub fn origins(&self) -> Origins {
        let kept = self.kept(KEPT).unwrap_or_default();
        kept.into_iter()
            .filter_map(|(timeline, origin)| {
                Some((Timeline(timeline.parse().ok()?), origin.as_str()?.to_owned()))
            })
            .collect()
    }

    /// Keeps the newest of them. Waits for the disk.
    pub fn keep_origins(&self, origins: &mut Origins) {
        while origins.len() > MOST {
            origins.pop_first();
        }
        let kept: Map<String, Value> = origins
            .iter()
            .map(|(timeline, origin)| (timeline.to_string(), origin.clone().into()))
            .collect();
        self.keep(KEPT, &kept);
    }

    /// The origins of a timeline and of those before it, as the WAL here has them. The first timeline has none. One whose beginning has
    /// not arrived, or is gone, is missing. A server that has crashed soon after its promotion may never have looked at the timeline
    /// itself, and is already on the next one: so the earlier ones are read too. Reads from the disk.
    #[must_use]
    pub fn read_origins(&self, timeline: Timeline) -> Origins {
        let (history, _) = self.history(timeline);
        self.dir.origins(timeline, &history)
    }

    /// The same of every timeline that a stopped server may be on: its last checkpoint's, and the newest that it has heard of. Reads from
    /// the disk.
    #[must_use]
    pub fn read_all_origins(&self) -> Origins {
        let checkpoint = self.dir.control().ok().map(|control| control.timeline);
        let timelines = [self.dir.newest_history(), checkpoint];
        timelines
            .into_iter()
            .flatten()
            .flat_map(|timeline| self.read_origins(timeline))
            .collect()
    }
}

impl DataDir {
    fn origins(&self, timeline: Timeline, history: &[HistoryLine]) -> Origins {
        let wal = self.path().join("pg_wal");
        let Some(size) = segment_size(&wal) else {
            return Origins::new();
        };
        // Each timeline begins where the one before it ends.
        let later = history.iter().skip(1).map(|line| line.timeline);
        let timelines: Vec<Timeline> = later.chain([timeline]).collect();
        let begun = history.iter().zip(&timelines).enumerate().rev().take(MOST);
        begun
            .filter_map(|(place, (before, begun))| {
                // A later timeline's file of the same segment begins with the WAL before its switch.
                let files = timelines.get(place..)?.iter();
                let origin = files
                    .filter_map(|timeline| wal_file(*timeline, before.switch, size))
                    .find_map(|name| first_record(&wal.join(name), size, before.switch, *begun))?;
                Some((*begun, digest(&origin)))
            })
            .collect()
    }
}

/// Every segment has its whole size from the beginning.
fn segment_size(wal: &Path) -> Option<u64> {
    let size = fs::read_dir(wal).ok()?.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        (name.len() == 24).then(|| entry.metadata().ok()).flatten()
    })?;
    Some(size.len())
}

/// FNV-1a. Nothing rests on it against an adversary: whoever writes WAL needs no collision.
fn digest(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use howdah_types::Lsn;

    use super::*;

    use crate::first_record::tests::Segment;

    struct Wal {
        data: DataDir,
        dir: tempfile::TempDir,
    }

    impl Wal {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("pg_wal")).unwrap();
            Self {
                data: DataDir::new(dir.path()),
                dir,
            }
        }

        fn write(&self, name: &str, segment: &Segment) {
            fs::write(self.dir.path().join("pg_wal").join(name), &segment.bytes).unwrap();
        }

        fn origins(&self, timeline: u32, switches: &[(u32, u64)]) -> Vec<(u32, String)> {
            let history: Vec<HistoryLine> = switches
                .iter()
                .map(|(timeline, switch)| HistoryLine {
                    timeline: Timeline(*timeline),
                    switch: Lsn(*switch),
                    reason: String::new(),
                })
                .collect();
            let origins = self.data.origins(Timeline(timeline), &history);
            origins
                .into_iter()
                .map(|(number, origin)| (number.0, origin))
                .collect()
        }
    }

    const FIVE: u64 = 5 << 20;

    #[test]
    fn each_timeline_is_read_where_the_one_before_it_ends() {
        let wal = Wal::new();
        let mut segment = Segment::at(FIVE);
        segment.end_of_recovery(0x60, 2, 7);
        wal.write("000000020000000000000005", &segment);
        let switches = [(1, FIVE + 0x60), (2, FIVE + 0x400)];
        let second = wal.origins(2, &switches[..1]);
        assert_eq!(second.len(), 1);
        assert_eq!(wal.origins(3, &switches), second, "the third has not arrived");
        segment.end_of_recovery(0x400, 3, 8);
        wal.write("000000030000000000000005", &segment);
        let both = wal.origins(3, &switches);
        assert_eq!(both.len(), 2);
        assert_eq!(both[0], second[0]);
        assert_ne!(both[1].1, second[0].1);
        // A later timeline's file has the earlier one's beginning.
        fs::remove_file(wal.dir.path().join("pg_wal/000000020000000000000005")).unwrap();
        assert_eq!(wal.origins(3, &switches), both);
        assert_eq!(wal.origins(1, &[]), []);
        assert_eq!(wal.origins(2, &[(1, 6 << 20)]), [], "the segment is gone");
    }

    #[test]
    fn two_promotions_at_the_same_position_have_two_origins() {
        let origin = |time| {
            let wal = Wal::new();
            let mut segment = Segment::at(FIVE);
            segment.end_of_recovery(0x60, 2, time);
            wal.write("000000020000000000000005", &segment);
            wal.origins(2, &[(1, FIVE + 0x60)])
        };
        assert_eq!(origin(7), origin(7));
        assert_ne!(origin(7), origin(8));
    }
}
