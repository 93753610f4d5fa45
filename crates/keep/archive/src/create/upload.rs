use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use howdah_backup::{Codec, Pages, Stored};
use howdah_types::Lsn;
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    part::{Part, Written},
    soon,
};
use crate::{
    ArchiveError, Key, Progress, Store, blocking::blocking, codec::Pack, hex, progress::all as all_of,
    throttle::Throttle,
};

/// Bytes of a piece: what S3 takes at least, so that memory stays small. 10 000 of them are 50 GB, and an archive has 1.
const PIECE: usize = 5 << 20;

/// Archives that are written at once, whatever is configured: each takes five pieces of memory.
const MOST: usize = 4;

/// Pieces of one archive that are on their way at once.
const ON_THE_WAY: usize = 2;

/// What all archives of a backup have in common.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) codec: Codec,
    pub(super) key: Option<Key>,
    pub(super) folder: String,
    pub(super) data: PathBuf,
    pub(super) checked_below: Option<Lsn>,
    pub(super) disk: Throttle,
    pub(super) network: Throttle,
    pub(super) progress: Progress,
}

/// What has been stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) files: u64,
    pub(super) pages: Pages,
    pub(super) objects: BTreeMap<String, Stored>,
}

impl Told {
    pub(super) fn stored(&self) -> u64 {
        self.objects.values().map(|object| object.length).sum()
    }

    pub(super) fn add(&mut self, other: Told) {
        self.files += other.files;
        self.pages.checked += other.pages.checked;
        self.pages.damaged.extend(other.pages.damaged);
        self.objects.extend(other.objects);
    }
}

/// Stores the archives of all parts, a few at once.
pub(super) async fn all(
    shared: &Arc<Shared>,
    parts: Vec<Part>,
    workers: usize,
) -> Result<Told, ArchiveError> {
    let numbered: VecDeque<(usize, Part)> = (1..).zip(parts).collect();
    let storing = stream::iter(numbered)
        .map(|(number, part)| async move { one(shared, &format!("part_{number:03}.tar"), part).await });
    // All of them end before this does, also when one fails: what they have begun is taken away afterwards.
    let stored = storing
        .buffer_unordered(workers.clamp(1, MOST))
        .collect::<Vec<_>>()
        .await;
    let mut told = Told::default();
    for one in all_of(stored)? {
        told.add(one);
    }
    Ok(told)
}

/// Stores one archive.
pub(super) async fn one(shared: &Arc<Shared>, name: &str, part: Part) -> Result<Told, ArchiveError> {
    let object = format!("{name}{}", shared.codec.ending());
    let (send, receive) = mpsc::channel::<Piece>(1);
    let writing = {
        let shared = Arc::clone(shared);
        blocking(move || {
            let pieces = Pieces {
                send,
                piece: Vec::with_capacity(PIECE),
                plain: Arc::default(),
            };
            let counted = Arc::clone(&pieces.plain);
            let failed = |error: io::Error| ArchiveError::Refused(format!("compressing: {error}"));
            let mut pack = Counted {
                pack: Pack::new(pieces, shared.codec, shared.key.as_ref()).map_err(failed)?,
                plain: counted,
            };
            let written = part.write(&shared.data, shared.checked_below, &shared.progress, &mut pack)?;
            pack.pack.finish().and_then(Pieces::finish).map_err(failed)?;
            Ok(written)
        })
    };
    let name = format!("{}/{object}", shared.folder);
    let sending = send_all(shared, &name, receive);
    // Either ends the other: a writer whose receiver is gone fails, and a sender whose writer is gone ends.
    let (written, sent) = tokio::join!(writing, sending);
    match (written, sent) {
        (Ok(written), Ok(stored)) => Ok(told(written, object, stored)),
        // A writer that fails ends its pieces early, and a sender that fails its writer: the cause is told.
        (Err(error @ ArchiveError::Local { .. }), _) | (_, Err(error)) | (Err(error), Ok(_)) => {
            shared.progress.give_up();
            Err(error)
        }
    }
}

fn told(written: Written, object: String, stored: Stored) -> Told {
    Told {
        files: written.files,
        pages: written.pages,
        objects: BTreeMap::from([(object, stored)]),
    }
}

/// Bytes of an object, and how many bytes of files they are of.
struct Piece {
    bytes: Bytes,
    plain: u64,
    is_last: bool,
}

/// Cuts what is written to it into pieces.
struct Pieces {
    send: mpsc::Sender<Piece>,
    piece: Vec<u8>,
    plain: Arc<Mutex<u64>>,
}

