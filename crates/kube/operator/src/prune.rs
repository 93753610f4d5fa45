//! What the index does not keep of an object: a pod of a cluster is 25 KB in memory, and of that a pass looks at one.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{
        ContainerStatus, PersistentVolumeClaim, PersistentVolumeClaimSpec, Pod, PodSpec, PodStatus, Secret,
    },
};

/// Of a pod: its metadata, its node, and how its containers are.
pub(crate) fn pod(pod: &mut Pod) {
    let node_name = pod.spec.take().and_then(|spec| spec.node_name);
    pod.spec = Some(PodSpec {
        node_name,
        ..PodSpec::default()
    });
    pod.status = pod.status.take().map(|status| PodStatus {
        conditions: status.conditions,
        container_statuses: status.container_statuses.map(containers),
        init_container_statuses: status.init_container_statuses.map(containers),
        ..PodStatus::default()
    });
    pod.metadata.owner_references = None;
}

fn containers(all: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    let kept = all.into_iter().map(|status| ContainerStatus {
        name: status.name,
        ready: status.ready,
        restart_count: status.restart_count,
        state: status.state,
        ..ContainerStatus::default()
    });
    kept.collect()
}

/// Of a Secret: its metadata, who logs in with it, the password, and when that changes.
pub(crate) fn secret(secret: &mut Secret) {
    if let Some(data) = &mut secret.data {
        data.retain(|key, _| ["username", "password", "nextRotation"].contains(&key.as_str()));
    }
}

/// Of a claim: its metadata and the size that it asks for.
pub(crate) fn claim(claim: &mut PersistentVolumeClaim) {
    claim.status = None;
    claim.spec = claim.spec.take().map(|spec| PersistentVolumeClaimSpec {
        resources: spec.resources,
        ..PersistentVolumeClaimSpec::default()
    });
}

/// Of a Deployment: its metadata and its status.
pub(crate) fn deployment(deployment: &mut Deployment) {
    deployment.spec = None;
}
