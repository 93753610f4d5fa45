//! Objects, by server-side apply; Secrets, where an existing one wins.

use std::collections::BTreeMap;

use howdah_blueprint::{Live, Objects, credentials, objects, secret, service_account};
use howdah_clock::now;
use howdah_manifest::Manifest;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Secret, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    OperatorError,
    context::{Context, Memory},
    index::Indexed,
    objects::ClusterKey,
    observe::{Seen, password_of},
};

/// Under this name the operator owns fields.
pub(crate) const MANAGER: &str = "howdah-operator";

/// Unchanged objects are applied again after this time: the index does not hold the ServiceAccount, and compares objects by
/// their versions only.
pub(crate) const AGAIN: std::time::Duration = std::time::Duration::from_secs(600);

/// An account that was there this long ago is taken to be there still, when a cluster is made: many may be made at once.
const FRESH: std::time::Duration = std::time::Duration::from_secs(2);

/// Makes the Secrets that are missing, and reads all: passwords by role.
///
/// The password of a system role is in the pods as well, so a Secret that is gone gets the password that is remembered;
/// a new one would lock everybody out.
pub(crate) async fn secrets(
    context: &Context,
    manifest: &Manifest,
    seen: &Seen,
    memory: &mut Memory,
) -> Result<BTreeMap<String, String>, OperatorError> {
    let api = Api::<Secret>::namespaced(context.client.clone(), &manifest.namespace);
    let mut passwords = BTreeMap::new();
    memory.unwatched = false;
    for credential in credentials(manifest, &context.settings) {
        if let Some(Some(known)) = seen.secrets.get(&credential.secret) {
            passwords.insert(credential.role, known.clone());
            continue;
        }
        // A Secret that a user has made may lack the labels by which the index finds it. Its end is then not reported.
        memory.unwatched = true;
        let reading = || OperatorError::kube(format!("reading Secret {}", credential.secret));
        // Of a new cluster, Secrets are mostly missing: an attempt to make one tells as much as a look at it.
        let mut found = None;
        if seen.statefulset.is_some() {
            found = api.get_opt(&credential.secret).await.map_err(reading())?;
        }
        if found.is_none() {
            let text = match memory.passwords.get(&credential.role) {
                Some(known) => known.clone(),
                None if credential.system && seen.statefulset.is_some() => {
                    return Err(OperatorError::Missing(format!(
                        "Secret {} is gone, and with it the password of {}, which the pods have: put the Secret back \
                         (username, password)",
                        credential.secret, credential.role
                    )));
                }
                None => password()?,
            };
            let made = secret(
                manifest,
                &context.settings,
                &credential.secret,
                &credential.role,
                &text,
            );
            match api.create(&PostParams::default(), &made).await {
                Ok(secret) => {
                    context.wrote(&secret);
                    found = Some(secret);
                }
                // The Secret of another client counts. A quota refuses before the API looks whether there is one.
                Err(error @ kube::Error::Api(_)) => {
                    found = api.get_opt(&credential.secret).await.map_err(reading())?;
                    if found.is_none() {
                        let what = format!("making Secret {}", credential.secret);
                        return Err(OperatorError::kube(what)(error));
                    }
                }
                Err(error) => {
                    return Err(OperatorError::kube(format!(
                        "making Secret {}",
                        credential.secret
                    ))(error));
                }
            }
        }
        let password = found.as_ref().and_then(password_of);
        let password = password
            .ok_or_else(|| OperatorError::Missing(format!("Secret {} has no password", credential.secret)))?;
        passwords.insert(credential.role, password);
    }
    memory.passwords.clone_from(&passwords);
    Ok(passwords)
}

/// 64 letters and digits.
fn password() -> Result<String, OperatorError> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let random = SystemRandom::new();
    let mut out = String::with_capacity(64);
    while out.len() < 64 {
        let mut bytes = [0u8; 96];
        random
            .fill(&mut bytes)
            .map_err(|_| OperatorError::Machine("no random numbers"))?;
        // Bytes beyond the last whole multiple of 62 would make some letters likelier than others.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        out.extend(fair.map(|byte| char::from(LETTERS[usize::from(*byte) % 62])));
    }
    out.truncate(64);
    Ok(out)
}

/// Applies the objects of a cluster. Unchanged ones are sent again only once in a while.
pub(crate) async fn cluster(
    context: &Context,
    manifest: &Manifest,
    live: &Live,
    seen: &Seen,
    memory: &mut Memory,
) -> Result<StatefulSet, OperatorError> {
    let wanted = objects(manifest, &context.settings, live);
    let digest = digest_of_cluster(&wanted);
    if let (Some((known, versions, at)), Some(statefulset)) = (&memory.applied, &live.statefulset)
        && seen.is_whole(&manifest.name)
        && *known == digest
        && *versions == seen.versions()
        && now() < *at + AGAIN
    {
        return Ok(statefulset.clone());
    }
    account(context, manifest, live).await?;
    apply(context, &wanted.primary_service).await?;
    apply(context, &wanted.replica_service).await?;
    apply(context, &wanted.primary_budget).await?;
    apply(context, &wanted.critical_budget).await?;
    let statefulset = apply(context, &wanted.statefulset).await?;
    let applied = context.seen(&ClusterKey::of(manifest));
    memory.applied = Some((digest, applied.versions(), now()));
    Ok(statefulset)
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
