//! Hexadecimal digits of digests and keys.

/// Lower-case digits.
pub(crate) fn encode(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The bytes; `None` for what is not pairs of digits.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_digits() {
        assert_eq!(encode(&[0, 171, 255]), "00abff");
        assert_eq!(decode("00ABff"), Some(vec![0, 171, 255]));
        assert_eq!(decode("0"), None);
        assert_eq!(decode("+1"), None);
    }
}
