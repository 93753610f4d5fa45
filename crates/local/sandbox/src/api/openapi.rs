use serde_json::{Map, Value, json};

use super::{Api, reply::Reply};
use crate::{ApiError, resources::Resource};

impl Api {
    /// `GET /openapi/v3`
    pub(super) fn openapi_index(&self) -> Value {
        let mut paths = Map::new();
        for resource in self.resources().iter() {
            let name = document_name(resource);
            let url = json!({"serverRelativeURL": format!("/openapi/v3/{name}")});
            paths.insert(name, url);
        }
        json!({"paths": paths})
    }

    /// `GET /openapi/v3/api/v1` and the like: which verbs check fields, and the schemas of custom resources. Built-in
    /// kinds have open schemas: the sandbox checks only what it needs of them.
    pub(super) fn openapi(&self, rest: &[&str]) -> Result<Reply, ApiError> {
        let wanted = rest.join("/");
        let (mut paths, mut schemas) = (Map::new(), Map::new());
        for resource in self
            .resources()
            .iter()
            .filter(|resource| document_name(resource) == wanted)
        {
            let kind = json!([{"group": resource.group, "version": resource.version, "kind": resource.kind}]);
            let mut schema = match &resource.custom {
                Some(version) => version["schema"]["openAPIV3Schema"].clone(),
                None => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            };
            schema["x-kubernetes-group-version-kind"] = kind.clone();
            let name = schema_name(resource);
            let reference = json!({"$ref": format!("#/components/schemas/{name}")});
            schemas.insert(name, schema);
            let verb = |action: &str| {
                let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
                json!({
                    "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")],
                    "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
                    "x-kubernetes-action": action,
                    "x-kubernetes-group-version-kind": kind[0],
                })
            };
            let base = if resource.namespaced {
                format!("/{wanted}/namespaces/{{namespace}}/{}", resource.plural)
            } else {
                format!("/{wanted}/{}", resource.plural)
            };
            paths.insert(base.clone(), json!({"get": verb("list"), "post": verb("post")}));
            paths.insert(
                format!("{base}/{{name}}"),
                json!({"get": verb("get"), "put": verb("put"), "patch": verb("patch"), "delete": verb("delete")}),
            );
        }
        if paths.is_empty() {
            return Err(ApiError::no_such_path(&format!("openapi/v3/{wanted}")));
        }
        Ok(Reply::json(&json!({
            "openapi": "3.0.0",
            "info": {"title": "Howdah's sandbox", "version": env!("CARGO_PKG_VERSION")},
            "paths": paths,
            "components": {"schemas": schemas},
        })))
    }
}

fn document_name(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("api/{}", resource.version)
    } else {
        format!("apis/{}/{}", resource.group, resource.version)
    }
}

fn schema_name(resource: &Resource) -> String {
    let group: Vec<&str> = resource
        .group
        .split('.')
        .rev()
        .filter(|part| !part.is_empty())
        .collect();
    let group = if group.is_empty() {
        "io.k8s.api.core".to_owned()
    } else {
        group.join(".")
    };
    format!("{group}.{}.{}", resource.version, resource.kind)
}
