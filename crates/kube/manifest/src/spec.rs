use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    AdditionalVolume, CloneFrom, ConnectionPooler, PoolerRole, Resources, Sidecar, StandbyOf, Tls, Window,
};

/// `spec` in typed form: what the operator acts on. Other fields are in the manifest and named as not applied.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PostgresqlSpec {
    /// The owning team.
    pub team_id: String,
    /// How many members.
    pub number_of_instances: u32,
    /// PostgreSQL's version and parameters.
    pub postgresql: PostgresSpec,
    /// Storage.
    pub volume: Volume,
    /// Settings of the agent.
    pub patroni: PatroniSpec,
    /// What each member may use.
    pub resources: Option<Resources>,
    /// Roles and their flags.
    #[serde(deserialize_with = "lists_or_null")]
    pub users: BTreeMap<String, Vec<String>>,
    /// Databases and their owners.
    pub databases: BTreeMap<String, String>,
    /// Databases with roles, schemas and extensions; `Some` and empty means one, named like the cluster.
    pub prepared_databases: Option<BTreeMap<String, PreparedDatabase>>,
    /// A load balancer for the primary.
    pub enable_master_load_balancer: Option<bool>,
    /// A load balancer for the replicas.
    pub enable_replica_load_balancer: Option<bool>,
    /// A port of every node for the primary.
    pub enable_master_node_port: Option<bool>,
    /// A port of every node for the replicas.
    pub enable_replica_node_port: Option<bool>,
    /// Which port.
    pub master_node_port: Option<i32>,
    /// Which port.
    pub replica_node_port: Option<i32>,
    /// Who may reach the load balancers.
    pub allowed_source_ranges: Option<Vec<String>>,
    /// For both Services.
    pub service_annotations: BTreeMap<String, String>,
    /// For the primary's Service.
    pub master_service_annotations: BTreeMap<String, String>,
    /// For the replicas' Service.
    pub replica_service_annotations: BTreeMap<String, String>,
    /// For the pods.
    pub pod_annotations: BTreeMap<String, String>,
    /// The image.
    pub docker_image: Option<String>,
    /// The scheduler.
    pub scheduler_name: Option<String>,
    /// The user id of the pods' processes.
    pub spilo_run_as_user: Option<i64>,
    /// The group id.
    pub spilo_run_as_group: Option<i64>,
    /// The group of the volumes.
    #[serde(rename = "spiloFSGroup")]
    pub spilo_fs_group: Option<i64>,
    /// A memory volume for shared memory.
    pub enable_shm_volume: Option<bool>,
    /// The priority class.
    pub pod_priority_class_name: Option<String>,
    /// core/v1 Tolerations.
    pub tolerations: Vec<Value>,
    /// A core/v1 NodeAffinity.
    pub node_affinity: Option<Value>,
    /// core/v1 TopologySpreadConstraints.
    pub topology_spread_constraints: Vec<Value>,
    /// A core/v1 Probe.
    pub liveness_probe: Option<Value>,
    /// core/v1 EnvVars.
    pub env: Option<Vec<Value>>,
    /// core/v1 EnvFromSources.
    pub env_from: Option<Vec<Value>>,
    /// Containers beside PostgreSQL's.
    pub sidecars: Option<Vec<Sidecar>>,
    /// core/v1 Containers that run before it.
    pub init_containers: Option<Vec<Value>>,
    /// Volumes beside the data's.
    pub additional_volumes: Vec<AdditionalVolume>,
    /// The servers' certificate.
    pub tls: Option<Tls>,
    /// The data of a new cluster is a copy of another one's.
    pub clone: Option<CloneFrom>,
    /// The cluster follows another one.
    pub standby: Option<StandbyOf>,
    /// A connection pooler for the primary; a section alone asks for it as well.
    pub enable_connection_pooler: Option<bool>,
    /// One for the replicas.
    pub enable_replica_connection_pooler: Option<bool>,
    /// How poolers are.
    pub connection_pooler: Option<ConnectionPooler>,
    /// A load balancer for the primary's pooler.
    pub enable_master_pooler_load_balancer: Option<bool>,
    /// The same for the replicas' pooler.
    pub enable_replica_pooler_load_balancer: Option<bool>,
    /// A port of every node for the primary's pooler.
    pub enable_master_pooler_node_port: Option<bool>,
    /// The same for the replicas' pooler.
    pub enable_replica_pooler_node_port: Option<bool>,
    /// Which port.
    pub master_pooler_node_port: Option<i32>,
    /// Which port.
    pub replica_pooler_node_port: Option<i32>,
    /// Users whose passwords stay where all change.
    pub users_ignoring_secret_rotation: Option<Vec<String>>,
    /// Users who get a new role with a new password from time to time.
    pub users_with_secret_rotation: Option<Vec<String>>,
    /// Users whose role gets a new password from time to time.
    pub users_with_in_place_secret_rotation: Option<Vec<String>>,
    /// When the primary may be moved for maintenance.
    #[serde(deserialize_with = "windows")]
    pub maintenance_windows: Vec<Window>,
}

