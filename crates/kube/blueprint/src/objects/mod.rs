//! The Kubernetes objects of a cluster.

mod budget;
mod container;
mod environment;
mod placement;
mod pooler;
mod resources;
mod service;
mod sidecars;
mod spilo_configuration;
mod statefulset;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use howdah_manifest::Manifest;
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{Secret, Service, ServiceAccount},
        policy::v1::PodDisruptionBudget,
        rbac::v1::{RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use environment::overruled_env;
pub use howdah_manifest::POSTGRES_CONTAINER;
pub use pooler::{
    POOLER_CONTAINER, POOLER_LABEL, Pooler, pooler_conflict, pooler_schema, pooler_user, poolers,
};
pub use sidecars::overruled_sidecar_env;
pub use statefulset::{TEMPLATE_VERSION, template_version_of};

use crate::Settings;

/// What already runs and must not change by itself.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The StatefulSet as it is.
    pub statefulset: Option<StatefulSet>,
    /// The cluster has been bootstrapped: what counts only for that is settled.
    pub bootstrapped: bool,
    /// Names of the dynamic configuration that stay noted as applied, because it could not be changed now.
    pub still_applied: BTreeSet<String>,
    /// The StatefulSet keeps this many members for now, because the primary is among those to go.
    pub hold_replicas: Option<u32>,
    /// The major of the servers that run, if it was seen.
    pub major: Option<String>,
    /// The version of the pod template that the cluster was made with. `None`: it is about to be made, with the newest.
    pub template: Option<u32>,
}

/// The objects to apply, in this order. Secrets are made apart: an existing one wins.
#[derive(Clone, Debug)]
pub struct Objects {
    /// The primary's Service.
    pub primary_service: Service,
    /// The replicas' Service.
    pub replica_service: Service,
    /// The budget that keeps the primary.
    pub primary_budget: PodDisruptionBudget,
    /// The budget that keeps members with work that must not be interrupted.
    pub critical_budget: PodDisruptionBudget,
    /// The members.
    pub statefulset: StatefulSet,
}

/// Builds the objects of a cluster.
#[must_use]
pub fn objects(manifest: &Manifest, settings: &Settings, live: &Live) -> Objects {
    Objects {
        primary_service: service::primary(manifest, settings),
        replica_service: service::replica(manifest, settings),
        primary_budget: budget::primary(manifest, settings),
        critical_budget: budget::critical(manifest, settings),
        statefulset: statefulset::statefulset(manifest, settings, live),
    }
}

/// A login role's Secret.
#[must_use]
pub fn secret(manifest: &Manifest, settings: &Settings, name: &str, role: &str, password: &str) -> Secret {
    Secret {
        metadata: metadata(manifest, settings, name),
        string_data: Some(BTreeMap::from([
            ("username".to_owned(), role.to_owned()),
            ("password".to_owned(), password.to_owned()),
        ])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// The pods' ServiceAccount of a namespace and the binding to the ClusterRole of the same name.
#[must_use]
pub fn service_account(namespace: &str, settings: &Settings) -> (ServiceAccount, RoleBinding) {
    let name = &settings.pod_service_account_name;
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    let account = ServiceAccount {
        metadata: metadata.clone(),
        ..ServiceAccount::default()
    };
    let binding = RoleBinding {
        metadata,
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "ClusterRole".into(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: name.clone(),
            namespace: Some(namespace.to_owned()),
            ..Subject::default()
        }]),
    };
    (account, binding)
}

/// The labels that select a cluster's objects.
#[must_use]
pub fn base_labels(cluster: &str, settings: &Settings) -> BTreeMap<String, String> {
    let mut labels = settings.cluster_labels.clone();
    labels.insert(settings.cluster_name_label.clone(), cluster.to_owned());
    labels
}

/// The labels that a cluster's objects have.
#[must_use]
pub fn full_labels(manifest: &Manifest, settings: &Settings) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<_, _> = inherited(&manifest.labels, &settings.inherited_labels).collect();
    labels.insert("team".into(), manifest.spec.team_id.clone());
    // By these its objects are found: no label of a manifest takes their place.
    labels.extend(base_labels(&manifest.name, settings));
    labels
}

/// The last part of an image's name, without its tag.
fn image_name(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or_default();
    name.split([':', '@']).next().unwrap_or_default()
}

/// What an object takes over from the manifest's labels or annotations.
fn inherited<'a>(
    have: &'a BTreeMap<String, String>,
    names: &'a [String],
) -> impl Iterator<Item = (String, String)> + 'a {
    names
        .iter()
        .filter_map(|name| Some((name.clone(), have.get(name)?.clone())))
}

fn inherited_annotations(manifest: &Manifest, settings: &Settings) -> BTreeMap<String, String> {
    inherited(&manifest.annotations, &settings.inherited_annotations).collect()
}

/// A Kubernetes value that a manifest hands on. One that is not of its type was refused when the manifest was read.
fn typed<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

fn typed_list<T: DeserializeOwned>(values: &[Value]) -> Option<Vec<T>> {
    let list: Vec<T> = values.iter().filter_map(typed).collect();
    (!list.is_empty()).then_some(list)
}

/// Metadata of an object that ends with its cluster.
fn metadata(manifest: &Manifest, settings: &Settings, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(manifest.namespace.clone()),
        labels: Some(full_labels(manifest, settings)),
        annotations: Some(inherited_annotations(manifest, settings)).filter(|all| !all.is_empty()),
        ..ObjectMeta::default()
    }
}
