//! Every object of every cluster, kept up to date by watches: objects in, clusters out.
//!
//! A pass reads a cluster here and asks the API for nothing. The index also decides which changes matter: a cluster is
//! reported only when what a pass would see of it has changed, so that the renewal of a lease or a new WAL position
//! starts no pass.

use std::collections::{BTreeMap, BTreeSet};

use howdah_blueprint::{CLUSTER_NAMESPACE_ANNOTATION, Settings};
use howdah_dcs::kubernetes::differs_by_renewal;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{ConfigMap, Event as KubeEvent, Node, PersistentVolumeClaim, Pod, Secret, Service},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, runtime::watcher::Event};

use crate::{
    objects::{ClusterKey, Objects},
    observe::{Around, Mark, Seen, seen},
    prune,
    refusals::Refusals,
};

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Pod,
    ConfigMap,
    StatefulSet,
    Service,
    Budget,
    Secret,
    Claim,
    Deployment,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Pod,
        Kind::ConfigMap,
        Kind::StatefulSet,
        Kind::Service,
        Kind::Budget,
        Kind::Secret,
        Kind::Claim,
        Kind::Deployment,
    ];
}

/// An object that the index keeps.
pub(crate) trait Indexed: Resource<DynamicType = ()> + Clone {
    const KIND: Kind;

    /// Where objects of this kind are kept.
    fn of(objects: &mut Objects) -> &mut BTreeMap<String, Self>;

    /// Whether it differs from `known` only in what no pass looks at.
    fn is_same_to_a_pass(&self, known: &Self) -> bool;

    /// Drops what nothing looks at: there may be thousands of objects.
    fn prune(&mut self);
}

macro_rules! indexed {
    ($($object:ty => $kind:ident, $field:ident, $same:expr, $prune:expr;)*) => {$(
        impl Indexed for $object {
            const KIND: Kind = Kind::$kind;

            fn of(objects: &mut Objects) -> &mut BTreeMap<String, Self> {
                &mut objects.$field
            }

            fn is_same_to_a_pass(&self, known: &Self) -> bool {
                let same: fn(&Self, &Self) -> bool = $same;
                same(self, known)
            }

            fn prune(&mut self) {
                self.metadata.managed_fields = None;
                let prune: fn(&mut Self) = $prune;
                prune(self);
            }
        }
    )*};
}

indexed! {
    Pod => Pod, pods, |_, _| false, prune::pod;
    ConfigMap => ConfigMap, maps, is_renewal, |_| {};
    StatefulSet => StatefulSet, sets, |_, _| false, |_| {};
    Service => Service, services, |_, _| false, |_| {};
    PodDisruptionBudget => Budget, budgets, |_, _| false, |_| {};
    Secret => Secret, secrets, |_, _| false, prune::secret;
    PersistentVolumeClaim => Claim, claims, |_, _| false, prune::claim;
    Deployment => Deployment, deployments, |_, _| false, prune::deployment;
}

#[derive(Default)]
struct Entry {
    objects: Objects,
    /// What a pass would have seen when the cluster was last reported.
    mark: Option<Mark>,
}

/// An object's kind, namespace and name.
type Place = (Kind, String, String);

/// All clusters.
pub(crate) struct Index {
    settings: Settings,
    /// Secrets of other namespaces are watched, and may be a cluster's.
    crosses: bool,
    clusters: BTreeMap<ClusterKey, Entry>,
    /// The cluster of each object: its label can change.
    homes: BTreeMap<Place, ClusterKey>,
    /// Kinds whose objects are being listed, with the places that the list has named.
    listing: BTreeMap<Kind, BTreeSet<Place>>,
    /// Kinds that have been listed at least once.
    listed: BTreeSet<Kind>,
    /// Nodes that take no new pods.
    cordoned: BTreeSet<String>,
    /// The same, of a list that has not ended.
    cordoned_next: Option<BTreeSet<String>>,
    /// Why pods cannot be made.
    refusals: Refusals,
}

impl Index {
    /// `all`: all namespaces are watched.
    pub(crate) fn new(settings: Settings, all: bool) -> Self {
        Index {
            crosses: all && settings.objects.enable_cross_namespace_secret,
            settings,
            clusters: BTreeMap::new(),
            homes: BTreeMap::new(),
            listing: BTreeMap::new(),
            listed: BTreeSet::new(),
            cordoned: BTreeSet::new(),
            cordoned_next: None,
            refusals: Refusals::default(),
        }
    }

