//! Parts of a manifest that are handed on to Kubernetes: the schema of the CRD leaves them open.

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EnvFromSource, EnvVar, NodeAffinity, Probe, Toleration,
        TopologySpreadConstraint, Volume,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{ManifestError, PostgresqlSpec};

/// What is wrong with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Keys from the value downwards, as in `valueFrom.secretKeyRef`; empty: the value itself.
    pub(crate) path: Vec<String>,
    /// What is wrong.
    pub(crate) reason: String,
    /// Kubernetes refuses it. Otherwise it drops the field in silence.
    pub(crate) refused: bool,
}

impl Problem {
    fn refused(path: &[&str], reason: impl Into<String>) -> Problem {
        Problem {
            path: path.iter().map(|&key| key.to_owned()).collect(),
            reason: reason.into(),
            refused: true,
        }
    }
}

/// Checks the values of a manifest that Kubernetes gets.
///
/// # Errors
/// The first one that it would refuse.
pub(crate) fn check(spec: &PostgresqlSpec) -> Result<(), ManifestError> {
    let one = |path: &str, kind: &str, value: &Value| -> Result<(), ManifestError> {
        match problems(kind, value).into_iter().find(|problem| problem.refused) {
            None => Ok(()),
            Some(problem) => Err(ManifestError {
                path: below(&format!("spec.{path}"), &problem.path),
                reason: problem.reason,
            }),
        }
    };
    let all = |path: &str, kind: &str, values: &[Value]| {
        let mut values = values.iter().enumerate();
        values.try_for_each(|(index, value)| one(&format!("{path}[{index}]"), kind, value))
    };
    all("env", "EnvVar", spec.env.as_deref().unwrap_or_default())?;
    all(
        "envFrom",
        "EnvFromSource",
        spec.env_from.as_deref().unwrap_or_default(),
    )?;
    all("tolerations", "Toleration", &spec.tolerations)?;
    all(
        "topologySpreadConstraints",
        "TopologySpreadConstraint",
        &spec.topology_spread_constraints,
    )?;
    for (index, sidecar) in spec.sidecars.iter().flatten().enumerate() {
        all(&format!("sidecars[{index}].env"), "EnvVar", &sidecar.env)?;
        all(
            &format!("sidecars[{index}].ports"),
            "ContainerPort",
            &sidecar.ports,
        )?;
    }
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    all("initContainers", "Container", inits)?;
    for (index, volume) in spec.additional_volumes.iter().enumerate() {
        one(
            &format!("additionalVolumes[{index}].volumeSource"),
            "VolumeSource",
            &volume.volume_source,
        )?;
    }
    if let Some(value) = &spec.node_affinity {
        one("nodeAffinity", "NodeAffinity", value)?;
    }
    if let Some(value) = &spec.liveness_probe {
        one("livenessProbe", "Probe", value)?;
    }
    Ok(())
}

/// A path with keys below it.
pub(crate) fn below(path: &str, keys: &[String]) -> String {
    keys.iter()
        .fold(path.to_owned(), |path, key| match key.parse::<usize>() {
            Ok(index) => format!("{path}[{index}]"),
            Err(_) => format!("{path}.{key}"),
        })
}

/// What is wrong with a value of one of Kubernetes' types.
pub(crate) fn problems(kind: &str, value: &Value) -> Vec<Problem> {
    match kind {
        "EnvVar" => {
            let mut out = env_var(value);
            if out.is_empty() {
                out = typed::<EnvVar>(kind, value);
            }
            out
        }
        "Toleration" => {
            let mut out = typed::<Toleration>(kind, value);
            out.extend(one_of(value, "operator", &["Exists", "Equal"]));
            out.extend(one_of(
                value,
                "effect",
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            ));
            out
        }
        "EnvFromSource" => typed::<EnvFromSource>(kind, value),
        "TopologySpreadConstraint" => typed::<TopologySpreadConstraint>(kind, value),
        "NodeAffinity" => {
            let mut out = typed::<NodeAffinity>(kind, value);
            out.extend(node_selector_operators(value, &mut Vec::new()));
            out
        }
        "Probe" => typed::<Probe>(kind, value),
        "Container" => typed::<Container>(kind, value),
        "ContainerPort" => typed::<ContainerPort>(kind, value),
        "VolumeSource" => {
            // Its fields stand beside the name of a volume.
            let mut volume = value.clone();
            if let Some(fields) = volume.as_object_mut() {
                fields.insert("name".into(), "volume".into());
            }
            typed::<Volume>(kind, &volume)
        }
        "LabelSelector" => typed::<LabelSelector>(kind, value),
        _ => Vec::new(),
    }
}

