//! Connection poolers: made, changed and taken away as the manifest says.

use howdah_blueprint::{
    Names, POOLER_CONTAINER, POOLER_LABEL, Pooler, Poolers, pooler_conflict, pooler_user, poolers,
};
use howdah_clock::now;
use howdah_manifest::{Manifest, PoolerRole};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::{
    OperatorError,
    apply::{AGAIN, apply, digest_of, send},
    context::{Context, Memory},
    objects::ClusterKey,
    observe::Seen,
    pace::RESYNC,
    report, waiting,
};

/// Brings the poolers to what the manifest says. Returns how many pods are ready and why others are not; `None`: there is no
/// pooler.
pub(crate) async fn sync(
    context: &Context,
    manifest: &Manifest,
    seen: &Seen,
    memory: &mut Memory,
) -> Result<Option<Poolers>, OperatorError> {
    // The Services may have been made in this pass.
    let services = context.seen(&ClusterKey::of(manifest)).services;
    let address = |service: &str| {
        let known = services.get(service).filter(|address| !address.is_empty());
        known.filter(|_| context.settings.sandbox).cloned()
    };
    // The role of a standby cluster's pooler would be the other cluster's.
    let wanted = if seen.stands_by(manifest) {
        Vec::new()
    } else {
        poolers(
            manifest,
            &context.settings,
            address,
            &mark_of(context, manifest, memory),
        )
    };
    // A mistake takes no pooler away.
    if pooler_conflict(manifest, &context.settings).is_none() {
        remove_others(context, manifest, seen, memory, &wanted).await?;
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    let mut found = Poolers::default();
    for pooler in &wanted {
        one(context, manifest, seen, memory, pooler).await?;
        let count = pooler.deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let count = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
        let name = Names(&manifest.name).pooler(pooler.role);
        let now_seen = context.seen(&ClusterKey::of(manifest)).poolers;
        let have = now_seen.get(&name);
        found.replacing |= have.is_some_and(|have| !have.settled && have.ready > 0);
        let have = have.and_then(|have| u32::try_from(have.ready).ok()).unwrap_or(0);
        found.ready += have.min(count);
        found.wanted += count;
        if have < count && found.trouble.is_none() {
            let refused = now_seen.get(&name).and_then(|have| have.refused.clone());
            found.trouble = match refused {
                Some(why) => Some(why),
                None => trouble(context, manifest, &name).await,
            };
        }
    }
    Ok(Some(found))
}

/// Why a pod of a pooler does not run. Pods of poolers are not watched: there is nothing to do for them.
async fn trouble(context: &Context, manifest: &Manifest, pooler: &str) -> Option<String> {
    let api = Api::<Pod>::namespaced(context.client.clone(), &manifest.namespace);
    let ours = ListParams::default().labels(&format!("{POOLER_LABEL}={pooler}"));
    let pods = api.list(&ours).await.ok()?;
    pods.items.iter().find_map(|pod| {
        let why = waiting::of_pod(pod, POOLER_CONTAINER).filter(|why| waiting::is_lasting(why))?;
        Some(format!(
            "{}: {why}",
            pod.metadata.name.as_deref().unwrap_or_default()
        ))
    })
}

/// A mark that changes with the password of the poolers' role. Without the superuser's password no guess can be checked by it.
fn mark_of(context: &Context, manifest: &Manifest, memory: &Memory) -> String {
    let user = pooler_user(manifest, &context.settings).unwrap_or_default();
    let password = memory
        .passwords
        .get(&user)
        .map(String::as_str)
        .unwrap_or_default();
    let known = memory.passwords.get(&context.settings.super_username);
    let digest = digest_of(&[json!(password), json!(known)]);
    digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a pooler's Service is as it was applied. No watch reports a change of it, so it is looked at once in a while.
async fn has_its_service(
    context: &Context,
    manifest: &Manifest,
    name: &str,
    memory: &mut Memory,
) -> Result<bool, OperatorError> {
    let Some((version, at)) = memory.pooler_services.get_mut(name) else {
        return Ok(false);
    };
    if now() < *at + RESYNC {
        return Ok(true);
    }
    let api = Api::<Service>::namespaced(context.client.clone(), &manifest.namespace);
    let ours = ListParams::default().labels(&format!("{POOLER_LABEL}={name}"));
    let found = api
        .list_metadata(&ours)
        .await
        .map_err(OperatorError::kube("listing services of poolers"))?;
    *at = now();
    let found = found
        .items
        .into_iter()
        .find(|found| found.metadata.name.as_deref() == Some(name));
    Ok(found.and_then(|found| found.metadata.resource_version).as_ref() == Some(version))
}

async fn one(
    context: &Context,
    manifest: &Manifest,
    seen: &Seen,
    memory: &mut Memory,
    pooler: &Pooler,
) -> Result<(), OperatorError> {
    let name = Names(&manifest.name).pooler(pooler.role);
    let digest = digest_of(&[json!(pooler.deployment), json!(pooler.service)]);
    if let (Some((known, generation, at)), Some(have)) = (memory.poolers.get(&name), seen.poolers.get(&name))
        && *known == digest
        && *generation == have.generation
        && now() < *at + AGAIN
        && has_its_service(context, manifest, &name, memory).await?
    {
        return Ok(());
    }
    let service = send(context, &pooler.service).await?;
    let version = service.metadata.resource_version.unwrap_or_default();
    memory.pooler_services.insert(name.clone(), (version, now()));
    let applied = match apply(context, &pooler.deployment).await {
        Ok(applied) => applied,
        // Its selector cannot be changed: one that another client has made is in the way.
        Err(error) if error.is_invalid() && error.in_one_line().contains("spec.selector") => {
            let message =
                format!("Deployment {name} cannot be changed to what it must be, and is made again");
            report::event(context, manifest, true, "Pooler", &message).await;
            delete::<Deployment>(context, &manifest.namespace, &name).await?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    let generation = applied.metadata.generation.unwrap_or(0);
    memory.poolers.insert(name, (digest, generation, now()));
    Ok(())
}

/// Removes the poolers that are not asked for any more.
async fn remove_others(
    context: &Context,
    manifest: &Manifest,
    seen: &Seen,
    memory: &mut Memory,
    wanted: &[Pooler],
) -> Result<(), OperatorError> {
    for role in [PoolerRole::Primary, PoolerRole::Replica] {
        let name = Names(&manifest.name).pooler(role);
        let is_there = seen.poolers.get(&name).is_some_and(|have| !have.ending);
        if wanted.iter().any(|pooler| pooler.role == role) || !is_there {
            continue;
        }
        // The Deployment last: by it the pooler is known.
        delete::<Service>(context, &manifest.namespace, &name).await?;
        delete::<Deployment>(context, &manifest.namespace, &name).await?;
        memory.poolers.remove(&name);
        memory.pooler_services.remove(&name);
        let why = if seen.stands_by(manifest) {
            "a standby cluster has none"
        } else {
            "the manifest no longer asks for it"
        };
        let message = format!("connection pooler {name} is removed: {why}");
        report::event(context, manifest, false, "Pooler", &message).await;
    }
    Ok(())
}

async fn delete<K>(context: &Context, namespace: &str, name: &str) -> Result<(), OperatorError>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api = Api::<K>::namespaced(context.client.clone(), namespace);
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(OperatorError::kube(format!("deleting {} {name}", K::kind(&())))(
            error,
        )),
    }
}
