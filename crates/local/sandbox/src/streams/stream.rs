use bytes::Bytes;
use tokio::sync::mpsc;

/// As many pieces wait on each side of a stream; then the sender waits.
pub(super) const WAITING: usize = 8;

/// What a connection is told to send.
#[derive(Debug, PartialEq)]
pub(super) enum Sent {
    /// The client's stream is accepted.
    Accept(u32),
    /// The client's stream is refused.
    Refuse(u32),
    /// Bytes on a stream.
    Data(u32, Bytes),
    /// Nothing more comes on a stream.
    End(u32),
    /// The answer to a ping.
    Pong(u32),
}

/// One stream of a session.
pub(super) struct Stream {
    /// `streamtype`: stdin, stdout, stderr, error, resize or data.
    pub(super) kind: String,
    /// `port`, of a forwarded connection; empty for others.
    pub(super) port: String,
    /// `requestid`, which pairs the two streams of a forwarded connection; empty for others.
    pub(super) request: String,
    /// What the client sends. It ends when the client says so.
    pub(super) incoming: mpsc::Receiver<Bytes>,
    pub(super) outgoing: Outgoing,
}

/// The way back.
#[derive(Clone)]
pub(super) struct Outgoing {
    pub(super) id: u32,
    pub(super) connection: mpsc::Sender<Sent>,
}

impl Outgoing {
    /// Sends bytes. `false`: the client has gone.
    pub(super) async fn send(&self, bytes: Bytes) -> bool {
        self.connection.send(Sent::Data(self.id, bytes)).await.is_ok()
    }

    /// Says that nothing more comes.
    pub(super) async fn end(self) {
        // A client that has gone needs no word.
        let _ = self.connection.send(Sent::End(self.id)).await;
    }
}
