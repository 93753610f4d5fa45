use std::sync::Arc;

use serde_json::{Value, json};

use super::{ending, record};
use crate::{ApiError, Store, meta, store::Write};

const SETS: &str = "apps/statefulsets";
const REVISION: &str = "controller-revision-hash";

/// Makes and ends pods as StatefulSets say.
pub(super) fn reconcile(store: &Store) {
    for set in store.all(SETS, None) {
        if !meta::is_ending(&set)
            && let Err(error) = one(store, &set)
        {
            record(store, &set, "Warning", "FailedCreate", &error.message);
        }
    }
}

fn one(store: &Store, set: &Value) -> Result<(), ApiError> {
    let (namespace, name) = (meta::namespace(set), meta::name(set));
    let wanted = set["spec"]["replicas"].as_u64().unwrap_or(1);
    let revision = revision_of(set);
    adopt(store, set)?;
    let mut pods: Vec<(u64, Arc<Value>)> = store
        .all("/pods", Some(namespace))
        .into_iter()
        .filter(|pod| meta::is_controlled_by(pod, set))
        .filter_map(|pod| {
            Some((
                meta::name(&pod).strip_prefix(&format!("{name}-"))?.parse().ok()?,
                pod,
            ))
        })
        .collect();
    pods.sort_by_key(|(ordinal, _)| *ordinal);
    let ordered = set["spec"]["podManagementPolicy"] != "Parallel";

    let mut held = false;
    for ordinal in 0..wanted {
        match pods.iter().find(|(n, _)| *n == ordinal) {
            Some((_, pod)) => held |= ordered && (!meta::is_ready(pod) || meta::is_ending(pod)),
            None => {
                if let Some(ending) = claims(store, set, ordinal)? {
                    // As upstream's controller: a pod that took it would lose its data with it.
                    let message = format!("pvc {ending} is being deleted");
                    record(store, set, "Warning", "FailedCreate", &message);
                } else {
                    create(store, set, ordinal, &revision)?;
                }
                held |= ordered;
            }
        }
        if held {
            break;
        }
    }
    // From the last one down, one at a time, and not while another one ends.
    if !pods.iter().any(|(_, pod)| meta::is_ending(pod)) {
        let extra = pods.iter().rev().filter(|(ordinal, _)| *ordinal >= wanted);
        let count = if ordered { 1 } else { usize::MAX };
        for (_, pod) in extra.take(count) {
            end(store, pod)?;
        }
        if set["spec"]["updateStrategy"]["type"] == "RollingUpdate" && !held {
            let old = pods
                .iter()
                .rev()
                .find(|(n, pod)| *n < wanted && label(pod) != revision);
            if let Some((_, pod)) = old {
                end(store, pod)?;
            }
        }
    }
    status(store, set, &revision, &pods)
}

