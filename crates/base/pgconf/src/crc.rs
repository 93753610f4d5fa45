//! CRC-32C, by which PostgreSQL tells whether a file of its own is whole. The complement of the last value is the checksum.

/// The value before the first byte.
pub(crate) const START: u32 = u32::MAX;

/// The value with one more byte.
pub(crate) fn with_byte(crc: u32, byte: u8) -> u32 {
    let mut crc = crc ^ u32::from(byte);
    for _ in 0..8 {
        let low = crc & 1;
        crc >>= 1;
        if low == 1 {
            crc ^= 0x82f6_3b78;
        }
    }
    crc
}