fn env_var(value: &Value) -> Vec<Problem> {
    let name = &value["name"];
    let is_variable = name.as_str().is_some_and(|name| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    });
    if !is_variable {
        let reason = match name {
            Value::Null => "is missing".to_owned(),
            other => format!(
                "'{}' must be letters, digits, '_', '-' and '.', not beginning with a digit",
                plain(other)
            ),
        };
        return vec![Problem::refused(&["name"], reason)];
    }
    match &value["value"] {
        text @ (Value::Number(_) | Value::Bool(_)) => vec![Problem::refused(
            &["value"],
            format!("must be text: write \"{text}\" in quotes"),
        )],
        _ => Vec::new(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn one_of(value: &Value, field: &str, known: &[&str]) -> Option<Problem> {
    let word = value[field].as_str().filter(|word| !word.is_empty())?;
    (!known.contains(&word))
        .then(|| Problem::refused(&[field], format!("'{word}' must be {}", known.join(" or "))))
}

/// The operators of all node selector terms.
fn node_selector_operators(value: &Value, path: &mut Vec<String>) -> Vec<Problem> {
    const KNOWN: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
    let mut out = Vec::new();
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, inner)| (key.clone(), inner)).collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, inner)| (index.to_string(), inner))
            .collect(),
        _ => Vec::new(),
    };
    for (key, inner) in children {
        path.push(key.clone());
        match inner.as_str() {
            Some(word) if key == "operator" && !KNOWN.contains(&word) => out.push(Problem {
                path: path.clone(),
                reason: format!("'{word}' must be {}", KNOWN.join(" or ")),
                refused: true,
            }),
            _ => out.extend(node_selector_operators(inner, path)),
        }
        path.pop();
    }
    out
}

fn typed<T: DeserializeOwned + Serialize>(kind: &str, value: &Value) -> Vec<Problem> {
    match serde_json::from_value::<T>(value.clone()) {
        Ok(read) => {
            let read = serde_json::to_value(&read).unwrap_or_default();
            let mut out = Vec::new();
            dropped(value, &read, &mut Vec::new(), &mut out);
            out
        }
        Err(error) => vec![Problem::refused(
            &[],
            format!("is not a Kubernetes {kind}: {error}"),
        )],
    }
}

/// Fields that the type does not have: they are gone when it is written again.
fn dropped(value: &Value, read: &Value, path: &mut Vec<String>, out: &mut Vec<Problem>) {
    match (value, read) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, inner) in given.iter().filter(|(_, inner)| !inner.is_null()) {
                path.push(key.clone());
                match kept.get(key) {
                    Some(kept) => dropped(inner, kept, path, out),
                    // An empty list is written by not writing it.
                    None if inner.as_array().is_some_and(Vec::is_empty) => {}
                    None => out.push(Problem {
                        path: path.clone(),
                        reason: "is not a field of Kubernetes, which drops it".into(),
                        refused: false,
                    }),
                }
                path.pop();
            }
        }
        (Value::Array(given), Value::Array(kept)) => {
            for (index, (inner, kept)) in given.iter().zip(kept).enumerate() {
                path.push(index.to_string());
                dropped(inner, kept, path, out);
                path.pop();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(kind: &str, value: &Value) -> Vec<String> {
        let shown = |problem: &Problem| {
            let severity = if problem.refused { "refused" } else { "dropped" };
            format!("{}: {severity}: {}", below("x", &problem.path), problem.reason)
        };
        problems(kind, value).iter().map(shown).collect()
    }

    #[test]
    fn what_kubernetes_takes_is_right() {
        for (kind, value) in [
            ("EnvVar", json!({"name": "A", "value": "5"})),
            (
                "EnvVar",
                json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
            ),
            (
                "Toleration",
                json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"}),
            ),
            ("Probe", json!({"httpGet": {"port": "http"}, "periodSeconds": 3})),
            (
                "Container",
                json!({"name": "a", "image": "b", "command": [], "env": null}),
            ),
        ] {
            assert_eq!(found(kind, &value), Vec::<String>::new(), "{kind} {value}");
        }
    }

    #[test]
    fn wrong_values_and_unknown_fields_have_a_place() {
        for (kind, value, wanted) in [
            (
                "EnvVar",
                json!({"name": "A", "value": 5}),
                "x.value: refused: must be text: write \"5\"",
            ),
            ("EnvVar", json!({"name": "1A"}), "x.name: refused: '1A' must be"),
            ("EnvVar", json!({"name": "A", "valeu": "5"}), "x.valeu: dropped"),
            (
                "Toleration",
                json!({"effect": "NoSchedul"}),
                "x.effect: refused: 'NoSchedul' must be",
            ),
            (
                "Container",
                json!({"name": "a", "imagge": "b"}),
                "x.imagge: dropped",
            ),
            (
                "NodeAffinity",
                json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "a", "operator": "Inn"}]}
                ]}}),
                "x.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator: \
                 refused: 'Inn' must be",
            ),
            (
                "Probe",
                json!({"periodSeconds": "often"}),
                "x: refused: is not a Kubernetes Probe",
            ),
        ] {
            let found = found(kind, &value);
            assert!(
                found.len() == 1 && found[0].starts_with(wanted),
                "{value}: {found:?}"
            );
        }
    }
}
