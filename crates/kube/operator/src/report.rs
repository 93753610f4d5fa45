//! What users read: status and events.

use howdah_manifest::{GROUP, KIND, Manifest, Status, VERSION};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    OperatorError,
    context::{Context, MANAGER, postgresql_api},
};

/// The time in a status.
pub(crate) fn timestamp() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Writes the status, if it has changed: the object's version with it.
pub(crate) async fn write(
    context: &Context,
    object: &DynamicObject,
    before: &Status,
    status: &Status,
) -> Result<Option<u64>, OperatorError> {
    if before == status {
        return Ok(None);
    }
    let (name, namespace) = place(object);
    let api = postgresql_api(context.client.clone(), Some(namespace));
    // A merge patch would keep keys that are gone.
    let mut patch = json!({ "status": status });
    for gone in ["leader", "version", "progress", "notes", "machine"] {
        if patch["status"].get(gone).is_none() {
            patch["status"][gone] = json!(null);
        }
    }
    let params = PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    };
    match api.patch_status(name, &params, &Patch::Merge(patch)).await {
        Ok(written) => Ok(written
            .metadata
            .resource_version
            .and_then(|text| text.parse().ok())),
        // Deleted meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(OperatorError::kube("writing the status")(error)),
    }
}

fn place(object: &DynamicObject) -> (&str, &str) {
    (
        object.metadata.name.as_deref().unwrap_or_default(),
        object.metadata.namespace.as_deref().unwrap_or_default(),
    )
}

/// Tells something as an event of the cluster. Events are for people: one that cannot be written is only logged.
pub(crate) async fn event(
    context: &Context,
    manifest: &Manifest,
    warning: bool,
    reason: &str,
    message: &str,
) {
    if warning {
        tracing::warn!(cluster = manifest.name, reason, "{message}");
    } else {
        tracing::info!(cluster = manifest.name, reason, "{message}");
    }
    let now = Time(Timestamp::now());
    let event = Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}.", manifest.name)),
            namespace: Some(manifest.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(KIND.into()),
            name: Some(manifest.name.clone()),
            namespace: Some(manifest.namespace.clone()),
            uid: Some(manifest.uid.clone()),
            ..ObjectReference::default()
        },
        type_: Some(if warning { "Warning" } else { "Normal" }.into()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        source: Some(EventSource {
            component: Some("howdah-operator".into()),
            host: None,
        }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Event::default()
    };
    let api = Api::<Event>::namespaced(context.client.clone(), &manifest.namespace);
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        tracing::debug!(%error, "an event was not written");
    }
}
