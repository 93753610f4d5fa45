//! Where Services lead, as objects: an EndpointSlice for each Service with a selector, and the older Endpoints. The node's
//! proxy does not need them; people and dashboards look at them.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};

use crate::{Store, meta, store::Write};

const ENDPOINTS: &str = "/endpoints";
const SLICES: &str = "discovery.k8s.io/endpointslices";
/// The label by which a slice names its Service.
const SERVICE: &str = "kubernetes.io/service-name";

/// Pods of a namespace by one of their labels.
type ByLabel = BTreeMap<(String, String, String), Vec<Arc<Value>>>;

/// Brings all of them up to date.
pub(super) fn reconcile(store: &Store) {
    let pods = by_label(store);
    for service in store.all("/services", None) {
        balance(store, &service);
        let Some(selector) = service["spec"]["selector"].as_object().filter(|s| !s.is_empty()) else {
            continue;
        };
        let (namespace, name) = (meta::namespace(&service), meta::name(&service));
        let selected = selected(&pods, namespace, selector);
        put(store, ENDPOINTS, &service, name, &endpoints(&service, &selected));
        let slice = format!("{name}-sandbox");
        put(store, SLICES, &service, &slice, &slice_of(&service, &selected));
    }
}

/// The address of a load balancer is that of the Service itself, which every program of this machine can reach.
fn balance(store: &Store, service: &Value) {
    let is_wanted = service["spec"]["type"] == "LoadBalancer";
    let wanted = match &service["spec"]["clusterIP"] {
        Value::String(address) if is_wanted => json!({"ingress": [{"ip": address}]}),
        _ => json!({}),
    };
    let have = &service["status"]["loadBalancer"];
    if *have == wanted || (have.is_null() && !is_wanted) {
        return;
    }
    let uid = meta::uid(service);
    let written = store.write(
        "/services",
        meta::namespace(service),
        meta::name(service),
        |before| {
            let Some(before) = before.filter(|before| meta::uid(before) == uid) else {
                return Ok(Write::Nothing);
            };
            let mut after = before.clone();
            meta::set(&mut after, &["status", "loadBalancer"], wanted);
            Ok(Write::Put(after))
        },
    );
    if let Err(error) = written {
        tracing::debug!(%error, "the address of a load balancer was not written");
    }
}

fn by_label(store: &Store) -> ByLabel {
    let mut out = ByLabel::new();
    for pod in store.all("/pods", None) {
        if meta::is_ending(&pod) || pod["status"]["podIP"].as_str().is_none() {
            continue;
        }
        for (name, value) in pod["metadata"]["labels"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            let key = (meta::namespace(&pod).to_owned(), name.clone(), value.to_owned());
            out.entry(key).or_default().push(Arc::clone(&pod));
        }
    }
    out
}

fn selected(pods: &ByLabel, namespace: &str, selector: &Map<String, Value>) -> Vec<Arc<Value>> {
    let Some((name, value)) = selector.iter().next() else {
        return Vec::new();
    };
    let value = value.as_str().unwrap_or_default();
    let key = (namespace.to_owned(), name.clone(), value.to_owned());
    let candidates = pods.get(&key).into_iter().flatten();
    candidates
        .filter(|pod| meta::has_labels(pod, selector))
        .cloned()
        .collect()
}

fn target(pod: &Value) -> Value {
    json!({"kind": "Pod", "namespace": meta::namespace(pod), "name": meta::name(pod), "uid": meta::uid(pod)})
}

/// The ports that connections are handed to.
fn ports(service: &Value) -> Vec<Value> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports
        .map(|port| {
            let number = port["targetPort"].as_u64().or_else(|| port["port"].as_u64());
            let mut out = json!({"port": number, "protocol": port["protocol"].as_str().unwrap_or("TCP")});
            if let Some(name) = port["name"].as_str() {
                out["name"] = json!(name);
            }
            out
        })
        .collect()
}

