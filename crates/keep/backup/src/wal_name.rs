use std::{fmt, str::FromStr};

use howdah_types::{Lsn, Timeline};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The size of a WAL segment in bytes: a power of two from 1 MiB to 1 GiB, chosen by `initdb --wal-segsize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// PostgreSQL's default.
    pub const DEFAULT: SegmentSize = SegmentSize(16 << 20);

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// Segments in one "log" of 4 GiB, the middle part of a segment's name.
    fn in_a_log(self) -> u64 {
        (1 << 32) / self.bytes()
    }

    /// The number of the segment that has a position's byte.
    #[must_use]
    pub fn number_at(self, lsn: Lsn) -> u64 {
        lsn.0 / self.bytes()
    }

    /// The number of the segment that has the byte before a position: where WAL up to there ends.
    #[must_use]
    pub fn number_before(self, lsn: Lsn) -> u64 {
        lsn.0.saturating_sub(1) / self.bytes()
    }

    /// Where a segment begins.
    #[must_use]
    pub fn start_of(self, number: u64) -> Lsn {
        Lsn(number.saturating_mul(self.bytes()))
    }
}

impl TryFrom<u64> for SegmentSize {
    type Error = String;

    fn try_from(bytes: u64) -> Result<Self, Self::Error> {
        match u32::try_from(bytes) {
            Ok(small) if small.is_power_of_two() && (1 << 20..=1 << 30).contains(&small) => {
                Ok(SegmentSize(small))
            }
            _ => Err(format!(
                "{bytes} is not a size of WAL segments (a power of two from 1 MiB to 1 GiB)"
            )),
        }
    }
}

impl From<SegmentSize> for u64 {
    fn from(size: SegmentSize) -> u64 {
        size.bytes()
    }
}

/// One segment of WAL, by timeline and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// The timeline in its name.
    pub timeline: Timeline,
    /// The upper eight digits of the position in its name.
    pub log: u32,
    /// The lower eight digits.
    pub part: u32,
}

impl Segment {
    /// The segment of a timeline with this number.
    #[must_use]
    pub fn new(timeline: Timeline, number: u64, size: SegmentSize) -> Self {
        let per = size.in_a_log();
        Segment {
            timeline,
            log: u32::try_from(number / per).unwrap_or(u32::MAX),
            part: u32::try_from(number % per).unwrap_or(u32::MAX),
        }
    }

    /// Its number; `None` if the name is not one of segments of this size.
    #[must_use]
    pub fn number(self, size: SegmentSize) -> Option<u64> {
        let per = size.in_a_log();
        let part = u64::from(self.part);
        (part < per).then(|| u64::from(self.log) * per + part)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline.0, self.log, self.part)
    }
}

/// A file that PostgreSQL archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalName {
    /// A complete segment: 24 hexadecimal digits.
    Segment(Segment),
    /// The last, incomplete segment of a timeline that a promotion has left. PostgreSQL never asks for it.
    Partial(Segment),
    /// A timeline's history.
    History(Timeline),
    /// The label of a base backup: its first segment, and the position within it.
    Label(Segment, u32),
}

/// Why a name is not one of a file that PostgreSQL archives.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "'{0}' is not the name of a WAL file (expected 24 hexadecimal digits, these with .partial or .XXXXXXXX.backup, or \
     XXXXXXXX.history)"
)]
pub struct BadWalName(pub String);

/// Eight upper-case hexadecimal digits, as PostgreSQL writes them. `from_str_radix` would take signs and lower case.
fn eight(text: &str) -> Option<u32> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
    (text.len() == 8 && text.bytes().all(is_hex))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

fn segment(text: &str) -> Option<Segment> {
    Some(Segment {
        timeline: Timeline(eight(text.get(..8)?)?),
        log: eight(text.get(8..16)?)?,
        part: eight(text.get(16..)?)?,
    })
}

impl FromStr for WalName {
    type Err = BadWalName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut fields = text.split('.');
        let parsed = match (fields.next(), fields.next(), fields.next(), fields.next()) {
            (Some(name), None, None, None) => segment(name).map(WalName::Segment),
            (Some(name), Some("partial"), None, None) => segment(name).map(WalName::Partial),
            (Some(name), Some("history"), None, None) => eight(name).map(|id| WalName::History(Timeline(id))),
            (Some(name), Some(offset), Some("backup"), None) => segment(name)
                .zip(eight(offset))
                .map(|(segment, offset)| WalName::Label(segment, offset)),
            _ => None,
        };
        parsed.ok_or_else(|| BadWalName(text.to_owned()))
    }
}

impl fmt::Display for WalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalName::Segment(segment) => segment.fmt(f),
            WalName::Partial(segment) => write!(f, "{segment}.partial"),
            WalName::History(timeline) => write!(f, "{:08X}.history", timeline.0),
            WalName::Label(segment, offset) => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_four_kinds_of_files() {
        for name in [
            "000000010000000000000001",
            "0000000A00000012000000FF.partial",
            "00000002.history",
            "000000010000000000000003.00000028.backup",
        ] {
            assert_eq!(name.parse::<WalName>().unwrap().to_string(), name);
        }
        for bad in [
            "",
            "00000001000000000000000",
            "0000000100000000000000011",
            "00000001000000000000000g",
            "00000001000000000000000a",
            "+00000010000000000000001",
            "../000000010000000000001",
            "000000010000000000000001.partial.backup",
            "000000010000000000000001.tmp",
            "0000000é0000000000000001",
            "RECOVERYXLOG",
        ] {
            assert!(bad.parse::<WalName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_follow_the_size_of_segments() {
        let small = SegmentSize::try_from(1 << 20).unwrap();
        let of = |text: &str| match text.parse::<WalName>().unwrap() {
            WalName::Segment(segment) => segment,
            _ => unreachable!(),
        };
        assert_eq!(
            of("0000000100000001000000FF").number(SegmentSize::DEFAULT),
            Some(511)
        );
        assert_eq!(of("000000010000000100000100").number(SegmentSize::DEFAULT), None);
        assert_eq!(of("000000010000000100000100").number(small), Some(4096 + 256));
        assert!(SegmentSize::try_from(3 << 20).is_err());
        assert!(SegmentSize::try_from(1 << 31).is_err());
        assert_eq!(SegmentSize::DEFAULT.number_before(Lsn(16 << 20)), 0);
        assert_eq!(SegmentSize::DEFAULT.number_at(Lsn(16 << 20)), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,40}") {
            if let Ok(name) = text.parse::<WalName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn a_number_names_one_segment(timeline in 1u32.., number in 0u64..1 << 40, shift in 20u32..=30) {
            let size = SegmentSize::try_from(1u64 << shift).unwrap();
            prop_assume!(number / size.in_a_log() <= u64::from(u32::MAX));
            prop_assert_eq!(Segment::new(Timeline(timeline), number, size).number(size), Some(number));
        }
    }
}