/// Takes pods without a controller that would be ours: left behind by an earlier StatefulSet of that name.
fn adopt(store: &Store, set: &Value) -> Result<(), ApiError> {
    let Some(selector) = set["spec"]["selector"]["matchLabels"].as_object() else {
        return Ok(());
    };
    let prefix = format!("{}-", meta::name(set));
    for pod in store.all("/pods", Some(meta::namespace(set))) {
        let ours = meta::name(&pod)
            .strip_prefix(&prefix)
            .is_some_and(|rest| rest.parse::<u64>().is_ok());
        let owners = pod["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten();
        let controlled = owners.into_iter().any(|owner| owner["controller"] == true);
        if !ours || controlled || meta::is_ending(&pod) || !meta::has_labels(&pod, selector) {
            continue;
        }
        store.write("/pods", meta::namespace(&pod), meta::name(&pod), |before| {
            let Some(before) = before else {
                return Ok(Write::Nothing);
            };
            let mut after = before.clone();
            let mut owners = after["metadata"]["ownerReferences"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            owners.push(meta::controller_reference(set));
            meta::set(&mut after, &["metadata", "ownerReferences"], json!(owners));
            Ok(Write::Put(after))
        })?;
    }
    Ok(())
}

fn label(pod: &Value) -> &str {
    pod["metadata"]["labels"][REVISION].as_str().unwrap_or_default()
}

/// The name of the template as it is now.
fn revision_of(set: &Value) -> String {
    let text = set["spec"]["template"].to_string();
    format!(
        "{}-{:x}",
        meta::name(set),
        crate::state::hash(text.as_bytes()) % 0xfff_ffff_ffff
    )
}

fn create(store: &Store, set: &Value, ordinal: u64, revision: &str) -> Result<(), ApiError> {
    let (namespace, set_name) = (meta::namespace(set), meta::name(set));
    let name = format!("{set_name}-{ordinal}");
    let template = &set["spec"]["template"];
    let mut pod = json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": template["metadata"], "spec": template["spec"],
        "status": {"phase": "Pending"},
    });
    let metadata = [
        ("name", json!(name)),
        ("namespace", json!(namespace)),
        ("uid", json!(meta::uuid())),
        ("creationTimestamp", json!(meta::timestamp())),
        ("generateName", json!(format!("{set_name}-"))),
        ("ownerReferences", json!([meta::controller_reference(set)])),
    ];
    for (key, value) in metadata {
        meta::set(&mut pod, &["metadata", key], value);
    }
    for (key, value) in [
        (REVISION, revision),
        ("statefulset.kubernetes.io/pod-name", &name),
        ("apps.kubernetes.io/pod-index", &ordinal.to_string()),
    ] {
        meta::set(&mut pod, &["metadata", "labels", key], json!(value));
    }
    pod["spec"]["hostname"] = json!(name);
    pod["spec"]["subdomain"] = set["spec"]["serviceName"].clone();
    let mut volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    for template in set["spec"]["volumeClaimTemplates"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let volume = meta::name(template);
        let claim = format!("{volume}-{name}");
        volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}}));
    }
    pod["spec"]["volumes"] = json!(volumes);
    let mut made = false;
    store.write("/pods", namespace, &name, |before| match before {
        // An earlier one of that name, perhaps on its way out.
        Some(_) => Ok(Write::Nothing),
        None => {
            made = true;
            Ok(Write::Put(pod))
        }
    })?;
    if !made {
        return Ok(());
    }
    record(
        store,
        set,
        "Normal",
        "SuccessfulCreate",
        &format!("create Pod {name} in StatefulSet {set_name}"),
    );
    Ok(())
}

