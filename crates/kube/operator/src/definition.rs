use std::time::Duration;

use howdah_clock::now;
use howdah_http::sleep_until;
use howdah_manifest::{CRD_NAME, CRD_REVISION, TEAM_CRD_NAME, crd, team_crd};
use howdah_types::{BootTime, Class, Classified};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::Value;

use crate::{OperatorError, context::MANAGER};

/// How often it is asked whether the API serves the definition.
const LOOK: Duration = Duration::from_millis(100);

/// How often it is tried to write the definition, where others write it too.
const TRIES: u32 = 10;

/// Puts our CustomResourceDefinition of clusters in place, also in place of the old operator's. Returns its generation.
///
/// Labels and annotations that others have added (helm's, say) stay.
///
/// # Errors
/// The API refuses or is not reached.
pub async fn install_definition(client: &Client) -> Result<i64, OperatorError> {
    keep_installed(client, CRD_NAME, &crd()).await
}

/// The same for the definition of `PostgresTeam`.
///
/// # Errors
/// The API refuses or is not reached.
pub async fn install_team_definition(client: &Client) -> Result<i64, OperatorError> {
    keep_installed(client, TEAM_CRD_NAME, &team_crd()).await
}

async fn keep_installed(client: &Client, name: &str, definition: &Value) -> Result<i64, OperatorError> {
    for _ in 1..TRIES {
        match install(client, name, definition).await {
            // Another replica, or the API server's own note of the state, came between.
            Err(error) if error.reason() == "api_conflict" => sleep_until(now() + LOOK).await,
            other => return other,
        }
    }
    install(client, name, definition).await
}

async fn install(client: &Client, name: &str, definition: &Value) -> Result<i64, OperatorError> {
    let failed = || OperatorError::kube(format!("installing the CustomResourceDefinition {name}"));
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let written = match crds.get_opt(name).await.map_err(failed())? {
        None => {
            let params = PatchParams::apply(MANAGER).force();
            crds.patch(name, &params, &Patch::Apply(definition)).await
        }
        Some(present) if is_newer(&present) => return Ok(present.metadata.generation.unwrap_or(0)),
        Some(mut present) => {
            let mut own: CustomResourceDefinition = serde_json::from_value(definition.clone())
                .map_err(|error| failed()(kube::Error::SerdeError(error)))?;
            let labels = own.metadata.labels.take().unwrap_or_default();
            present.labels_mut().extend(labels);
            let annotations = own.metadata.annotations.take().unwrap_or_default();
            present.annotations_mut().extend(annotations);
            own.metadata = present.metadata;
            own.metadata.managed_fields = None;
            let params = PostParams {
                field_manager: Some(MANAGER.into()),
                ..PostParams::default()
            };
            // Anything in the specification beyond ours is removed. One that is the same already is not written by the API.
            crds.replace(name, &params, &own).await
        }
    };
    Ok(written.map_err(failed())?.metadata.generation.unwrap_or(0))
}

/// Waits until the API serves clusters, until `deadline` at most.
///
/// # Errors
/// It does not by then, or cannot be asked.
pub async fn definition_is_served(client: &Client, deadline: BootTime) -> Result<(), OperatorError> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    loop {
        let found = crds.get_opt(CRD_NAME).await.map_err(OperatorError::kube(format!(
            "reading the CustomResourceDefinition {CRD_NAME}"
        )));
        let missing = match found {
            Err(error) if error.class() == Class::Retry && now() < deadline => {
                sleep_until((now() + LOOK).min(deadline)).await;
                continue;
            }
            Err(error) => return Err(error),
            Ok(None) => "is not there",
            Ok(Some(found)) if is_established(&found) => return Ok(()),
            Ok(Some(_)) => "is there and not established",
        };
        if now() >= deadline {
            return Err(OperatorError::Missing(format!(
                "the CustomResourceDefinition {CRD_NAME} {missing}: apply charts/howdah/crds, or let the operator do it \
                 (enable_crd_registration)"
            )));
        }
        sleep_until((now() + LOOK).min(deadline)).await;
    }
}

/// Whether a later version of the operator has written it.
fn is_newer(definition: &CustomResourceDefinition) -> bool {
    let (name, ours) = CRD_REVISION;
    let theirs = definition
        .annotations()
        .get(name)
        .and_then(|text| text.parse::<u32>().ok());
    theirs.is_some_and(|theirs| theirs > ours)
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let value = serde_json::to_value(&definition.status).unwrap_or_default();
    let conditions = value["conditions"].as_array();
    let holds = |condition: &Value| condition["type"] == "Established" && condition["status"] == "True";
    conditions.into_iter().flatten().any(holds)
}
