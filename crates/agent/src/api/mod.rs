//! The REST API, on a thread of its own: it answers from what the loop has published, whatever else burns.
//!
//! ```text
//!   mod.rs  thread, socket, TLS      routes.rs  which request goes where, access     read.rs  GET
//!   write.rs  config, reload, restart, reinitialize      switchover.rs  POST /switchover, POST /failover
//! ```

mod allowlist;
mod read;
mod routes;
mod switchover;
mod write;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use howdah_config::{LocalConfig, RestApiConfig, VerifyClient};
use howdah_dcs::Store;
use howdah_http::{Client, server_tls};
use tokio::{net::TcpListener, sync::watch};

use crate::{publish::Published, setup::peer_client, wake::Wake};

/// What a request may use.
pub(crate) struct Api {
    pub(crate) config: Arc<LocalConfig>,
    pub(crate) published: Published,
    pub(crate) store: Box<dyn Store>,
    pub(crate) peers: Client,
    pub(crate) wake: Wake,
}

/// The running API.
pub(crate) struct ApiThread {
    stop: watch::Sender<bool>,
    thread: std::thread::JoinHandle<()>,
}

impl ApiThread {
    /// Lets requests under way end, for a second at most.
    pub(crate) fn stop(self) {
        let _ = self.stop.send(true);
        if self.thread.join().is_err() {
            tracing::error!("The API thread has panicked.");
        }
    }
}

/// Binds the address and serves it.
pub(crate) async fn start(
    config: Arc<LocalConfig>,
    store: Box<dyn Store>,
    published: Published,
    wake: Wake,
) -> anyhow::Result<ApiThread> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()?;
    let address = &config.restapi.listen;
    let listener = bind(&config.restapi)
        .await
        .and_then(|listener| Ok(listener.into_std()?))
        .with_context(|| format!("restapi.listen: {address} cannot be listened on"))?;
    let tls = match &config.restapi.tls {
        None => None,
        Some(tls) => {
            let ca = tls
                .cafile
                .as_deref()
                .filter(|_| tls.verify_client != VerifyClient::None);
            let required = tls.verify_client == VerifyClient::Required;
            Some(server_tls(&tls.certfile, &tls.keyfile, ca, required)?)
        }
    };
    let (stop, stopped) = watch::channel(false);
    let api = Api {
        store,
        peers: peer_client(&config)?,
        config,
        published,
        wake,
    };
    let thread = std::thread::Builder::new()
        .name("rest".to_owned())
        .spawn(move || {
            let api = Arc::new(api);
            let (_settings, tls) = watch::channel(tls);
            runtime.block_on(async move {
                match TcpListener::from_std(listener) {
                    Ok(listener) => {
                        howdah_http::serve(listener, tls, stopped, move |request, peer| {
                            let api = Arc::clone(&api);
                            async move { routes::route(&api, request, peer).await }
                        })
                        .await;
                    }
                    Err(error) => tracing::error!("The REST API cannot listen: {error}."),
                }
            });
        })?;
    Ok(ApiThread { stop, thread })
}

async fn bind(config: &RestApiConfig) -> anyhow::Result<TcpListener> {
    let host = match config.listen.hosts.first().map(String::as_str) {
        None | Some("*" | "") => "::",
        Some(host) => host,
    };
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, config.listen.port))
        .await?
        .collect();
    let address = found.first().copied().context("the host has no address")?;
    let socket = if address.is_ipv6() {
        tokio::net::TcpSocket::new_v6()
    } else {
        tokio::net::TcpSocket::new_v4()
    }?;
    // A restarted agent gets its port back although old connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(256)?)
}
