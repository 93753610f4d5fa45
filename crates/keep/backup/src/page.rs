/// The size of a page of data. PostgreSQL can be built with others; packages are not.
pub const BLOCK: usize = 8192;

/// Where a page's header has its checksum, `pd_upper` and the position of its last change.
const CHECKSUM_AT: usize = 8;
const UPPER_AT: usize = 14;

const LANES: usize = 32;
const PRIME: u32 = 16_777_619;

/// What each lane begins with: the constants of PostgreSQL's `checksum_impl.h`.
const SEEDS: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// The checksum of a page with its number in the relation (not in the file): FNV-1a in 32 lanes, folded to 16 bits.
///
/// The two bytes of the checksum itself count as zero.
#[must_use]
pub fn block_checksum(page: &[u8; BLOCK], number: u32) -> u16 {
    let mut lanes = SEEDS;
    let (rows, _) = page.as_chunks::<{ 4 * LANES }>();
    for (at, row) in rows.iter().enumerate() {
        let (words, _) = row.as_chunks::<4>();
        for (column, (lane, word)) in lanes.iter_mut().zip(words).enumerate() {
            let mut value = u32::from_ne_bytes(*word);
            if at == 0 && column == CHECKSUM_AT / 4 {
                value = u32::from_ne_bytes([0, 0, word[2], word[3]]);
            }
            *lane = mix(*lane, value);
        }
    }
    for _ in 0..2 {
        for lane in &mut lanes {
            *lane = mix(*lane, 0);
        }
    }
    let folded = lanes.iter().fold(0, |all, lane| all ^ lane) ^ number;
    u16::try_from(folded % 65_535 + 1).unwrap_or(u16::MAX)
}

fn mix(lane: u32, value: u32) -> u32 {
    let mixed = lane ^ value;
    mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
}

/// Whether a page's checksum fits. A page that was never written (`pd_upper` is 0) has none.
#[must_use]
pub fn is_sound(page: &[u8; BLOCK], number: u32) -> bool {
    if page[UPPER_AT] == 0 && page[UPPER_AT + 1] == 0 {
        return true;
    }
    let stored = u16::from_ne_bytes([page[CHECKSUM_AT], page[CHECKSUM_AT + 1]]);
    stored == block_checksum(page, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_found_and_the_number_counts() {
        let mut page = [0_u8; BLOCK];
        for (at, byte) in page.iter_mut().enumerate() {
            *byte = u8::try_from(at % 251).unwrap();
        }
        let sum = block_checksum(&page, 7);
        page[8..10].copy_from_slice(&sum.to_ne_bytes());
        assert!(is_sound(&page, 7));
        assert!(!is_sound(&page, 8));
        page[5000] ^= 1;
        assert!(!is_sound(&page, 7));
        assert!(is_sound(&[0; BLOCK], 3));
    }
}
