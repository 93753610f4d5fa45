//! The record with which PostgreSQL begins a timeline, read from a segment of WAL.
//!
//! Layout of pages and records: `access/xlog_internal.h` and `access/xlogrecord.h` of PostgreSQL 14 to 18.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use howdah_types::{Lsn, Timeline};

const PAGE: u64 = 8192;
/// `XLogPageHeaderData`: its address is at 8. The first page of a segment has a longer one.
const PAGE_HEAD: u64 = 24;
const FIRST_PAGE_HEAD: u64 = 40;

/// `XLogRecord`: length, transaction, previous record, kind, resource manager, checksum of all of it.
const HEAD: usize = 24;
/// The head of the data that belongs to no block, where it is short.
const DATA_HEAD: usize = 2;
/// Both kinds that tell their timeline have it there: behind a time, or the position of the redo record.
const TIMELINE_AT: usize = HEAD + DATA_HEAD + 8;

/// Of the resource manager `XLOG`, whose number is 0.
const CHECKPOINT_SHUTDOWN: u8 = 0x00;
const END_OF_RECOVERY: u8 = 0x90;

/// `XLOG_OVERWRITE_CONTRECORD` and `XLOG_FPW_CHANGE` may come before it.
const LOOKED_AT: usize = 3;

/// The head of the record that began `timeline` at `at`, or soon behind it. `None`: the file does not have it. Stale bytes of a file
/// that was used before do not pass for it: they tell another position or another timeline.
pub(crate) fn first_record(
    file: &Path,
    segment_size: u64,
    at: Lsn,
    timeline: Timeline,
) -> Option<[u8; HEAD]> {
    let pages = Pages::read(file, segment_size, at)?;
    let mut at = at.0;
    for _ in 0..LOOKED_AT {
        let record = pages.bytes(at, TIMELINE_AT + 4)?;
        let head: [u8; HEAD] = record.get(..HEAD)?.try_into().ok()?;
        let length = u32::from_le_bytes(head.get(..4)?.try_into().ok()?);
        let previous = u64::from_le_bytes(head.get(8..16)?.try_into().ok()?);
        let (kind, manager) = (head[16] & 0xf0, head[17]);
        if manager != 0 || previous >= at || (length as usize) < HEAD {
            return None;
        }
        let told = u32::from_le_bytes(record.get(TIMELINE_AT..)?.try_into().ok()?);
        if matches!(kind, CHECKPOINT_SHUTDOWN | END_OF_RECOVERY) {
            return (told == timeline.0).then_some(head);
        }
        at = pages.behind(at, u64::from(length))?;
    }
    None
}

/// The page in which a timeline begins, and the next one of the same segment.
struct Pages {
    first: u64,
    segment_size: u64,
    bytes: Vec<u8>,
}

impl Pages {
    fn read(file: &Path, segment_size: u64, at: Lsn) -> Option<Self> {
        let in_segment = at.0.checked_rem(segment_size)?;
        let mut file = File::open(file).ok()?;
        file.seek(SeekFrom::Start(in_segment - in_segment % PAGE)).ok()?;
        let mut bytes = Vec::new();
        file.take(2 * PAGE).read_to_end(&mut bytes).ok()?;
        Some(Self {
            first: at.0 - at.0 % PAGE,
            segment_size,
            bytes,
        })
    }

    /// Behind the head of a page whose beginning `at` is. `None`: that page was not written, or is another one.
    fn in_page(&self, at: u64) -> Option<u64> {
        let page = at - at % PAGE;
        let place = usize::try_from(page - self.first).ok()?;
        let address = self.bytes.get(place + 8..place + 16)?;
        if u64::from_le_bytes(address.try_into().ok()?) != page {
            return None;
        }
        let head = if page.checked_rem(self.segment_size)? == 0 {
            FIRST_PAGE_HEAD
        } else {
            PAGE_HEAD
        };
        Some(at.max(page + head))
    }

