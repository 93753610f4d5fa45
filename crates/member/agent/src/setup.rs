use std::{
    fs, io,
    path::{Path, PathBuf},
};

use howdah_config::{
    ConfigError, LocalConfig, Places, Source, duplicates, dynamic_from, env_layer, key_report, load, patch,
};
use howdah_http::{Client, TlsError, basic_auth, client_tls};
use thiserror::Error;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum SetupError {
    /// A file cannot be read.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key of it is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

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
        let mut merged = load(&sources)?;
        let environment = env_layer(std::env::vars());
        patch(&mut merged, &environment);
        let places = Places::of(&sources, &environment);
        let cwd = std::env::current_dir().map_err(|source| SetupError::File {
            path: PathBuf::from("."),
            source,
        })?;
        let config = LocalConfig::from_value(&merged, &places, &cwd)?;
        if let Some(bootstrap) = &config.bootstrap {
            dynamic_from(&bootstrap.dcs, &config.postgresql)
                .map_err(|error| error.below("bootstrap.dcs", &places))?;
        }
        let warnings: Vec<String> = duplicates(&sources)
            .into_iter()
            .chain(key_report(&merged).warning())
            .collect();
        Ok((config, (!warnings.is_empty()).then(|| warnings.join(". "))))
    }

    fn sources(&self) -> Result<Vec<Source>, SetupError> {
        let read = |path: &Path| {
            let text = fs::read_to_string(path).map_err(|source| SetupError::File {
                path: path.to_owned(),
                source,
            })?;
            Ok(Source {
                file: path.display().to_string(),
                text,
            })
        };
        if !self.path.is_dir() {
            return Ok(vec![read(&self.path)?]);
        }
        let entries = fs::read_dir(&self.path).map_err(|source| SetupError::File {
            path: self.path.clone(),
            source,
        })?;
        let mut files: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "yml" || e == "yaml"))
            .collect();
        files.sort();
        files.iter().map(|path| read(path)).collect()
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
