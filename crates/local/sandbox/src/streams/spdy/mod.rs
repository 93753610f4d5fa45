//! SPDY/3.1 as Kubernetes' clients speak it: streams that the client opens, without flow control, over one connection.

mod frame;

use std::collections::BTreeMap;

use bytes::Bytes;
use howdah_clock::now;
use howdah_http::timeout_at;
use tokio::sync::mpsc;

use super::{
    PATIENCE,
    chunks::{PIECE, Reading, Writing},
    stream::{Outgoing, Sent, Stream, WAITING},
};
use frame::{Decoder, Encoder, Frame, Headers};

/// As many streams are open at a time in one session.
const STREAMS: usize = 256;

/// Runs `session` with the streams that the client opens.
pub(super) async fn serve<F>(
    mut reading: Reading,
    mut writing: Writing,
    session: impl FnOnce(mpsc::Receiver<Stream>) -> F,
) where
    F: Future<Output = ()>,
{
    let (connection, mut to_send) = mpsc::channel(WAITING);
    let (opened, streams) = mpsc::channel(WAITING);
    let mut encoder = Encoder::new();
    let write = async {
        while let Some(sent) = to_send.recv().await {
            for bytes in encoder.encode(sent) {
                if !writing.send(bytes).await {
                    return;
                }
            }
        }
    };
    let work = async {
        tokio::select! {
            () = session(streams) => true,
            () = read(&mut reading, &opened, connection) => false,
        }
    };
    let (done, ()) = tokio::join!(work, write);
    if !done {
        return;
    }
    // A client drops what it has not yet handled when the connection ends, so that it is the one that ends it.
    let _ = timeout_at(now() + PATIENCE, async {
        if writing.send(encoder.go_away()).await {
            while reading.next().await.is_some() {}
        }
        writing.close().await;
    })
    .await;
}

/// Hands on what the client sends until it has gone.
async fn read(reading: &mut Reading, opened: &mpsc::Sender<Stream>, connection: mpsc::Sender<Sent>) {
    let mut decoder = Decoder::new();
    let mut open: BTreeMap<u32, mpsc::Sender<Bytes>> = BTreeMap::new();
    loop {
        let frame = match decoder.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => match reading.next().await {
                Some(bytes) => {
                    decoder.feed(&bytes);
                    continue;
                }
                None => return,
            },
            Err(error) => {
                tracing::debug!(%error, "a SPDY connection is given up");
                return;
            }
        };
        let answer = match frame {
            Frame::Open { id, headers, last } => {
                let (incoming, received) = mpsc::channel(WAITING);
                if open.len() >= STREAMS || open.contains_key(&id) {
                    Sent::Refuse(id)
                } else {
                    if !last {
                        open.insert(id, incoming);
                    }
                    // The answer goes first: the session may send at once.
                    if connection.send(Sent::Accept(id)).await.is_err() {
                        return;
                    }
                    let stream = stream(id, &headers, received, connection.clone());
                    if opened.send(stream).await.is_ok() {
                        continue;
                    }
                    // The session has all that it wants.
                    open.remove(&id);
                    Sent::Refuse(id)
                }
            }
            Frame::Data { id, bytes, last } => {
                for at in (0..bytes.len()).step_by(PIECE) {
                    let piece = bytes.slice(at..bytes.len().min(at + PIECE));
                    if let Some(incoming) = open.get(&id)
                        && incoming.send(piece).await.is_err()
                    {
                        open.remove(&id);
                    }
                }
                if last {
                    open.remove(&id);
                }
                continue;
            }
            Frame::Reset { id } => {
                open.remove(&id);
                continue;
            }
            Frame::Ping { id } => Sent::Pong(id),
            Frame::GoAway => return,
            Frame::Other => continue,
        };
        if connection.send(answer).await.is_err() {
            return;
        }
    }
}

fn stream(
    id: u32,
    headers: &Headers,
    incoming: mpsc::Receiver<Bytes>,
    connection: mpsc::Sender<Sent>,
) -> Stream {
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    Stream {
        kind: header("streamtype"),
        port: header("port"),
        request: header("requestid"),
        incoming,
        outgoing: Outgoing { id, connection },
    }
}
