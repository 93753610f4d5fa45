//! What a manifest adds to the pods: containers beside PostgreSQL's, volumes, and certificates.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::Resources;

/// The name of the container that PostgreSQL runs in.
pub const POSTGRES_CONTAINER: &str = "postgres";
/// Where a member's volume is mounted.
pub const DATA_PATH: &str = "/home/postgres/pgdata";
/// The name of that volume.
pub const DATA_VOLUME: &str = "pgdata";
/// Where the Secret of `tls.secretName` is mounted.
pub const TLS_PATH: &str = "/tls";
/// Where the Secret of `tls.caSecretName` is mounted.
pub const TLS_CA_PATH: &str = "/tlsca";

/// One of `spec.sidecars`: a container beside PostgreSQL's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Sidecar {
    /// Its name in the pod.
    pub name: String,
    /// Its image.
    pub image: String,
    /// core/v1 ContainerPorts.
    #[serde(deserialize_with = "or_empty")]
    pub ports: Vec<Value>,
    /// core/v1 EnvVars, after those that the operator gives each sidecar.
    #[serde(deserialize_with = "or_empty")]
    pub env: Vec<Value>,
    /// Replaces the image's command.
    #[serde(deserialize_with = "or_empty")]
    pub command: Vec<String>,
    /// What it may use; the operator's defaults unless set.
    pub resources: Option<Resources>,
}

/// `null` is an empty list.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(de: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(de)?.unwrap_or_default())
}

/// One of `spec.additionalVolumes`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdditionalVolume {
    /// The volume's name in the pod.
    pub name: String,
    /// Where it is mounted.
    pub mount_path: String,
    /// Mounted below the volume's root.
    pub sub_path: Option<String>,
    /// The path may hold variables.
    pub is_sub_path_expr: Option<bool>,
    /// Names of containers; `all` means PostgreSQL's and all sidecars; PostgreSQL's alone unless set.
    pub target_containers: Option<Vec<String>>,
    /// A core/v1 VolumeSource.
    pub volume_source: Value,
}

impl AdditionalVolume {
    /// Whether it is mounted in this container. `all` does not reach init containers, which may be named.
    #[must_use]
    pub fn is_for(&self, container: &str, is_init: bool) -> bool {
        match self.target_containers.as_deref().unwrap_or_default() {
            [] => container == POSTGRES_CONTAINER && !is_init,
            targets => targets
                .iter()
                .any(|target| target == container || (target == "all" && !is_init)),
        }
    }
}

/// `spec.tls`: the certificate of the servers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tls {
    /// The Secret; none, if empty.
    pub secret_name: String,
    /// The certificate's key in the Secret, or an absolute path; `tls.crt` unless set.
    pub certificate_file: String,
    /// The private key's; `tls.key` unless set.
    pub private_key_file: String,
    /// The certificate authority's: with it, clients' certificates can be checked.
    pub ca_file: String,
    /// Another Secret, for the certificate authority.
    pub ca_secret_name: String,
}

/// A path of a file of `tls`.
fn in_secret(file: &str, directory: &str, default: &str) -> String {
    match file {
        "" => format!("{directory}/{default}"),
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        name => format!("{directory}/{name}"),
    }
}

impl Tls {
    /// The variables of the image that name the files.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut env = vec![
            (
                "SSL_CERTIFICATE_FILE",
                in_secret(&self.certificate_file, TLS_PATH, "tls.crt"),
            ),
            (
                "SSL_PRIVATE_KEY_FILE",
                in_secret(&self.private_key_file, TLS_PATH, "tls.key"),
            ),
        ];
        if !self.ca_file.is_empty() {
            let directory = if self.ca_secret_name.is_empty() {
                TLS_PATH
            } else {
                TLS_CA_PATH
            };
            env.push(("SSL_CA_FILE", in_secret(&self.ca_file, directory, "")));
        }
        env
    }
}
