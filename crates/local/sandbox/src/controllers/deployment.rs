use std::sync::Arc;

use serde_json::{Value, json};

use super::{ending, record};
use crate::{ApiError, Store, meta, store::Write};

const DEPLOYMENTS: &str = "apps/deployments";
/// The label by which pods of different templates are told apart.
const TEMPLATE: &str = "pod-template-hash";

/// Makes and ends pods as Deployments say. There are no ReplicaSets between: a Deployment's pods are its own.
pub(super) fn reconcile(store: &Store) {
    for deployment in store.all(DEPLOYMENTS, None) {
        if !meta::is_ending(&deployment)
            && let Err(error) = one(store, &deployment)
        {
            record(store, &deployment, "Warning", "FailedCreate", &error.message);
        }
    }
}

/// What to do next with the pods of a Deployment.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Make one of the present template.
    Make,
    /// End the one at this place.
    End(usize),
}

/// A pod, as far as it counts here.
#[derive(Clone, Copy, Debug)]
struct Facts {
    is_new: bool,
    is_ready: bool,
}

/// One more than wanted while older pods are replaced, and never fewer that are ready: the rolling update of a small Deployment.
fn step(wanted: usize, pods: &[Facts], is_recreate: bool) -> Step {
    let new = pods.iter().filter(|pod| pod.is_new).count();
    let old = pods.len() - new;
    let ready = pods.iter().filter(|pod| pod.is_ready).count();
    let room = if is_recreate { wanted } else { wanted + 1 };
    if is_recreate && old > 0 {
        return pods
            .iter()
            .position(|pod| !pod.is_new)
            .map_or(Step::Nothing, Step::End);
    }
    if new < wanted && (pods.len() < wanted || (old > 0 && pods.len() < room)) {
        return Step::Make;
    }
    // Pods that serve no client go first.
    let idle_old = pods.iter().position(|pod| !pod.is_new && !pod.is_ready);
    if let Some(index) = idle_old {
        return Step::End(index);
    }
    if old > 0 && ready > wanted.min(pods.len() - 1) {
        return pods
            .iter()
            .position(|pod| !pod.is_new)
            .map_or(Step::Nothing, Step::End);
    }
    if old == 0 && new > wanted {
        let idle = pods.iter().position(|pod| !pod.is_ready);
        return Step::End(idle.unwrap_or(pods.len() - 1));
    }
    Step::Nothing
}

fn one(store: &Store, deployment: &Value) -> Result<(), ApiError> {
    let wanted = usize::try_from(deployment["spec"]["replicas"].as_u64().unwrap_or(1)).unwrap_or(1);
    let template = template_of(deployment);
    let is_recreate = deployment["spec"]["strategy"]["type"] == "Recreate";
    let mut pods: Vec<Arc<Value>> = store
        .all("/pods", Some(meta::namespace(deployment)))
        .into_iter()
        .filter(|pod| meta::is_controlled_by(pod, deployment) && !meta::is_ending(pod))
        .collect();
    pods.sort_by_key(|pod| meta::name(pod).to_owned());
    let facts: Vec<Facts> = pods
        .iter()
        .map(|pod| Facts {
            is_new: pod["metadata"]["labels"][TEMPLATE] == template.as_str(),
            is_ready: meta::is_ready(pod),
        })
        .collect();
    // What this changes wakes the controllers again.
    match step(wanted, &facts, is_recreate) {
        Step::Nothing => {}
        Step::Make => create(store, deployment, &template)?,
        Step::End(index) => {
            if let Some(pod) = pods.get(index) {
                end(store, pod)?;
            }
        }
    }
    status(store, deployment, wanted, &facts)
}

/// A name for the template as it is now.
fn template_of(deployment: &Value) -> String {
    let text = deployment["spec"]["template"].to_string();
    format!("{:x}", crate::state::hash(text.as_bytes()) % 0xfff_ffff_ffff)
}

fn create(store: &Store, deployment: &Value, template: &str) -> Result<(), ApiError> {
    let (namespace, owner) = (meta::namespace(deployment), meta::name(deployment));
    let uid = meta::uuid();
    let name = format!("{owner}-{template}-{}", uid.get(..5).unwrap_or_default());
    let of = &deployment["spec"]["template"];
    let mut pod = json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": of["metadata"], "spec": of["spec"], "status": {"phase": "Pending"},
    });
    for (key, value) in [
        ("name", json!(name)),
        ("namespace", json!(namespace)),
        ("uid", json!(uid)),
        ("creationTimestamp", json!(meta::timestamp())),
        ("generateName", json!(format!("{owner}-{template}-"))),
        ("ownerReferences", json!([meta::controller_reference(deployment)])),
    ] {
        meta::set(&mut pod, &["metadata", key], value);
    }
    meta::set(&mut pod, &["metadata", "labels", TEMPLATE], json!(template));
    store.write("/pods", namespace, &name, |before| {
        Ok(match before {
            Some(_) => Write::Nothing,
            None => Write::Put(pod),
        })
    })?;
    let told = format!("create Pod {name} in Deployment {owner}");
    record(store, deployment, "Normal", "SuccessfulCreate", &told);
    Ok(())
}

