use std::{collections::BTreeMap, time::Duration};

use howdah_blueprint::PodEnvironment;
use howdah_manifest::Manifest;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;

use super::place;
use crate::{
    OperatorError,
    context::Context,
    error::kube_text,
    known::{AGE, AGE_OF_MISSING},
};

/// The variables of every member that the configuration names.
///
/// # Errors
/// What it names is not there or cannot be read. Pods made without it would be other pods, so no object is changed then.
pub(crate) async fn environment(
    context: &Context,
    manifest: &Manifest,
) -> Result<PodEnvironment, OperatorError> {
    let of = &context.settings.pods;
    let mut out = PodEnvironment::default();
    if let Some(name) = &of.environment_secret {
        let what = format!("Secret {}/{name} (pod_environment_secret)", manifest.namespace);
        let reading = secret_keys(context, &manifest.namespace, name);
        let found = context.known_sources.secrets.get(&what, age, reading).await;
        let keys = found.map_err(|reason| OperatorError::Missing(format!("{what}: {reason}")))?;
        let keys = keys.ok_or_else(|| OperatorError::Missing(format!("{what} is not there")))?;
        out.secret = Some((name.to_owned(), keys));
    }
    if let Some(name) = &of.environment_configmap {
        let (namespace, name) = place(context, name);
        // Upstream's order: where the name says, then beside the cluster.
        let mut found = None;
        for namespace in [namespace, &manifest.namespace] {
            let what = format!("ConfigMap {namespace}/{name} (pod_environment_configmap)");
            let reading = map_data(context, namespace, name);
            let read = context.known_sources.maps.get(&what, age, reading).await;
            found = read.map_err(|reason| OperatorError::Missing(format!("{what}: {reason}")))?;
            if found.is_some() {
                break;
            }
        }
        out.values = found.ok_or_else(|| {
            OperatorError::Missing(format!(
                "ConfigMap {namespace}/{name} (pod_environment_configmap) is not there"
            ))
        })?;
    }
    Ok(out)
}

fn age<T>(read: &Result<Option<T>, String>) -> Duration {
    if matches!(read, Ok(Some(_))) {
        AGE
    } else {
        AGE_OF_MISSING
    }
}

async fn map_data(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<Option<BTreeMap<String, String>>, String> {
    let api = Api::<ConfigMap>::namespaced(context.client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|error| kube_text(&error))?;
    Ok(found.map(|map| map.data.unwrap_or_default()))
}

async fn secret_keys(context: &Context, namespace: &str, name: &str) -> Result<Option<Vec<String>>, String> {
    let api = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|error| kube_text(&error))?;
    Ok(found.map(|secret| secret.data.unwrap_or_default().into_keys().collect()))
}
