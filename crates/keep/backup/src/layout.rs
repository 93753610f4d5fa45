use std::{fmt, str::FromStr};

use howdah_types::{Lsn, Timeline};
use thiserror::Error;

use crate::{Codec, Segment, SegmentSize, WalName};

/// Where everything is, relative to an archive's root. WAL-G 3 and WAL-E 1 agree on it.
pub struct Layout;

impl Layout {
    /// The folder of WAL.
    pub const WAL: &'static str = "wal_005";
    /// The folder of base backups.
    pub const BACKUPS: &'static str = "basebackups_005";
    /// Whose archive this is. WAL-G passes over it.
    pub const IDENTITY: &'static str = "archive.json";

    /// The folder of claims on the moments of a schedule. WAL-G passes over it.
    pub const CLAIMS: &'static str = "howdah_claims";
    /// WAL that was given up while the archive could not be written to.
    pub const GIVEN_UP: &'static str = "howdah_given_up";

    const SENTINEL: &'static str = "_backup_stop_sentinel.json";

    /// A file of WAL.
    #[must_use]
    pub fn wal(name: &WalName, codec: Codec) -> String {
        format!("{}/{name}{}", Self::WAL, codec.ending())
    }

    /// The object whose presence says that a backup is complete. It is written last.
    #[must_use]
    pub fn sentinel(backup: &str) -> String {
        format!("{}/{backup}{}", Self::BACKUPS, Self::SENTINEL)
    }

    /// The backup whose sentinel an object directly below [`Layout::BACKUPS`] is.
    #[must_use]
    pub fn backup_of_sentinel(object: &str) -> Option<&str> {
        object.strip_suffix(Self::SENTINEL)
    }

    /// The folder of a backup's objects.
    #[must_use]
    pub fn backup(backup: &str) -> String {
        format!("{}/{backup}", Self::BACKUPS)
    }

    /// WAL-G's further metadata.
    #[must_use]
    pub fn metadata(backup: &str) -> String {
        format!("{}/{backup}/metadata.json", Self::BACKUPS)
    }

    /// The list of its files.
    #[must_use]
    pub fn files(backup: &str) -> String {
        format!("{}/{backup}/files_metadata.json", Self::BACKUPS)
    }

    /// Our receipt: what was stored, with digests.
    #[must_use]
    pub fn receipt(backup: &str) -> String {
        format!("{}/{backup}/howdah.json", Self::BACKUPS)
    }

    /// Says that a backup is being made, and until when that is believed.
    #[must_use]
    pub fn running(backup: &str) -> String {
        format!("{}/{backup}/howdah-running.json", Self::BACKUPS)
    }

    /// Says when the backup was verified last.
    #[must_use]
    pub fn verified(backup: &str) -> String {
        format!("{}/{backup}/howdah-verified.json", Self::BACKUPS)
    }

    /// What the last drill has shown of the backup.
    #[must_use]
    pub fn proof(backup: &str) -> String {
        format!("{}/{backup}/howdah-drill.json", Self::BACKUPS)
    }

    /// Names segments that were given up, from this one on.
    #[must_use]
    pub fn given_up(first: &str) -> String {
        format!("{}/{first}.json", Self::GIVEN_UP)
    }

    /// The folder of a backup's archives.
    #[must_use]
    pub fn parts(backup: &str) -> String {
        format!("{}/{backup}/tar_partitions", Self::BACKUPS)
    }
}

/// The name of a base backup.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupName {
    /// The segment where its WAL begins.
    pub segment: Segment,
    /// WAL-E's: where in the segment.
    pub offset: Option<u32>,
    /// A delta's: the segment in the name of the backup that it builds on.
    pub base: Option<Segment>,
}

/// A name that no base backup has.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{0}' is not the name of a base backup (as base_000000010000000000000003)")]
pub struct BadBackupName(String);

/// The name of a full backup that begins there. WAL-G names a backup from a replica by the byte before its start.
#[must_use]
pub fn backup_name(timeline: Timeline, start: Lsn, from_replica: bool, size: SegmentSize) -> BackupName {
    let number = if from_replica {
        size.number_before(start)
    } else {
        size.number_at(start)
    };
    BackupName {
        segment: Segment::new(timeline, number, size),
        offset: None,
        base: None,
    }
}

fn segment(text: &str) -> Option<Segment> {
    match text.parse() {
        Ok(WalName::Segment(segment)) => Some(segment),
        Ok(_) | Err(_) => None,
    }
}

impl FromStr for BackupName {
    type Err = BadBackupName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let rest = text.strip_prefix("base_")?;
            let (first, rest) = (segment(rest.get(..24)?)?, rest.get(24..)?);
            let (offset, base) = if rest.is_empty() {
                (None, None)
            } else if let Some(base) = rest.strip_prefix("_D_") {
                (None, Some(segment(base)?))
            } else {
                let offset = rest.strip_prefix('_').filter(|digits| digits.len() == 8)?;
                (Some(u32::from_str_radix(offset, 16).ok()?), None)
            };
            Some(BackupName {
                segment: first,
                offset,
                base,
            })
        };
        // What was parsed says the same name, so that no two names are one backup.
        parse()
            .filter(|name| name.to_string() == text)
            .ok_or_else(|| BadBackupName(text.to_owned()))
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "base_{}", self.segment)?;
        if let Some(offset) = self.offset {
            write!(f, "_{offset:08X}")?;
        }
        if let Some(base) = self.base {
            write!(f, "_D_{base}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_three_kinds() {
        for name in [
            "base_000000010000000000000003",
            "base_000000010000000000000003_00000028",
            "base_000000010000000000000007_D_000000010000000000000003",
        ] {
            assert_eq!(name.parse::<BackupName>().unwrap().to_string(), name);
        }
        for bad in [
            "base_",
            "base_0000000100000000000000",
            "base_000000010000000000000003_D_",
            "base_000000010000000000000003/..",
            "base_000000010000000000000003_0000002é",
            "LATEST",
        ] {
            assert!(bad.parse::<BackupName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_replica_names_by_the_byte_before() {
        let size = SegmentSize::DEFAULT;
        let at_edge = Lsn(3 << 24);
        let name = |replica| backup_name(Timeline(1), at_edge, replica, size).to_string();
        assert_eq!(name(false), "base_000000010000000000000003");
        assert_eq!(name(true), "base_000000010000000000000002");
    }
}
