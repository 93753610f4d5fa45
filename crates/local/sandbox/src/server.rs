use std::{
    fs,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use howdah_http::{Limits, ServerConfig, server_tls};
use rustix::process::geteuid;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{
    Images, SandboxDir, StateError, Store,
    api::{self, Api},
    certificate::identity,
    controllers, meta,
    node::{Addresses, Node, Removals, end_all_in},
    state::{PORT, write_private},
};

/// Every agent holds several connections, and all of them come from the loopback address.
const LIMITS: Limits = Limits {
    connections: 4096,
    from_one_address: 4096,
    // The command line of an exec stands in its address.
    head: 1024 * 1024,
};

/// What a sandbox is made of.
pub struct Sandbox {
    /// Where it keeps everything.
    pub dir: SandboxDir,
    /// Which images it runs.
    pub images: Images,
    /// User and group of the pods; needed when root runs the sandbox.
    pub run_as: Option<(u32, u32)>,
}

/// Why a sandbox does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its objects.
    #[error("the sandbox's objects: {0}")]
    Store(String),
    /// Its address.
    #[error("the API cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// Its certificate.
    #[error(transparent)]
    Tls(#[from] howdah_http::TlsError),
    /// Pods never run as root.
    #[error("pods do not run as root: name the user that they run as")]
    Root,
}

/// A sandbox that runs.
pub struct Running {
    stop: watch::Sender<bool>,
    api_stop: watch::Sender<bool>,
    node: JoinHandle<()>,
    controllers: JoinHandle<()>,
    api: Served,
    /// Where the API is.
    pub address: SocketAddr,
}

impl Running {
    /// Ends all pods, politely, then the rest.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.node.await;
        let _ = self.api_stop.send(true);
        let _ = self.controllers.await;
        self.api.ended().await;
    }
}

/// The API on a thread of its own. It carries the leases of all clusters: no work of the node, of a controller or of an
/// operator in the same process may hold up a renewal.
struct Served {
    thread: std::thread::JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Served {
    fn start(
        listener: std::net::TcpListener,
        tls: Arc<ServerConfig>,
        api: Api,
        stopped: watch::Receiver<bool>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (tell, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("sandbox-api".to_owned())
            .spawn(move || {
                let (_settings, tls) = watch::channel(Some(tls));
                runtime.block_on(howdah_http::serve(
                    listener,
                    LIMITS,
                    tls,
                    stopped,
                    move |request, _| {
                        let api = api.clone();
                        async move { api::route(&api, request).await }
                    },
                ));
                let _ = tell.send(());
            })?;
        Ok(Served { thread, ended })
    }

    async fn ended(self) {
        let _ = self.ended.await;
        let _ = self.thread.join();
    }
}

fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Starts a sandbox.
///
/// # Errors
/// See [`StartError`].
pub async fn start(sandbox: Sandbox) -> Result<Running, StartError> {
    if sandbox.run_as.is_none() && geteuid().is_root() || sandbox.run_as.is_some_and(|(user, _)| user == 0) {
        return Err(StartError::Root);
    }
    let dir = sandbox.dir;
    dir.prepare()?;
    let network = dir.network()?;
    let address = SocketAddr::new(IpAddr::V4(Addresses::api_of(network)), PORT);
    let listener = listen(address).map_err(|error| StartError::Listen(address, error))?;
    // The holder of the address has the store: of two that start at once the second one ends here, before it has touched it.
    let store = Store::open(&dir.store()).map_err(|error| StartError::Store(error.to_string()))?;
    let addresses = Addresses::new(store.clone(), network);
    let identity = identity(dir.credentials(), address.ip())?;
    let tls = server_tls(&identity.certificate, &identity.key, None, false)?;
    let admin = token(&dir, "admin")?;
    let pods = token(&dir, "pods")?;
    let ca = fs::read_to_string(&identity.ca).map_err(|error| StateError::Io(identity.ca.clone(), error))?;
    write_private(&dir.kubeconfig(), kubeconfig(address, &ca, &admin).to_string())?;

    let (stop, stopped) = watch::channel(false);
    let (api_stop, api_stopped) = watch::channel(false);
    let tokens = vec![
        (admin, api::ADMIN.to_owned()),
        (pods.clone(), "system:serviceaccount".to_owned()),
    ];
    let node = Arc::new(Node {
        store: store.clone(),
        images: sandbox.images,
        addresses,
        api: address,
        ca: identity.ca,
        pod_token: pods,
        run_as: sandbox.run_as,
        removals: Removals::start(dir.gone()).map_err(|error| StateError::Io(dir.gone(), error))?,
        dir,
    });
    let api = Api::new(Arc::clone(&node), tokens, api_stopped.clone());
    let api = Served::start(listener, tls, api, api_stopped.clone())
        .map_err(|error| StartError::Listen(address, error))?;
    Ok(Running {
        node: tokio::spawn(node.run(stopped)),
        controllers: tokio::spawn(controllers::run(store, api_stopped)),
        api,
        stop,
        api_stop,
        address,
    })
}

/// Ends whatever still runs of a sandbox whose server is gone, and removes all of it: pods, volumes, objects.
///
/// # Errors
/// Something cannot be removed.
#[expect(clippy::disallowed_methods, reason = "nothing else runs")]
pub async fn purge(dir: &SandboxDir) -> Result<(), StateError> {
    end_all_in(&[dir.pods(), dir.volumes()]).await;
    for path in [dir.run_root(), dir.root().to_owned()] {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StateError::Io(path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A secret that is made once.
fn token(dir: &SandboxDir, name: &str) -> Result<String, StateError> {
    let path = dir.credentials().join(format!("{name}.token"));
    if let Ok(token) = fs::read_to_string(&path)
        && !token.is_empty()
    {
        return Ok(token);
    }
    let token = format!("{}{}", meta::uuid(), meta::uuid()).replace('-', "");
    write_private(&path, &token)?;
    Ok(token)
}

/// JSON is YAML: one writer is enough.
fn kubeconfig(address: SocketAddr, ca: &str, token: &str) -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "howdah-sandbox",
        "clusters": [{"name": "howdah-sandbox", "cluster": {
            "server": format!("https://{address}"), "certificate-authority-data": STANDARD.encode(ca)}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "howdah-sandbox", "context": {
            "cluster": "howdah-sandbox", "user": "admin", "namespace": "default"}}],
    })
}
