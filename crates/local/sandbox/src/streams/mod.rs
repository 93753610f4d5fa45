//! What outlives an HTTP answer: programs in pods (exec) and forwarded ports, over the protocols of Kubernetes' clients.
//!
//! ```text
//!   WebSocket, v4/v5.channel.k8s.io ── channels.rs ──┐
//!   WebSocket, SPDY/3.1+portforward ─┐               ├─► Stream (kind, bytes in, bytes out) ─► exec.rs, forward.rs
//!   Upgrade: SPDY/3.1 ───────────────┴─ spdy/ ───────┘
//! ```
//!
//! kubectl takes WebSocket since 1.30 (exec) and 1.31 (port-forward), and SPDY before; the Python client takes channels.

mod channels;
mod chunks;
mod exec;
mod forward;
mod protocol;
mod spdy;
mod stream;
mod terminal;

pub(crate) use exec::Exec;
pub(crate) use forward::Forward;
pub(crate) use protocol::{Protocol, Purpose, negotiate};

use std::time::Duration;

use howdah_http::Raw;
use tokio::sync::mpsc;
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

use chunks::{Reading, Writing};
use stream::Stream;

/// A client that does not take the last bytes in this time is cut off.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a client asked for, which takes the streams that it opens.
pub(crate) enum Session {
    Exec(Exec),
    Forward(Forward),
}

impl Session {
    /// Streams that a protocol with numbered channels has from the beginning: number and kind.
    fn channels(&self) -> Vec<(u8, String)> {
        match self {
            Session::Exec(exec) => exec.channels(),
            Session::Forward(forward) => forward.channels(),
        }
    }

    async fn run(self, streams: mpsc::Receiver<Stream>) {
        match self {
            Session::Exec(exec) => exec.run(streams).await,
            Session::Forward(forward) => forward.run(streams).await,
        }
    }

    /// Serves a connection that has left HTTP until either side is done.
    pub(crate) async fn serve(self, raw: Raw, protocol: Protocol) {
        let hangup = match raw.hangup() {
            Ok(hangup) => hangup,
            Err(error) => return tracing::warn!(%error, "A session was not begun."),
        };
        // A program that does not read keeps what the client has sent from being read, and its end from being seen.
        tokio::select! {
            () = self.talk(raw, protocol) => {}
            () = hangup.seen() => {}
        }
    }

    async fn talk(self, raw: Raw, protocol: Protocol) {
        let (reading, writing) = match protocol {
            Protocol::Spdy => {
                let (read, write) = tokio::io::split(raw);
                (Reading::Raw(read), Writing::Raw(write))
            }
            Protocol::Tunnel | Protocol::Channels { .. } => {
                let socket =
                    WebSocketStream::from_raw_socket(raw, Role::Server, Some(chunks::limits())).await;
                let (write, read) = futures_util::StreamExt::split(socket);
                (Reading::Socket(read), Writing::Socket(write))
            }
        };
        let channels = self.channels();
        let run = move |streams| self.run(streams);
        match protocol {
            Protocol::Channels { closes } => channels::serve(reading, writing, &channels, closes, run).await,
            Protocol::Spdy | Protocol::Tunnel => spdy::serve(reading, writing, run).await,
        }
    }
}
