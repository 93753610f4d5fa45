//! `v4.channel.k8s.io` and `v5.channel.k8s.io`: the first byte of each message is the number of its channel. From v5 on
//! the client can say that a channel ends, by a message on channel 255 with its number.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use howdah_clock::now;
use howdah_http::timeout_at;
use tokio::sync::mpsc;

use super::{
    PATIENCE,
    chunks::{Reading, Writing},
    stream::{Outgoing, Sent, Stream, WAITING},
};

/// The channel of v5 that ends others.
const CLOSE: u8 = 255;

/// Runs `session` with a stream for each channel.
pub(super) async fn serve<F>(
    mut reading: Reading,
    mut writing: Writing,
    channels: &[(u8, String)],
    closes: bool,
    session: impl FnOnce(mpsc::Receiver<Stream>) -> F,
) where
    F: Future<Output = ()>,
{
    let (connection, mut to_send) = mpsc::channel(WAITING);
    let (opened, streams) = mpsc::channel(channels.len().max(1));
    let mut open = BTreeMap::new();
    for (id, kind) in channels {
        let (incoming, received) = mpsc::channel(WAITING);
        open.insert(*id, incoming);
        let (kind, port) = kind.split_once(':').unwrap_or((kind, ""));
        let stream = Stream {
            kind: kind.to_owned(),
            port: port.to_owned(),
            request: (id / 2).to_string(),
            incoming: received,
            outgoing: Outgoing {
                id: u32::from(*id),
                connection: connection.clone(),
            },
        };
        if opened.try_send(stream).is_err() {
            return;
        }
    }
    drop((opened, connection));

    let read = async {
        while let Some(message) = reading.next().await {
            let Some((&channel, _)) = message.split_first() else {
                continue;
            };
            if channel == CLOSE && closes {
                if let Some(ended) = message.get(1) {
                    open.remove(ended);
                }
            } else if let Some(incoming) = open.get(&channel)
                && incoming.send(message.slice(1..)).await.is_err()
            {
                // Nothing reads it any more.
                open.remove(&channel);
            }
        }
    };
    let write = async {
        while let Some(sent) = to_send.recv().await {
            let Sent::Data(id, bytes) = sent else {
                continue;
            };
            let mut message = BytesMut::with_capacity(bytes.len() + 1);
            message.put_u8(u8::try_from(id).unwrap_or(0));
            message.put(bytes);
            if !writing.send(message.freeze()).await {
                break;
            }
        }
    };
    tokio::select! {
        () = read => return,
        ((), ()) = async { tokio::join!(session(streams), write) } => {}
    }
    let _ = timeout_at(now() + PATIENCE, async {
        writing.close().await;
        while reading.next().await.is_some() {}
    })
    .await;
}
