use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Container};

use crate::POSTGRES_CONTAINER;

/// The container that PostgreSQL runs in.
pub(super) fn postgres_container(statefulset: &StatefulSet) -> Option<&Container> {
    let pod = statefulset.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers
        .iter()
        .find(|container| container.name == POSTGRES_CONTAINER)
}
