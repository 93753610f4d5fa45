//! libsodium's secret stream, as WAL-G lays it out: a header, then pieces of 8192 bytes with a tag each.

use std::{
    fmt,
    io::{self, Read, Write},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use crypto_secretstream::{Header, PullStream, PushStream, Tag};
use ring::digest::{SHA256, digest};

use crate::{ArchiveError, hex};

/// Bytes of plain text in a piece.
const PIECE: usize = 8192;

/// A tag's and an authenticator's bytes that a piece has besides.
const MORE: usize = 17;

/// Bytes of a stream's header.
const HEADER: usize = 24;

/// WAL-G takes no shorter key as it is.
const SHORTEST: usize = 25;

/// A key. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id())
    }
}

impl Key {
    /// Reads `WALG_LIBSODIUM_KEY`, `…_PATH` and `…_TRANSFORM`.
    pub(crate) fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, ArchiveError> {
        let setting = |text: String| ArchiveError::Setting(text);
        let text = match (get("WALG_LIBSODIUM_KEY"), get("WALG_LIBSODIUM_KEY_PATH")) {
            (Some(text), _) => text,
            (None, Some(path)) => std::fs::read_to_string(&path)
                .map_err(|error| setting(format!("WALG_LIBSODIUM_KEY_PATH: {path}: {error}")))?,
            (None, None) => return Ok(None),
        };
        let text = text.trim();
        let bytes = match get("WALG_LIBSODIUM_KEY_TRANSFORM").as_deref() {
            None | Some("none") => {
                if text.len() < SHORTEST {
                    return Err(setting(format!(
                        "WALG_LIBSODIUM_KEY has {} characters, and at least {SHORTEST} are needed",
                        text.len()
                    )));
                }
                let mut bytes = text.as_bytes().to_vec();
                bytes.resize(32, 0);
                bytes
            }
            Some("base64") => STANDARD
                .decode(text)
                .map_err(|_| setting("WALG_LIBSODIUM_KEY is not base64".to_owned()))?,
            Some("hex") => hex::decode(text)
                .ok_or_else(|| setting("WALG_LIBSODIUM_KEY is not hexadecimal".to_owned()))?,
            Some(other) => {
                return Err(setting(format!(
                    "WALG_LIBSODIUM_KEY_TRANSFORM is '{other}' (none, base64, hex)"
                )));
            }
        };
        let length = bytes.len();
        let key = bytes.try_into().map_err(|_| {
            setting(format!(
                "WALG_LIBSODIUM_KEY has {length} bytes, and 32 are needed"
            ))
        })?;
        Ok(Some(Key(key)))
    }

    /// Names the key without telling anything of it.
    #[must_use]
    pub fn id(&self) -> String {
        let mut text = b"howdah key ".to_vec();
        text.extend(self.0);
        hex::encode(digest(&SHA256, &text).as_ref().get(..8).unwrap_or_default())
    }

    fn key(&self) -> crypto_secretstream::Key {
        crypto_secretstream::Key::from(self.0)
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Encrypts what is written to it.
pub(crate) struct Encrypt<W: Write> {
    out: W,
    stream: PushStream,
    piece: Vec<u8>,
}

impl<W: Write> Encrypt<W> {
    pub(crate) fn new(mut out: W, key: &Key) -> io::Result<Self> {
        let (header, stream) = PushStream::init(&mut Random, &key.key());
        out.write_all(header.as_ref())?;
        Ok(Encrypt {
            out,
            stream,
            piece: Vec::with_capacity(PIECE + MORE),
        })
    }

    fn send(&mut self, tag: Tag) -> io::Result<()> {
        self.stream
            .push(&mut self.piece, &[], tag)
            .map_err(|_| invalid("encryption failed"))?;
        self.out.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }

    /// Ends the stream: what is cut off before this is not taken for whole.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.send(Tag::Final)?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Encrypt<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE {
            self.send(Tag::Message)?;
        }
        let room = PIECE - self.piece.len();
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.piece.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Decrypts what it reads.
pub(crate) struct Decrypt<R: Read> {
    from: R,
    stream: PullStream,
    piece: Vec<u8>,
    at: usize,
    is_over: bool,
}

impl<R: Read> Decrypt<R> {
    pub(crate) fn new(mut from: R, key: &Key) -> io::Result<Self> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header)?;
        let header =
            Header::try_from(header.as_slice()).map_err(|_| invalid("it is not a libsodium stream"))?;
        Ok(Decrypt {
            from,
            stream: PullStream::init(header, &key.key()),
            piece: Vec::with_capacity(PIECE + MORE),
            at: 0,
            is_over: false,
        })
    }

