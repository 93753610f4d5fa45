use howdah_types::SystemId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{PageHeader, Segment, SegmentSize};

/// Whose archive this is: the content of `archive.json`, made by the first push and never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The version of this document.
    pub format: u32,
    /// The cluster, as decimal text: numbers of JSON lose digits in some readers.
    #[serde(with = "as_text")]
    pub system_identifier: u64,
    /// The major version, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major: Option<u32>,
    /// The size of its segments in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_segment_size: Option<SegmentSize>,
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &u64, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// What is another cluster's, and must not get into this archive or out of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Foreign {
    /// Another cluster.
    #[error("the segment is of the cluster with system identifier {found}, the archive is of {expected}")]
    System {
        /// In the segment.
        found: u64,
        /// In the archive.
        expected: u64,
    },
    /// Another major version.
    #[error("the segment is of PostgreSQL {found}, the archive is of PostgreSQL {expected}")]
    Major {
        /// In the segment.
        found: u32,
        /// In the archive.
        expected: u32,
    },
    /// Segments of another size.
    #[error("segments are of {found} bytes, in the archive of {expected}")]
    Size {
        /// In the segment.
        found: u64,
        /// In the archive.
        expected: u64,
    },
    /// A file with another segment's content.
    #[error("the file is named {name}, and its content begins at {position} on timeline {timeline}")]
    Place {
        /// Its name.
        name: String,
        /// Where its content begins.
        position: howdah_types::Lsn,
        /// The timeline in its content.
        timeline: u32,
    },
}

impl Identity {
    /// The version that is written.
    pub const FORMAT: u32 = 1;

    /// Of the cluster that a segment is of.
    #[must_use]
    pub fn of(header: &PageHeader) -> Self {
        Identity {
            format: Self::FORMAT,
            system_identifier: header.system_id.0,
            major: header.major,
            wal_segment_size: Some(header.segment_size),
        }
    }

    /// Whether a segment is of this cluster.
    ///
    /// # Errors
    /// See [`Foreign`].
    pub fn check(&self, header: &PageHeader) -> Result<(), Foreign> {
        self.check_system(header.system_id)?;
        if let (Some(found), Some(expected)) = (header.major, self.major)
            && found != expected
        {
            return Err(Foreign::Major { found, expected });
        }
        match self.wal_segment_size {
            Some(expected) if expected != header.segment_size => Err(Foreign::Size {
                found: header.segment_size.bytes(),
                expected: expected.bytes(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether this is the cluster.
    ///
    /// # Errors
    /// It is another one.
    pub fn check_system(&self, found: SystemId) -> Result<(), Foreign> {
        if found.0 == self.system_identifier {
            Ok(())
        } else {
            Err(Foreign::System {
                found: found.0,
                expected: self.system_identifier,
            })
        }
    }
}

/// Whether a segment's content is what its name says.
///
/// # Errors
/// [`Foreign::Place`].
pub fn check_place(segment: Segment, header: &PageHeader) -> Result<(), Foreign> {
    let begins = segment
        .number(header.segment_size)
        .map(|number| header.segment_size.start_of(number));
    if begins == Some(header.position) && header.timeline <= segment.timeline {
        Ok(())
    } else {
        Err(Foreign::Place {
            name: segment.to_string(),
            position: header.position,
            timeline: header.timeline.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use howdah_types::{Lsn, Timeline};

    use super::*;

    fn header() -> PageHeader {
        PageHeader {
            major: Some(15),
            timeline: Timeline(2),
            position: Lsn(5 << 24),
            system_id: SystemId(7_710_896_281_487_229_203),
            segment_size: SegmentSize::DEFAULT,
        }
    }

    #[test]
    fn another_cluster_is_refused() {
        let identity = Identity::of(&header());
        assert_eq!(identity.check(&header()), Ok(()));
        let other = |change: fn(&mut PageHeader)| {
            let mut header = header();
            change(&mut header);
            identity.check(&header).unwrap_err()
        };
        assert!(matches!(
            other(|header| header.system_id.0 += 1),
            Foreign::System { .. }
        ));
        assert!(matches!(
            other(|header| header.major = Some(16)),
            Foreign::Major { .. }
        ));
        let small = |header: &mut PageHeader| header.segment_size = SegmentSize::try_from(1 << 20).unwrap();
        assert!(matches!(other(small), Foreign::Size { .. }));
    }

    #[test]
    fn a_system_identifier_keeps_its_digits() {
        let text = serde_json::to_string(&Identity::of(&header())).unwrap();
        assert!(text.contains("\"7710896281487229203\""), "{text}");
        assert_eq!(
            serde_json::from_str::<Identity>(&text).unwrap(),
            Identity::of(&header())
        );
    }

    #[test]
    fn a_segment_is_where_its_name_says() {
        let named = |timeline, number| {
            check_place(
                Segment::new(Timeline(timeline), number, SegmentSize::DEFAULT),
                &header(),
            )
        };
        assert!(named(2, 5).is_ok());
        // A promotion's first segment begins with the timeline before.
        assert!(named(3, 5).is_ok());
        assert!(named(1, 5).is_err());
        assert!(named(2, 6).is_err());
    }
}
