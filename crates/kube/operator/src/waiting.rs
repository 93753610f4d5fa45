//! Why a pod that is there does not run.

use k8s_openapi::api::core::v1::Pod;

/// Why a pod's container does not run: what the kubelet says, or the scheduler.
pub(crate) fn of_pod(pod: &Pod, container: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let statuses = status.container_statuses.as_ref();
    let container = statuses.and_then(|all| all.iter().find(|status| status.name == container));
    let waiting = container
        .and_then(|status| status.state.as_ref())
        .and_then(|state| state.waiting.as_ref());
    if let Some(waiting) = waiting {
        let reason = waiting.reason.clone()?;
        let message = waiting.message.clone().unwrap_or_default();
        return Some(format!("{reason}: {message}"));
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
        assert!(is_lasting("ErrImagePull: x") && !is_lasting("ContainerCreating: "));
    }
}
