//! Why a pod that is there does not run.

use k8s_openapi::api::core::v1::Pod;

/// The sandbox's reason for containers that it does not run.
const NOT_IN_SANDBOX: &str = "NotInSandbox";

/// Why a pod's container does not run: what the kubelet says, or the scheduler.
pub(crate) fn of_pod(pod: &Pod, container: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let statuses = status.container_statuses.as_ref();
    let container = statuses.and_then(|all| all.iter().find(|status| status.name == container));
    let waiting = container
        .and_then(|status| status.state.as_ref())
        .and_then(|state| state.waiting.as_ref());
    // A container beside it that does not run keeps the pod from being ready; one before it keeps it from starting.
    let others = || {
        let inits = status.init_container_statuses.iter().flatten();
        let beside = statuses.into_iter().flatten();
        inits.chain(beside).find_map(|status| {
            let waiting = status.state.as_ref()?.waiting.as_ref()?;
            let reason = waiting.reason.as_deref()?;
            let counts = !["ContainerCreating", "PodInitializing", NOT_IN_SANDBOX].contains(&reason);
            let message = waiting.message.as_deref().unwrap_or_default();
            counts.then(|| format!("{reason}: container {}: {message}", status.name))
        })
    };
    if let Some(waiting) = waiting {
        let reason = waiting.reason.clone()?;
        let message = waiting.message.clone().unwrap_or_default();
        let own = format!("{reason}: {message}");
        return Some(if is_lasting(&own) {
            own
        } else {
            others().unwrap_or(own)
        });
    }
    if let Some(why) = others() {
        return Some(why);
    }
    let conditions = status.conditions.as_ref()?;
    let unplaced = conditions.iter().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    Some(format!(
        "Unschedulable: {}",
        unplaced.message.clone().unwrap_or_default()
    ))
}

/// Whether a pod's trouble is worth an event: a container that is being made is in none.
pub(crate) fn is_lasting(trouble: &str) -> bool {
    !["ContainerCreating", "PodInitializing"]
        .iter()
        .any(|reason| trouble.starts_with(reason))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "c-0"}, "status": status})).unwrap()
    }

    #[test]
    fn the_kubelet_and_the_scheduler_say_why() {
        let image = pod(json!({"containerStatuses": [{
            "name": "postgres", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
        }]}));
        assert_eq!(of_pod(&image, "postgres").unwrap(), "ErrImagePull: not found");
        let claim = pod(json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "unbound claims",
        }]}));
        assert_eq!(
            of_pod(&claim, "postgres").unwrap(),
            "Unschedulable: unbound claims"
        );
        assert_eq!(of_pod(&pod(json!({})), "postgres"), None);
        let waits = |name: &str, reason: &str| {
            json!({"name": name, "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": "m"}}})
        };
        let runs = json!({"name": "postgres", "image": "x", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {}}});
        let beside = pod(json!({"containerStatuses": [runs, waits("a", "CrashLoopBackOff")]}));
        assert_eq!(
            of_pod(&beside, "postgres").unwrap(),
            "CrashLoopBackOff: container a: m"
        );
        let sandbox = pod(json!({"containerStatuses": [runs, waits("a", NOT_IN_SANDBOX)]}));
        assert_eq!(of_pod(&sandbox, "postgres"), None);
        let before = pod(json!({"initContainerStatuses": [waits("i", "ErrImagePull")],
            "containerStatuses": [waits("postgres", "PodInitializing")]}));
        assert_eq!(
            of_pod(&before, "postgres").unwrap(),
            "ErrImagePull: container i: m"
        );
        assert!(is_lasting("ErrImagePull: x") && !is_lasting("ContainerCreating: "));
    }
}