    /// What is written from `at` on, without the heads of pages.
    fn bytes(&self, mut at: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            at = self.in_page(at)?;
            let place = usize::try_from(at - self.first).ok()?;
            bytes.push(*self.bytes.get(place)?);
            at += 1;
        }
        Some(bytes)
    }

    /// Where the next record begins behind one of this length.
    fn behind(&self, mut at: u64, length: u64) -> Option<u64> {
        for _ in 0..length.min(2 * PAGE) {
            at = self.in_page(at)? + 1;
        }
        Some(at.next_multiple_of(8))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A segment of 1 MiB in which pages have heads.
    pub(crate) struct Segment {
        start: u64,
        pub(crate) bytes: Vec<u8>,
    }

    impl Segment {
        pub(crate) fn at(start: u64) -> Self {
            let mut bytes = vec![0u8; 1 << 20];
            for page in (0..bytes.len()).step_by(8192) {
                let address = start + page as u64;
                bytes[page + 8..page + 16].copy_from_slice(&address.to_le_bytes());
            }
            Self { start, bytes }
        }

        pub(crate) fn end_of_recovery(&mut self, at: usize, timeline: u32, time: u64) -> usize {
            let mut data = time.to_le_bytes().to_vec();
            data.extend(timeline.to_le_bytes());
            data.extend((timeline - 1).to_le_bytes());
            self.record(at, END_OF_RECOVERY, &data)
        }

        /// Writes a record of the resource manager `XLOG`; where it ends. The checksum is none that PostgreSQL would take.
        fn record(&mut self, at: usize, kind: u8, data: &[u8]) -> usize {
            let mut record = u32::try_from(26 + data.len()).unwrap().to_le_bytes().to_vec();
            record.extend([0; 4]);
            record.extend((self.start + at as u64 - 8).to_le_bytes());
            record.extend([kind, 0, 0, 0]);
            let sum = data.iter().map(|byte| u32::from(*byte)).sum::<u32>();
            record.extend(sum.to_le_bytes());
            record.extend([255, u8::try_from(data.len()).unwrap()]);
            record.extend(data);
            let mut place = at;
            for byte in record {
                place = match place % 8192 {
                    0 if place == 0 => 40,
                    0 => place + 24,
                    _ => place,
                };
                self.bytes[place] = byte;
                place += 1;
            }
            place.next_multiple_of(8)
        }

        fn first(&self, at: u64, timeline: u32) -> bool {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("segment");
            std::fs::write(&file, &self.bytes).unwrap();
            first_record(&file, 1 << 20, Lsn(self.start + at), Timeline(timeline)).is_some()
        }
    }

    const FIVE: u64 = 5 << 20;

    #[test]
    fn it_is_found_wherever_it_lies_to_the_page() {
        for (at, why) in [
            (0x60, "in a page"),
            (0, "at the beginning of a segment"),
            (8192, "at the beginning of a page"),
            (8192 - 16, "its head goes on in the next page"),
            (8192 - 32, "its data does"),
        ] {
            let mut segment = Segment::at(FIVE);
            segment.end_of_recovery(at, 2, 7);
            assert!(segment.first(at as u64, 2), "{why}");
            assert!(!segment.first(at as u64, 3), "{why}: another timeline's");
        }
        let mut end = Segment::at(FIVE);
        assert!(
            !end.first((1 << 20) - 16, 2),
            "it goes on in the next segment, and nothing is written"
        );
        end.bytes.truncate(100);
        assert!(!end.first(96, 2), "a file that was cut");
    }

    #[test]
    fn what_may_come_before_it_is_passed_over() {
        let mut segment = Segment::at(FIVE);
        let next = segment.record(0x60, 0xd0, &[1; 16]);
        let next = segment.record(next, 0x80, &[1]);
        assert!(!segment.first(0x60, 2), "nothing has come yet");
        segment.end_of_recovery(next, 2, 7);
        assert!(segment.first(0x60, 2));
    }

    #[test]
    fn a_file_that_was_used_before_has_none() {
        let mut used = Segment::at(4 << 20);
        used.end_of_recovery(0x60, 2, 7);
        used.start = FIVE;
        assert!(!used.first(0x60, 2), "its pages have other addresses");
        let mut begun = Segment::at(FIVE);
        begun.record(0x60, 0x10, &[1; 16]);
        assert!(!begun.first(0x60, 2), "an online checkpoint begins no timeline");
    }
}
