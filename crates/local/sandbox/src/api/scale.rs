use hyper::Method;
use serde_json::{Value, json};

use super::{Api, reply::Reply, request::Request, route::Target, write::Change};
use crate::{ApiError, meta, patch};

impl Api {
    /// `GET`, `PUT` and `PATCH` of `/scale`.
    pub(super) fn scale(&self, request: &Request, target: &Target) -> Result<Reply, ApiError> {
        if request.method == Method::GET {
            return Ok(Reply::json(&scale_of(&*self.fetch(target)?)));
        }
        if request.method != Method::PUT && request.method != Method::PATCH {
            return Err(ApiError::method(&format!("{} on /scale", request.method)));
        }
        let body = request.object()?;
        let change = Change::of(request, target)?;
        let object = self.change(target, &change, |before| {
            let mut scale = scale_of(before);
            match request.content_type() {
                _ if request.method == Method::PUT => scale = body.clone(),
                "application/json-patch+json" => patch::json(&mut scale, &body)?,
                _ => patch::merge(&mut scale, &body),
            }
            let replicas = scale["spec"]["replicas"].as_u64().ok_or_else(|| {
                ApiError::invalid(
                    "Scale",
                    meta::name(before),
                    &[("spec.replicas".into(), "must be a number, 0 or more".into())],
                )
            })?;
            let mut after = before.clone();
            after["spec"]["replicas"] = json!(replicas);
            if let Some(version) = scale["metadata"]["resourceVersion"].as_str() {
                meta::set(&mut after, &["metadata", "resourceVersion"], json!(version));
            }
            Ok(after)
        })?;
        Ok(Reply::json(&scale_of(&object.object)))
    }
}

fn scale_of(object: &Value) -> Value {
    let labels = object["spec"]["selector"]["matchLabels"]
        .as_object()
        .into_iter()
        .flatten();
    let selector: Vec<String> = labels
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    let metadata = &object["metadata"];
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": object["spec"]["replicas"].as_u64().unwrap_or(0)},
        "status": {"replicas": object["status"]["replicas"].as_u64().unwrap_or(0), "selector": selector.join(",")},
    })
}
