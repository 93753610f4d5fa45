//! Everything a pass reads.

use std::collections::{BTreeMap, BTreeSet};

use howdah_api::Manifest;
use howdah_dcs::View;
use howdah_dcs_kube::Layout;
use howdah_plan::{APPLIED_ANNOTATION, Names, POSTGRES_CONTAINER, Pod, ROLL_ANNOTATION, base_labels};
use howdah_rest::{ClusterRow, cluster_rows};
use howdah_types::Scope;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Pod as KubePod, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::Value;

use crate::{OperatorError, context::Context};

/// A cluster as it is.
pub(crate) struct Seen {
    pub(crate) statefulset: Option<StatefulSet>,
    /// Addresses of the Services, by name.
    pub(crate) services: BTreeMap<String, String>,
    /// resourceVersions of the Services.
    pub(crate) service_versions: Vec<String>,
    /// Names of the budgets.
    pub(crate) budgets: Vec<String>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) view: View,
    pub(crate) rows: Vec<ClusterRow>,
}

impl Seen {
    /// The member that takes writes.
    pub(crate) fn primary(&self) -> Option<&ClusterRow> {
        self.rows
            .iter()
            .find(|row| row.role == "leader" && row.state == "running")
    }

    /// The names of the dynamic configuration that were applied last.
    pub(crate) fn applied_names(&self) -> BTreeSet<String> {
        let set = self.statefulset.as_ref();
        let annotation = set.and_then(|set| set.metadata.annotations.as_ref()?.get(APPLIED_ANNOTATION));
        annotation
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// What tells whether somebody else has changed the objects: generation or version of each.
    pub(crate) fn versions(&self) -> Vec<String> {
        let set = self.statefulset.as_ref().and_then(|set| set.metadata.generation);
        let mut out: Vec<String> = self.service_versions.clone();
        out.sort();
        out.push(set.unwrap_or(0).to_string());
        out
    }

    /// Whether all objects beside the StatefulSet are there.
    pub(crate) fn is_whole(&self, cluster: &str) -> bool {
        let names = Names(cluster);
        self.statefulset.is_some()
            && [names.cluster(), names.replica_service()]
                .iter()
                .all(|name| self.services.contains_key(name))
            && [names.primary_budget(), names.critical_budget()]
                .iter()
                .all(|name| self.budgets.contains(name))
    }

    /// The newest template's name, once the StatefulSet's controller has seen it.
    pub(crate) fn revision(statefulset: &StatefulSet) -> Option<String> {
        let status = statefulset.status.as_ref()?;
        (status.observed_generation == statefulset.metadata.generation)
            .then(|| status.update_revision.clone())
            .flatten()
    }

    /// Notes of the members: how they differ from what was asked for.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        for mark in self
            .view
            .members
            .values()
            .filter_map(|member| member.howdah.as_ref())
        {
            for note in &mark.notes {
                if !notes.contains(note) {
                    notes.push(note.clone());
                }
            }
        }
        notes
    }

    /// A member of ours that has not taken the present configuration into effect.
    pub(crate) fn behind_configuration(&self) -> Option<&str> {
        let wanted = self.view.config.rev;
        let lags = |row: &&ClusterRow| {
            let mark = self
                .view
                .members
                .iter()
                .find(|(name, _)| name.as_str() == row.name)
                .and_then(|(_, member)| member.howdah.as_ref());
            mark.is_some_and(|mark| mark.config.is_none_or(|have| have < wanted))
        };
        self.rows.iter().find(lags).map(|row| row.name.as_str())
    }
}

/// How the agents lay their state out.
pub(crate) fn layout(context: &Context, manifest: &Manifest) -> Result<Layout, OperatorError> {
    let settings = &context.settings;
    Ok(Layout {
        scope: Scope::new(manifest.name.clone())
            .map_err(|error| OperatorError::Missing(error.to_string()))?,
        namespace: manifest.namespace.clone(),
        labels: settings.cluster_labels.clone(),
        scope_label: settings.cluster_name_label.clone(),
        role_label: settings.pod_role_label.clone(),
        leader_value: "master".into(),
        follower_value: "replica".into(),
        tmp_role_label: None,
        bootstrap_labels: BTreeMap::new(),
    })
}