/// `spec.postgresql`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PostgresSpec {
    /// The major, as text.
    pub version: String,
    /// Parameters.
    pub parameters: BTreeMap<String, String>,
}

/// `spec.volume`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// How much.
    pub size: String,
    /// Of which class.
    pub storage_class: Option<String>,
    /// Mounted below the volume's root.
    pub sub_path: Option<String>,
    /// The path may hold variables.
    pub is_sub_path_expr: Option<bool>,
    /// A LabelSelector for existing volumes.
    pub selector: Option<Value>,
}

/// `spec.patroni`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PatroniSpec {
    /// Options of initdb.
    pub initdb: BTreeMap<String, String>,
    /// Lines of `pg_hba.conf`.
    pub pg_hba: Vec<String>,
    /// Seconds.
    pub ttl: Option<u32>,
    /// Seconds.
    pub loop_wait: Option<u32>,
    /// Seconds.
    pub retry_timeout: Option<u32>,
    /// Bytes.
    pub maximum_lag_on_failover: Option<i64>,
    /// Permanent slots.
    pub slots: BTreeMap<String, BTreeMap<String, String>>,
    /// Synchronous replication.
    pub synchronous_mode: Option<bool>,
    /// No commit without a standby.
    pub synchronous_mode_strict: Option<bool>,
    /// How many synchronous standbys.
    pub synchronous_node_count: Option<u32>,
    /// A leader that does not reach the API server goes on while all members agree.
    pub failsafe_mode: Option<bool>,
}

/// One of `spec.preparedDatabases`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PreparedDatabase {
    /// Also login roles.
    pub default_users: bool,
    /// Extensions, each with its schema.
    pub extensions: BTreeMap<String, String>,
    /// Schemas; one named `data` when none is given.
    pub schemas: BTreeMap<String, PreparedSchema>,
    /// Where the login roles' Secrets go.
    pub secret_namespace: Option<String>,
}

/// One schema of a prepared database.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PreparedSchema {
    /// Roles of its own; yes unless set.
    pub default_roles: Option<bool>,
    /// Also login roles.
    pub default_users: bool,
}

impl PreparedDatabase {
    /// The schemas with upstream's default: one named `data`.
    #[must_use]
    pub fn schemas(&self) -> BTreeMap<String, PreparedSchema> {
        if self.schemas.is_empty() {
            BTreeMap::from([("data".to_owned(), PreparedSchema::default())])
        } else {
            self.schemas.clone()
        }
    }
}

impl PostgresqlSpec {
    /// Prepared databases with upstream's default: an empty map means one, named like the cluster.
    #[must_use]
    pub fn prepared(&self, cluster: &str) -> BTreeMap<String, PreparedDatabase> {
        match &self.prepared_databases {
            None => BTreeMap::new(),
            Some(map) if map.is_empty() => {
                BTreeMap::from([(cluster.replace('-', "_"), PreparedDatabase::default())])
            }
            Some(map) => map.clone(),
        }
    }
}

