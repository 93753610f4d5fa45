//! Frames of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00, section 2), as far as clients of Kubernetes send and need them.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use thiserror::Error;

use crate::streams::stream::Sent;

/// The largest frame that is taken: clients send pieces of 32 KiB.
const LONGEST: usize = 1024 * 1024;
/// The largest block of headers, unpacked.
const HEADERS: usize = 16 * 1024;
/// The first bits of a control frame: the flag of its kind, and version 3.
const CONTROL: u16 = 0x8003;
/// FLAG_FIN: nothing more comes on this stream.
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
/// RST_STREAM's status for a stream that is not taken.
const REFUSED_STREAM: u32 = 3;

/// Names of headers in the preset dictionary of header blocks (section 2.6.10.1), each behind its length.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
user-agent vary via warning www-authenticate method get status";
const MORE_WORDS: [&str; 8] = [
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];
/// The dictionary's rest, without lengths.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut out = Vec::new();
    for word in WORDS.split(' ').chain(MORE_WORDS) {
        out.extend(u32::try_from(word.len()).unwrap_or(0).to_be_bytes());
        out.extend(word.as_bytes());
    }
    out.extend(TAIL.as_bytes());
    out
}

/// Names in small letters, and values.
pub(super) type Headers = BTreeMap<String, String>;

/// What a client sends.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    Open {
        id: u32,
        headers: Headers,
        last: bool,
    },
    Data {
        id: u32,
        bytes: Bytes,
        last: bool,
    },
    Reset {
        id: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// One that needs no answer: settings, windows, priorities.
    Other,
}

/// Why a connection cannot be read any further.
#[derive(Debug, Error, PartialEq)]
pub(super) enum SpdyError {
    #[error("a frame of {0} bytes: larger than {LONGEST}")]
    TooLarge(usize),
    #[error("a frame of type {0} is cut off")]
    Short(u16),
    #[error("a block of headers cannot be unpacked, or is larger than {HEADERS} bytes")]
    Headers,
}

/// Bytes in, frames out.
pub(super) struct Decoder {
    buffer: BytesMut,
    inflate: Decompress,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Decoder {
            buffer: BytesMut::new(),
            inflate: Decompress::new(true),
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame. `None`: more bytes are needed.
    ///
    /// # Errors
    /// See [`SpdyError`]; the connection is of no use then.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        let Some(mut head) = self.buffer.get(..8) else {
            return Ok(None);
        };
        let first = head.get_u32();
        let flags_and_length = head.get_u32();
        let length = (flags_and_length & 0x00ff_ffff) as usize;
        let last = (flags_and_length >> 24) as u8 & FIN != 0;
        if length > LONGEST {
            return Err(SpdyError::TooLarge(length));
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        self.buffer.advance(8);
        let mut body = self.buffer.split_to(length).freeze();
        if first & 0x8000_0000 == 0 {
            return Ok(Some(Frame::Data {
                id: first,
                bytes: body,
                last,
            }));
        }
        let kind = (first & 0xffff) as u16;
        let short = |_| SpdyError::Short(kind);
        Ok(Some(match kind {
            SYN_STREAM => {
                let id = body.try_get_u32().map_err(short)? & 0x7fff_ffff;
                // The associated stream, priority and slot say nothing to us.
                if body.len() < 6 {
                    return Err(SpdyError::Short(kind));
                }
                body.advance(6);
                let headers = self.headers(&body)?;
                Frame::Open { id, headers, last }
            }
            SYN_REPLY | 8 => {
                // Every block counts for the state of the compression.
                if body.len() < 4 {
                    return Err(SpdyError::Short(kind));
                }
                body.advance(4);
                self.headers(&body)?;
                Frame::Other
            }
            RST_STREAM => Frame::Reset {
                id: body.try_get_u32().map_err(short)? & 0x7fff_ffff,
            },
            PING => Frame::Ping {
                id: body.try_get_u32().map_err(short)?,
            },
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        }))
    }

