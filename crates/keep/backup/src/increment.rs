use thiserror::Error;

use crate::BLOCK;

/// The head of a file's increment in a delta backup of WAL-G: `wi1U`, the file's size, the number of pages and their
/// numbers. The pages follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Increment {
    /// The size of the file in bytes once it is applied.
    pub size: u64,
    /// The numbers of the pages that follow, in their order.
    pub blocks: Vec<u32>,
}

/// Why bytes are not the head of an increment.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum IncrementError {
    /// Another format, or another version of it.
    #[error("the increment does not begin with 'wi1': it is of a format that is not known here")]
    Magic,
    /// It names more pages than the file has.
    #[error("the increment has {pages} pages for a file of {size} bytes")]
    Pages {
        /// As named.
        pages: u32,
        /// As named.
        size: u64,
    },
    /// It ends early.
    #[error("the increment ends early")]
    Short,
}

impl Increment {
    /// Bytes before the numbers of the pages.
    pub const HEAD: usize = 16;

    const MAGIC: [u8; 4] = [b'w', b'i', b'1', 0x55];

    /// The file's size and the number of pages.
    ///
    /// # Errors
    /// See [`IncrementError`].
    pub fn head(bytes: &[u8; Self::HEAD]) -> Result<(u64, u32), IncrementError> {
        let (magic, rest) = bytes.split_first_chunk().ok_or(IncrementError::Short)?;
        if *magic != Self::MAGIC {
            return Err(IncrementError::Magic);
        }
        let (size, rest) = rest.split_first_chunk().ok_or(IncrementError::Short)?;
        let pages = rest.first_chunk().ok_or(IncrementError::Short)?;
        let (size, pages) = (u64::from_le_bytes(*size), u32::from_le_bytes(*pages));
        // A file of a relation has at most 1 GiB; more pages than it can have would only take memory.
        if u64::from(pages) > size / BLOCK as u64 {
            return Err(IncrementError::Pages { pages, size });
        }
        Ok((size, pages))
    }

    /// The numbers of the pages, from four bytes each.
    ///
    /// # Errors
    /// A page beyond the end of the file.
    pub fn new(size: u64, numbers: &[u8]) -> Result<Self, IncrementError> {
        let (chunks, rest) = numbers.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(IncrementError::Short);
        }
        let blocks: Vec<u32> = chunks.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect();
        let end = size / BLOCK as u64;
        match blocks.iter().find(|block| u64::from(**block) >= end) {
            Some(block) => Err(IncrementError::Pages { pages: *block, size }),
            None => Ok(Increment { size, blocks }),
        }
    }

    /// The bytes before the pages.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Self::MAGIC.to_vec();
        out.extend(self.size.to_le_bytes());
        out.extend(u32::try_from(self.blocks.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(self.blocks.iter().flat_map(|block| block.to_le_bytes()));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_increment_reads_as_written() {
        let increment = Increment {
            size: 3 * 8192,
            blocks: vec![0, 2],
        };
        let bytes = increment.to_bytes();
        let (size, pages) = Increment::head(bytes[..16].try_into().unwrap()).unwrap();
        assert_eq!((size, pages), (3 * 8192, 2));
        assert_eq!(Increment::new(size, &bytes[16..]), Ok(increment));
    }

    #[test]
    fn what_is_none_is_refused() {
        let mut bytes: [u8; 16] = [0; 16];
        assert_eq!(Increment::head(&bytes), Err(IncrementError::Magic));
        bytes[..4].copy_from_slice(b"wi1U");
        bytes[12..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            Increment::head(&bytes),
            Err(IncrementError::Pages { .. })
        ));
        assert!(Increment::new(8192, &1_u32.to_le_bytes()).is_err());
    }
}
