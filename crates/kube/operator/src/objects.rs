//! The objects of one cluster.

use std::collections::BTreeMap;

use howdah_manifest::Manifest;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::api::DynamicObject;

/// Where a cluster is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ClusterKey {
    pub(crate) fn of_object(object: &DynamicObject) -> Self {
        ClusterKey {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
        }
    }

    pub(crate) fn of(manifest: &Manifest) -> Self {
        ClusterKey {
            namespace: manifest.namespace.clone(),
            name: manifest.name.clone(),
        }
    }
}

/// The objects of one cluster, by name.
#[derive(Clone, Default)]
pub(crate) struct Objects {
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) maps: BTreeMap<String, ConfigMap>,
    pub(crate) sets: BTreeMap<String, StatefulSet>,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) budgets: BTreeMap<String, PodDisruptionBudget>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) claims: BTreeMap<String, PersistentVolumeClaim>,
    pub(crate) deployments: BTreeMap<String, Deployment>,
}

impl Objects {
    pub(crate) fn is_empty(&self) -> bool {
        self.pods.is_empty()
            && self.maps.is_empty()
            && self.sets.is_empty()
            && self.services.is_empty()
            && self.budgets.is_empty()
            && self.secrets.is_empty()
            && self.claims.is_empty()
            && self.deployments.is_empty()
    }
}
