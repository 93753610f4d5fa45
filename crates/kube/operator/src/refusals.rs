//! Why a member's pod is not there: what the StatefulSet's controller was refused, in Kubernetes' own words. A quota, Pod Security
//! or an admission webhook says so in the StatefulSet's events alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Event as KubeEvent, Pod},
};
use kube::runtime::watcher::Event;

use crate::objects::ClusterKey;

/// The events that are watched, as a field selector.
pub(crate) const SELECTOR: &str = "involvedObject.kind=StatefulSet,reason=FailedCreate";

/// The last refusal that each StatefulSet has met, for as long as Kubernetes keeps the event.
#[derive(Default)]
pub(crate) struct Refusals {
    known: BTreeMap<ClusterKey, Refusal>,
    /// Those of a list that has not ended.
    listing: Option<BTreeMap<ClusterKey, Refusal>>,
}

#[derive(Clone, PartialEq)]
struct Refusal {
    /// The event's name.
    event: String,
    /// Which StatefulSet of this name.
    set: Option<String>,
    at: Option<Timestamp>,
    why: String,
}

impl Refusals {
    /// Takes an event of the watch: the StatefulSets that it speaks of.
    pub(crate) fn take(&mut self, event: Event<KubeEvent>) -> Vec<ClusterKey> {
        match event {
            Event::Init => {
                self.listing = Some(BTreeMap::new());
                Vec::new()
            }
            Event::InitApply(event) => {
                if let Some(listing) = &mut self.listing {
                    put(listing, event);
                }
                Vec::new()
            }
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                let before = std::mem::replace(&mut self.known, listed);
                before.into_keys().chain(self.known.keys().cloned()).collect()
            }
            Event::Apply(event) => put(&mut self.known, event).into_iter().collect(),
            Event::Delete(event) => {
                let key = key_of(&event);
                let is_it = self.known.get(&key).map(|known| &known.event) == event.metadata.name.as_ref();
                if is_it {
                    self.known.remove(&key);
                }
                vec![key]
            }
        }
    }

    /// A pod was made: what was refused before does not count.
    pub(crate) fn pod_made(&mut self, cluster: &ClusterKey) {
        self.known.remove(cluster);
    }

    /// Why a pod of a StatefulSet that has fewer than it wants cannot be made.
    pub(crate) fn of<'a>(
        &self,
        cluster: &ClusterKey,
        set: Option<&StatefulSet>,
        pods: impl Iterator<Item = &'a Pod>,
    ) -> Option<String> {
        let (refusal, set) = (self.known.get(cluster)?, set?);
        let pods: Vec<&Pod> = pods.collect();
        let wanted = set.spec.as_ref()?.replicas.unwrap_or(1);
        let is_short = usize::try_from(wanted).unwrap_or(0) > pods.len();
        let made = pods
            .iter()
            .filter_map(|pod| Some(pod.metadata.creation_timestamp.as_ref()?.0))
            .max();
        // Both times are of Kubernetes' own clocks, in whole seconds.
        let is_over = made.is_some() && refusal.at < made;
        (is_short && !is_over && refusal.set == set.metadata.uid).then(|| refusal.why.clone())
    }
}

fn put(into: &mut BTreeMap<ClusterKey, Refusal>, event: KubeEvent) -> Option<ClusterKey> {
    let key = key_of(&event);
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    let at = event
        .last_timestamp
        .as_ref()
        .map(|time| time.0)
        .or(series.map(|time| time.0))
        .or(event.event_time.as_ref().map(|time| time.0));
    let refusal = Refusal {
        event: event.metadata.name.unwrap_or_default(),
        set: event.involved_object.uid,
        at,
        why: event.message?,
    };
    if into.get(&key).is_some_and(|known| known.at > refusal.at) {
        return None;
    }
    into.insert(key.clone(), refusal);
    Some(key)
}

/// A cluster's StatefulSet has its name.
fn key_of(event: &KubeEvent) -> ClusterKey {
    ClusterKey {
        namespace: event.involved_object.namespace.clone().unwrap_or_default(),
        name: event.involved_object.name.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(second: u32, set: &str) -> KubeEvent {
        serde_json::from_value(json!({
            "metadata": {"name": format!("c.{second}")},
            "involvedObject": {"namespace": "ns", "name": "c", "uid": set},
            "message": format!("refused at {second}"),
            "lastTimestamp": format!("2026-01-01T00:00:0{second}Z"),
        }))
        .unwrap()
    }

    fn why(refusals: &Refusals, pods: &[u32]) -> Option<String> {
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {"uid": "1"}, "spec": {"replicas": 2, "selector": {}, "template": {}, "serviceName": ""},
        }))
        .unwrap();
        let pods: Vec<Pod> = pods
            .iter()
            .map(|second| {
                let at = format!("2026-01-01T00:00:0{second}Z");
                serde_json::from_value(json!({"metadata": {"creationTimestamp": at}})).unwrap()
            })
            .collect();
        refusals.of(&key_of(&event(0, "1")), Some(&set), pods.iter())
    }

    #[test]
    fn the_last_refusal_counts_until_a_pod_is_made() {
        let mut refusals = Refusals::default();
        refusals.take(Event::Apply(event(5, "1")));
        assert!(refusals.take(Event::Apply(event(4, "1"))).is_empty());
        assert_eq!(why(&refusals, &[]).unwrap(), "refused at 5");
        assert_eq!(why(&refusals, &[3]).unwrap(), "refused at 5");
        assert_eq!(why(&refusals, &[6]), None);
        assert_eq!(why(&refusals, &[1, 2]), None, "none is missing");
        refusals.pod_made(&key_of(&event(5, "1")));
        assert_eq!(why(&refusals, &[]), None);
    }

    #[test]
    fn a_refusal_of_an_earlier_statefulset_or_of_an_event_that_is_gone_does_not_count() {
        let mut refusals = Refusals::default();
        refusals.take(Event::Apply(event(5, "0")));
        assert_eq!(why(&refusals, &[]), None);
        refusals.take(Event::Apply(event(6, "1")));
        assert!(why(&refusals, &[]).is_some());
        refusals.take(Event::Delete(event(5, "1")));
        assert!(why(&refusals, &[]).is_some(), "another event has ended");
        refusals.take(Event::Init);
        refusals.take(Event::InitDone);
        assert_eq!(why(&refusals, &[]), None);
    }
}
