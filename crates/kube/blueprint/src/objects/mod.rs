//! The Kubernetes objects of a cluster.

mod account;
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

use howdah_manifest::{GROUP, KIND, Manifest, VERSION};
use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::Service, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use account::service_account;
pub use budget::BUDGET_ANNOTATION;
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
    /// Variables of every member that the operator's configuration names.
    pub environment: PodEnvironment,
}

/// Variables of every member, from a Secret and a ConfigMap that the operator's configuration names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodEnvironment {
    /// The Secret's name and its keys, each a variable; the Secret is in the cluster's namespace.
    pub secret: Option<(String, Vec<String>)>,
    /// The ConfigMap's data.
    pub values: BTreeMap<String, String>,
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
pub(crate) fn metadata(manifest: &Manifest, settings: &Settings, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(manifest.namespace.clone()),
        labels: Some(full_labels(manifest, settings)),
        annotations: Some(inherited_annotations(manifest, settings)).filter(|all| !all.is_empty()),
        owner_references: Some(owners(manifest, settings)).filter(|all| !all.is_empty()),
        ..ObjectMeta::default()
    }
}

/// The owners of a cluster's objects: those of the cluster, and the cluster itself where the configuration says so.
pub(crate) fn owners(manifest: &Manifest, settings: &Settings) -> Vec<OwnerReference> {
    let mut owners: Vec<OwnerReference> = typed_list(&manifest.owner_references).unwrap_or_default();
    // A deletion in the foreground would take the objects of a cluster that is protected.
    let of = &settings.objects;
    let is_protected = !of.delete_annotation_date_key.is_empty() || !of.delete_annotation_name_key.is_empty();
    if of.enable_owner_references && !is_protected && !manifest.uid.is_empty() {
        // Of an object that several control Kubernetes takes one.
        owners.iter_mut().for_each(|owner| owner.controller = None);
        owners.push(OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KIND.to_owned(),
            name: manifest.name.clone(),
            uid: manifest.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        });
    }
    owners
}

/// The annotations of a manifest that a StatefulSet or Deployment takes over for a downscaler.
pub(crate) fn downscaler_annotations(manifest: &Manifest, settings: &Settings) -> BTreeMap<String, String> {
    let patterns: Vec<Regex> = settings
        .objects
        .downscaler_annotations
        .iter()
        .filter_map(|pattern| Regex::new(pattern).ok())
        .collect();
    let fits = |name: &str| patterns.iter().any(|pattern| pattern.is_match(name));
    let all = manifest.annotations.iter().filter(|(name, _)| fits(name));
    all.map(|(name, value)| (name.clone(), value.clone())).collect()
}
