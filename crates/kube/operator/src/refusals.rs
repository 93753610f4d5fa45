//! Why a member's pod is not there: what the StatefulSet's controller was refused, in Kubernetes' own words. A quota, Pod Security
//! or an admission webhook says so in the StatefulSet's events alone.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Event as KubeEvent, Pod},
};
use kube::runtime::watcher::Event;

use crate::objects::ClusterKey;

/// The events that are watched, as a field selector.
pub(crate) const SELECTOR: &str = "involvedObject.kind=StatefulSet";

/// What each StatefulSet's controller has made or was refused last, for as long as Kubernetes keeps the event.
#[derive(Default)]
pub(crate) struct Refusals {
    known: BTreeMap<ClusterKey, Last>,
    /// Those of a list that has not ended.
    listing: Option<BTreeMap<ClusterKey, Last>>,
}

struct Last {
    /// The event's name.
    event: String,
    /// Which StatefulSet of this name.
    set: Option<String>,
    /// The event's version. They are in the order in which events were written.
    version: u64,
    /// Why it was refused; `None`: it was made.
    why: Option<String>,
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

    /// Why a pod of a StatefulSet that has fewer than it wants cannot be made.
    pub(crate) fn of<'a>(
        &self,
        cluster: &ClusterKey,
        set: Option<&StatefulSet>,
        pods: impl Iterator<Item = &'a Pod>,
    ) -> Option<String> {
        let (last, set) = (self.known.get(cluster)?, set?);
        let wanted = set.spec.as_ref()?.replicas.unwrap_or(1);
        // A pod of a user's may have the cluster's labels too.
        let is_member = |pod: &&Pod| {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let ordinal = name
                .strip_prefix(&cluster.name)
                .and_then(|rest| rest.strip_prefix('-'));
            ordinal.is_some_and(|ordinal| ordinal.parse::<u32>().is_ok())
        };
        let is_short = usize::try_from(wanted).unwrap_or(0) > pods.filter(is_member).count();
        last.why
            .clone()
            .filter(|_| is_short && last.set == set.metadata.uid)
    }
}

fn put(into: &mut BTreeMap<ClusterKey, Last>, event: KubeEvent) -> Option<ClusterKey> {
    let why = match event.reason.as_deref() {
        Some("FailedCreate") => Some(event.message.clone()?),
        Some("SuccessfulCreate") => None,
        _ => return None,
    };
    let key = key_of(&event);
    let version = event.metadata.resource_version.as_ref();
    let last = Last {
        version: version.and_then(|text| text.parse().ok()).unwrap_or(0),
        event: event.metadata.name.unwrap_or_default(),
        set: event.involved_object.uid,
        why,
    };
    if into.get(&key).is_some_and(|known| known.version > last.version) {
        return None;
    }
    into.insert(key.clone(), last);
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

    fn event(version: u32, reason: &str, set: &str) -> KubeEvent {
        serde_json::from_value(json!({
            "metadata": {"name": format!("c.{version}"), "resourceVersion": version.to_string()},
            "involvedObject": {"namespace": "ns", "name": "c", "uid": set},
            "reason": reason,
            "message": format!("at {version}"),
        }))
        .unwrap()
    }

    fn why(refusals: &Refusals, pods: &[&str]) -> Option<String> {
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {"uid": "1"}, "spec": {"replicas": 2, "selector": {}, "template": {}, "serviceName": ""},
        }))
        .unwrap();
        let pods: Vec<Pod> = pods
            .iter()
            .map(|name| serde_json::from_value(json!({"metadata": {"name": name}})).unwrap())
            .collect();
        refusals.of(&key_of(&event(0, "", "1")), Some(&set), pods.iter())
    }

    #[test]
    fn the_last_refusal_counts_until_something_is_made() {
        let mut refusals = Refusals::default();
        refusals.take(Event::Apply(event(5, "FailedCreate", "1")));
        assert!(
            refusals
                .take(Event::Apply(event(4, "SuccessfulCreate", "1")))
                .is_empty()
        );
        assert!(
            refusals
                .take(Event::Apply(event(6, "SuccessfulDelete", "1")))
                .is_empty()
        );
        assert_eq!(why(&refusals, &[]).unwrap(), "at 5");
        assert_eq!(why(&refusals, &["c-0", "c-backup"]).unwrap(), "at 5");
        assert_eq!(why(&refusals, &["c-0", "c-1"]), None, "none is missing");
        refusals.take(Event::Apply(event(7, "SuccessfulCreate", "1")));
        assert_eq!(why(&refusals, &[]), None);
    }

    #[test]
    fn a_refusal_of_an_earlier_statefulset_or_of_an_event_that_is_gone_does_not_count() {
        let mut refusals = Refusals::default();
        refusals.take(Event::Apply(event(5, "FailedCreate", "0")));
        assert_eq!(why(&refusals, &[]), None);
        refusals.take(Event::Apply(event(6, "FailedCreate", "1")));
        assert!(why(&refusals, &[]).is_some());
        refusals.take(Event::Delete(event(5, "FailedCreate", "1")));
        assert!(why(&refusals, &[]).is_some(), "another event has ended");
        refusals.take(Event::Init);
        refusals.take(Event::InitApply(event(9, "SuccessfulCreate", "1")));
        refusals.take(Event::InitApply(event(8, "FailedCreate", "1")));
        refusals.take(Event::InitDone);
        assert_eq!(why(&refusals, &[]), None);
    }
}
