use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::ending;
use crate::{
    Store,
    api::{IN_USE, protect},
    meta,
    resources::{DEFINITIONS, Resource, built_in},
    store::Write,
};

const CLAIMS: &str = "/persistentvolumeclaims";

/// Ends what has no owner any more: dependents of deleted objects, the contents of deleted namespaces, and objects of
/// deleted definitions; and carries out the deletions that wait for their dependents.
pub(super) fn collect(store: &Store) {
    let mut resources = built_in();
    for definition in store.all(DEFINITIONS, None) {
        resources.extend(Resource::of_definition(&definition));
    }
    let all: Vec<(String, Arc<Value>)> = resources
        .iter()
        .flat_map(|resource| {
            let id = resource.id();
            store
                .all(&id, None)
                .into_iter()
                .map(move |object| (id.clone(), object))
        })
        .collect();
    let living: BTreeSet<&str> = all.iter().map(|(_, object)| meta::uid(object)).collect();
    let ending: BTreeSet<&str> = all
        .iter()
        .filter(|(id, object)| id == "/namespaces" && meta::is_ending(object))
        .map(|(_, object)| meta::name(object))
        .collect();
    for (resource, object) in &all {
        let owners = object["metadata"]["ownerReferences"].as_array();
        let orphaned = owners.is_some_and(|owners| {
            !owners.is_empty()
                && owners
                    .iter()
                    .all(|o| !living.contains(o["uid"].as_str().unwrap_or_default()))
        });
        let homeless = ending.contains(meta::namespace(object));
        if (orphaned || homeless) && !meta::is_ending(object) {
            end(store, resource, object);
        }
        wait_for_dependents(store, resource, object, &all);
    }
    for namespace in ending {
        if !all.iter().any(|(_, object)| meta::namespace(object) == namespace) {
            let _ = store.write("/namespaces", "", namespace, |_| Ok(Write::Delete));
        }
    }
}

/// Deletes an object as a client would: pods are ended by their node, finalizers are waited for.
fn end(store: &Store, resource: &str, object: &Value) {
    let uid = meta::uid(object).to_owned();
    let waits = resource == "/pods"
        || object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|f| !f.is_empty());
    let written = store.write(resource, meta::namespace(object), meta::name(object), |before| {
        let Some(before) = before.filter(|before| meta::uid(before) == uid && !meta::is_ending(before))
        else {
            return Ok(Write::Nothing);
        };
        if resource == CLAIMS {
            let mut claim = before.clone();
            protect(&mut claim);
            return Ok(Write::Put(ending::begun(&claim)));
        }
        if !waits {
            return Ok(Write::Delete);
        }
        Ok(Write::Put(ending::begun(before)))
    });
    if let Err(error) = written {
        tracing::debug!(%error, "an object without an owner was not deleted");
    }
}

/// Foreground: dependents go first. Orphan: dependents are let go.
fn wait_for_dependents(store: &Store, resource: &str, object: &Value, all: &[(String, Arc<Value>)]) {
    if !meta::is_ending(object) {
        return;
    }
    let finalizers = object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    let uid = meta::uid(object);
    let owned = |other: &&(String, Arc<Value>)| {
        let owners = other.1["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten();
        owners.into_iter().any(|owner| owner["uid"] == uid)
    };
    let done = if has(IN_USE) {
        let name = meta::name(object);
        let in_use = all.iter().any(|(id, pod)| {
            let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
            id == "/pods"
                && meta::namespace(pod) == meta::namespace(object)
                && volumes
                    .into_iter()
                    .any(|v| v["persistentVolumeClaim"]["claimName"] == name)
        });
        (!in_use).then_some(IN_USE)
    } else if has("foregroundDeletion") {
        let mut rest = all.iter().filter(owned).peekable();
        let none = rest.peek().is_none();
        for (id, dependent) in rest {
            end(store, id, dependent);
        }
        none.then_some("foregroundDeletion")
    } else if has("orphan") {
        for (id, dependent) in all.iter().filter(owned) {
            let _ = store.write(id, meta::namespace(dependent), meta::name(dependent), |before| {
                let Some(before) = before else {
                    return Ok(Write::Nothing);
                };
                let mut after = before.clone();
                if let Some(owners) = after["metadata"]["ownerReferences"].as_array_mut() {
                    owners.retain(|owner| owner["uid"] != uid);
                }
                Ok(Write::Put(after))
            });
        }
        Some("orphan")
    } else {
        None
    };
    let Some(done) = done else { return };
    let _ = store.write(resource, meta::namespace(object), meta::name(object), |before| {
        let Some(before) = before else {
            return Ok(Write::Nothing);
        };
        let mut after = before.clone();
        let mut left = after["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        left.retain(|finalizer| finalizer != done);
        if left.is_empty() && resource != "/pods" {
            return Ok(Write::Delete);
        }
        meta::set(&mut after, &["metadata", "finalizers"], json!(left));
        Ok(Write::Put(after))
    });
}
