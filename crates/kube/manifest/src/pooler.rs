//! Connection poolers: which ones a manifest asks for.

use serde::Deserialize;

use crate::Resources;

/// `spec.connectionPooler`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPooler {
    /// How many pods each pooler has.
    pub number_of_instances: Option<u32>,
    /// The schema of the lookup function.
    pub schema: Option<String>,
    /// The role by which poolers look passwords up.
    pub user: Option<String>,
    /// `session` or `transaction`.
    pub mode: Option<String>,
    /// The image.
    pub docker_image: Option<String>,
    /// Connections to the server, of all pods together.
    #[serde(rename = "maxDBConnections")]
    pub max_db_connections: Option<u32>,
    /// What each pod may use.
    pub resources: Option<Resources>,
}

/// The two poolers that a cluster can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoolerRole {
    /// Of the primary.
    Primary,
    /// Of the replicas.
    Replica,
}
