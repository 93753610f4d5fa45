use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::Engine as _;
use howdah_dcs_kube::{Api, Token};
use howdah_http::{HttpError, Pem, TlsError, Url, client_tls_of};
use serde::Deserialize;
use thiserror::Error;

use crate::credential::{Exec, ExecError};

/// Why a kubeconfig does not lead to an API server.
#[derive(Debug, Error)]
pub enum KubeconfigError {
    /// It cannot be read.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not YAML of this form.
    #[error("{}: {reason}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Why, with line and column.
        reason: String,
    },
    /// A context, cluster or user that something refers to does not exist.
    #[error("the kubeconfig has no {kind} '{name}'")]
    Missing {
        /// `context`, `cluster` or `user`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// No context is chosen.
    #[error("the kubeconfig has no current-context: name one with --context")]
    NoContext,
    /// A setting that this reader cannot honour.
    #[error("the kubeconfig's {0} is not supported")]
    Unsupported(&'static str),
    /// A field that should hold base64 does not.
    #[error("the kubeconfig's {0} is not base64")]
    Base64(&'static str),
    /// The address is not a URL.
    #[error("the kubeconfig's server")]
    Url(#[from] HttpError),
    /// A certificate is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The program that gives the credentials does not.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// kubectl's configuration: one or several files, of which the first that names something counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kubeconfig {
    current_context: Option<String>,
    contexts: Vec<Named<ContextEntry>>,
    clusters: Vec<Named<ClusterEntry>>,
    users: Vec<Named<UserEntry>>,
}

/// How to reach an API server, and the namespace that is meant unless another is named.
pub struct ApiAccess {
    /// The server and the credentials.
    pub api: Api,
    /// `default` unless the context says otherwise.
    pub namespace: String,
    /// The name of the context.
    pub context: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    value: Option<T>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContextEntry {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct ClusterEntry {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct UserEntry {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    username: Option<String>,
    auth_provider: Option<serde_json::Value>,
    exec: Option<Exec>,
}

impl Kubeconfig {
    /// The files of `$KUBECONFIG`, else `~/.kube/config`, as far as they exist.
    #[must_use]
    pub fn usual_files() -> Vec<PathBuf> {
        let named = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
        let files: Vec<PathBuf> = match (&named, std::env::var_os("HOME")) {
            (Some(paths), _) => std::env::split_paths(paths).collect(),
            (None, Some(home)) => vec![PathBuf::from(home).join(".kube/config")],
            (None, None) => Vec::new(),
        };
        files.into_iter().filter(|path| path.is_file()).collect()
    }

    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read or is not a kubeconfig.
    pub fn read(files: &[PathBuf]) -> Result<Self, KubeconfigError> {
        let mut all = Kubeconfig::default();
        for path in files {
            let text = fs::read_to_string(path).map_err(|source| KubeconfigError::File {
                path: path.clone(),
                source,
            })?;
            let mut one: Kubeconfig =
                serde_saphyr::from_str(&text).map_err(|error| KubeconfigError::Yaml {
                    path: path.clone(),
                    // Without the lines around it, which may have a token in them.
                    reason: error.without_snippet().to_string(),
                })?;
            one.resolve(path.parent().unwrap_or(Path::new("")));
            let chosen = one.current_context.filter(|name| !name.is_empty());
            all.current_context = all.current_context.or(chosen);
            all.contexts.append(&mut one.contexts);
            all.clusters.append(&mut one.clusters);
            all.users.append(&mut one.users);
        }
        Ok(all)
    }

    /// Paths are relative to the file that names them.
    fn resolve(&mut self, dir: &Path) {
        let clusters = self.clusters.iter_mut().filter_map(|entry| entry.value.as_mut());
        for cluster in clusters {
            absolute(dir, &mut cluster.certificate_authority);
        }
        for user in self.users.iter_mut().filter_map(|entry| entry.value.as_mut()) {
            absolute(dir, &mut user.token_file);
            absolute(dir, &mut user.client_certificate);
            absolute(dir, &mut user.client_key);
            if let Some(exec) = &mut user.exec {
                exec.resolve(dir);
            }
        }
    }

    /// The API server of a context, of the current one unless one is named.
    ///
    /// # Errors
    /// See [`KubeconfigError`].
    pub async fn access(&self, context: Option<&str>) -> Result<ApiAccess, KubeconfigError> {
        let name = context
            .or(self.current_context.as_deref())
            .filter(|name| !name.is_empty());
        let name = name.ok_or(KubeconfigError::NoContext)?;
        let context = find("context", &self.contexts, name)?;
        let cluster = find("cluster", &self.clusters, &context.cluster)?;
        let user = find("user", &self.users, &context.user)?;
        for (is_set, what) in [
            (cluster.proxy_url.is_some(), "proxy-url"),
            (cluster.tls_server_name.is_some(), "tls-server-name"),
            (user.username.is_some(), "username"),
            (user.auth_provider.is_some(), "auth-provider"),
        ] {
            if is_set {
                return Err(KubeconfigError::Unsupported(what));
            }
        }
        let mut certificate = match (
            pem(
                "client-certificate-data",
                user.client_certificate_data.as_deref(),
                user.client_certificate.as_deref(),
            )?,
            pem(
                "client-key-data",
                user.client_key_data.as_deref(),
                user.client_key.as_deref(),
            )?,
        ) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => None,
        };
        let mut token = match (&user.token, &user.token_file) {
            (_, Some(path)) => Token::File(path.clone()),
            (Some(token), None) => Token::Text(token.clone()),
            (None, None) => Token::None,
        };
        if let Some(exec) = &user.exec {
            let given = exec.run().await?;
            token = given.token.map_or(token, Token::Text);
            certificate = given.certificate.or(certificate);
        }
        let ca = pem(
            "certificate-authority-data",
            cluster.certificate_authority_data.as_deref(),
            cluster.certificate_authority.as_deref(),
        )?;
        if ca.is_none() && !cluster.insecure_skip_tls_verify && cluster.server.starts_with("https") {
            return Err(KubeconfigError::Unsupported(
                "cluster without certificate-authority (the system's certificates)",
            ));
        }
        let tls = client_tls_of(
            ca.as_ref().filter(|_| !cluster.insecure_skip_tls_verify),
            certificate.as_ref(),
        )?;
        Ok(ApiAccess {
            api: Api::new(Url::parse(&cluster.server)?, Some(tls), token),
            context: name.to_owned(),
            namespace: context
                .namespace
                .clone()
                .filter(|namespace| !namespace.is_empty())
                .unwrap_or_else(|| "default".to_owned()),
        })
    }
}

fn find<'a, T>(kind: &'static str, list: &'a [Named<T>], name: &str) -> Result<&'a T, KubeconfigError> {
    list.iter()
        .find(|entry| entry.name == name)
        .and_then(|entry| entry.value.as_ref())
        .ok_or_else(|| KubeconfigError::Missing {
            kind,
            name: name.to_owned(),
        })
}

fn absolute(dir: &Path, path: &mut Option<PathBuf>) {
    if let Some(path) = path {
        *path = dir.join(&path);
    }
}

/// A text in base64 counts more than a file, as for kubectl.
fn pem(field: &'static str, data: Option<&str>, file: Option<&Path>) -> Result<Option<Pem>, KubeconfigError> {
    match (data, file) {
        (Some(data), _) => {
            let text = base64::engine::general_purpose::STANDARD
                .decode(data.trim())
                .map_err(|_| KubeconfigError::Base64(field))?;
            let of = format!("the kubeconfig's {field}");
            Ok(Some(Pem { of, text }))
        }
        (None, Some(path)) => Ok(Some(Pem::read(path)?)),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const TEXT: &str = "
apiVersion: v1
kind: Config
current-context: work
contexts:
- name: work
  context: {cluster: c, user: u, namespace: team}
- name: lost
  context: {cluster: elsewhere, user: u}
clusters:
- name: c
  cluster: {server: 'http://127.0.0.1:6443'}
- name: proxied
  cluster: {server: 'http://127.0.0.1:6443', proxy-url: 'http://proxy'}
users:
- name: u
  user: {token: secret}
";

    fn config(text: &str) -> Kubeconfig {
        serde_saphyr::from_str(text).unwrap()
    }

    async fn error(text: &str, context: Option<&str>) -> String {
        config(text).access(context).await.err().unwrap().to_string()
    }

    #[tokio::test]
    async fn the_current_context_counts() {
        assert_eq!(config(TEXT).access(None).await.unwrap().namespace, "team");
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_named() {
        assert_eq!(error(TEXT, Some("x")).await, "the kubeconfig has no context 'x'");
        assert_eq!(
            error(TEXT, Some("lost")).await,
            "the kubeconfig has no cluster 'elsewhere'"
        );
        let proxied = TEXT.replace("cluster: c,", "cluster: proxied,");
        assert_eq!(
            error(&proxied, None).await,
            "the kubeconfig's proxy-url is not supported"
        );
        assert!(error("contexts: []", None).await.contains("--context"));
    }

    #[tokio::test]
    async fn a_program_gives_the_token() {
        let exec = "{command: sh, args: ['-c', 'echo \"{\\\"status\\\": {\\\"token\\\": \\\"t\\\"}}\"']}";
        let text = TEXT.replace("token: secret", &format!("exec: {exec}"));
        assert!(config(&text).access(None).await.is_ok());
        let failing = TEXT.replace(
            "token: secret",
            "exec: {command: sh, args: ['-c', 'echo no >&2; exit 3']}",
        );
        let reason = error(&failing, None).await;
        assert!(reason.contains("'sh' failed"), "{reason}");
    }
}
