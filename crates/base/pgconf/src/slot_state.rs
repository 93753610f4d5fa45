//! The file of a replication slot (`pg_replslot/NAME/state`), the same from PostgreSQL 11 on up to the slot's own fields.

use crate::crc;

const MAGIC: u32 = 0x0105_1CA1;

/// Magic, checksum, version, length.
const HEADER: usize = 16;

/// The checksum covers all from here on.
const CHECKED_FROM: usize = 8;

/// Whether these bytes are a whole slot file of a server like ours. PostgreSQL does not start with a broken one.
///
/// # Errors
/// Why not.
pub fn check_slot_state(bytes: &[u8]) -> Result<(), &'static str> {
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let (Some(magic), Some(checksum), Some(length)) = (word(0), word(4), word(12)) else {
        return Err("it is too short");
    };
    if magic != MAGIC {
        return Err("it is no slot file of a server of this kind");
    }
    if Ok(length) != u32::try_from(bytes.len().saturating_sub(HEADER)) {
        return Err("it has another length than it says");
    }
    let checked = bytes.iter().skip(CHECKED_FROM);
    let crc = checked.fold(crc::START, |crc, byte| crc::with_byte(crc, *byte));
    if !crc == checksum {
        Ok(())
    } else {
        Err("its checksum is wrong")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut bytes = [MAGIC, 0, 3, 8].map(u32::to_ne_bytes).concat();
        bytes.extend(*b"the_slot");
        let crc = bytes
            .iter()
            .skip(8)
            .fold(crc::START, |crc, byte| crc::with_byte(crc, *byte));
        bytes.splice(4..8, (!crc).to_ne_bytes());
        bytes
    }

    #[test]
    fn a_damaged_file_is_refused() {
        assert_eq!(check_slot_state(&file()), Ok(()));
        for at in 0..file().len() {
            let mut damaged = file();
            damaged[at] ^= 4;
            assert!(check_slot_state(&damaged).is_err(), "{at}");
        }
        let mut long = file();
        long.push(0);
        assert!(check_slot_state(&long).is_err());
        assert!(check_slot_state(&file()[..10]).is_err());
        assert!(check_slot_state(&[]).is_err());
    }
}
