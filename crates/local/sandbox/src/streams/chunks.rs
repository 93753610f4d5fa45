//! A connection's bytes in pieces, whatever carries them.

use bytes::{Bytes, BytesMut};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use howdah_http::Raw;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// Bytes of one piece at the most, of those that are read here.
pub(super) const PIECE: usize = 32 * 1024;
/// The largest message of a client.
const MESSAGE: usize = 1024 * 1024;

/// How much a WebSocket holds.
pub(super) fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE))
        .max_frame_size(Some(MESSAGE))
        .max_write_buffer_size(4 * MESSAGE)
}

pub(super) enum Reading {
    Raw(ReadHalf<Raw>),
    Socket(SplitStream<WebSocketStream<Raw>>),
}

impl Reading {
    /// The next piece, or the next message of a WebSocket. `None`: the client has gone.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        match self {
            Reading::Raw(read) => {
                let mut piece = BytesMut::with_capacity(PIECE);
                let length = read.read_buf(&mut piece).await.ok()?;
                (length > 0).then(|| piece.freeze())
            }
            Reading::Socket(socket) => loop {
                match socket.next().await?.ok()? {
                    Message::Binary(bytes) => return Some(bytes),
                    Message::Text(text) => return Some(text.into()),
                    Message::Close(_) => return None,
                    Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                }
            },
        }
    }
}

pub(super) enum Writing {
    Raw(WriteHalf<Raw>),
    Socket(SplitSink<WebSocketStream<Raw>, Message>),
}

impl Writing {
    /// Sends a piece. `false`: the client has gone.
    pub(super) async fn send(&mut self, bytes: Bytes) -> bool {
        match self {
            Writing::Raw(write) => write.write_all(&bytes).await.is_ok() && write.flush().await.is_ok(),
            Writing::Socket(socket) => socket.send(Message::Binary(bytes)).await.is_ok(),
        }
    }

    /// Says that nothing more comes.
    pub(super) async fn close(&mut self) {
        // A client that has gone needs no word.
        match self {
            Writing::Raw(write) => drop(write.shutdown().await),
            // Clients take a close without a code for an error.
            Writing::Socket(socket) => drop(
                socket
                    .send(Message::Close(Some(CloseFrame {
                        code: CloseCode::Normal,
                        reason: Utf8Bytes::default(),
                    })))
                    .await,
            ),
        }
    }
}
