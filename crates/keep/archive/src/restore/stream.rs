use std::io::{self, Read};

use bytes::Bytes;
use futures_util::StreamExt;
use howdah_backup::Stored;
use ring::digest::{Context, SHA256};
use tokio::sync::mpsc;

use crate::{ArchiveError, Progress, Store, create::soon, hex};

/// Pieces between the network and the thread that unpacks.
const BETWEEN: usize = 8;

/// How often an object's bytes are asked for again after a break, without a single byte in between.
const BREAKS: u32 = 5;

pub(crate) type Pieces = mpsc::Sender<Result<Bytes, ()>>;

/// The bytes of an object on the thread that unpacks them.
pub(crate) struct Reader {
    pieces: mpsc::Receiver<Result<Bytes, ()>>,
    piece: Bytes,
    is_over: bool,
}

pub(crate) fn channel() -> (Pieces, Reader) {
    let (send, receive) = mpsc::channel(BETWEEN);
    let reader = Reader {
        pieces: receive,
        piece: Bytes::new(),
        is_over: false,
    };
    (send, reader)
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.is_over {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) if piece.is_empty() => self.is_over = true,
                Some(Ok(piece)) => self.piece = piece,
                // An end that was not announced is a break: what was read so far must not look whole.
                Some(Err(())) | None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "it did not come to its end",
                    ));
                }
            }
        }
        let count = self.piece.len().min(into.len());
        let taken = self.piece.split_to(count);
        if let Some(to) = into.get_mut(..count) {
            to.copy_from_slice(&taken);
        }
        Ok(count)
    }
}

/// Fetches an object's bytes, going on after a break where it came to, and compares them with the receipt.
pub(crate) async fn fetch(
    store: &Store,
    object: &str,
    stored: Option<&Stored>,
    pieces: Pieces,
    progress: &Progress,
) -> Result<(), ArchiveError> {
    let mut digest = Context::new(&SHA256);
    let mut at = 0;
    let mut breaks = 0;
    let length = loop {
        let reading = store.open_at(object, at, soon()).await?;
        let length = reading.length;
        if stored.is_some_and(|stored| stored.length != length) {
            return Err(ArchiveError::damaged(
                object,
                format!("it has {length} bytes, and the receipt says another number"),
            ));
        }
        let mut stream = reading.stream;
        let mut broken = None;
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => {
                    at += piece.len() as u64;
                    breaks = 0;
                    digest.update(&piece);
                    progress.add_moved(piece.len() as u64);
                    if !piece.is_empty() && pieces.send(Ok(piece)).await.is_err() {
                        // The thread has failed, and says why.
                        return Ok(());
                    }
                }
                Err(error) => {
                    broken = Some(store.error(object, &error));
                    break;
                }
            }
        }
        if at >= length {
            break length;
        }
        breaks += 1;
        if breaks > BREAKS {
            let short = || ArchiveError::damaged(object, format!("{at} of {length} bytes came"));
            return Err(broken.unwrap_or_else(short));
        }
        howdah_http::sleep_until(howdah_clock::now() + std::time::Duration::from_millis(200 << breaks)).await;
    };
    if at != length {
        return Err(ArchiveError::damaged(
            object,
            format!("{at} bytes came, and it has {length}"),
        ));
    }
    if stored.is_some_and(|stored| stored.sha256 != hex::encode(digest.finish().as_ref())) {
        return Err(ArchiveError::damaged(
            object,
            "its SHA-256 is not that of the receipt",
        ));
    }
    // The end, said only when all is well.
    let _ = pieces.send(Ok(Bytes::new())).await;
    Ok(())
}
