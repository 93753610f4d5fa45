use std::{collections::BTreeMap, fmt::Debug};

use howdah_blueprint::{
    CLUSTER_NAMESPACE_ANNOTATION, Names, OtherRoles, POOLER_LABEL, base_labels, credentials,
    keeps_from_deletion,
};
use howdah_manifest::Manifest;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Resource,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions},
    core::NamespaceResourceScope,
    runtime::controller::Action,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    OperatorError,
    context::{Context, FINALIZER, postgresql_api, selector},
    objects::ClusterKey,
};

/// The annotation of a cluster whose deletion has begun: it is not protected any more.
const DELETING: &str = "howdah.dev/deleting";

/// Why a cluster that is to be deleted stays, if the operator's configuration protects it.
pub(crate) fn kept(context: &Context, object: &DynamicObject) -> Option<String> {
    let is_ours = |finalizer: &String| finalizer == FINALIZER;
    if !object.metadata.finalizers.iter().flatten().any(is_ours) {
        // Its objects are gone already.
        return None;
    }
    let none = BTreeMap::new();
    let annotations = object.metadata.annotations.as_ref().unwrap_or(&none);
    if annotations.get(DELETING) == object.metadata.uid.as_ref() {
        return None;
    }
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let today = Timestamp::now().strftime("%Y-%m-%d").to_string();
    keeps_from_deletion(name, annotations, &context.settings, &today)
}

/// Removes everything of a deleted cluster: its pods first, what they need until their end afterwards, volumes last.
pub(crate) async fn cluster(context: &Context, object: &DynamicObject) -> Result<Action, OperatorError> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    begin(context, object, &namespace, &name).await?;
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
        delete_secrets(context, &namespace, object, &ours).await?;
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

/// Notes that the deletion has begun, by the object's UID: what is allowed today must not be made again tomorrow, and a copy of the
/// manifest is another object.
async fn begin(
    context: &Context,
    object: &DynamicObject,
    namespace: &str,
    name: &str,
) -> Result<(), OperatorError> {
    let annotations = object.metadata.annotations.as_ref();
    if annotations.and_then(|all| all.get(DELETING)) == object.metadata.uid.as_ref() {
        return Ok(());
    }
    let api = postgresql_api(context.client.clone(), Some(namespace));
    let note =
        json!({"metadata": {"uid": object.metadata.uid, "annotations": {DELETING: object.metadata.uid}}});
    let noted = api
        .patch(name, &PatchParams::default(), &Patch::Merge(note))
        .await;
    noted
        .map(drop)
        .map_err(OperatorError::kube("noting that the deletion has begun"))
}

/// Deletes the cluster's Secrets: those beside it, and those in other namespaces that say so.
async fn delete_secrets(
    context: &Context,
    namespace: &str,
    object: &DynamicObject,
    ours: &ListParams,
) -> Result<(), OperatorError> {
    let home = |secret: &Secret| {
        let annotations = secret.metadata.annotations.as_ref();
        annotations
            .and_then(|all| all.get(CLUSTER_NAMESPACE_ANNOTATION))
            .cloned()
    };
    let api = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let listing = || OperatorError::kube("listing secrets");
    for secret in api.list(ours).await.map_err(listing())?.items {
        // A cluster of the same name in another namespace may have a Secret here.
        if home(&secret).is_none_or(|home| home == namespace) {
            delete_exactly(context, namespace, &secret).await?;
        }
    }
    // Those of users that the manifest does not have any more are known by their annotation.
    let key = ClusterKey::of_object(object);
    let objects = context.index().objects(&key);
    for secret in objects.secrets.values() {
        let elsewhere = secret.metadata.namespace.as_deref().unwrap_or_default();
        if elsewhere != namespace && home(secret).as_deref() == Some(namespace) {
            delete_exactly(context, elsewhere, secret).await?;
        }
    }
    let Ok(manifest) = Manifest::read(&serde_json::to_value(object).unwrap_or_default()) else {
        return Ok(());
    };
    for credential in credentials(&manifest, &context.settings, &OtherRoles::default()) {
        let Some(elsewhere) = &credential.namespace else {
            continue;
        };
        let api = Api::<Secret>::namespaced(context.client.clone(), elsewhere);
        let found = api.get_opt(&credential.secret).await.map_err(listing())?;
        if let Some(secret) = found.filter(|secret| home(secret).as_deref() == Some(namespace)) {
            delete_exactly(context, elsewhere, &secret).await?;
        }
    }
    Ok(())
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
pub(crate) async fn delete_exactly<K>(
    context: &Context,
    namespace: &str,
    object: &K,
) -> Result<(), OperatorError>
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
