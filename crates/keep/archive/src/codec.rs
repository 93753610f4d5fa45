//! Objects' bytes: compressed, then encrypted; and back. All of it is work for a thread of its own.

use std::io::{self, BufRead, BufReader, Read, Write};

use howdah_backup::Codec;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use lzma_rust2::{LzmaOptions, LzmaReader, LzmaWriter};

use crate::{
    cipher::{Decrypt, Encrypt, Key},
    lzop,
};

/// Zstandard's level: half of lz4's size for a third more of its work (measured on WAL and tables of pgbench).
const ZSTD_LEVEL: i32 = 1;

/// WAL-G's quality.
const BROTLI_QUALITY: u32 = 3;
const BROTLI_WINDOW: u32 = 22;

const BUFFER: usize = 64 << 10;

/// What a stream of LZMA may ask for, in KiB: its dictionary is as large as its writer wished.
const LZMA_MEMORY: u32 = 256 << 10;

/// Encrypts or does not.
enum Sealed<W: Write> {
    Plain(W),
    Encrypted(Encrypt<W>),
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sealed::Plain(out) => out.write(bytes),
            Sealed::Encrypted(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sealed::Plain(out) => out.flush(),
            Sealed::Encrypted(out) => out.flush(),
        }
    }
}

impl<W: Write> Sealed<W> {
    fn finish(self) -> io::Result<W> {
        match self {
            Sealed::Plain(out) => Ok(out),
            Sealed::Encrypted(out) => out.finish(),
        }
    }
}

enum Compressed<W: Write> {
    Zstd(zstd::Encoder<'static, W>),
    Lz4(Box<FrameEncoder<W>>),
    Lzma(Box<LzmaWriter<W>>),
    Brotli(Box<brotli::CompressorWriter<W>>),
    Plain(W),
}

/// Makes an object's bytes of what is written to it.
pub(crate) struct Pack<W: Write>(Compressed<Sealed<W>>);

impl<W: Write> Pack<W> {
    pub(crate) fn new(out: W, codec: Codec, key: Option<&Key>) -> io::Result<Self> {
        let sealed = match key {
            Some(key) => Sealed::Encrypted(Encrypt::new(out, key)?),
            None => Sealed::Plain(out),
        };
        Ok(Pack(match codec {
            Codec::Zstd => {
                let mut encoder = zstd::Encoder::new(sealed, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Compressed::Zstd(encoder)
            }
            Codec::Lz4 => {
                let info = FrameInfo::new()
                    .block_size(BlockSize::Max4MB)
                    .block_mode(BlockMode::Independent)
                    .content_checksum(true);
                Compressed::Lz4(Box::new(FrameEncoder::with_frame_info(info, sealed)))
            }
            Codec::Lzma => {
                let options = LzmaOptions::with_preset(1);
                Compressed::Lzma(Box::new(LzmaWriter::new_use_header(sealed, &options, None)?))
            }
            Codec::Brotli => Compressed::Brotli(Box::new(brotli::CompressorWriter::new(
                sealed,
                BUFFER,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
            Codec::None => Compressed::Plain(sealed),
            Codec::Gzip | Codec::Lzo => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("{codec} is only read"),
                ));
            }
        }))
    }

    /// Ends the object.
    pub(crate) fn finish(self) -> io::Result<W> {
        let sealed = match self.0 {
            Compressed::Zstd(encoder) => encoder.finish()?,
            Compressed::Lz4(encoder) => encoder.finish().map_err(io::Error::other)?,
            Compressed::Lzma(encoder) => encoder.finish()?,
            Compressed::Brotli(mut encoder) => {
                encoder.flush()?;
                encoder.into_inner()
            }
            Compressed::Plain(sealed) => sealed,
        };
        sealed.finish()
    }
}

impl<W: Write> Write for Pack<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Compressed::Zstd(encoder) => encoder.write(bytes),
            Compressed::Lz4(encoder) => encoder.write(bytes),
            Compressed::Lzma(encoder) => encoder.write(bytes),
            Compressed::Brotli(encoder) => encoder.write(bytes),
            Compressed::Plain(sealed) => sealed.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // A flush in the middle would only make the object larger.
        Ok(())
    }
}

