use std::fmt::Debug;

use howdah_blueprint::{Names, base_labels};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Resource,
    api::{DeleteParams, DynamicObject, ListParams},
    core::NamespaceResourceScope,
    runtime::controller::Action,
};
use serde::de::DeserializeOwned;

use crate::{
    OperatorError,
    context::{Context, selector},
    objects::ClusterKey,
};

/// Removes everything of a deleted cluster: its pods first, what they need until their end afterwards, volumes last.
pub(crate) async fn cluster(context: &Context, object: &DynamicObject) -> Result<Action, OperatorError> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let ours = ListParams::default().labels(&selector(&base_labels(&name, &context.settings)));
    delete::<StatefulSet>(context, &namespace, &Names(&name).cluster()).await?;
    let pods = Api::<Pod>::namespaced(context.client.clone(), &namespace);
    let left = pods
        .list(&ours)
        .await
        .map_err(OperatorError::kube("listing pods"))?;
    if !left.items.is_empty() {
        // The finalizer stays while this is an error; the end of a pod begins the next pass.
        return Err(OperatorError::Waiting(format!(
            "{} pods have not ended yet",
            left.items.len()
        )));
    }
    delete_all::<Service>(context, &namespace, &ours).await?;
    delete_all::<PodDisruptionBudget>(context, &namespace, &ours).await?;
    delete_all::<Secret>(context, &namespace, &ours).await?;
    delete_all::<ConfigMap>(context, &namespace, &ours).await?;
    delete_all::<PersistentVolumeClaim>(context, &namespace, &ours).await?;
    delete_claims(context, &namespace, &name).await?;
    context.forget(&ClusterKey {
        namespace,
        name: name.clone(),
    });
    tracing::info!(cluster = name, "The cluster is gone.");
    Ok(Action::await_change())
}

/// Deletes the cluster's claims by their names: one that has lost its labels would give the next cluster of this name the
/// data of the last one.
async fn delete_claims(context: &Context, namespace: &str, cluster: &str) -> Result<(), OperatorError> {
    let claims = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), namespace);
    let found = claims
        .list(&ListParams::default())
        .await
        .map_err(OperatorError::kube("listing persistentvolumeclaims"))?;
    for claim in found.items {
        let name = claim.metadata.name.unwrap_or_default();
        if Names(cluster).is_claim(&name) {
            delete::<PersistentVolumeClaim>(context, namespace, &name).await?;
        }
    }
    Ok(())
}

async fn delete<K>(context: &Context, namespace: &str, name: &str) -> Result<(), OperatorError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api = Api::<K>::namespaced(context.client.clone(), namespace);
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(OperatorError::kube(format!("deleting {} {name}", K::kind(&())))(
            error,
        )),
    }
}

async fn delete_all<K>(context: &Context, namespace: &str, which: &ListParams) -> Result<(), OperatorError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api = Api::<K>::namespaced(context.client.clone(), namespace);
    let found = api
        .list(which)
        .await
        .map_err(OperatorError::kube(format!("listing {}", K::plural(&()))))?;
    for object in found.items {
        if let Some(name) = &object.meta().name {
            delete::<K>(context, namespace, name).await?;
        }
    }
    Ok(())
}
