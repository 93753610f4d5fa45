//! The REST API, on a thread of its own: it answers from what the loop has published, whatever else burns.
//!
//! ```text
//!   mod.rs  thread, socket, TLS      routes.rs  which request goes where, access     read.rs  GET
//!   write.rs  config, reload, restart, reinitialize      switchover.rs  POST /switchover, POST /failover
//!   failsafe.rs  promises
//! ```

mod allowlist;
mod answer;
mod failsafe;
mod read;
mod routes;
mod switchover;
mod write;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context;
use arc_swap::ArcSwap;
use howdah_config::{LocalConfig, RestApiConfig, VerifyClient};
use howdah_dcs::Store;
use howdah_http::{Client, Limits, ServerConfig, server_tls};
use howdah_postgres::{Programs, Server};
use tokio::{net::TcpListener, sync::watch};

use crate::{keeper::KeeperLink, publish::Published, setup::peer_client, wake::Wake};

/// What a request may use.
pub(crate) struct Api {
    configured: Arc<ArcSwap<Configured>>,
    pub(crate) programs: Programs,
    pub(crate) published: Published,
    pub(crate) store: Box<dyn Store>,
    pub(crate) wake: Wake,
    pub(crate) keeper: KeeperLink,
    pub(crate) server: Server,
}

impl Api {
    /// The configuration as it is now.
    pub(crate) fn config(&self) -> Arc<LocalConfig> {
        Arc::clone(&self.configured.load().config)
    }

    /// How other members are asked.
    pub(crate) fn peers(&self) -> Client {
        self.configured.load().peers.clone()
    }
}

/// What a new configuration changes.
struct Configured {
    config: Arc<LocalConfig>,
    peers: Client,
}

impl Configured {
    fn of(config: &Arc<LocalConfig>) -> anyhow::Result<Self> {
        Ok(Configured {
            config: Arc::clone(config),
            peers: peer_client(config)?,
        })
    }
}

/// What the loop tells the API.
#[derive(Clone)]
pub(crate) struct ApiSettings {
    configured: Arc<ArcSwap<Configured>>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
}

impl ApiSettings {
    /// What a configuration says at the start.
    pub(crate) fn new(config: &Arc<LocalConfig>) -> anyhow::Result<Self> {
        Ok(ApiSettings {
            configured: Arc::new(ArcSwap::from_pointee(Configured::of(config)?)),
            tls: watch::channel(tls_of(&config.restapi)?).0,
        })
    }

    /// Takes another configuration, with its certificates as they are on disk now. One that is wrong changes nothing.
    pub(crate) fn take(&self, config: &Arc<LocalConfig>) -> anyhow::Result<()> {
        let tls = tls_of(&config.restapi)?;
        let configured = Configured::of(config)?;
        self.configured.store(Arc::new(configured));
        self.tls.send_replace(tls);
        Ok(())
    }
}

/// The running API.
pub(crate) struct ApiThread {
    stop: watch::Sender<bool>,
    thread: std::thread::JoinHandle<()>,
    settings: ApiSettings,
}

impl ApiThread {
    /// For changes of the configuration.
    pub(crate) fn settings(&self) -> ApiSettings {
        self.settings.clone()
    }

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
    server: Server,
    store: Box<dyn Store>,
    published: Published,
    wake: Wake,
    keeper: KeeperLink,
) -> anyhow::Result<ApiThread> {
    let address = &config.restapi.listen;
    let listener = bind(&config.restapi)
        .await
        .and_then(|listener| Ok(listener.into_std()?))
        .with_context(|| format!("restapi.listen: {address} cannot be listened on"))?;
    let settings = ApiSettings::new(&config)?;
    let tls_now = settings.tls.subscribe();
    let (stop, stopped) = watch::channel(false);
    let api = Api {
        configured: Arc::clone(&settings.configured),
        programs: server.programs.clone(),
        store,
        published,
        wake,
        keeper,
        server,
    };
    // Made last: a runtime must not be dropped within another one, as it would be by an error above.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()?;
    let thread = std::thread::Builder::new()
        .name("rest".to_owned())
        .spawn(move || {
            let api = Arc::new(api);
            runtime.block_on(async move {
                match TcpListener::from_std(listener) {
                    Ok(listener) => {
                        howdah_http::serve(
                            listener,
                            Limits::default(),
                            tls_now,
                            stopped,
                            move |request, peer| {
                                let api = Arc::clone(&api);
                                async move { routes::route(&api, request, peer).await }
                            },
                        )
                        .await;
                    }
                    Err(error) => tracing::error!("The REST API cannot listen: {error}."),
                }
            });
        })?;
    Ok(ApiThread {
        stop,
        thread,
        settings,
    })
}

/// The certificates, as they are on disk now.
fn tls_of(config: &RestApiConfig) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let ca = tls
        .cafile
        .as_deref()
        .filter(|_| tls.verify_client != VerifyClient::None);
    let required = tls.verify_client == VerifyClient::Required;
    Ok(Some(server_tls(&tls.certfile, &tls.keyfile, ca, required)?))
}

async fn bind(config: &RestApiConfig) -> anyhow::Result<TcpListener> {
    let port = config.listen.port;
    let host = match config.listen.hosts.first().map(String::as_str) {
        None | Some("*" | "") => {
            // A kernel without IPv6 refuses the first.
            let both = listen_at((Ipv6Addr::UNSPECIFIED, port).into());
            return Ok(both.or_else(|_| listen_at((Ipv4Addr::UNSPECIFIED, port).into()))?);
        }
        Some(host) => host,
    };
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let address = found.first().copied().context("the host has no address")?;
    Ok(listen_at(address)?)
}

fn listen_at(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv6() {
        tokio::net::TcpSocket::new_v6()
    } else {
        tokio::net::TcpSocket::new_v4()
    }?;
    // A restarted agent gets its port back although old connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(256)
}
