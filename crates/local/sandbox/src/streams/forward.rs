//! Ports that are forwarded to a pod: `kubectl port-forward`.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};
use howdah_clock::now;
use howdah_http::timeout_at;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

use super::{
    chunks::PIECE,
    stream::{Outgoing, Stream},
};

/// How long a pod may take to accept.
const CONNECT: Duration = Duration::from_secs(5);

/// A pod, and the ports that a client of numbered channels wants.
pub(crate) struct Forward {
    pub(crate) pod: String,
    pub(crate) address: String,
    pub(crate) ports: Vec<u16>,
}

impl Forward {
    /// A channel for the data of each port and one for its errors.
    pub(super) fn channels(&self) -> Vec<(u8, String)> {
        let kinds = |port: &u16| [format!("data:{port}"), format!("error:{port}")];
        (0..254).zip(self.ports.iter().flat_map(kinds)).collect()
    }

    pub(super) async fn run(self, mut streams: mpsc::Receiver<Stream>) {
        let by_channel = !self.ports.is_empty();
        let mut waiting: BTreeMap<String, Stream> = BTreeMap::new();
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                stream = streams.recv() => stream,
                Some(_) = connections.join_next() => continue,
            };
            let Some(stream) = stream else {
                break;
            };
            let Some(other) = waiting.remove(&stream.request) else {
                waiting.insert(stream.request.clone(), stream);
                continue;
            };
            let (data, error) = if stream.kind == "data" {
                (stream, other)
            } else {
                (other, stream)
            };
            let (pod, address) = (self.pod.clone(), self.address.clone());
            connections.spawn(async move {
                let port = data.port.parse().unwrap_or(0);
                let (outgoing, problems) = (data.outgoing, error.outgoing);
                if by_channel {
                    // The port, as the first message of each channel.
                    let name = Bytes::copy_from_slice(&u16::to_le_bytes(port));
                    outgoing.send(name.clone()).await;
                    problems.send(name).await;
                }
                if let Err(why) = connect(&address, port, data.incoming, outgoing).await {
                    let told = format!("error forwarding port {port} to pod {pod}: {why}");
                    problems.send(Bytes::from(told)).await;
                }
                problems.end().await;
            });
        }
        while connections.join_next().await.is_some() {}
    }
}

/// Carries one connection to its end.
async fn connect(
    address: &str,
    port: u16,
    mut incoming: mpsc::Receiver<Bytes>,
    outgoing: Outgoing,
) -> Result<(), String> {
    let connecting = TcpStream::connect((address, port));
    let connected = match timeout_at(now() + CONNECT, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {}s", CONNECT.as_secs())),
    };
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(why) => {
            outgoing.end().await;
            return Err(format!("{address}:{port}: {why}"));
        }
    };
    let _ = stream.set_nodelay(true);
    let (mut read, mut write) = stream.split();
    let to_pod = async {
        while let Some(bytes) = incoming.recv().await {
            if write.write_all(&bytes).await.is_err() {
                return false;
            }
        }
        write.shutdown().await.is_ok()
    };
    let from_pod = async {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            match read.read_buf(&mut piece).await {
                Ok(length) if length > 0 => {
                    if !outgoing.send(piece.freeze()).await {
                        return;
                    }
                }
                // A reset is how a server ends that has not read the client's last words. It is no error: kubectl gives up
                // all connections at the first one.
                _ => return,
            }
        }
    };
    // The pod's end is the end of all; the client's end still leaves the pod its answer.
    {
        let (mut to_pod, mut from_pod) = (std::pin::pin!(to_pod), std::pin::pin!(from_pod));
        tokio::select! {
            () = &mut from_pod => {}
            open = &mut to_pod => if open {
                from_pod.await;
            },
        }
    }
    outgoing.end().await;
    Ok(())
}
