//! A cluster as a pass sees it, from its objects. Nothing here asks the API.

use std::collections::{BTreeMap, BTreeSet};

use howdah_blueprint::{
    Login, Names, POSTGRES_CONTAINER, Pod, ROLL_ANNOTATION, Settings, lazy_revisions, remembered_names,
};
use howdah_dcs::{ArchiveMark, HowdahMark, View, kubernetes::Layout};
use howdah_manifest::Manifest;
use howdah_overview::{MemberOverview, members};
use howdah_types::Scope;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{PersistentVolumeClaim, Pod as KubePod},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    login::login_of,
    objects::{ClusterKey, Objects},
    refusals::Refusals,
    waiting,
};

/// A cluster as it is.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) statefulset: Option<StatefulSet>,
    /// Addresses of the Services, by name.
    pub(crate) services: BTreeMap<String, String>,
    /// Names and resourceVersions of the Services and budgets.
    pub(crate) object_versions: Vec<String>,
    /// Names of the budgets.
    pub(crate) budgets: Vec<String>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) view: View,
    pub(crate) rows: Vec<MemberOverview>,
    /// What the Secrets with the cluster's labels say, by name; `None`: a Secret without a password.
    pub(crate) secrets: BTreeMap<String, Option<Login>>,
    /// What the volume claims ask for, by name.
    pub(crate) claims: BTreeMap<String, String>,
    /// The connection poolers, by name.
    pub(crate) poolers: BTreeMap<String, PoolerSeen>,
    /// Why a pod that is missing cannot be made.
    pub(crate) refusal: Option<String>,
    /// Pods that run an older image until they start again.
    pub(crate) lazy: Vec<String>,
}

/// A pooler's pods as they are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PoolerSeen {
    /// Of the Deployment.
    pub(crate) generation: i64,
    /// Pods of the newest template that take connections.
    pub(crate) ready: i32,
    /// Its controller has seen the newest template, and no older pod is left.
    pub(crate) settled: bool,
    /// It is being deleted.
    pub(crate) ending: bool,
    /// Why its pods cannot be made.
    pub(crate) refused: Option<String>,
}

impl PoolerSeen {
    pub(crate) fn of(deployment: &Deployment) -> Self {
        let generation = deployment.metadata.generation.unwrap_or(0);
        let status = deployment.status.clone().unwrap_or_default();
        let (all, updated) = (status.replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0));
        PoolerSeen {
            generation,
            ready: status.ready_replicas.unwrap_or(0).min(updated),
            settled: status.observed_generation == Some(generation) && all == updated,
            ending: deployment.metadata.deletion_timestamp.is_some(),
            refused: status.conditions.into_iter().flatten().find_map(|condition| {
                let is_refusal = condition.type_ == "ReplicaFailure" && condition.status == "True";
                condition.message.filter(|_| is_refusal)
            }),
        }
    }
}

/// What is known of nodes and StatefulSets beside the cluster's own objects.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    /// Nodes that take no new pods.
    pub(crate) cordoned: &'a BTreeSet<String>,
    pub(crate) refusals: &'a Refusals,
}

/// What a pass depends on. While it stays the same, another pass would find nothing else to do.
///
/// Positions in the WAL move with every write and are left out. How far a replica is behind counts, in powers of two.
#[derive(Clone, PartialEq)]
pub(crate) struct Mark {
    statefulset: Option<(Option<i64>, Value)>,
    services: BTreeMap<String, String>,
    object_versions: Vec<String>,
    pods: Vec<Pod>,
    rows: Vec<(MemberOverview, Option<u32>)>,
    configuration: u64,
    initialize: Option<String>,
    notes: [Vec<String>; 2],
    archive: Option<ArchiveMark>,
    behind: Option<String>,
    secrets: BTreeMap<String, Option<Login>>,
    claims: BTreeMap<String, String>,
    poolers: BTreeMap<String, PoolerSeen>,
    refusal: Option<String>,
}

/// A replica that is less than this behind is taken to be level: one segment of WAL.
const MANY_BYTES: u64 = 16 * 1024 * 1024;

impl Seen {
    /// Nothing of the cluster exists: neither objects nor volumes nor the state of its agents.
    pub(crate) fn is_new(&self) -> bool {
        let initialized = self.view.initialize.as_ref().is_some_and(|id| !id.is_empty());
        self.statefulset.is_none() && self.claims.is_empty() && self.pods.is_empty() && !initialized
    }

    /// The member that takes writes.
    pub(crate) fn primary(&self) -> Option<&MemberOverview> {
        self.rows.iter().find(|member| member.is_primary())
    }

