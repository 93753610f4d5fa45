//! lzop's container, in which WAL-E stores everything: read, never written.

use std::io::{self, Read};

/// The first bytes of a file.
const MAGIC: [u8; 9] = [0x89, b'L', b'Z', b'O', 0x00, 0x0d, 0x0a, 0x1a, 0x0a];

/// A block is at most this long; lzop writes 256 KiB.
const LONGEST: u32 = 64 << 20;

/// Flags of the header.
const ADLER_OF_PLAIN: u32 = 0x1;
const ADLER_OF_PACKED: u32 = 0x2;
const EXTRA: u32 = 0x40;
const CRC_OF_PLAIN: u32 = 0x100;
const CRC_OF_PACKED: u32 = 0x200;
const FILTER: u32 = 0x800;

/// The version from which on a header has a level, and says which version can read it.
const LEVELLED: u16 = 0x0940;

/// Reads what a container has.
pub(crate) struct Reader<R: Read> {
    from: R,
    flags: u32,
    block: Vec<u8>,
    at: usize,
    is_over: bool,
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

fn bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn u32_of(from: &mut impl Read) -> io::Result<u32> {
    Ok(u32::from_be_bytes(bytes(from)?))
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(mut from: R) -> io::Result<Self> {
        if bytes(&mut from)? != MAGIC {
            return Err(invalid("it does not begin like a file of lzop"));
        }
        let version = u16::from_be_bytes(bytes(&mut from)?);
        let _library: [u8; 2] = bytes(&mut from)?;
        if version >= LEVELLED {
            let _needed: [u8; 2] = bytes(&mut from)?;
        }
        let [method] = bytes(&mut from)?;
        if !(1..=3).contains(&method) {
            return Err(invalid(format!("method {method} of lzop is not known")));
        }
        if version >= LEVELLED {
            let _level: [u8; 1] = bytes(&mut from)?;
        }
        let flags = u32_of(&mut from)?;
        if flags & FILTER != 0 {
            return Err(invalid("filters of lzop are not known"));
        }
        let _mode: [u8; 4] = bytes(&mut from)?;
        let _time: [u8; 4] = bytes(&mut from)?;
        if version >= LEVELLED {
            let _upper: [u8; 4] = bytes(&mut from)?;
        }
        let [name] = bytes(&mut from)?;
        io::copy(&mut (&mut from).take(u64::from(name)), &mut io::sink())?;
        let _checksum: [u8; 4] = bytes(&mut from)?;
        if flags & EXTRA != 0 {
            let length = u32_of(&mut from)?;
            io::copy(&mut (&mut from).take(u64::from(length) + 4), &mut io::sink())?;
        }
        Ok(Reader {
            from,
            flags,
            block: Vec::new(),
            at: 0,
            is_over: false,
        })
    }

    fn next(&mut self) -> io::Result<()> {
        let from = &mut self.from;
        let plain = u32_of(from)?;
        if plain == 0 {
            self.is_over = true;
            self.block.clear();
            self.at = 0;
            return Ok(());
        }
        let packed = u32_of(from)?;
        if plain > LONGEST || packed > plain {
            return Err(invalid("a block of lzop has an impossible length"));
        }
        let has = |flag: u32| self.flags & flag != 0;
        let adler = if has(ADLER_OF_PLAIN) {
            Some(u32_of(from)?)
        } else {
            None
        };
        if has(CRC_OF_PLAIN) {
            u32_of(from)?;
        }
        // A block that did not get smaller is stored as it is, without checksums of its own.
        if packed < plain {
            for flag in [ADLER_OF_PACKED, CRC_OF_PACKED] {
                if has(flag) {
                    u32_of(from)?;
                }
            }
        }
        let length = usize::try_from(packed).map_err(|_| invalid("a block of lzop is too long"))?;
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes)?;
        let expected = usize::try_from(plain).map_err(|_| invalid("a block of lzop is too long"))?;
        self.block = if packed < plain {
            let mut out = vec![0; expected];
            let written = lzo::decompress_into(&bytes, &mut out)
                .map_err(|error| invalid(format!("a block of lzop is damaged: {error}")))?;
            if written != expected {
                return Err(invalid("a block of lzop has another length than it says"));
            }
            out
        } else {
            bytes
        };
        if adler.is_some_and(|adler| adler != adler32(&self.block)) {
            return Err(invalid("a block of lzop is damaged: its checksum does not fit"));
        }
        self.at = 0;
        Ok(())
    }
}

/// RFC 1950's checksum.
fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    // So many sums stay below 2^32.
    for chunk in bytes.chunks(5552) {
        for byte in chunk {
            a += u32::from(*byte);
            b += a;
        }
        a %= 65_521;
        b %= 65_521;
    }
    b << 16 | a
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if self.is_over {
                return Ok(0);
            }
            self.next()?;
        }
        let rest = self.block.get(self.at..).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}
