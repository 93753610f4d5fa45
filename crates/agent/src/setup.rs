use std::{
    fs, io,
    path::{Path, PathBuf},
};

use howdah_config::{ConfigError, LocalConfig, Source, dynamic_from, env_layer, key_report, load, patch};
use howdah_dcs::KeyTree;
use howdah_dcs_etcd::{Endpoints, EtcdStore};
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
            SetupError::Dynamic(error) => write!(f, "bootstrap.dcs: {error}"),
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
            dynamic_from(&bootstrap.dcs, &config.postgresql).map_err(SetupError::Dynamic)?;
        }
        Ok((config, key_report(&merged).warning()))
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

/// A store with a connection of its own. Each thread has one.
pub(crate) fn open_store(config: &LocalConfig) -> anyhow::Result<EtcdStore> {
    let etcd = &config.etcd3;
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
    Ok(EtcdStore::new(
        KeyTree::new(&config.namespace, &config.scope),
        endpoints,
    ))
}

/// The client for other members' REST APIs. Between agents certificates are checked only if a CA is configured and
/// `ctl.insecure` is off.
pub(crate) fn peer_client(config: &LocalConfig) -> Result<Client, TlsError> {
    let ctl = &config.ctl;
    let tls = client_tls(ctl.cacert.as_deref(), None, ctl.insecure)?;
    let authorization = ctl
        .authentication
        .as_ref()
        .map(|(user, password)| basic_auth(user, password));
    Ok(Client::new(Some(tls)).with_authorization(authorization))
}