impl PostgresqlSpec {
    /// The poolers that are asked for. Upstream's rule: a section without a flag asks for the primary's.
    #[must_use]
    pub fn poolers(&self) -> Vec<PoolerRole> {
        let primary = self
            .enable_connection_pooler
            .unwrap_or(self.connection_pooler.is_some());
        let replica = self.enable_replica_connection_pooler == Some(true);
        [(primary, PoolerRole::Primary), (replica, PoolerRole::Replica)]
            .into_iter()
            .filter_map(|(is_on, role)| is_on.then_some(role))
            .collect()
    }
}

fn windows<'de, D: serde::Deserializer<'de>>(de: D) -> Result<Vec<Window>, D::Error> {
    let texts: Vec<String> = Vec::deserialize(de)?;
    let wrong = |reason: String| serde::de::Error::custom(format!("maintenanceWindows: {reason}"));
    let read = |text: &String| text.parse().map_err(wrong);
    texts.iter().map(read).collect()
}

fn lists_or_null<'de, D: serde::Deserializer<'de>>(de: D) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let raw: BTreeMap<String, Option<Vec<String>>> = BTreeMap::deserialize(de)?;
    Ok(raw
        .into_iter()
        .map(|(name, flags)| (name, flags.unwrap_or_default()))
        .collect())
}

/// An attribute of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flag {
    /// Its name in SQL, without `NO`.
    pub name: &'static str,
    /// On or off.
    pub on: bool,
}

/// A role's flags cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FlagError {
    /// There is no such flag.
    #[error(
        "'{0}' is not a role flag; known are bypassrls, createdb, createrole, inherit, login, replication, superuser and their no… forms"
    )]
    Unknown(String),
    /// Both it and its opposite.
    #[error("'{0}' is given both with and without NO: keep one")]
    Contradiction(&'static str),
}

const FLAGS: &[&str] = &[
    "BYPASSRLS",
    "CREATEDB",
    "CREATEROLE",
    "INHERIT",
    "LOGIN",
    "REPLICATION",
    "SUPERUSER",
];

/// A role's attributes; `LOGIN` unless `NOLOGIN`.
///
/// # Errors
/// See [`FlagError`].
pub fn role_flags(words: &[String]) -> Result<Vec<Flag>, FlagError> {
    let mut flags: Vec<Flag> = Vec::new();
    for word in words {
        let upper = word.to_ascii_uppercase();
        let on = !upper.starts_with("NO");
        let bare = upper.strip_prefix("NO").unwrap_or(&upper);
        let name = FLAGS
            .iter()
            .find(|name| **name == bare)
            .ok_or_else(|| FlagError::Unknown(word.clone()))?;
        match flags.iter().find(|flag| flag.name == *name) {
            Some(flag) if flag.on != on => return Err(FlagError::Contradiction(name)),
            Some(_) => {}
            None => flags.push(Flag { name, on }),
        }
    }
    if !flags.iter().any(|flag| flag.name == "LOGIN") {
        flags.push(Flag {
            name: "LOGIN",
            on: true,
        });
    }
    flags.sort();
    Ok(flags)
}

/// Old names become new ones; a new one that is there as well wins.
pub(crate) fn resolve_old_names(spec: &Map<String, Value>) -> Map<String, Value> {
    let mut out = spec.clone();
    for (old, new) in crate::OLD_NAMES {
        if let Some(value) = out.remove(*old)
            && !out.contains_key(*new)
        {
            out.insert((*new).to_owned(), value);
        }
    }
    // `null` is absent.
    out.retain(|_, value| !value.is_null());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_understood_in_any_case() {
        let flags = role_flags(&["superuser".into(), "NOCREATEDB".into()]).unwrap();
        let shown: Vec<_> = flags.iter().map(|f| (f.name, f.on)).collect();
        assert_eq!(shown, [("CREATEDB", false), ("LOGIN", true), ("SUPERUSER", true)]);
        assert_eq!(
            role_flags(&["login".into(), "nologin".into()]),
            Err(FlagError::Contradiction("LOGIN"))
        );
        assert!(role_flags(&["super".into()]).is_err());
    }
}