fn endpoints(service: &Value, pods: &[Arc<Value>]) -> Value {
    let addresses = |ready: bool| -> Vec<Value> {
        let fitting = pods.iter().filter(|pod| meta::is_ready(pod) == ready);
        fitting
            .map(|pod| json!({"ip": pod["status"]["podIP"], "nodeName": pod["spec"]["nodeName"], "targetRef": target(pod)}))
            .collect()
    };
    let mut subset = json!({"ports": ports(service)});
    for (key, ready) in [("addresses", true), ("notReadyAddresses", false)] {
        let addresses = addresses(ready);
        if !addresses.is_empty() {
            subset[key] = json!(addresses);
        }
    }
    let subsets = if pods.is_empty() {
        json!([])
    } else {
        json!([subset])
    };
    json!({"apiVersion": "v1", "kind": "Endpoints", "subsets": subsets})
}

fn slice_of(service: &Value, pods: &[Arc<Value>]) -> Value {
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|pod| {
            let ready = meta::is_ready(pod);
            json!({
                "addresses": [pod["status"]["podIP"]], "nodeName": pod["spec"]["nodeName"], "targetRef": target(pod),
                "conditions": {"ready": ready, "serving": ready, "terminating": false},
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "endpoints": endpoints, "ports": ports(service),
    })
}

/// Writes an object of a Service, if it differs.
fn put(store: &Store, resource: &str, service: &Value, name: &str, wanted: &Value) {
    let namespace = meta::namespace(service);
    let same = |have: &Value| {
        let parts = wanted.as_object().into_iter().flatten();
        parts.into_iter().all(|(key, value)| have.get(key) == Some(value))
    };
    if store
        .get(resource, namespace, name)
        .is_some_and(|have| same(&have))
    {
        return;
    }
    let written = store.write(resource, namespace, name, |before| {
        let mut object = wanted.clone();
        object["metadata"] = match before {
            Some(before) if same(before) => return Ok(Write::Nothing),
            Some(before) => before["metadata"].clone(),
            None => json!({
                "name": name, "namespace": namespace, "uid": meta::uuid(),
                "creationTimestamp": meta::timestamp(), "generation": 1,
                "labels": {SERVICE: meta::name(service), "endpointslice.kubernetes.io/managed-by": "howdah-sandbox"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": meta::name(service),
                    "uid": meta::uid(service), "controller": true, "blockOwnerDeletion": true}],
            }),
        };
        Ok(Write::Put(object))
    });
    if let Err(error) = written {
        tracing::debug!(%error, "endpoints were not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_addresses_of_its_ready_pods() {
        let store = Store::in_memory();
        let object = |name: &str, rest: Value| {
            let mut object = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"a": "b"}}});
            for (key, value) in rest.as_object().unwrap() {
                object[key] = value.clone();
            }
            object
        };
        let write = |resource: &str, name: &str, object: Value| {
            store
                .write(resource, "default", name, |_| Ok(Write::Put(object)))
                .unwrap();
        };
        let service =
            json!({"spec": {"selector": {"a": "b"}, "ports": [{"port": 5432, "targetPort": 5433}]}});
        write("/services", "s", object("s", service));
        let pod = |ip: &str, ready: &str| json!({"status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}});
        write("/pods", "p", object("p", pod("127.0.0.2", "True")));
        write("/pods", "q", object("q", pod("127.0.0.3", "False")));
        reconcile(&store);
        let endpoints = store.get(ENDPOINTS, "default", "s").unwrap();
        assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "127.0.0.2");
        assert_eq!(endpoints["subsets"][0]["notReadyAddresses"][0]["ip"], "127.0.0.3");
        assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], 5433);
        let slice = store.get(SLICES, "default", "s-sandbox").unwrap();
        assert_eq!(slice["endpoints"][0]["conditions"]["ready"], true);
        assert_eq!(slice["metadata"]["labels"][SERVICE], "s");
        let before = store.revision();
        reconcile(&store);
        assert_eq!(store.revision(), before, "nothing has changed");
    }
}
