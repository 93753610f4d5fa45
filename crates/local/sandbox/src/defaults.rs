//! Defaults of built-in kinds that clients and controllers read. Idempotent: what is set stays.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::meta;

fn default(object: &mut Value, name: &str, value: Value) {
    // What is of another type than it should be is refused by the type check.
    if object.is_object() && object[name].is_null() {
        object[name] = value;
    }
}

/// Fills in what Kubernetes fills in.
pub(crate) fn fill(kind: &str, object: &mut Value) {
    match kind {
        "Service" | "StatefulSet" | "Deployment" | "Pod" | "PersistentVolumeClaim" => {
            if let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) {
                match kind {
                    "Service" => service(spec),
                    "StatefulSet" => statefulset(spec),
                    "Deployment" => deployment(spec),
                    "Pod" => pod(spec),
                    _ => claim(spec),
                }
            }
        }
        "Secret" => {
            default(object, "type", json!("Opaque"));
            secret(object);
        }
        _ => {}
    }
}

/// The items of a list; indexing would add a null where the key is missing.
fn items<'a>(object: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    object
        .get_mut(name)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

fn service(spec: &mut Value) {
    default(spec, "type", json!("ClusterIP"));
    default(spec, "sessionAffinity", json!("None"));
    default(spec, "ipFamilies", json!(["IPv4"]));
    default(spec, "ipFamilyPolicy", json!("SingleStack"));
    default(spec, "internalTrafficPolicy", json!("Cluster"));
    let on_nodes = match spec["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    };
    for port in items(spec, "ports") {
        default(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        default(port, "targetPort", number);
        if on_nodes {
            // Of Kubernetes' range. One that is taken already is reported by an event of the Service.
            let any = 30_000 + meta::random() % 2768;
            default(port, "nodePort", json!(any));
        } else if let Some(port) = port.as_object_mut() {
            port.shift_remove("nodePort");
        }
    }
}

fn statefulset(spec: &mut Value) {
    default(spec, "replicas", json!(1));
    default(spec, "podManagementPolicy", json!("OrderedReady"));
    default(spec, "revisionHistoryLimit", json!(10));
    default(spec, "updateStrategy", json!({"type": "RollingUpdate"}));
    default(
        spec,
        "persistentVolumeClaimRetentionPolicy",
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
    );
    if let Some(template) = spec.pointer_mut("/template/spec").filter(|spec| spec.is_object()) {
        pod(template);
    }
    for template in items(spec, "volumeClaimTemplates") {
        default(template, "apiVersion", json!("v1"));
        default(template, "kind", json!("PersistentVolumeClaim"));
        if let Some(spec) = template.get_mut("spec").filter(|spec| spec.is_object()) {
            claim(spec);
        }
    }
}

fn deployment(spec: &mut Value) {
    default(spec, "replicas", json!(1));
    default(spec, "revisionHistoryLimit", json!(10));
    default(spec, "progressDeadlineSeconds", json!(600));
    let rolling =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    default(spec, "strategy", rolling);
    if let Some(template) = spec.pointer_mut("/template/spec").filter(|spec| spec.is_object()) {
        pod(template);
    }
}

fn pod(spec: &mut Value) {
    // kubectl debug takes it for given.
    default(spec, "securityContext", json!({}));
    default(spec, "restartPolicy", json!("Always"));
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    for container in items(spec, "containers") {
        default(container, "imagePullPolicy", json!("IfNotPresent"));
        default(container, "terminationMessagePath", json!("/dev/termination-log"));
        for port in items(container, "ports") {
            default(port, "protocol", json!("TCP"));
        }
    }
}

fn claim(spec: &mut Value) {
    default(spec, "volumeMode", json!("Filesystem"));
}

/// `stringData` is for writing only: it becomes `data`.
fn secret(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    let Some(Value::Object(texts)) = map.shift_remove("stringData") else {
        return;
    };
    if !object["data"].is_object() && !object["data"].is_null() {
        return;
    }
    for (name, text) in texts {
        object["data"][name] = json!(STANDARD.encode(text.as_str().unwrap_or_default()));
    }
}