/// The claims of a pod. An existing one is used again: that is what makes a member come back with its data. `Some`: this
/// one is being deleted.
fn claims(store: &Store, set: &Value, ordinal: u64) -> Result<Option<String>, ApiError> {
    let mut ending = None;
    let namespace = meta::namespace(set);
    for template in set["spec"]["volumeClaimTemplates"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let name = format!("{}-{}-{ordinal}", meta::name(template), meta::name(set));
        let mut claim = template.clone();
        let uid = meta::uuid();
        claim["kind"] = json!("PersistentVolumeClaim");
        claim["apiVersion"] = json!("v1");
        for (key, value) in [
            ("name", json!(name)),
            ("namespace", json!(namespace)),
            ("uid", json!(uid)),
            ("creationTimestamp", json!(meta::timestamp())),
        ] {
            meta::set(&mut claim, &["metadata", key], value);
        }
        if set["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete" {
            meta::set(
                &mut claim,
                &["metadata", "ownerReferences"],
                json!([meta::controller_reference(set)]),
            );
        }
        // The node's disk is one for all: a claim is bound at once, and its size is not enforced.
        claim["spec"]["volumeName"] = json!(format!("pvc-{uid}"));
        claim["status"] = json!({
            "phase": "Bound", "accessModes": claim["spec"]["accessModes"],
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
        });
        store.write(
            "/persistentvolumeclaims",
            namespace,
            &name,
            |before| match before {
                Some(before) => {
                    if meta::is_ending(before) {
                        ending = Some(name.clone());
                    }
                    Ok(Write::Nothing)
                }
                None => Ok(Write::Put(claim)),
            },
        )?;
    }
    Ok(ending)
}

fn end(store: &Store, pod: &Value) -> Result<(), ApiError> {
    store.write("/pods", meta::namespace(pod), meta::name(pod), |before| {
        let Some(before) = before.filter(|before| !meta::is_ending(before)) else {
            return Ok(Write::Nothing);
        };
        Ok(Write::Put(ending::begun(before)))
    })?;
    Ok(())
}

fn status(store: &Store, set: &Value, revision: &str, pods: &[(u64, Arc<Value>)]) -> Result<(), ApiError> {
    let ready = pods.iter().filter(|(_, pod)| meta::is_ready(pod)).count();
    let updated = pods.iter().filter(|(_, pod)| label(pod) == revision).count();
    let uid = meta::uid(set).to_owned();
    store.write(SETS, meta::namespace(set), meta::name(set), |before| {
        let Some(before) = before.filter(|before| meta::uid(before) == uid) else {
            return Ok(Write::Nothing);
        };
        let mut after = before.clone();
        let current = match before["status"]["currentRevision"].as_str() {
            Some(current) if updated < pods.len() => current,
            _ => revision,
        };
        after["status"] = json!({
            "observedGeneration": before["metadata"]["generation"], "replicas": pods.len(), "readyReplicas": ready,
            "availableReplicas": ready, "currentReplicas": pods.len() - updated, "updatedReplicas": updated,
            "currentRevision": current, "updateRevision": revision, "collisionCount": 0,
        });
        Ok(Write::Put(after))
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: u64) -> Value {
        json!({
            "kind": "StatefulSet", "apiVersion": "apps/v1",
            "metadata": {"name": "c", "namespace": "default", "uid": "u", "generation": 1},
            "spec": {"replicas": replicas, "serviceName": "c", "updateStrategy": {"type": "OnDelete"},
                "template": {"metadata": {"labels": {"app": "c"}}, "spec": {"containers": [{"name": "x"}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]},
        })
    }

    fn put(store: &Store, resource: &str, object: Value) {
        let name = meta::name(&object).to_owned();
        store
            .write(resource, "default", &name, |_| Ok(Write::Put(object)))
            .unwrap();
    }

    fn make_ready(store: &Store, name: &str) {
        let mut pod = (*store.get("/pods", "default", name).unwrap()).clone();
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        put(store, "/pods", pod);
    }

    fn names(store: &Store) -> Vec<String> {
        store
            .all("/pods", None)
            .iter()
            .map(|pod| meta::name(pod).to_owned())
            .collect()
    }

    #[test]
    fn pods_come_in_order_with_their_claims_and_go_from_the_end() {
        let store = Store::in_memory();
        put(&store, SETS, set(2));
        reconcile(&store);
        reconcile(&store);
        assert_eq!(names(&store), ["c-0"]);
        make_ready(&store, "c-0");
        reconcile(&store);
        assert_eq!(names(&store), ["c-0", "c-1"]);
        assert_eq!(store.all("/persistentvolumeclaims", None).len(), 2);
        make_ready(&store, "c-1");
        let mut smaller = (*store.get(SETS, "default", "c").unwrap()).clone();
        smaller["spec"]["replicas"] = json!(0);
        put(&store, SETS, smaller);
        reconcile(&store);
        let ending: Vec<bool> = store
            .all("/pods", None)
            .iter()
            .map(|pod| meta::is_ending(pod))
            .collect();
        assert_eq!(ending, [false, true]);
    }

    #[test]
    fn a_pod_waits_until_its_claim_is_deleted_and_gets_a_new_one() {
        let store = Store::in_memory();
        put(&store, SETS, set(1));
        reconcile(&store);
        let claim = |store: &Store| store.get("/persistentvolumeclaims", "default", "data-c-0");
        let old = claim(&store).unwrap();
        put(&store, "/persistentvolumeclaims", ending::begun(&old));
        store
            .write("/pods", "default", "c-0", |_| Ok(Write::Delete))
            .unwrap();
        reconcile(&store);
        assert_eq!(names(&store), Vec::<String>::new());
        let said = store.all("/events", None);
        assert!(
            said.iter()
                .any(|event| event["message"] == "pvc data-c-0 is being deleted")
        );
        store
            .write("/persistentvolumeclaims", "default", "data-c-0", |_| {
                Ok(Write::Delete)
            })
            .unwrap();
        reconcile(&store);
        assert_eq!(names(&store), ["c-0"]);
        assert_ne!(meta::uid(&claim(&store).unwrap()), meta::uid(&old));
    }

    #[test]
    fn a_changed_template_is_a_new_revision_and_touches_no_pod_by_itself() {
        let store = Store::in_memory();
        put(&store, SETS, set(1));
        reconcile(&store);
        make_ready(&store, "c-0");
        reconcile(&store);
        let before = store.get(SETS, "default", "c").unwrap();
        assert_eq!(before["status"]["updatedReplicas"], 1);
        let mut changed = (*before).clone();
        changed["spec"]["template"]["spec"]["containers"][0]["image"] = json!("new");
        put(&store, SETS, changed);
        reconcile(&store);
        let after = store.get(SETS, "default", "c").unwrap();
        assert_eq!(after["status"]["updatedReplicas"], 0);
        assert_ne!(
            after["status"]["updateRevision"],
            before["status"]["updateRevision"]
        );
        assert!(!meta::is_ending(&store.get("/pods", "default", "c-0").unwrap()));
    }
}
