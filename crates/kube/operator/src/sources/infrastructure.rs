use std::{collections::BTreeMap, time::Duration};

use howdah_blueprint::{InfrastructureRole, InfrastructureSecret, infrastructure_roles};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;

use super::place;
use crate::{
    context::Context,
    error::kube_text,
    known::{AGE, AGE_OF_MISSING},
};

/// The robots of all clusters, and what keeps others from being made.
pub(super) async fn roles(context: &Context) -> (Vec<InfrastructureRole>, Vec<String>) {
    let (mut roles, mut notes) = (Vec::<InfrastructureRole>::new(), Vec::new());
    for of in &context.settings.infrastructure {
        let key = format!("{of:?}");
        let reading = read(context, of);
        let (found, wrong) = context.known_sources.infrastructure.get(&key, age, reading).await;
        notes.extend(
            wrong
                .into_iter()
                .map(|wrong| format!("infrastructure roles, {wrong}")),
        );
        let found = match found {
            Some(found) => {
                context.known_sources.robots.lock().insert(key, found.clone());
                found
            }
            None => context
                .known_sources
                .robots
                .lock()
                .get(&key)
                .cloned()
                .unwrap_or_default(),
        };
        for role in found {
            if roles.iter().all(|other| other.name != role.name) {
                roles.push(role);
            }
        }
    }
    (roles, notes)
}

fn age((_, wrong): &(Option<Vec<InfrastructureRole>>, Vec<String>)) -> Duration {
    if wrong.is_empty() { AGE } else { AGE_OF_MISSING }
}

async fn read(
    context: &Context,
    of: &InfrastructureSecret,
) -> (Option<Vec<InfrastructureRole>>, Vec<String>) {
    let (namespace, name) = place(context, &of.secretname);
    let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let secret = match secrets.get_opt(name).await {
        Ok(Some(secret)) => secret.data.unwrap_or_default(),
        Ok(None) => return (None, vec![format!("there is no Secret {namespace}/{name}")]),
        Err(error) => {
            let why = kube_text(&error);
            return (
                None,
                vec![format!("Secret {namespace}/{name} cannot be read: {why}")],
            );
        }
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
    let secret: BTreeMap<String, String> = secret
        .into_iter()
        .map(|(key, value)| (key, text(value.0)))
        .collect();
    let maps = Api::<ConfigMap>::namespaced(context.client.clone(), namespace);
    let (more, mut wrong) = match maps.get_opt(name).await {
        Ok(found) => (found.and_then(|map| map.data).unwrap_or_default(), Vec::new()),
        Err(error) => {
            let why = kube_text(&error);
            let why = format!("ConfigMap {namespace}/{name} cannot be read: {why}");
            return (None, vec![why]);
        }
    };
    let (roles, more_wrong) = infrastructure_roles(of, &secret, &more, yaml);
    wrong.extend(more_wrong);
    (Some(roles), wrong)
}

fn yaml(text: &str) -> Result<serde_json::Value, String> {
    let documents =
        howdah_yaml::documents(text).map_err(|(line, reason)| format!("line {line}: {reason}"))?;
    Ok(documents.first().map(howdah_yaml::Node::json).unwrap_or_default())
}
