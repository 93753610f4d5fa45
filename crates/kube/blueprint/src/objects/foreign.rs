use howdah_manifest::{Manifest, ManifestError};
use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, NodeAffinity, Probe, Toleration, TopologySpreadConstraint,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Checks the values of a manifest that are handed on to Kubernetes: the schema of the CRD leaves them open.
///
/// # Errors
/// The first one that is not of its type.
pub fn check_foreign(manifest: &Manifest) -> Result<(), ManifestError> {
    let spec = &manifest.spec;
    for (path, values) in [("env", &spec.env), ("envFrom", &spec.env_from)] {
        for (index, value) in values.iter().flatten().enumerate() {
            let path = format!("spec.{path}[{index}]");
            if path.starts_with("spec.envFrom") {
                check::<EnvFromSource>(&path, "EnvFromSource", value)?;
            } else {
                check::<EnvVar>(&path, "EnvVar", value)?;
                let name = value["name"].as_str().unwrap_or_default();
                words(
                    &path,
                    "name",
                    name,
                    is_variable(name),
                    "letters, digits, '_', '-' and '.', not beginning with a digit",
                )?;
            }
        }
    }
    for (index, value) in spec.tolerations.iter().enumerate() {
        let path = format!("spec.tolerations[{index}]");
        check::<Toleration>(&path, "Toleration", value)?;
        let one_of = |field: &str, known: &[&str]| {
            let word = value[field].as_str().unwrap_or_default();
            words(
                &path,
                field,
                word,
                word.is_empty() || known.contains(&word),
                &known.join(" or "),
            )
        };
        one_of("operator", &["Exists", "Equal"])?;
        one_of("effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"])?;
    }
    for (index, value) in spec.topology_spread_constraints.iter().enumerate() {
        let path = format!("spec.topologySpreadConstraints[{index}]");
        check::<TopologySpreadConstraint>(&path, "TopologySpreadConstraint", value)?;
    }
    if let Some(value) = &spec.node_affinity {
        check::<NodeAffinity>("spec.nodeAffinity", "NodeAffinity", value)?;
    }
    if let Some(value) = &spec.liveness_probe {
        check::<Probe>("spec.livenessProbe", "Probe", value)?;
    }
    Ok(())
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

fn words(path: &str, field: &str, have: &str, fits: bool, wanted: &str) -> Result<(), ManifestError> {
    if fits {
        return Ok(());
    }
    Err(ManifestError {
        path: format!("{path}.{field}"),
        reason: format!("'{have}' must be {wanted}"),
    })
}

fn check<T: DeserializeOwned>(path: &str, kind: &str, value: &Value) -> Result<(), ManifestError> {
    match serde_json::from_value::<T>(value.clone()) {
        Ok(_) => Ok(()),
        Err(error) => Err(ManifestError {
            path: path.to_owned(),
            reason: format!("is not a Kubernetes {kind}: {error}"),
        }),
    }
}
