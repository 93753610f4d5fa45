//! Which promotion began a timeline: a digest of its first WAL record, which holds the time of the promotion and a checksum.
//!
//! Two promotions that know nothing of each other give their timelines the same number, and at the same position the same history
//! file. Their first records differ.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
};

use howdah_pgconf::wal_file;
use howdah_types::{Lsn, Origins, Timeline};
use serde_json::{Map, Value};

use crate::{DataDir, Server};

/// In the data directory, so that a copy and a rewind bring the source's along.
const KEPT: &str = "howdah.timelines.json";

/// So many bytes hold the head of a record with its checksum, also behind the head of a page.
const DIGESTED: u64 = 64;

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

    /// Keeps them. Waits for the disk.
    pub fn keep_origins(&self, origins: &Origins) {
        let kept: Map<String, Value> = origins
            .iter()
            .map(|(timeline, origin)| (timeline.to_string(), origin.clone().into()))
            .collect();
        self.keep(KEPT, &kept);
    }

    /// The origin of a timeline of which WAL is here up to `end`. `None`: it is the first, its beginning has not arrived, or is gone.
    #[must_use]
    pub fn origin_of(&self, timeline: Timeline, end: Lsn) -> Option<String> {
        let (history, _) = self.history(timeline);
        let begins = history.last()?.switch;
        // What lies behind the end of WAL may be of a file that was used before.
        if end.0 < begins.0.saturating_add(DIGESTED) {
            return None;
        }
        self.dir.first_record(timeline, begins)
    }
}

impl DataDir {
    fn first_record(&self, timeline: Timeline, at: Lsn) -> Option<String> {
        let wal = self.path().join("pg_wal");
        let size = fs::read_dir(&wal).ok()?.flatten().find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            // Every segment has its whole size from the beginning.
            (name.len() == 24).then(|| entry.metadata().ok()).flatten()
        })?;
        let size = size.len();
        let mut file = fs::File::open(wal.join(wal_file(timeline, at, size)?)).ok()?;
        file.seek(SeekFrom::Start(at.0 % size)).ok()?;
        let mut bytes = Vec::new();
        file.take(DIGESTED).read_to_end(&mut bytes).ok()?;
        let blank = bytes.iter().all(|byte| *byte == 0);
        (!blank && bytes.len() as u64 == DIGESTED).then(|| digest(&bytes))
    }
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
    use super::*;

    #[test]
    fn the_first_record_is_found_in_its_segment() {
        let dir = tempfile::tempdir().unwrap();
        let wal = dir.path().join("pg_wal");
        fs::create_dir(&wal).unwrap();
        let mut segment = vec![0u8; 1 << 20];
        segment[0x60..0xa0].fill(7);
        fs::write(wal.join("000000020000000000000005"), &segment).unwrap();
        segment[0x9f] = 8;
        fs::write(wal.join("000000030000000000000005"), &segment).unwrap();
        let data = DataDir::new(dir.path());
        let at = Lsn((5 << 20) + 0x60);
        let second = data.first_record(Timeline(2), at).unwrap();
        let third = data.first_record(Timeline(3), at).unwrap();
        assert_eq!(second, digest(&[7; 64]));
        assert_ne!(second, third, "one byte differs");
        assert_eq!(
            data.first_record(Timeline(2), Lsn((5 << 20) + 0x1000)),
            None,
            "nothing was written"
        );
        assert_eq!(
            data.first_record(Timeline(2), Lsn(6 << 20)),
            None,
            "the segment is gone"
        );
    }
}