impl Pieces {
    fn send(&mut self, is_last: bool) -> io::Result<()> {
        let next = if is_last {
            Vec::new()
        } else {
            Vec::with_capacity(PIECE)
        };
        let piece = Piece {
            bytes: std::mem::replace(&mut self.piece, next).into(),
            plain: std::mem::take(&mut *self.plain.lock()),
            is_last,
        };
        self.send
            .blocking_send(piece)
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the archive was given up"))
    }

    fn finish(mut self) -> io::Result<()> {
        self.send(true)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE {
            self.send(false)?;
        }
        let room = PIECE - self.piece.len();
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.piece.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts the bytes before they are packed.
struct Counted {
    pack: Pack<Pieces>,
    plain: Arc<Mutex<u64>>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.pack.write(bytes)?;
        *self.plain.lock() += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Stores the pieces as one object, which is there when all are, or not at all.
async fn send_all(
    shared: &Shared,
    name: &str,
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<Stored, ArchiveError> {
    let store = &shared.store;
    let mut digest = Context::new(&SHA256);
    let mut length = 0;
    let given_up = || ArchiveError::Refused("reading the data directory ended early".to_owned());
    let first = shared
        .progress
        .run(async {
            let first = pieces.recv().await.ok_or_else(given_up)?;
            shared.pay(&first).await;
            Ok(first)
        })
        .await?;
    digest.update(&first.bytes);
    length += first.bytes.len() as u64;
    if first.is_last {
        let creating = shared.progress.run(async {
            match store.create(name, first.bytes, &[], soon()).await {
                // Nobody else writes below this name: it is ours, and the answer was lost.
                Ok(()) | Err(ArchiveError::Exists(_)) => Ok(()),
                Err(error) => Err(error),
            }
        });
        creating.await?;
        shared.progress.add_moved(length);
    } else {
        let mut upload = shared.progress.run(store.begin(name, soon())).await?;
        let mut on_the_way: JoinSet<(u64, object_store::Result<()>)> = JoinSet::new();
        let mut next = Some(first.bytes);
        let mut is_over = false;
        let landed =
            |done: Option<Result<(u64, object_store::Result<()>), tokio::task::JoinError>>| match done {
                None => Ok(()),
                Some(Ok((count, Ok(())))) => {
                    shared.progress.add_moved(count);
                    Ok(())
                }
                Some(Ok((_, Err(error)))) => Err(store.error(name, &error)),
                Some(Err(_)) => Err(ArchiveError::Interrupted),
            };
        let sending = shared.progress.run(async {
            while let Some(bytes) = next.take() {
                let count = bytes.len() as u64;
                // It goes on while the next piece is waited for.
                let sending = upload.put_part(bytes.into());
                on_the_way.spawn(async move { (count, sending.await) });
                while on_the_way.len() >= ON_THE_WAY {
                    landed(on_the_way.join_next().await)?;
                }
                if is_over {
                    break;
                }
                let piece = pieces.recv().await.ok_or_else(given_up)?;
                shared.pay(&piece).await;
                digest.update(&piece.bytes);
                length += piece.bytes.len() as u64;
                is_over = piece.is_last;
                next = (!piece.bytes.is_empty()).then_some(piece.bytes);
            }
            while !on_the_way.is_empty() {
                landed(on_the_way.join_next().await)?;
            }
            Ok(())
        });
        let sent = sending.await;
        on_the_way.shutdown().await;
        let ended = match sent {
            Ok(()) => match upload.complete().await {
                Ok(_) => Ok(()),
                // The first try may have succeeded, and its answer been lost: a second one finds no upload.
                Err(_)
                    if store
                        .length(name, soon())
                        .await
                        .is_ok_and(|stored| stored == length) =>
                {
                    Ok(())
                }
                Err(error) => Err(store.error(name, &error)),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            // Pieces without an object cost as much as an object.
            let _ = upload.abort().await;
            return Err(error);
        }
    }
    store.hand_over(name).await;
    let stored = store.length(name, soon()).await?;
    if stored != length {
        return Err(ArchiveError::damaged(
            name,
            format!("{stored} bytes are stored, and {length} were sent"),
        ));
    }
    Ok(Stored {
        length,
        sha256: hex::encode(digest.finish().as_ref()),
    })
}

impl Shared {
    /// Waits for what the limits ask of a piece.
    async fn pay(&self, piece: &Piece) {
        self.disk.take(piece.plain).await;
        self.network.take(piece.bytes.len() as u64).await;
    }
}