    /// Whether the cluster follows another one, or is about to be made so. One that was refused to follow goes on as it was.
    pub(crate) fn stands_by(&self, manifest: &Manifest) -> bool {
        let follows = |config: &serde_json::Map<String, Value>| {
            config.get("standby_cluster").is_some_and(Value::is_object)
        };
        manifest.spec.standby.is_some() && self.view.config.value.as_ref().is_none_or(follows)
    }

    /// The member that leads: the primary, or the leader of a standby cluster.
    pub(crate) fn leader(&self) -> Option<&MemberOverview> {
        self.rows.iter().find(|member| member.leads())
    }

    /// The names of the dynamic configuration that were applied last.
    pub(crate) fn applied_names(&self) -> BTreeSet<String> {
        remembered_names(self.statefulset.as_ref())
    }

    /// Shows whether another client has changed the objects: generation or version of each.
    pub(crate) fn versions(&self) -> Vec<String> {
        let set = self.statefulset.as_ref().and_then(|set| set.metadata.generation);
        let mut out: Vec<String> = self.object_versions.clone();
        out.push(set.unwrap_or(0).to_string());
        out
    }

    /// Whether all objects beside the StatefulSet are there.
    pub(crate) fn is_whole(&self, cluster: &str, settings: &Settings) -> bool {
        let names = Names(cluster);
        self.statefulset.is_some()
            && [names.cluster(), names.replica_service()]
                .iter()
                .all(|name| self.services.contains_key(name))
            && [settings.primary_budget(cluster), names.critical_budget()]
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
        self.said(|mark| &mark.notes)
    }

    /// What the members say that their machine lacks.
    pub(crate) fn machine(&self) -> Vec<String> {
        self.said(|mark| &mark.machine)
    }

    /// How the archive is, as the leader says it.
    pub(crate) fn archive(&self) -> Option<ArchiveMark> {
        let marks = self
            .view
            .members
            .values()
            .filter_map(|member| member.howdah.as_ref());
        marks.filter_map(|mark| mark.archive.clone()).next()
    }

    fn said(&self, of: impl Fn(&HowdahMark) -> &Vec<String>) -> Vec<String> {
        let members = self.view.members.values();
        let marks = members.filter_map(|member| member.howdah.as_ref());
        let mut said: Vec<String> = Vec::new();
        for note in marks.flat_map(of) {
            if !said.contains(note) {
                said.push(note.clone());
            }
        }
        said
    }

