use howdah_types::{Lsn, SystemId, Timeline};
use thiserror::Error;

use crate::SegmentSize;

/// The first page of a WAL segment tells whose it is (`XLogLongPageHeaderData` in PostgreSQL's `xlog_internal.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// The major version that wrote it; `None` for a version that is not known here.
    pub major: Option<u32>,
    /// The timeline of the first record. A promotion's first segment begins with the timeline before, so this may be
    /// below the one in the name.
    pub timeline: Timeline,
    /// Where the page begins.
    pub position: Lsn,
    /// The cluster.
    pub system_id: SystemId,
    /// The size of its segments.
    pub segment_size: SegmentSize,
}

/// Why bytes are not the first page of a segment.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadPage {
    /// Fewer bytes than its header has.
    #[error("the file has {0} bytes, too few for a WAL segment")]
    Short(usize),
    /// Zeros, another file, the other byte order.
    #[error("the file does not begin like a WAL segment (magic {0:04X})")]
    Magic(u16),
    /// A page in the middle of a segment.
    #[error("the file begins with a page from the middle of a WAL segment")]
    Middle,
    /// The size that it names is none.
    #[error("the WAL segment names an impossible size: {0}")]
    Size(String),
}

/// The magic of the first page and the major that writes it.
const MAGICS: &[(u16, u32)] = &[
    (0xD093, 9),
    (0xD097, 10),
    (0xD098, 11),
    (0xD101, 12),
    (0xD106, 13),
    (0xD10D, 14),
    (0xD110, 15),
    (0xD113, 16),
    (0xD116, 17),
    (0xD118, 18),
];

/// Set in the first page of a segment only.
const LONG_HEADER: u16 = 2;

impl PageHeader {
    /// Bytes that are needed to read it.
    pub const LENGTH: usize = 40;

    /// Reads the header. WAL is written in the byte order of its machine, which is this one's: archives are not carried
    /// between byte orders.
    ///
    /// # Errors
    /// See [`BadPage`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadPage> {
        let short = || BadPage::Short(bytes.len());
        let u16_at = |at: usize| read::<2>(bytes, at).map(u16::from_ne_bytes).ok_or_else(short);
        let u32_at = |at: usize| read::<4>(bytes, at).map(u32::from_ne_bytes).ok_or_else(short);
        let u64_at = |at: usize| read::<8>(bytes, at).map(u64::from_ne_bytes).ok_or_else(short);
        let magic = u16_at(0)?;
        let info = u16_at(2)?;
        let known = MAGICS.iter().find(|(known, _)| *known == magic);
        // Every magic since 8.0 begins with D0 or D1; a later one is taken, so that a new major can be archived.
        if known.is_none() && !(0xD119..=0xD1FF).contains(&magic) {
            return Err(BadPage::Magic(magic));
        }
        if info & LONG_HEADER == 0 {
            return Err(BadPage::Middle);
        }
        Ok(PageHeader {
            major: known.map(|(_, major)| *major),
            timeline: Timeline(u32_at(4)?),
            position: Lsn(u64_at(8)?),
            system_id: SystemId(u64_at(24)?),
            segment_size: SegmentSize::try_from(u64::from(u32_at(32)?)).map_err(BadPage::Size)?,
        })
    }
}

fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of a segment that PostgreSQL 15 wrote.
    fn page() -> Vec<u8> {
        let mut page = vec![0; 8192];
        page[0..2].copy_from_slice(&0xD110_u16.to_ne_bytes());
        page[2..4].copy_from_slice(&2_u16.to_ne_bytes());
        page[4..8].copy_from_slice(&3_u32.to_ne_bytes());
        page[8..16].copy_from_slice(&(5_u64 << 24).to_ne_bytes());
        page[24..32].copy_from_slice(&7_710_896_281_487_229_203_u64.to_ne_bytes());
        page[32..36].copy_from_slice(&(16_u32 << 20).to_ne_bytes());
        page
    }

    #[test]
    fn a_segment_tells_whose_it_is() {
        let header = PageHeader::parse(&page()).unwrap();
        assert_eq!(header.major, Some(15));
        assert_eq!(header.timeline, Timeline(3));
        assert_eq!(header.position, Lsn(5 << 24));
        assert_eq!(header.system_id, SystemId(7_710_896_281_487_229_203));
        assert_eq!(header.segment_size, SegmentSize::DEFAULT);
    }

    #[test]
    fn what_is_none_is_refused() {
        assert_eq!(PageHeader::parse(&[]), Err(BadPage::Short(0)));
        assert_eq!(PageHeader::parse(&[0; 8192]), Err(BadPage::Magic(0)));
        assert_eq!(PageHeader::parse(&page()[..35]), Err(BadPage::Short(35)));
        let mut middle = page();
        middle[2] = 0;
        assert_eq!(PageHeader::parse(&middle), Err(BadPage::Middle));
        let mut odd = page();
        odd[32..36].copy_from_slice(&12345_u32.to_ne_bytes());
        assert!(matches!(PageHeader::parse(&odd), Err(BadPage::Size(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = PageHeader::parse(&bytes);
        }
    }
}