    fn headers(&mut self, mut block: &[u8]) -> Result<Headers, SpdyError> {
        let mut out = Vec::with_capacity(HEADERS);
        while !block.is_empty() {
            let before = self.inflate.total_in();
            let result = self
                .inflate
                .decompress_vec(block, &mut out, FlushDecompress::Sync);
            let read = usize::try_from(self.inflate.total_in() - before).unwrap_or(usize::MAX);
            block = block.get(read..).unwrap_or_default();
            match result {
                Ok(_) if read > 0 => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate
                        .set_dictionary(&dictionary())
                        .map_err(|_| SpdyError::Headers)?;
                }
                Ok(_) | Err(_) => return Err(SpdyError::Headers),
            }
        }
        read_headers(&out).ok_or(SpdyError::Headers)
    }
}

fn read_headers(mut block: &[u8]) -> Option<Headers> {
    let text = |block: &mut &[u8]| {
        let length = block.try_get_u32().ok()? as usize;
        let (text, rest) = block.split_at_checked(length)?;
        *block = rest;
        String::from_utf8(text.to_vec()).ok()
    };
    let pairs = block.try_get_u32().ok()?;
    let mut headers = Headers::new();
    for _ in 0..pairs {
        let name = text(&mut block)?.to_ascii_lowercase();
        headers.insert(name, text(&mut block)?);
    }
    Some(headers)
}

/// What is to be sent in, bytes out.
pub(super) struct Encoder {
    deflate: Compress,
}

impl Encoder {
    pub(super) fn new() -> Self {
        let mut deflate = Compress::new(Compression::fast(), true);
        // Without it blocks are larger, and as readable.
        let _ = deflate.set_dictionary(&dictionary());
        Encoder { deflate }
    }

    /// A frame's head and body.
    pub(super) fn encode(&mut self, sent: Sent) -> Vec<Bytes> {
        match sent {
            Sent::Accept(id) => {
                let mut body = id.to_be_bytes().to_vec();
                let mut block = Vec::with_capacity(256);
                // No headers: a count of zero. Nothing of it can fail in memory that is there.
                let _ = self
                    .deflate
                    .compress_vec(&[0; 4], &mut block, FlushCompress::Sync);
                body.extend(block);
                vec![control(SYN_REPLY, &body)]
            }
            Sent::Refuse(id) => vec![control(
                RST_STREAM,
                &[id.to_be_bytes(), REFUSED_STREAM.to_be_bytes()].concat(),
            )],
            Sent::Data(id, bytes) => vec![data(id, 0, bytes.len()), bytes],
            Sent::End(id) => vec![data(id, FIN, 0)],
            Sent::Pong(id) => vec![control(PING, &id.to_be_bytes())],
        }
    }

    /// The last frame of a connection.
    pub(super) fn go_away(&self) -> Bytes {
        control(GOAWAY, &[0; 8])
    }
}

fn control(kind: u16, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.put_u16(CONTROL);
    frame.put_u16(kind);
    frame.put_u32(u32::try_from(body.len()).unwrap_or(0));
    frame.put(body);
    frame.freeze()
}