    /// A member of ours that has not taken the present configuration into effect.
    pub(crate) fn behind_configuration(&self) -> Option<&str> {
        let wanted = self.view.config.rev;
        let lags = |row: &&MemberOverview| {
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

    /// What a change of must start a pass.
    pub(crate) fn mark(&self) -> Mark {
        let row = |row: &MemberOverview| {
            let lag = row
                .received
                .map(|position| u64::BITS - (position.lag / MANY_BYTES).leading_zeros());
            let row = MemberOverview {
                received: None,
                replayed: None,
                ..row.clone()
            };
            (row, lag)
        };
        Mark {
            statefulset: self.statefulset.as_ref().map(|set| {
                (
                    set.metadata.generation,
                    json!([set.status, set.metadata.annotations]),
                )
            }),
            services: self.services.clone(),
            object_versions: self.object_versions.clone(),
            pods: self.pods.clone(),
            rows: self.rows.iter().map(row).collect(),
            configuration: self.view.config.rev,
            initialize: self.view.initialize.clone(),
            notes: [self.notes(), self.machine()],
            archive: self.archive(),
            behind: self.behind_configuration().map(str::to_owned),
            secrets: self.secrets.clone(),
            claims: self.claims.clone(),
            poolers: self.poolers.clone(),
            refusal: self.refusal.clone(),
        }
    }
}

/// How the agents lay their state out; `None`: no cluster can have this name.
fn layout(settings: &Settings, cluster: &ClusterKey) -> Option<Layout> {
    Some(Layout {
        scope: Scope::new(cluster.name.clone()).ok()?,
        namespace: cluster.namespace.clone(),
        labels: settings.cluster_labels.clone(),
        scope_label: settings.cluster_name_label.clone(),
        role_label: settings.pod_role_label.clone(),
        leader_value: "master".into(),
        follower_value: "replica".into(),
        standby_leader_value: "master".into(),
        tmp_role_label: None,
        bootstrap_labels: BTreeMap::new(),
        routing: None,
    })
}

/// The part of an object that agents write into.
fn notes_of(meta: &ObjectMeta) -> Value {
    json!({"metadata": {
        "name": meta.name,
        "resourceVersion": meta.resource_version,
        "annotations": meta.annotations,
        "labels": meta.labels,
    }})
}

/// A cluster from its objects.
pub(crate) fn seen(settings: &Settings, cluster: &ClusterKey, objects: &Objects, around: Around<'_>) -> Seen {
    let service_versions = objects.services.values().map(|service| &service.metadata);
    let budget_versions = objects.budgets.values().map(|budget| &budget.metadata);
    let object_versions = service_versions
        .map(|meta| version_of("Service", meta))
        .chain(budget_versions.map(|meta| generation_of("PodDisruptionBudget", meta)))
        .collect();
    let services = objects
        .services
        .values()
        .map(|service| {
            let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone());
            (service.name_any(), address.unwrap_or_default())
        })
        .collect();
    let maps: Vec<Value> = objects.maps.values().map(|map| notes_of(&map.metadata)).collect();
    let raw_pods: Vec<Value> = objects.pods.values().map(|pod| notes_of(&pod.metadata)).collect();
    let view = layout(settings, cluster)
        .map(|layout| layout.view_of(&maps, &raw_pods))
        .unwrap_or_default();
    let mut pods: Vec<Pod> = objects
        .pods
        .values()
        .filter_map(|object| pod(object, &cluster.name, around.cordoned))
        .collect();
    pods.sort_by_key(|pod| pod.ordinal);
    // What a pod says of itself counts only while it runs: its agent may be dead.
    let rows = members(&view)
        .into_iter()
        .filter(|row| {
            pods.iter()
                .any(|pod| pod.name == row.name && pod.running && !pod.ending)
        })
        .collect();
    let set = objects.sets.get(&Names(&cluster.name).cluster());
    let lazy = set.map(|set| stay(set, &mut pods)).unwrap_or_default();
    Seen {
        lazy,
        refusal: around.refusals.of(cluster, set, objects.pods.values()),
        statefulset: set.cloned(),
        services,
        object_versions,
        budgets: objects.budgets.keys().cloned().collect(),
        pods,
        view,
        rows,
        secrets: objects
            .secrets
            .iter()
            .map(|(name, secret)| (name.clone(), login_of(secret)))
            .collect(),
        claims: objects
            .claims
            .iter()
            .filter_map(|(name, claim)| Some((name.clone(), size_of(claim)?)))
            .collect(),
        poolers: objects
            .deployments
            .iter()
            .map(|(name, deployment)| (name.clone(), PoolerSeen::of(deployment)))
            .collect(),
    }
}

/// Pods that differ from the newest template in the image alone, where they take it when they start for another reason: they count
/// as made from it. Returns their names.
fn stay(set: &StatefulSet, pods: &mut [Pod]) -> Vec<String> {
    let lazy = lazy_revisions(set);
    let Some(newest) = Seen::revision(set).filter(|_| !lazy.is_empty()) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    // One that cannot run is replaced as ever: the newer image may be the cure.
    let runs = |pod: &Pod| pod.running && pod.trouble.is_none();
    for pod in pods
        .iter_mut()
        .filter(|pod| runs(pod) && pod.revision != newest && lazy.contains(&pod.revision))
    {
        pod.revision.clone_from(&newest);
        out.push(pod.name.clone());
    }
    out
}

/// An object's name and resourceVersion.
fn version_of(kind: &str, meta: &ObjectMeta) -> String {
    let name = meta.name.as_deref().unwrap_or_default();
    format!(
        "{kind}/{name}@{}",
        meta.resource_version.as_deref().unwrap_or_default()
    )
}

/// An object's name and generation: of one whose status changes all the time.
fn generation_of(kind: &str, meta: &ObjectMeta) -> String {
    let name = meta.name.as_deref().unwrap_or_default();
    format!("{kind}/{name}@{}", meta.generation.unwrap_or(0))
}

/// The size that a claim asks for.
fn size_of(claim: &PersistentVolumeClaim) -> Option<String> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Some(requests.get("storage")?.0.clone())
}

fn is_ready(pod: &KubePod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn pod(object: &KubePod, cluster: &str, cordoned: &BTreeSet<String>) -> Option<Pod> {
    let name = object.metadata.name.clone()?;
    let ordinal = name.strip_prefix(cluster)?.strip_prefix('-')?.parse().ok()?;
    let status = object
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref())
        .and_then(|all| all.iter().find(|status| status.name == POSTGRES_CONTAINER));
    let state = status.and_then(|status| status.state.as_ref());
    let trouble = waiting::of_pod(object, POSTGRES_CONTAINER);
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
        ready: is_ready(object),
        leaving: object
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_ref())
            .is_some_and(|node| cordoned.contains(node)),
        trouble,
    })
}
