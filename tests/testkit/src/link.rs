//! A network between members and their store that can be made bad.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use howdah_clock::now;
use howdah_http::sleep_until;
use howdah_types::BootTime;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
};

/// What TCP waits for at least before it sends again.
const SENT_AGAIN: Duration = Duration::from_millis(200);

/// Chunks on their way in one direction.
const ON_THE_WAY: usize = 256;

/// Carries connections to a port of this machine, on a thread of its own.
pub struct Link {
    port: u16,
    quality: Arc<Quality>,
    cut: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Quality {
    delay_millis: AtomicU64,
    loss_percent: AtomicU32,
    chance: AtomicU32,
}

impl Link {
    /// Listens on `port` and carries to `target`.
    ///
    /// # Errors
    /// The port is taken.
    pub fn open(port: u16, target: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        let quality = Arc::new(Quality {
            chance: AtomicU32::new(std::process::id() | 1),
            ..Quality::default()
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::clone(&quality);
        let (cut, whole) = watch::channel(false);
        std::thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || runtime.block_on(serve(listener, target, shared, whole)))?;
        Ok(Link { port, quality, cut })
    }

    /// Where members connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on each direction takes `delay`, and this share of what is sent must be sent again.
    pub fn set(&self, delay: Duration, loss_percent: u32) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.quality.delay_millis.store(millis, Ordering::Relaxed);
        self.quality.loss_percent.store(loss_percent, Ordering::Relaxed);
    }

    /// Nothing arrives while it is cut, and nothing says so. What was sent arrives when it is whole again, as TCP has it.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

impl Quality {
    /// When something that is sent now arrives.
    fn arrival(&self) -> BootTime {
        let delay = Duration::from_millis(self.delay_millis.load(Ordering::Relaxed));
        let loss = self.loss_percent.load(Ordering::Relaxed);
        let mut at = now() + delay;
        let mut patience = SENT_AGAIN.max(delay * 3);
        while self.draw() < loss {
            at = at + patience;
            patience *= 2;
        }
        at
    }

    /// A number below a hundred.
    fn draw(&self) -> u32 {
        let mut x = self.chance.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.chance.store(x, Ordering::Relaxed);
        x % 100
    }
}

async fn serve(listener: TcpListener, target: u16, quality: Arc<Quality>, whole: watch::Receiver<bool>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((client, _)) = listener.accept().await {
        let (quality, whole) = (Arc::clone(&quality), whole.clone());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else {
                return;
            };
            let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::join!(
                carry(from_client, to_server, &quality, whole.clone()),
                carry(from_server, to_client, &quality, whole)
            );
        });
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    quality: &Quality,
    mut whole: watch::Receiver<bool>,
) {
    let (sender, mut receiver) = mpsc::channel::<(BootTime, Vec<u8>)>(ON_THE_WAY);
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let chunk = buffer.get(..n).unwrap_or_default().to_vec();
            if sender.send((quality.arrival(), chunk)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, chunk)) = receiver.recv().await {
            sleep_until(at).await;
            if whole.wait_for(|cut| !cut).await.is_err() {
                return;
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