    fn next(&mut self) -> io::Result<()> {
        self.piece.clear();
        self.at = 0;
        let limit = u64::try_from(PIECE + MORE).unwrap_or(u64::MAX);
        (&mut self.from).take(limit).read_to_end(&mut self.piece)?;
        if self.piece.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the encrypted stream ends early",
            ));
        }
        let tag = self.stream.pull(&mut self.piece, &[]).map_err(|_| {
            invalid("it cannot be decrypted: the key is another one, or the object is damaged")
        })?;
        self.is_over = tag == Tag::Final;
        Ok(())
    }
}

impl<R: Read> Read for Decrypt<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            if self.is_over {
                return Ok(0);
            }
            self.next()?;
        }
        let rest = self.piece.get(self.at..).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

/// The kernel's random numbers in the shape that the crate asks for.
struct Random;

impl crypto_secretstream::aead::rand_core::RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_ne_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    #[allow(
        clippy::expect_used,
        reason = "a kernel without random numbers encrypts nothing"
    )]
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel has random numbers");
    }

    fn try_fill_bytes(
        &mut self,
        bytes: &mut [u8],
    ) -> Result<(), crypto_secretstream::aead::rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl crypto_secretstream::aead::rand_core::CryptoRng for Random {}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str, transform: &str) -> Result<Option<Key>, ArchiveError> {
        Key::from_variables(&|name| match name {
            "WALG_LIBSODIUM_KEY" => Some(text.to_owned()),
            "WALG_LIBSODIUM_KEY_TRANSFORM" => Some(transform.to_owned()),
            _ => None,
        })
    }

    fn a_key() -> Key {
        key("TestKeyTestKeyTestKeyTestKey", "none").unwrap().unwrap()
    }

    fn encrypt(plain: &[u8], key: &Key) -> Vec<u8> {
        let mut stream = Encrypt::new(Vec::new(), key).unwrap();
        stream.write_all(plain).unwrap();
        stream.finish().unwrap()
    }

    #[test]
    fn what_is_encrypted_reads_as_written() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let plain: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let sealed = encrypt(&plain, &a_key());
            let mut read = Vec::new();
            Decrypt::new(&sealed[..], &a_key())
                .unwrap()
                .read_to_end(&mut read)
                .unwrap();
            assert_eq!(read, plain);
        }
    }

    #[test]
    fn a_wrong_key_a_changed_byte_and_a_cut_end_are_errors() {
        let sealed = encrypt(&[7; 20_000], &a_key());
        let fails = |bytes: &[u8], key: &Key| {
            Decrypt::new(bytes, key)
                .and_then(|mut stream| stream.read_to_end(&mut Vec::new()))
                .is_err()
        };
        assert!(fails(
            &sealed,
            &key("AnotherKeyAnotherKeyAnother", "none").unwrap().unwrap()
        ));
        let mut changed = sealed.clone();
        changed[5000] ^= 1;
        assert!(fails(&changed, &a_key()));
        assert!(
            fails(&sealed[..HEADER + PIECE + MORE], &a_key()),
            "cut behind a piece"
        );
        assert!(fails(&sealed[..10], &a_key()));
    }

    #[test]
    fn keys_in_three_forms() {
        let raw = key("0123456789abcdef0123456789abcdef", "none").unwrap().unwrap();
        let base64 = key("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "base64")
            .unwrap()
            .unwrap();
        let hexadecimal = hex::encode(b"0123456789abcdef0123456789abcdef");
        assert_eq!(raw, base64);
        assert_eq!(raw, key(&hexadecimal, "hex").unwrap().unwrap());
        assert!(key("short", "none").is_err());
        assert!(key("c2hvcnQ=", "base64").is_err());
        assert!(key("x", "rot13").is_err());
        assert!(!format!("{raw:?}").contains("0123"));
    }
}
