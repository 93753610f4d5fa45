use std::{
    fs, io,
    path::{Path, PathBuf},
};

use howdah_config::{
    ConfigError, LocalConfig, Source, StoreConfig, duplicates, dynamic_from, env_layer, key_report, load,
    patch,
};
use howdah_dcs::{KeyTree, Store};
use howdah_dcs_etcd::{Endpoints, EtcdStore};
use howdah_dcs_kube::{Api, KubeHub, Layout};
use howdah_http::{Client, TlsError, basic_auth, client_tls};

/// Why a configuration cannot be used.
#[derive(Debug)]
pub enum SetupError {
    /// A file cannot be read.
    File(PathBuf, io::Error),
    /// It is wrong.
    Config(ConfigError),
    /// Its `bootstrap.dcs` is wrong.
    Dynamic(howdah_config::DynamicError),
}

impl std::fmt::Display for SetupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SetupError::File(path, error) => write!(f, "{}: {error}", path.display()),
            SetupError::Config(error) => error.fmt(f),
            SetupError::Dynamic(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for SetupError {}

/// Where the configuration comes from; it is read again on SIGHUP.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// A file, or a directory of files.
    pub path: PathBuf,
}

impl ConfigFile {
    /// Reads the file or the directory, and the environment over it. Returns the warning about keys.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn read(&self) -> Result<(LocalConfig, Option<String>), SetupError> {
        let sources = self.sources()?;
        let mut merged = load(&sources).map_err(SetupError::Config)?;
        patch(&mut merged, &env_layer(std::env::vars()));
        let text = sources
            .first()
            .filter(|_| sources.len() == 1)
            .map_or("", |source| source.text.as_str());
        let cwd = std::env::current_dir().map_err(|e| SetupError::File(PathBuf::from("."), e))?;
        let config = LocalConfig::from_value(&merged, text, &cwd).map_err(SetupError::Config)?;
        if let Some(bootstrap) = &config.bootstrap {
            dynamic_from(&bootstrap.dcs, &config.postgresql)
                .map_err(|error| SetupError::Dynamic(error.below("bootstrap.dcs", text)))?;
        }
        let warnings: Vec<String> = duplicates(&sources)
            .into_iter()
            .chain(key_report(&merged).warning())
            .collect();
        Ok((config, (!warnings.is_empty()).then(|| warnings.join(". "))))
    }

    fn sources(&self) -> Result<Vec<Source>, SetupError> {
        let read = |path: &Path| {
            let text = fs::read_to_string(path).map_err(|e| SetupError::File(path.to_owned(), e))?;
            Ok(Source {
                file: path.display().to_string(),
                text,
            })
        };
        if !self.path.is_dir() {
            return Ok(vec![read(&self.path)?]);
        }
        let entries = fs::read_dir(&self.path).map_err(|e| SetupError::File(self.path.clone(), e))?;
        let mut files: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "yml" || e == "yaml"))
            .collect();
        files.sort();
        files.iter().map(|path| read(path)).collect()
    }
}

/// Opens stores of one cluster: each thread has one with a connection of its own.
#[derive(Clone)]
pub(crate) enum Stores {
    Etcd(KeyTree, Endpoints),
    Kubernetes(KubeHub),
}

impl Stores {
    pub(crate) fn of(config: &LocalConfig) -> anyhow::Result<Self> {
        Ok(match &config.store {
            StoreConfig::Etcd(etcd) => {
                let client_cert = etcd
                    .client_cert
                    .as_ref()
                    .map(|(cert, key)| (cert.as_path(), key.as_path()));
                let endpoints = Endpoints::new(
                    &etcd.endpoints,
                    etcd.auth.clone(),
                    etcd.cacert.as_deref(),
                    client_cert,
                )?;
                Stores::Etcd(KeyTree::new(&config.namespace, &config.scope), endpoints)
            }
            StoreConfig::Kubernetes(kube) => {
                let api = Api::in_pod(kube.service_account.clone(), kube.cacert.clone())?;
                let layout = Layout {
                    scope: config.scope.clone(),
                    namespace: kube.namespace.clone(),
                    labels: kube.labels.clone(),
                    scope_label: kube.scope_label.clone(),
                    role_label: kube.role_label.clone(),
                    leader_value: kube.leader_label_value.clone(),
                    follower_value: kube.follower_label_value.clone(),
                    tmp_role_label: kube.tmp_role_label.clone(),
                    bootstrap_labels: kube.bootstrap_labels.clone(),
                };
                Stores::Kubernetes(KubeHub::new(api, layout, config.name.clone()))
            }
        })
    }

    pub(crate) fn open(&self) -> Box<dyn Store> {
        match self {
            Stores::Etcd(tree, endpoints) => Box::new(EtcdStore::new(tree.clone(), endpoints.clone())),
            Stores::Kubernetes(hub) => Box::new(hub.store()),
        }
    }
}

/// The client for other members' REST APIs. Between agents certificates are checked only if a CA is configured and
/// `ctl.insecure` is off.
pub(crate) fn peer_client(config: &LocalConfig) -> Result<Client, TlsError> {
    let ctl = &config.ctl;
    let client_cert = ctl.client_cert.as_ref();
    let client_cert = client_cert.map(|(cert, key)| (cert.as_path(), key.as_path()));
    let tls = client_tls(ctl.cacert.as_deref(), client_cert, ctl.insecure)?;
    let authorization = ctl
        .authentication
        .as_ref()
        .map(|(user, password)| basic_auth(user, password));
    Ok(Client::new(Some(tls)).with_authorization(authorization))
}