fn end(store: &Store, pod: &Value) -> Result<(), ApiError> {
    store.write("/pods", meta::namespace(pod), meta::name(pod), |before| {
        Ok(match before.filter(|before| !meta::is_ending(before)) {
            Some(before) => Write::Put(ending::begun(before)),
            None => Write::Nothing,
        })
    })?;
    Ok(())
}

fn status(store: &Store, deployment: &Value, wanted: usize, pods: &[Facts]) -> Result<(), ApiError> {
    let ready = pods.iter().filter(|pod| pod.is_ready).count();
    let updated = pods.iter().filter(|pod| pod.is_new).count();
    let uid = meta::uid(deployment).to_owned();
    store.write(
        DEPLOYMENTS,
        meta::namespace(deployment),
        meta::name(deployment),
        |before| {
            let Some(before) = before.filter(|before| meta::uid(before) == uid) else {
                return Ok(Write::Nothing);
            };
            let mut after = before.clone();
            let is_available = ready >= wanted;
            let word = if is_available { "True" } else { "False" };
            let known = before["status"]["conditions"].as_array().into_iter().flatten();
            let same = known
                .into_iter()
                .find(|condition| condition["type"] == "Available" && condition["status"] == word);
            let since = same.map_or_else(
                || json!(meta::timestamp()),
                |condition| condition["lastTransitionTime"].clone(),
            );
            after["status"] = json!({
                "observedGeneration": before["metadata"]["generation"], "replicas": pods.len(), "updatedReplicas": updated,
                "readyReplicas": ready, "availableReplicas": ready, "unavailableReplicas": wanted.saturating_sub(ready),
                "conditions": [{
                    "type": "Available", "status": word, "lastTransitionTime": since, "lastUpdateTime": since,
                    "reason": if is_available { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" },
                    "message": format!("{ready} of {wanted} pods are ready"),
                }],
            });
            Ok(Write::Put(after))
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows the steps from these pods, each new one ready at once, and says how few were ready at the least.
    fn follow(wanted: usize, mut pods: Vec<Facts>, is_recreate: bool) -> (usize, usize, usize) {
        let count = |pods: &[Facts]| pods.iter().filter(|pod| pod.is_ready).count();
        let (mut least, mut most) = (count(&pods), pods.len());
        for _ in 0..50 {
            match step(wanted, &pods, is_recreate) {
                Step::Nothing => {
                    assert!(
                        pods.iter().all(|pod| pod.is_new) && pods.len() == wanted,
                        "{pods:?}"
                    );
                    return (least, most, pods.len());
                }
                Step::Make => pods.push(Facts {
                    is_new: true,
                    is_ready: true,
                }),
                Step::End(index) => {
                    pods.remove(index);
                }
            }
            least = least.min(count(&pods));
            most = most.max(pods.len());
        }
        panic!("it does not end: {pods:?}");
    }

    fn pods(count: usize, is_new: bool, is_ready: bool) -> Vec<Facts> {
        vec![Facts { is_new, is_ready }; count]
    }

    #[test]
    fn a_rolling_update_keeps_as_many_as_are_wanted() {
        for wanted in 1..5 {
            assert_eq!(
                follow(wanted, pods(wanted, false, true), false),
                (wanted, wanted + 1, wanted)
            );
            assert_eq!(follow(wanted, pods(wanted, false, true), true).1, wanted);
        }
        // Pods that never were ready are in no way.
        assert_eq!(follow(2, pods(2, false, false), false).2, 2);
    }

    #[test]
    fn it_grows_and_shrinks() {
        assert_eq!(follow(3, Vec::new(), false), (0, 3, 3));
        assert_eq!(follow(1, pods(3, true, true), false), (1, 3, 1));
        assert_eq!(follow(0, pods(2, true, true), false).2, 0);
        let mut mixed = pods(2, true, true);
        mixed.push(Facts {
            is_new: true,
            is_ready: false,
        });
        assert_eq!(step(2, &mixed, false), Step::End(2));
    }
}
