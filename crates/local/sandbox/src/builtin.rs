//! Checks objects of built-in kinds against Kubernetes' own types.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    coordination::v1::Lease,
    core::v1::{
        ConfigMap, Event, Namespace, Node, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
    },
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{ApiError, meta};

/// The paths of fields that the kind does not have. Definitions are left alone: they are checked by being used.
///
/// # Errors
/// A value is of another type than its field, or the object makes no sense.
pub(crate) fn check(kind: &str, object: &mut Value) -> Result<Vec<String>, ApiError> {
    let unknown = match kind {
        "Namespace" => typed::<Namespace>(object),
        "Node" => typed::<Node>(object),
        "Pod" => typed::<Pod>(object),
        "Service" => typed::<Service>(object),
        "ConfigMap" => typed::<ConfigMap>(object),
        "Secret" => typed::<Secret>(object),
        "ServiceAccount" => typed::<ServiceAccount>(object),
        "PersistentVolumeClaim" => typed::<PersistentVolumeClaim>(object),
        "Event" => typed::<Event>(object),
        "StatefulSet" => typed::<StatefulSet>(object),
        "Deployment" => typed::<Deployment>(object),
        "PodDisruptionBudget" => typed::<PodDisruptionBudget>(object),
        "Role" => typed::<Role>(object),
        "RoleBinding" => typed::<RoleBinding>(object),
        "ClusterRole" => typed::<ClusterRole>(object),
        "ClusterRoleBinding" => typed::<ClusterRoleBinding>(object),
        "Lease" => typed::<Lease>(object),
        "EndpointSlice" => typed::<EndpointSlice>(object),
        _ => Ok(Vec::new()),
    };
    let unknown = unknown.map_err(|error| {
        ApiError::bad_request(format!(
            "{kind} \"{}\" cannot be read: {error}",
            meta::name(object)
        ))
    })?;
    if kind == "StatefulSet" || kind == "Deployment" {
        has_template(kind, object)?;
    }
    Ok(unknown)
}

/// What has replicas of a template.
fn has_template(kind: &str, set: &Value) -> Result<(), ApiError> {
    let mut wrong = Vec::new();
    let spec = &set["spec"];
    if spec["replicas"].as_i64().is_some_and(|replicas| replicas < 0) {
        wrong.push(("spec.replicas".to_owned(), "must be 0 or more".to_owned()));
    }
    let selector = spec["selector"]["matchLabels"].as_object();
    if selector.is_some_and(|selector| !meta::has_labels(&spec["template"], selector)) {
        let reason = "the template's labels do not match the selector".to_owned();
        wrong.push(("spec.template.metadata.labels".to_owned(), reason));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(kind, meta::name(set), &wrong))
    }
}

/// What is lost when an object goes through its type is unknown to it, and is taken out.
fn typed<T: DeserializeOwned + Serialize>(object: &mut Value) -> Result<Vec<String>, serde_json::Error> {
    let read: T = serde_json::from_value(object.clone())?;
    let mut unknown = Vec::new();
    lost(object, &serde_json::to_value(read)?, "", &mut unknown);
    Ok(unknown)
}

fn lost(before: &mut Value, after: &Value, path: &str, out: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            before.retain(|name, value| {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                // Opaque to us: written by clients for clients.
                if value.is_null() || path == "metadata.managedFields" {
                    return true;
                }
                match after.get(name) {
                    Some(kept) => {
                        lost(value, kept, &path, out);
                        true
                    }
                    None => {
                        out.push(path);
                        false
                    }
                }
            });
        }
        (Value::Array(before), Value::Array(after)) => {
            for (index, (value, kept)) in before.iter_mut().zip(after).enumerate() {
                lost(value, kept, &format!("{path}[{index}]"), out);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wrong_types_are_refused_and_unknown_fields_named() {
        let service = |spec: Value| json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "s"}, "spec": spec});
        assert_eq!(
            check("Service", &mut service(json!({"ports": [{"port": 80}]}))).unwrap(),
            Vec::<String>::new()
        );
        assert_eq!(
            check("Service", &mut service(json!({"ports": "x"})))
                .unwrap_err()
                .code,
            400
        );
        assert_eq!(
            check("Service", &mut service(json!({"prts": []}))).unwrap(),
            ["spec.prts"]
        );
        let mut with = service(json!({"ports": [{"port": 80, "prot": "TCP"}], "selector": {"a.b/c": "d"}}));
        assert_eq!(check("Service", &mut with).unwrap(), ["spec.ports[0].prot"]);
        assert_eq!(
            with["spec"],
            json!({"ports": [{"port": 80}], "selector": {"a.b/c": "d"}}),
            "it is taken out"
        );
        let set = |replicas: i64, label: &str| {
            json!({"kind": "StatefulSet", "apiVersion": "apps/v1", "metadata": {"name": "s"}, "spec": {
                "replicas": replicas, "serviceName": "s", "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": label}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
        };
        assert!(check("StatefulSet", &mut set(1, "b")).unwrap().is_empty());
        assert_eq!(check("StatefulSet", &mut set(-2, "b")).unwrap_err().code, 422);
        assert_eq!(check("StatefulSet", &mut set(1, "c")).unwrap_err().code, 422);
    }
}