    /// Takes an event of the watch of nodes. Returns the clusters that need a pass: those with a pod on a node that was
    /// closed or opened.
    pub(crate) fn take_node(&mut self, event: Event<Node>) -> Vec<ClusterKey> {
        let is_closed = |node: &Node| {
            let spec = node.spec.as_ref();
            spec.is_some_and(|spec| spec.unschedulable == Some(true))
        };
        let changed = match event {
            Event::Init => {
                self.cordoned_next = Some(BTreeSet::new());
                false
            }
            Event::InitApply(node) => {
                if let (true, Some(next)) = (is_closed(&node), &mut self.cordoned_next) {
                    next.insert(node.metadata.name.unwrap_or_default());
                }
                false
            }
            Event::InitDone => {
                let next = self.cordoned_next.take().unwrap_or_default();
                std::mem::replace(&mut self.cordoned, next) != self.cordoned
            }
            Event::Apply(node) => {
                let name = node.metadata.name.clone().unwrap_or_default();
                if is_closed(&node) {
                    self.cordoned.insert(name)
                } else {
                    self.cordoned.remove(&name)
                }
            }
            Event::Delete(node) => {
                let name = node.metadata.name.unwrap_or_default();
                self.cordoned.remove(&name)
            }
        };
        if !changed {
            return Vec::new();
        }
        let all = self.clusters.keys().cloned().collect();
        self.that_changed(all)
    }

    /// Takes an event of the watch of StatefulSets' events. Returns the clusters that need a pass.
    pub(crate) fn take_refusal(&mut self, event: Event<KubeEvent>) -> Vec<ClusterKey> {
        let touched = self.refusals.take(event);
        self.that_changed(touched)
    }

    /// Whether every kind has been listed: before that, an object that is not here may exist all the same.
    pub(crate) fn is_complete(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.listed.contains(kind))
    }

    /// Takes an event of a watch. Returns the clusters that need a pass.
    pub(crate) fn take<K: Indexed>(&mut self, event: Event<K>) -> Vec<ClusterKey> {
        let touched = match event {
            Event::Init => {
                self.listing.insert(K::KIND, BTreeSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(place) = place_of(&object)
                    && let Some(listing) = self.listing.get_mut(&K::KIND)
                {
                    listing.insert(place);
                }
                self.put(object)
            }
            Event::InitDone => self.end_of_list::<K>(),
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => self.remove(&object),
        };
        self.that_changed(touched)
    }

    /// Takes the answer to a write of the operator's own, so that the next pass sees it even if it comes before the watch
    /// reports it. No cluster is reported: the pass that wrote knows.
    pub(crate) fn wrote<K: Indexed>(&mut self, object: &K) {
        let touched = self.put(object.clone());
        self.that_changed(touched);
    }

    /// Takes the end of an object that the operator has deleted.
    pub(crate) fn deleted<K: Indexed>(&mut self, object: &K) {
        let touched = self.remove(object);
        self.that_changed(touched);
    }

    /// Takes a fresh list of a cluster's objects of one kind.
    pub(crate) fn refresh<K: Indexed>(&mut self, cluster: &ClusterKey, objects: Vec<K>) {
        let listed: BTreeSet<String> = objects
            .iter()
            .filter_map(|object| object.meta().name.clone())
            .collect();
        let gone: Vec<K> = self
            .clusters
            .get_mut(cluster)
            .map(|entry| {
                K::of(&mut entry.objects)
                    .iter()
                    .filter(|(name, _)| !listed.contains(*name))
                    .map(|(_, object)| object.clone())
                    .collect()
            })
            .unwrap_or_default();
        for object in &gone {
            self.remove(object);
        }
        for object in objects {
            self.put(object);
        }
        self.that_changed(vec![cluster.clone()]);
    }

    /// A cluster as a pass sees it.
    pub(crate) fn seen(&self, cluster: &ClusterKey) -> Seen {
        let none = Objects::default();
        let objects = self.clusters.get(cluster).map_or(&none, |entry| &entry.objects);
        seen(&self.settings, cluster, objects, self.around())
    }

    fn around(&self) -> Around<'_> {
        Around {
            cordoned: &self.cordoned,
            refusals: &self.refusals,
        }
    }

    /// The objects of a cluster.
    pub(crate) fn objects(&self, cluster: &ClusterKey) -> Objects {
        self.clusters
            .get(cluster)
            .map(|entry| entry.objects.clone())
            .unwrap_or_default()
    }

    fn put<K: Indexed>(&mut self, mut object: K) -> Vec<ClusterKey> {
        let Some(place) = place_of(&object) else {
            return Vec::new();
        };
        let Some(home) = self.home_of(K::KIND, object.meta()) else {
            return self.remove(&object);
        };
        let mut touched = Vec::new();
        if self.homes.get(&place).is_some_and(|before| *before != home) {
            touched = self.remove_at::<K>(&place);
        }
        object.prune();
        let entry = self.clusters.entry(home.clone()).or_default();
        let kept = K::of(&mut entry.objects);
        let name = kept_as(&place, &home);
        let known = kept.get(&name);
        // The mark of a cluster is made of all its objects, and most changes are renewals.
        let is_same = known.is_some_and(|known| object.is_same_to_a_pass(known)) && entry.mark.is_some();
        if known.is_none_or(|known| !is_older(object.meta(), known.meta())) {
            kept.insert(name, object);
        }
        self.homes.insert(place, home.clone());
        if !is_same {
            touched.push(home);
        }
        touched
    }

    /// Removes an object, unless another one of that name has taken its place.
    fn remove<K: Indexed>(&mut self, object: &K) -> Vec<ClusterKey> {
        let Some(place) = place_of(object) else {
            return Vec::new();
        };
        let known = self
            .homes
            .get(&place)
            .and_then(|home| Some((home, self.clusters.get_mut(home)?)))
            .and_then(|(home, entry)| K::of(&mut entry.objects).get(&kept_as(&place, home)));
        match known {
            Some(known) if known.meta().uid == object.meta().uid => self.remove_at::<K>(&place),
            _ => Vec::new(),
        }
    }

    fn remove_at<K: Indexed>(&mut self, place: &Place) -> Vec<ClusterKey> {
        let Some(home) = self.homes.remove(place) else {
            return Vec::new();
        };
        if let Some(entry) = self.clusters.get_mut(&home) {
            K::of(&mut entry.objects).remove(&kept_as(place, &home));
        }
        vec![home]
    }

    fn end_of_list<K: Indexed>(&mut self) -> Vec<ClusterKey> {
        self.listed.insert(K::KIND);
        let listed = self.listing.remove(&K::KIND).unwrap_or_default();
        let gone: Vec<Place> = self
            .homes
            .keys()
            .filter(|place| place.0 == K::KIND && !listed.contains(*place))
            .cloned()
            .collect();
        gone.iter().flat_map(|place| self.remove_at::<K>(place)).collect()
    }

    /// The namespace of the cluster of a Secret that is in another one.
    fn elsewhere<'a>(&self, kind: Kind, meta: &'a ObjectMeta) -> Option<&'a String> {
        let annotations = meta
            .annotations
            .as_ref()
            .filter(|_| kind == Kind::Secret && self.crosses)?;
        let namespace = annotations.get(CLUSTER_NAMESPACE_ANNOTATION)?;
        Some(namespace).filter(|namespace| meta.namespace.as_ref() != Some(*namespace))
    }

    fn home_of(&self, kind: Kind, meta: &ObjectMeta) -> Option<ClusterKey> {
        let name = meta.labels.as_ref()?.get(&self.settings.cluster_name_label)?;
        Some(ClusterKey {
            namespace: self.elsewhere(kind, meta).or(meta.namespace.as_ref())?.clone(),
            name: name.clone(),
        })
    }

    /// Of the clusters that were touched, those of which a pass would see something else than before.
    fn that_changed(&mut self, touched: Vec<ClusterKey>) -> Vec<ClusterKey> {
        let mut out = Vec::new();
        for key in touched {
            let Some(entry) = self.clusters.get(&key) else {
                continue;
            };
            let mark = seen(&self.settings, &key, &entry.objects, self.around()).mark();
            if entry.mark.as_ref() == Some(&mark) {
                continue;
            }
            if entry.objects.is_empty() {
                self.clusters.remove(&key);
            } else if let Some(entry) = self.clusters.get_mut(&key) {
                entry.mark = Some(mark);
            }
            out.push(key);
        }
        out
    }
}