/// Whether an object begins as its codec's do without encryption: what was archived before there was a key. An encrypted one
/// begins with random bytes.
fn is_plain(from: &mut impl BufRead, codec: Codec) -> io::Result<bool> {
    let magic: &[u8] = match codec {
        Codec::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
        Codec::Lz4 => &[0x04, 0x22, 0x4d, 0x18],
        Codec::Lzo => &[0x89, b'L', b'Z', b'O'],
        Codec::Gzip => &[0x1f, 0x8b, 0x08],
        Codec::Lzma => &[0x5d, 0x00, 0x00],
        Codec::Brotli | Codec::None => return Ok(false),
    };
    Ok(from.fill_buf()?.starts_with(magic))
}

/// Reads what an object's bytes say.
///
/// # Errors
/// The object does not begin as the codec's do: it may be encrypted, and there is no key.
pub(crate) fn unpack<'a>(
    from: impl Read + Send + 'a,
    codec: Codec,
    key: Option<&Key>,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    if key.is_none() && matches!(codec, Codec::Zstd | Codec::Lz4) && !is_plain(&mut from, codec)? {
        let text = format!(
            "it does not begin as {codec} does: it is damaged, or encrypted, and WALG_LIBSODIUM_KEY is not set"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let plain: Box<dyn Read + Send + 'a> = match key {
        Some(key) if !is_plain(&mut from, codec)? => Box::new(Decrypt::new(from, key)?),
        Some(_) | None => Box::new(from),
    };
    let plain = BufReader::with_capacity(BUFFER, plain);
    Ok(match codec {
        Codec::Zstd => Box::new(zstd::Decoder::with_buffer(plain)?),
        Codec::Lz4 => Box::new(FrameDecoder::new(plain)),
        Codec::Lzma => Box::new(LzmaReader::new_mem_limit(plain, LZMA_MEMORY, None)?),
        Codec::Brotli => Box::new(brotli::Decompressor::new(plain, BUFFER)),
        Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(plain)),
        Codec::Lzo => Box::new(lzop::Reader::new(plain)?),
        Codec::None => Box::new(plain),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WRITTEN: [Codec; 5] = [Codec::Zstd, Codec::Lz4, Codec::Lzma, Codec::Brotli, Codec::None];

    fn key() -> Key {
        Key::from_variables(&|name| {
            (name == "WALG_LIBSODIUM_KEY").then(|| "TestKeyTestKeyTestKeyTestKey".to_owned())
        })
        .unwrap()
        .unwrap()
    }

    fn packed(plain: &[u8], codec: Codec, key: Option<&Key>) -> Vec<u8> {
        let mut pack = Pack::new(Vec::new(), codec, key).unwrap();
        pack.write_all(plain).unwrap();
        pack.finish().unwrap()
    }

    fn read(bytes: &[u8], codec: Codec, key: Option<&Key>) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        unpack(bytes, codec, key)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn every_codec_reads_what_it_wrote() {
        let plain: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 100 % 256) as u8).collect();
        for codec in WRITTEN {
            for key in [None, Some(&key())] {
                let bytes = packed(&plain, codec, key);
                assert!(codec == Codec::None || bytes.len() < plain.len() / 2, "{codec}");
                assert_eq!(read(&bytes, codec, key).unwrap(), plain, "{codec}");
            }
            if matches!(codec, Codec::Zstd | Codec::Lz4) {
                // What was archived before there was a key.
                assert_eq!(
                    read(&packed(&plain, codec, None), codec, Some(&key())).unwrap(),
                    plain,
                    "{codec}"
                );
            }
            assert!(
                read(&packed(&[], codec, None), codec, None).unwrap().is_empty(),
                "{codec}"
            );
        }
    }

    #[test]
    fn a_cut_or_changed_object_is_an_error() {
        let plain: Vec<u8> = (0..200_000_u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for codec in [Codec::Zstd, Codec::Lz4] {
            let bytes = packed(&plain, codec, None);
            assert!(
                read(&bytes[..bytes.len() / 2], codec, None).is_err(),
                "{codec} cut"
            );
            let mut changed = bytes.clone();
            changed[bytes.len() / 2] ^= 0x10;
            assert!(read(&changed, codec, None).is_err(), "{codec} changed");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for codec in Codec::ALL {
                let _ = read(&bytes, codec, None);
            }
        }
    }
}
