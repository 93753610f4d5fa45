use std::{collections::BTreeMap, fmt::Debug};

use howdah_blueprint::{Names, POOLER_LABEL, base_labels};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Resource,
    api::{DeleteParams, DynamicObject, ListParams, Preconditions},
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
    delete_all::<StatefulSet>(context, &namespace, &ours).await?;
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
    let poolers = selector(&BTreeMap::from([(
        context.settings.cluster_name_label.clone(),
        name.clone(),
    )]));
    let poolers = ListParams::default().labels(&format!("{poolers},{POOLER_LABEL}"));
    delete_all::<Deployment>(context, &namespace, &poolers).await?;
    delete_all::<Service>(context, &namespace, &poolers).await?;
    delete_all::<PodDisruptionBudget>(context, &namespace, &ours).await?;
    if context.settings.enable_secrets_deletion {
        delete_all::<Secret>(context, &namespace, &ours).await?;
    }
    delete_all::<ConfigMap>(context, &namespace, &ours).await?;
    if context.settings.enable_persistent_volume_claim_deletion {
        delete_all::<PersistentVolumeClaim>(context, &namespace, &ours).await?;
        delete_claims(context, &namespace, &name).await?;
    }
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
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        if Names(cluster).is_claim(name) {
            delete_exactly(context, namespace, &claim).await?;
        }
    }
    Ok(())
}

/// Deletes an object, and no later one of its name: a request that is late must not meet the next cluster's.
async fn delete_exactly<K>(context: &Context, namespace: &str, object: &K) -> Result<(), OperatorError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.meta().uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let name = object.meta().name.clone().unwrap_or_default();
    let api = Api::<K>::namespaced(context.client.clone(), namespace);
    // What is gone, or another object by now, needs no deletion.
    let is_gone = |code: u16| code == 404 || code == 409;
    match api.delete(&name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if is_gone(status.code) => Ok(()),
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
        delete_exactly(context, namespace, &object).await?;
    }
    Ok(())
}