/// Whether a ConfigMap has changed as the renewal of a lease changes it: in its times alone.
fn is_renewal(new: &ConfigMap, known: &ConfigMap) -> bool {
    let (new_meta, known_meta) = (&new.metadata, &known.metadata);
    let (Some(now), Some(before)) = (&new_meta.annotations, &known_meta.annotations) else {
        return false;
    };
    new.data == known.data
        && new_meta.uid == known_meta.uid
        && new_meta.labels == known_meta.labels
        && new_meta.owner_references == known_meta.owner_references
        && new_meta.finalizers == known_meta.finalizers
        && new_meta.deletion_timestamp == known_meta.deletion_timestamp
        && differs_by_renewal(now, before)
}

fn place_of<K: Indexed>(object: &K) -> Option<Place> {
    let meta = object.meta();
    Some((K::KIND, meta.namespace.clone()?, meta.name.clone()?))
}

/// The name under which a cluster's objects are kept: one of another namespace never takes the place of one of the cluster's own.
fn kept_as(place: &Place, home: &ClusterKey) -> String {
    if place.1 == home.namespace {
        place.2.clone()
    } else {
        format!("{}/{}", place.1, place.2)
    }
}

/// Whether a version is older than one that is known: answers to writes and events of watches overtake each other.
/// Versions of one object are compared as numbers, which Kubernetes promises since 1.35 and has always kept.
fn is_older(new: &ObjectMeta, known: &ObjectMeta) -> bool {
    let version = |meta: &ObjectMeta| meta.resource_version.as_ref()?.parse::<u64>().ok();
    match (version(new), version(known)) {
        (Some(new_version), Some(known_version)) => new.uid == known.uid && new_version < known_version,
        _ => false,
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