fn data(id: u32, flags: u8, length: usize) -> Bytes {
    let mut head = BytesMut::with_capacity(8);
    head.put_u32(id);
    head.put_u32(u32::from(flags) << 24 | u32::try_from(length).unwrap_or(0));
    head.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as a client sends it.
    fn syn_stream(deflate: &mut Compress, id: u32, headers: &[(&str, &str)], flags: u8) -> Vec<u8> {
        let mut plain = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            plain.extend(text.as_bytes());
        }
        let mut block = Vec::with_capacity(4096);
        deflate
            .compress_vec(&plain, &mut block, FlushCompress::Sync)
            .unwrap();
        let mut body = [&id.to_be_bytes()[..], &[0; 6]].concat();
        body.extend(block);
        let mut frame = control(SYN_STREAM, &body).to_vec();
        frame[4] = flags;
        frame
    }

    /// The checksum of the dictionary, which each compressed stream names (section 2.6.10.1 gives its bytes).
    #[test]
    fn the_dictionary_is_the_standard_s() {
        let mut inflate = Decompress::new(true);
        let head = [0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2];
        let error = inflate.decompress_vec(&head, &mut Vec::with_capacity(8), FlushDecompress::Sync);
        assert_eq!(error.unwrap_err().needs_dictionary(), Some(0xe3c6_a7c2));
        assert_eq!(inflate.set_dictionary(&dictionary()).unwrap(), 0xe3c6_a7c2);
    }

    #[test]
    fn frames_are_read_whatever_the_pieces() {
        let mut deflate = Compress::new(Compression::best(), true);
        deflate.set_dictionary(&dictionary()).unwrap();
        let mut bytes = syn_stream(&mut deflate, 1, &[("Streamtype", "error"), ("port", "5432")], FIN);
        bytes.extend(syn_stream(&mut deflate, 3, &[("streamtype", "data")], 0));
        bytes.extend(control(PING, &7u32.to_be_bytes()));
        bytes.extend(data(3, FIN, 2).iter());
        bytes.extend(b"hi");
        bytes.extend(control(4, &[0; 12]));
        bytes.extend(control(GOAWAY, &[0; 8]));
        for piece in [1, 7, bytes.len()] {
            let mut decoder = Decoder::new();
            let mut frames = Vec::new();
            for piece in bytes.chunks(piece) {
                decoder.feed(piece);
                while let Some(frame) = decoder.next().unwrap() {
                    frames.push(frame);
                }
            }
            let headers = |pairs: &[(&str, &str)]| {
                let owned = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
                owned.collect::<Headers>()
            };
            let expected = [
                Frame::Open {
                    id: 1,
                    headers: headers(&[("streamtype", "error"), ("port", "5432")]),
                    last: true,
                },
                Frame::Open {
                    id: 3,
                    headers: headers(&[("streamtype", "data")]),
                    last: false,
                },
                Frame::Ping { id: 7 },
                Frame::Data {
                    id: 3,
                    bytes: Bytes::from_static(b"hi"),
                    last: true,
                },
                Frame::Other,
                Frame::GoAway,
            ];
            assert_eq!(frames, expected);
        }
    }

    #[test]
    fn replies_can_be_unpacked_one_after_the_other() {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new();
        for id in [1, 3, 5] {
            decoder.feed(&encoder.encode(Sent::Accept(id)).concat());
            assert_eq!(decoder.next(), Ok(Some(Frame::Other)));
        }
        assert_eq!(decoder.next(), Ok(None));
    }

    #[test]
    fn what_is_too_large_or_damaged_is_refused() {
        let mut decoder = Decoder::new();
        decoder.feed(&data(1, 0, LONGEST + 1));
        assert_eq!(decoder.next(), Err(SpdyError::TooLarge(LONGEST + 1)));
        let mut decoder = Decoder::new();
        decoder.feed(&control(SYN_STREAM, &[0; 8]));
        assert_eq!(decoder.next(), Err(SpdyError::Short(SYN_STREAM)));
        let mut decoder = Decoder::new();
        decoder.feed(&control(SYN_STREAM, &[9; 40]));
        assert_eq!(decoder.next(), Err(SpdyError::Headers));
        // A block that unpacks to more than is held.
        let mut deflate = Compress::new(Compression::best(), true);
        let long = "x".repeat(HEADERS);
        let mut decoder = Decoder::new();
        decoder.feed(&syn_stream(&mut deflate, 1, &[("a", &long)], 0));
        assert_eq!(decoder.next(), Err(SpdyError::Headers));
    }

    proptest! {
        #[test]
        fn nothing_that_a_client_sends_stops_the_server(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::new();
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next() {}
        }
    }
}