/// Reads the cluster.
pub(crate) async fn observe(context: &Context, manifest: &Manifest) -> Result<Seen, OperatorError> {
    let namespace = &manifest.namespace;
    let labels: Vec<String> = base_labels(&manifest.name, &context.settings)
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let params = ListParams::default().labels(&labels.join(","));
    let client = || -> Client { context.client.clone() };
    let pods = Api::<KubePod>::namespaced(client(), namespace)
        .list(&params)
        .await
        .map_err(OperatorError::kube("listing pods"))?;
    let maps = Api::<ConfigMap>::namespaced(client(), namespace)
        .list(&params)
        .await
        .map_err(OperatorError::kube("listing ConfigMaps"))?;
    let statefulset = Api::<StatefulSet>::namespaced(client(), namespace)
        .get_opt(&Names(&manifest.name).cluster())
        .await
        .map_err(OperatorError::kube("reading the StatefulSet"))?;
    let services = Api::<Service>::namespaced(client(), namespace)
        .list(&params)
        .await
        .map_err(OperatorError::kube("listing Services"))?;
    let service_versions = services
        .iter()
        .filter_map(ResourceExt::resource_version)
        .collect();
    let services = services
        .into_iter()
        .map(|service| {
            let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone());
            (service.name_any(), address.unwrap_or_default())
        })
        .collect();
    let budgets = Api::<PodDisruptionBudget>::namespaced(client(), namespace)
        .list(&params)
        .await
        .map_err(OperatorError::kube("listing PodDisruptionBudgets"))?;
    let budgets = budgets.iter().map(PodDisruptionBudget::name_any).collect();
    let json = |object: serde_json::Result<Value>| object.unwrap_or_default();
    let raw_pods: Vec<Value> = pods
        .items
        .iter()
        .map(|pod| json(serde_json::to_value(pod)))
        .collect();
    let raw_maps: Vec<Value> = maps
        .items
        .iter()
        .map(|map| json(serde_json::to_value(map)))
        .collect();
    let view = layout(context, manifest)?.view_of(&raw_maps, &raw_pods);
    let mut pods: Vec<Pod> = pods
        .items
        .iter()
        .filter_map(|object| pod(object, &manifest.name))
        .collect();
    pods.sort_by_key(|pod| pod.ordinal);
    // What a pod says of itself counts only while it runs: its agent may be dead.
    let rows = cluster_rows(&view)
        .into_iter()
        .filter(|row| {
            pods.iter()
                .any(|pod| pod.name == row.name && pod.running && !pod.ending)
        })
        .collect();
    Ok(Seen {
        statefulset,
        services,
        service_versions,
        budgets,
        rows,
        view,
        pods,
    })
}

fn pod(object: &KubePod, cluster: &str) -> Option<Pod> {
    let name = object.metadata.name.clone()?;
    let ordinal = name.strip_prefix(cluster)?.strip_prefix('-')?.parse().ok()?;
    let status = object
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref())
        .and_then(|all| all.iter().find(|status| status.name == POSTGRES_CONTAINER));
    let state = status.and_then(|status| status.state.as_ref());
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let trouble = waiting.and_then(|waiting| {
        let reason = waiting.reason.clone()?;
        let message = waiting.message.clone().unwrap_or_default();
        Some(format!("{reason}: {message}"))
    });
    let label = |name: &str| {
        object
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(name))
            .cloned()
    };
    let annotation = object
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(ROLL_ANNOTATION));
    Some(Pod {
        name,
        ordinal,
        revision: label("controller-revision-hash").unwrap_or_default(),
        wanted: annotation.is_some_and(|value| value == "true"),
        ending: object.metadata.deletion_timestamp.is_some(),
        running: state.is_some_and(|state| state.running.is_some()),
        trouble,
    })
}
