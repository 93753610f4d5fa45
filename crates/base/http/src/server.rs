use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request,
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Switch,
    places::{Limits, Place, Places},
    raw::Carrier,
    switch::Switched,
};

/// What a handler returns that knows its whole answer; others may return any body.
pub type Reply = hyper::Response<Full<Bytes>>;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// Presented a certificate that our CA has signed.
    pub has_certificate: bool,
}

/// The TLS settings, which may change while the server runs.
pub type ServerTls = watch::Receiver<Option<Arc<ServerConfig>>>;

/// A client that sends no whole request head in this time is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `handler` on `listener` until `stop` says true; then waits a moment for requests under way.
pub async fn serve<H, F, B>(
    listener: TcpListener,
    limits: Limits,
    tls: ServerTls,
    mut stop: watch::Receiver<bool>,
    handler: H,
) where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = hyper::Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let mut places = Places::new(limits);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &mut places) => accepted,
        };
        let Some((stream, address, place)) = accepted else {
            continue;
        };
        let (tls, handler) = (tls.borrow().clone(), handler.clone());
        connections.spawn(async move {
            let _place = place;
            connection(stream, limits.head, address, tls, handler).await;
        });
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

async fn accept(listener: &TcpListener, places: &mut Places) -> Option<(TcpStream, SocketAddr, Place)> {
    let permit = places.wait().await?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, places.take(permit, address.ip())?)),
        Err(error) => {
            tracing::warn!(%error, "Accepting a connection did not work.");
            // Out of descriptors, most likely: let some be closed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn connection<H, F, B>(
    stream: TcpStream,
    head: usize,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    handler: H,
) where
    H: Fn(Request<Incoming>, Peer) -> F,
    F: Future<Output = hyper::Response<B>>,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let Some(config) = tls else {
        let peer = Peer {
            address,
            has_certificate: false,
        };
        return http(TokioIo::new(stream), head, peer, handler).await;
    };
    let handshake = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(HEAD_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => {
            let has_certificate = stream
                .get_ref()
                .1
                .peer_certificates()
                .is_some_and(|c| !c.is_empty());
            http(
                TokioIo::new(stream),
                head,
                Peer {
                    address,
                    has_certificate,
                },
                handler,
            )
            .await;
        }
        Ok(Err(error)) => tracing::debug!(%error, %address, "TLS handshake refused"),
        Err(_) => tracing::debug!(%address, "TLS handshake timed out"),
    }
}

async fn http<S, H, F, B>(io: TokioIo<S>, head: usize, peer: Peer, handler: H)
where
    S: Carrier,
    H: Fn(Request<Incoming>, Peer) -> F,
    F: Future<Output = hyper::Response<B>>,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    // What the connection becomes after an answer with status 101. It is served here, by the connection's own task.
    let next: Mutex<Option<Switched>> = Mutex::new(None);
    let service = service_fn(|mut request| {
        let upgraded = hyper::upgrade::on(&mut request);
        let reply = handler(request, peer);
        let next = &next;
        async move {
            let mut reply = reply.await;
            if let Some(switch) = reply.extensions_mut().remove::<Switch>() {
                *next.lock() = switch.after::<S>(upgraded);
            }
            Ok::<_, Infallible>(reply)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(head)
        .serve_connection(io, service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::trace!(%error, address = %peer.address, "HTTP connection ended");
    }
    let switched = next.into_inner();
    if let Some(switched) = switched {
        switched.await;
    }
}
