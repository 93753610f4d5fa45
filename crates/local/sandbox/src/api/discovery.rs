use bytes::Bytes;
use serde_json::{Value, json};

use super::{Api, reply::Reply, request::Request};
use crate::{ApiError, resources::Resource};

/// The version of Kubernetes whose API this is a part of.
pub(super) fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": concat!("v1.33.0+howdah-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none",
        "compiler": "rustc", "platform": "linux/amd64",
    })
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

impl Api {
    /// `GET /api`
    pub(super) fn core_versions(&self, request: &Request) -> Reply {
        if request.accepts("as=APIGroupDiscoveryList") {
            return self.aggregated(true);
        }
        Reply::json(&json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}))
    }

    /// `GET /apis`
    pub(super) fn groups(&self, request: &Request) -> Reply {
        if request.accepts("as=APIGroupDiscoveryList") {
            return self.aggregated(false);
        }
        let groups: Vec<Value> = self
            .group_names()
            .iter()
            .map(|group| self.group_document(group))
            .collect();
        Reply::json(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
    }

    /// `GET /apis/GROUP`
    pub(super) fn group(&self, group: &str) -> Result<Reply, ApiError> {
        if !self.group_names().iter().any(|name| name == group) {
            return Err(ApiError::no_such_path(&format!("apis/{group}")));
        }
        let mut document = self.group_document(group);
        document["kind"] = json!("APIGroup");
        document["apiVersion"] = json!("v1");
        Ok(Reply::json(&document))
    }

    /// `GET /api/v1` and `GET /apis/GROUP/VERSION`
    pub(super) fn group_version(&self, group: &str, version: &str) -> Result<Reply, ApiError> {
        let all = self.resources();
        let mut list: Vec<Value> = Vec::new();
        for resource in all.iter().filter(|r| r.group == group && r.version == version) {
            list.push(json!({
                "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
                "kind": resource.kind, "verbs": VERBS, "shortNames": resource.short_names,
                "categories": resource.categories,
            }));
            for (sub, kind, verbs) in subresources(resource) {
                let mut entry = json!({
                    "name": format!("{}/{sub}", resource.plural), "singularName": "", "kind": kind,
                    "namespaced": resource.namespaced, "verbs": verbs,
                });
                if sub == "eviction" {
                    // Of another group than its path; drain asks for it.
                    (entry["group"], entry["version"]) = (json!("policy"), json!("v1"));
                }
                list.push(entry);
            }
        }
        if list.is_empty() {
            return Err(ApiError::no_such_path(&format!("{group}/{version}")));
        }
        let name = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        Ok(Reply::json(
            &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": list}),
        ))
    }

    pub(super) fn group_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for resource in self.resources().iter().filter(|r| !r.group.is_empty()) {
            if !names.contains(&resource.group) {
                names.push(resource.group.clone());
            }
        }
        names
    }

    fn versions_of(&self, group: &str) -> Vec<String> {
        let mut versions: Vec<String> = Vec::new();
        for resource in self.resources().iter().filter(|r| r.group == group) {
            if !versions.contains(&resource.version) {
                versions.push(resource.version.clone());
            }
        }
        versions
    }

    fn group_document(&self, group: &str) -> Value {
        let versions: Vec<Value> = self
            .versions_of(group)
            .iter()
            .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
            .collect();
        json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
    }

    fn aggregated(&self, core: bool) -> Reply {
        let groups: Vec<String> = if core {
            vec![String::new()]
        } else {
            self.group_names()
        };
        let items: Vec<Value> = groups
            .iter()
            .map(|group| {
                let versions: Vec<Value> = self
                    .versions_of(group)
                    .iter()
                    .map(|version| json!({"version": version, "freshness": "Current", "resources": self.aggregated_resources(group, version)}))
                    .collect();
                let metadata = if group.is_empty() { json!({"creationTimestamp": null}) } else { json!({"name": group, "creationTimestamp": null}) };
                json!({"metadata": metadata, "versions": versions})
            })
            .collect();
        let document = json!({
            "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
        });
        Reply::with(200, AGGREGATED, Bytes::from(document.to_string()))
    }

    fn aggregated_resources(&self, group: &str, version: &str) -> Vec<Value> {
        let all = self.resources();
        all.iter()
            .filter(|r| r.group == group && r.version == version)
            .map(|resource| {
                let kind =
                    |kind: &str| json!({"group": resource.group, "version": resource.version, "kind": kind});
                let subs: Vec<Value> = subresources(resource)
                    .into_iter()
                    .map(|(sub, name, verbs)| {
                        let kind = match sub {
                            "eviction" => json!({"group": "policy", "version": "v1", "kind": name}),
                            _ => kind(name),
                        };
                        json!({"subresource": sub, "responseKind": kind, "verbs": verbs})
                    })
                    .collect();
                let mut out = json!({
                    "resource": resource.plural, "responseKind": kind(&resource.kind),
                    "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
                    "singularResource": resource.singular, "verbs": VERBS,
                });
                for (name, list) in [
                    ("shortNames", &resource.short_names),
                    ("categories", &resource.categories),
                ] {
                    if !list.is_empty() {
                        out[name] = json!(list);
                    }
                }
                if !subs.is_empty() {
                    out["subresources"] = json!(subs);
                }
                out
            })
            .collect()
    }
}

fn subresources(resource: &Resource) -> Vec<(&'static str, &str, &'static [&'static str])> {
    let mut out: Vec<(&'static str, &str, &'static [&'static str])> = Vec::new();
    if resource.status {
        out.push(("status", &resource.kind, &["get", "patch", "update"]));
    }
    if resource.scale {
        out.push(("scale", "Scale", &["get", "patch", "update"]));
    }
    if resource.plural == "pods" {
        out.push(("log", &resource.kind, &["get"]));
        out.push(("eviction", "Eviction", &["create"]));
        out.push(("exec", "PodExecOptions", &["create", "get"]));
        out.push(("portforward", "PodPortForwardOptions", &["create", "get"]));
    }
    out
}
