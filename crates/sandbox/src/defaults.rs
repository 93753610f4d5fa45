//! Defaults of built-in kinds that clients and controllers read. Idempotent: what is set stays.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

fn default(object: &mut Value, name: &str, value: Value) {
    if object[name].is_null() {
        object[name] = value;
    }
}

/// Fills in what Kubernetes fills in.
pub(crate) fn fill(kind: &str, object: &mut Value) {
    match kind {
        "Service" => service(&mut object["spec"]),
        "StatefulSet" => statefulset(&mut object["spec"]),
        "Pod" => pod(&mut object["spec"]),
        "PersistentVolumeClaim" => claim(&mut object["spec"]),
        "Secret" => {
            default(object, "type", json!("Opaque"));
            secret(object);
        }
        _ => {}
    }
}

fn service(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    default(spec, "type", json!("ClusterIP"));
    default(spec, "sessionAffinity", json!("None"));
    default(spec, "ipFamilies", json!(["IPv4"]));
    default(spec, "ipFamilyPolicy", json!("SingleStack"));
    default(spec, "internalTrafficPolicy", json!("Cluster"));
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        default(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        default(port, "targetPort", number);
    }
}

fn statefulset(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    default(spec, "replicas", json!(1));
    default(spec, "podManagementPolicy", json!("OrderedReady"));
    default(spec, "revisionHistoryLimit", json!(10));
    default(spec, "updateStrategy", json!({"type": "RollingUpdate"}));
    default(
        spec,
        "persistentVolumeClaimRetentionPolicy",
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
    );
    pod(&mut spec["template"]["spec"]);
    for template in spec["volumeClaimTemplates"].as_array_mut().into_iter().flatten() {
        default(template, "apiVersion", json!("v1"));
        default(template, "kind", json!("PersistentVolumeClaim"));
        claim(&mut template["spec"]);
    }
}

fn pod(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    default(spec, "restartPolicy", json!("Always"));
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        default(container, "imagePullPolicy", json!("IfNotPresent"));
        default(container, "terminationMessagePath", json!("/dev/termination-log"));
        for port in container["ports"].as_array_mut().into_iter().flatten() {
            default(port, "protocol", json!("TCP"));
        }
    }
}

fn claim(spec: &mut Value) {
    if spec.is_object() {
        default(spec, "volumeMode", json!("Filesystem"));
    }
}

/// `stringData` is for writing only: it becomes `data`.
fn secret(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    let Some(Value::Object(texts)) = map.shift_remove("stringData") else {
        return;
    };
    for (name, text) in texts {
        object["data"][name] = json!(STANDARD.encode(text.as_str().unwrap_or_default()));
    }
}
