//! Objects, by server-side apply.

use std::collections::BTreeMap;

use howdah_blueprint::{BUDGET_ANNOTATION, Live, Names, Objects, Settings, objects, service_account};
use howdah_clock::now;
use howdah_manifest::Manifest;
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet, core::v1::ServiceAccount, policy::v1::PodDisruptionBudget,
        rbac::v1::RoleBinding,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use ring::digest::{SHA256, digest};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    OperatorError,
    cleanup::delete_exactly,
    context::{Context, MANAGER, Memory},
    index::Indexed,
    lazy,
    objects::ClusterKey,
    observe::Seen,
};

/// Unchanged objects are applied again after this time: the index does not hold the ServiceAccount, and compares objects by
/// their versions only.
pub(crate) const AGAIN: std::time::Duration = std::time::Duration::from_secs(600);

/// An account that was there this long ago is taken to be there still, when a cluster is made: many may be made at once.
const FRESH: std::time::Duration = std::time::Duration::from_secs(2);

/// Applies the objects of a cluster. Unchanged ones are sent again only once in a while.
pub(crate) async fn cluster(
    context: &Context,
    manifest: &Manifest,
    live: &Live,
    seen: &Seen,
    memory: &mut Memory,
) -> Result<StatefulSet, OperatorError> {
    let mut wanted = objects(manifest, &context.settings, live);
    let digest = digest_of_cluster(&wanted);
    if let (Some((known, versions, at)), Some(statefulset)) = (&memory.applied, &live.statefulset)
        && seen.is_whole(&manifest.name, &context.settings)
        && *known == digest
        && *versions == seen.versions()
        && now() < *at + AGAIN
    {
        return Ok(statefulset.clone());
    }
    account(context, manifest, live).await?;
    // First what may be refused: a Service with other labels would lead nowhere if the members kept theirs.
    let mut is_whole = true;
    if let Some(live) = &live.statefulset {
        (wanted.statefulset, is_whole) = lazy::statefulset(context, wanted.statefulset, live).await?;
    }
    let statefulset = apply(context, &wanted.statefulset).await?;
    let services = [
        apply(context, &wanted.primary_service).await?,
        apply(context, &wanted.replica_service).await?,
    ];
    let budgets = [
        apply(context, &wanted.primary_budget).await?,
        apply(context, &wanted.critical_budget).await?,
    ];
    remove_budgets(context, manifest, seen).await?;
    let key = ClusterKey::of(manifest);
    let (applied, objects) = (context.seen(&key), context.index().objects(&key));
    // Another client may have changed an object since it was applied, and a part may wait: the next pass applies them again.
    let is_ours = is_same(&statefulset, &objects.sets, |meta| {
        meta.generation.map(|number| number.to_string())
    }) && services
        .iter()
        .all(|service| is_same(service, &objects.services, |meta| meta.resource_version.clone()))
        && budgets.iter().all(|budget| {
            is_same(budget, &objects.budgets, |meta| {
                meta.generation.map(|number| number.to_string())
            })
        });
    // And soon, also where nothing else is to be done.
    memory.unwatched |= !(is_whole && is_ours);
    memory.applied = (is_whole && is_ours).then(|| (digest, applied.versions(), now()));
    Ok(statefulset)
}

/// Whether the index has an object as the API has answered it.
fn is_same<K: Indexed>(
    answered: &K,
    known: &BTreeMap<String, K>,
    version: fn(&ObjectMeta) -> Option<String>,
) -> bool {
    let known = answered.meta().name.as_ref().and_then(|name| known.get(name));
    known.is_some_and(|known| version(known.meta()) == version(answered.meta()))
}

/// Removes budgets of the cluster that have another name than the configuration gives them now: one that nothing keeps up to date
/// would keep a drain from ending.
async fn remove_budgets(context: &Context, manifest: &Manifest, seen: &Seen) -> Result<(), OperatorError> {
    let wanted = [
        context.settings.primary_budget(&manifest.name),
        Names(&manifest.name).critical_budget(),
    ];
    if seen.budgets.iter().all(|name| wanted.contains(name)) {
        return Ok(());
    }
    let budgets = context.index().objects(&ClusterKey::of(manifest)).budgets;
    // Earlier versions made it without the annotation, by the name that it has unless another is configured.
    let usual = Settings::default().primary_budget(&manifest.name);
    let is_ours = |budget: &PodDisruptionBudget| {
        let annotations = budget.metadata.annotations.as_ref();
        annotations.is_some_and(|all| all.contains_key(BUDGET_ANNOTATION)) || budget.name_any() == usual
    };
    for budget in budgets.values().filter(|budget| is_ours(budget)) {
        if !wanted.contains(&budget.name_any()) {
            delete_exactly(context, &manifest.namespace, budget).await?;
        }
    }
    Ok(())
}

fn digest_of_cluster(objects: &Objects) -> [u8; 32] {
    digest_of(&[
        json!(objects.primary_service),
        json!(objects.replica_service),
        json!(objects.primary_budget),
        json!(objects.critical_budget),
        json!(objects.statefulset),
    ])
}

/// A digest of objects, by which a change of them is noticed.
pub(crate) fn digest_of(objects: &[Value]) -> [u8; 32] {
    let text = Value::from(objects.to_vec()).to_string();
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    out
}

/// The pods' account is made if it is missing and never changed: it belongs to the namespace.
async fn account(context: &Context, manifest: &Manifest, live: &Live) -> Result<(), OperatorError> {
    // A new cluster may be in a namespace that was deleted and made again, which takes longer than this.
    let fresh = if live.statefulset.is_none() { FRESH } else { AGAIN };
    if context.has_account(&manifest.namespace, now(), fresh) {
        return Ok(());
    }
    let (account, binding) = service_account(&manifest.namespace, &context.settings);
    let accounts = Api::<ServiceAccount>::namespaced(context.client.clone(), &manifest.namespace);
    create_if_missing(&accounts, &account).await?;
    let bindings = Api::<RoleBinding>::namespaced(context.client.clone(), &manifest.namespace);
    create_if_missing(&bindings, &binding).await?;
    context.made_account(&manifest.namespace, now());
    Ok(())
}

async fn create_if_missing<K>(api: &Api<K>, object: &K) -> Result<(), OperatorError>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let what = format!("making {} {}", K::kind(&()), object.name_any());
    match api.create(&PostParams::default(), object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(OperatorError::kube(what)(error)),
    }
}

pub(crate) async fn apply<K>(context: &Context, object: &K) -> Result<K, OperatorError>
where
    K: Indexed
        + Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let applied = send(context, object).await?;
    context.wrote(&applied);
    Ok(applied)
}

/// Applies an object that no watch reports, and that the index must not hold.
pub(crate) async fn send<K>(context: &Context, object: &K) -> Result<K, OperatorError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let api = Api::<K>::namespaced(context.client.clone(), &namespace);
    let what = format!("applying {} {name}", K::kind(&()));
    api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))
        .await
        .map_err(OperatorError::kube(what))
}
