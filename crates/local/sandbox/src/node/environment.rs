use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{Store, meta};

/// The environment of a container, with everything it refers to looked up.
///
/// # Errors
/// Something that it refers to is not there.
pub(super) fn resolve(
    store: &Store,
    pod: &Value,
    container: &Value,
) -> Result<BTreeMap<String, String>, String> {
    let namespace = meta::namespace(pod);
    let mut env = BTreeMap::new();
    for source in container["envFrom"].as_array().into_iter().flatten() {
        let prefix = source["prefix"].as_str().unwrap_or_default();
        for (kind, key) in [("/configmaps", "configMapRef"), ("/secrets", "secretRef")] {
            let Some(name) = source[key]["name"].as_str() else {
                continue;
            };
            let Some(object) = store.get(kind, namespace, name) else {
                if source[key]["optional"] == true {
                    continue;
                }
                return Err(missing(kind, name));
            };
            for (name, value) in object["data"].as_object().into_iter().flatten() {
                env.insert(format!("{prefix}{name}"), text_of(kind, value));
            }
        }
    }
    for var in container["env"].as_array().into_iter().flatten() {
        let Some(name) = var["name"].as_str() else {
            continue;
        };
        let value = match (&var["value"], &var["valueFrom"]) {
            (_, from) if from.is_object() => refer(store, pod, from)?,
            (Value::String(text), _) => Some(expand(text, &env)),
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            env.insert(name.to_owned(), value);
        }
    }
    Ok(env)
}

fn missing(kind: &str, name: &str) -> String {
    format!(
        "{} \"{name}\" not found",
        kind.trim_start_matches('/').trim_end_matches('s')
    )
}

fn text_of(kind: &str, value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    if kind != "/secrets" {
        return text.to_owned();
    }
    let bytes = STANDARD.decode(text).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn refer(store: &Store, pod: &Value, from: &Value) -> Result<Option<String>, String> {
    let namespace = meta::namespace(pod);
    for (kind, key) in [("/configmaps", "configMapKeyRef"), ("/secrets", "secretKeyRef")] {
        let Some(name) = from[key]["name"].as_str() else {
            continue;
        };
        let field = from[key]["key"].as_str().unwrap_or_default();
        let object = store.get(kind, namespace, name);
        let value = object.as_ref().and_then(|object| object["data"].get(field));
        return match value {
            Some(value) => Ok(Some(text_of(kind, value))),
            None if from[key]["optional"] == true => Ok(None),
            None if object.is_none() => Err(missing(kind, name)),
            None => Err(format!(
                "{} has no key \"{field}\"",
                missing(kind, name).replace(" not found", "")
            )),
        };
    }
    if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
        return Ok(Some(field(pod, path)));
    }
    if let Some(resource) = from["resourceFieldRef"]["resource"].as_str() {
        let value = resource
            .split('.')
            .fold(&pod["spec"]["containers"][0]["resources"], |at, key| &at[key]);
        return Ok(value.as_str().map(str::to_owned));
    }
    Ok(None)
}

/// A field of the pod, also `metadata.labels['name']`.
fn field(pod: &Value, path: &str) -> String {
    let value = match path.split_once("['") {
        Some((base, key)) => {
            let at = base.split('.').fold(pod, |at, key| &at[key]);
            &at[key.trim_end_matches("']")]
        }
        None => path.split('.').fold(pod, |at, key| &at[key]),
    };
    value.as_str().map(str::to_owned).unwrap_or_default()
}

/// `$(NAME)` stands for a variable that was set before.
fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        match after[2..].split_once(')') {
            Some((name, tail)) if env.contains_key(name) => {
                out.push_str(&env[name]);
                rest = tail;
            }
            _ => {
                out.push_str("$(");
                rest = &after[2..];
            }
        }
    }
    out.push_str(rest);
    out
}
