use std::{fmt, str::FromStr};

use thiserror::Error;

/// How an object is compressed; its name's ending says it. The endings are WAL-G's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// lz4's frame format.
    Lz4,
    /// Zstandard.
    Zstd,
    /// The old "alone" container of LZMA, not xz.
    Lzma,
    /// Brotli.
    Brotli,
    /// gzip: read, never written.
    Gzip,
    /// lzop's container, which WAL-E writes: read, never written.
    Lzo,
    /// Not compressed: a name without an ending.
    None,
}

/// A method that no object is written with.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{0}' is not a compression that is written (lz4, zstd, lzma, brotli, none)")]
pub struct UnknownCodec(pub String);

impl Codec {
    /// All, the likeliest first: a reader that does not know tries in this order.
    pub const ALL: [Codec; 7] = [
        Codec::Zstd,
        Codec::Lz4,
        Codec::Lzo,
        Codec::Lzma,
        Codec::Brotli,
        Codec::Gzip,
        Codec::None,
    ];

    /// The ending of an object's name, with its dot.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Codec::Lz4 => ".lz4",
            Codec::Zstd => ".zst",
            Codec::Lzma => ".lzma",
            Codec::Brotli => ".br",
            Codec::Gzip => ".gz",
            Codec::Lzo => ".lzo",
            Codec::None => "",
        }
    }

    /// Splits an object's name into what it is of and its codec.
    #[must_use]
    pub fn split(name: &str) -> (&str, Codec) {
        Codec::ALL
            .into_iter()
            .filter(|codec| *codec != Codec::None)
            .find_map(|codec| Some((name.strip_suffix(codec.ending())?, codec)))
            .unwrap_or((name, Codec::None))
    }
}

impl FromStr for Codec {
    type Err = UnknownCodec;

    /// A value of `WALG_COMPRESSION_METHOD`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "lz4" => Ok(Codec::Lz4),
            "zstd" => Ok(Codec::Zstd),
            "lzma" => Ok(Codec::Lzma),
            "brotli" => Ok(Codec::Brotli),
            "none" => Ok(Codec::None),
            _ => Err(UnknownCodec(text.to_owned())),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
            Codec::Lzma => "lzma",
            Codec::Brotli => "brotli",
            Codec::Gzip => "gzip",
            Codec::Lzo => "lzo",
            Codec::None => "none",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_says_the_codec() {
        assert_eq!(Codec::split("part_001.tar.lz4"), ("part_001.tar", Codec::Lz4));
        assert_eq!(
            Codec::split("00000002.history"),
            ("00000002.history", Codec::None)
        );
        for codec in Codec::ALL {
            let name = format!("000000010000000000000001{}", codec.ending());
            assert_eq!(Codec::split(&name), ("000000010000000000000001", codec));
        }
    }
}
