use std::{
    fs,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use howdah_clock::now;
use howdah_config::{
    ConsulConfig, CtlConfig, EtcdConfig, Source, StoreConfig, ZooKeeperConfig, env_layer, load, patch,
};
use howdah_dcs::{Member, Store, View};
use howdah_http::{Client, ClientConfig, HttpError, Method, Response, Url, basic_auth, client_tls};
use howdah_types::{MemberName, Scope};
use serde_json::{Map, Value};

use crate::{
    access::{Access, STORE, Surroundings, one_place},
    cli::CtlArgs,
};

/// A restart may write a large checkpoint, a switchover may wait twenty seconds.
const API: Duration = Duration::from_secs(600);

/// How to reach a cluster.
pub(crate) struct Context {
    namespace: String,
    scope: Option<String>,
    access: Access,
    tls: Arc<ClientConfig>,
    /// Certificates of REST APIs are checked.
    verified: bool,
    /// The credential for REST APIs that the configuration names.
    authorization: Option<String>,
    /// The one that lies beside the cluster, in a Secret.
    secret: OnceLock<String>,
}

/// One cluster.
pub(crate) struct Cluster {
    pub(crate) scope: Scope,
    pub(crate) store: Box<dyn Store>,
    pub(crate) view: View,
}

impl Context {
    /// Reads the configuration. `sandbox` is the kubeconfig of the sandbox on this machine.
    pub(crate) fn open(args: &CtlArgs, sandbox: Option<PathBuf>) -> anyhow::Result<Self> {
        one_place(args)?;
        let mut config = read_config(args)?;
        patch(&mut config, &env_layer(std::env::vars()));
        let mut namespace = text(&config, "namespace").unwrap_or_else(|| "service".to_owned());
        let access = match &args.dcs_url {
            Some(url) => {
                let (store, path) = from_url(url)?;
                namespace = path.unwrap_or(namespace);
                Access::Configured(store)
            }
            None => Access::of(&config, args, Surroundings::look(sandbox))?,
        };
        let mut ctl = CtlConfig::from_config(&config)?;
        ctl.insecure |= args.insecure;
        let client_cert = ctl.client_cert.as_ref();
        let client_cert = client_cert.map(|(cert, key)| (cert.as_path(), key.as_path()));
        Ok(Context {
            namespace,
            scope: text(&config, "scope"),
            access,
            tls: client_tls(ctl.cacert.as_deref(), client_cert, ctl.insecure)?,
            verified: ctl.cacert.is_some() && !ctl.insecure,
            authorization: ctl
                .authentication
                .map(|(user, password)| basic_auth(&user, &password)),
            secret: OnceLock::new(),
        })
    }

    /// The cluster of that name, or of the configuration file.
    pub(crate) async fn cluster(&self, name: Option<&str>) -> anyhow::Result<Cluster> {
        let name = name.map(str::to_owned).or_else(|| self.scope.clone());
        let name = name.context("no cluster: name it, or set 'scope' in the configuration file")?;
        let scope = Scope::new(name)?;
        let opened = self.access.open(&self.namespace, &scope).await?;
        let view = opened.store.read(now() + STORE).await?;
        if let Some(secret) = opened.authorization {
            // One command speaks to the agents of one cluster; `list`, which reads several, speaks to none.
            let _ = self.secret.set(secret);
        }
        Ok(Cluster {
            scope,
            store: opened.store,
            view,
        })
    }

    /// Whether clusters are described by manifests.
    pub(crate) fn is_kubernetes(&self) -> bool {
        match &self.access {
            Access::Configured(StoreConfig::Etcd(_) | StoreConfig::ZooKeeper(_) | StoreConfig::Consul(_)) => {
                false
            }
            Access::Configured(StoreConfig::Kubernetes(_)) | Access::Kubeconfig { .. } => true,
        }
    }

    /// One request to a member's agent. The password of a Secret goes only where no other host can answer: to this machine, or
    /// over TLS with a certificate that is checked. Addresses of pods mean something else outside of their network.
    pub(crate) async fn call(
        &self,
        member: &Member,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response, HttpError> {
        let base = member
            .api_base()
            .ok_or_else(|| HttpError::BadUrl(member.api_url.clone()))?;
        let url = Url::parse(&format!("{base}/{path}"))?;
        let body = body.map(|body| Bytes::from(body.to_string()));
        let is_safe = is_loopback(&url.host) || url.secure && self.verified;
        let secret = self.secret.get().filter(|_| is_safe);
        let authorization = self.authorization.as_ref().or(secret).cloned();
        Client::new(Some(Arc::clone(&self.tls)))
            .with_authorization(authorization)
            .request(method, &url, body.or(Some(Bytes::new())), now() + API)
            .await
    }
}

impl Cluster {
    /// Reads it again.
    pub(crate) async fn refresh(&mut self) -> anyhow::Result<()> {
        self.view = self.store.read(now() + STORE).await?;
        Ok(())
    }

    /// The members, the leader first: it is most likely to know.
    pub(crate) fn leader_first(&self) -> Vec<(&MemberName, &Member)> {
        let leader = self.view.leader.as_ref().map(|leader| &leader.name);
        let mut members: Vec<_> = self.view.members.iter().collect();
        members.sort_by_key(|(name, _)| Some(*name) != leader);
        members
    }

    /// The name of the leader.
    pub(crate) fn leader(&self) -> Option<&MemberName> {
        self.view.leader.as_ref().map(|leader| &leader.name)
    }

    /// Whether maintenance mode is on.
    pub(crate) fn is_paused(&self) -> bool {
        let pause = self
            .view
            .config
            .value
            .as_ref()
            .and_then(|config| config.get("pause"));
        pause.is_some_and(|pause| howdah_config::parse_bool(pause) == Some(true))
    }

    /// A number of the dynamic configuration.
    pub(crate) fn seconds(&self, key: &str, default: u64) -> u64 {
        let value = self.view.config.value.as_ref().and_then(|config| config.get(key));
        value
            .and_then(|value| howdah_config::parse_int(value, "s"))
            .map_or(default, i64::unsigned_abs)
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn text(config: &Map<String, Value>, key: &str) -> Option<String> {
    config
        .get(key)
        .filter(|value| !value.is_null())
        .map(howdah_config::string_form)
}

fn read_config(args: &CtlArgs) -> anyhow::Result<Map<String, Value>> {
    let (path, explicit) = match &args.config_file {
        Some(path) => (path.clone(), true),
        None => (default_file(), false),
    };
    match fs::read_to_string(&path) {
        Ok(text) => Ok(load(&[Source {
            file: path.display().to_string(),
            text,
        }])?),
        Err(error) if explicit => Err(error).with_context(|| {
            format!(
                "Provided config file {} not existing or no read rights",
                path.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(error).with_context(|| format!("{}", path.display())),
    }
}

fn default_file() -> PathBuf {
    let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    base.or_else(home)
        .unwrap_or_default()
        .join("patroni/patronictl.yaml")
}

/// `etcd3://host:port/namespace`, and the same with `consul` or `zookeeper`; without a scheme the port tells.
fn from_url(url: &str) -> anyhow::Result<(StoreConfig, Option<String>)> {
    const ZOOKEEPER: u16 = 2181;
    const CONSUL: u16 = 8500;
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, url),
    };
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let port = match scheme {
        Some("zookeeper") => ZOOKEEPER,
        Some("consul") => CONSUL,
        _ => 2379,
    };
    let address = howdah_config::Listen::parse(address, port).map_err(anyhow::Error::msg)?;
    let store = match scheme {
        Some("zookeeper") => zookeeper_at(&address),
        None if address.port == ZOOKEEPER => zookeeper_at(&address),
        Some("consul") => consul_at(&address),
        None if address.port == CONSUL => consul_at(&address),
        None | Some("etcd3") => StoreConfig::Etcd(EtcdConfig {
            endpoints: vec![format!("http://{address}")],
            ..EtcdConfig::default()
        }),
        Some(other) => anyhow::bail!(
            "'{other}' is not supported as a store: write etcd3://host:port/namespace ('etcd' is its v2 API), \
             consul://host:port/namespace or zookeeper://host:port/namespace"
        ),
    };
    Ok((store, Some(path.to_owned()).filter(|path| !path.is_empty())))
}

fn consul_at(address: &howdah_config::Listen) -> StoreConfig {
    StoreConfig::Consul(ConsulConfig {
        url: format!("http://{address}"),
        ..ConsulConfig::default()
    })
}

fn zookeeper_at(address: &howdah_config::Listen) -> StoreConfig {
    let servers = address.hosts.iter().map(|host| (host.clone(), address.port));
    StoreConfig::ZooKeeper(ZooKeeperConfig {
        servers: servers.collect(),
        ..ZooKeeperConfig::default()
    })
}
