use serde_json::{Value, json};

use crate::{GROUP, KIND, PLURAL, VERSION, fields::spec_schema};

/// The name of the CustomResourceDefinition.
pub const CRD_NAME: &str = "postgresqls.acid.zalan.do";

/// Which of two definitions is the newer one: the annotation of the definition that says so, and our number. It is raised with each
/// change, so that an older operator beside a newer one takes nothing away.
pub const CRD_REVISION: (&str, u32) = ("howdah.dev/definition", 2);

/// A rule in CEL, which the API server checks by itself: the operator's webhook may be away.
fn rule(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

/// The CustomResourceDefinition, ready to apply.
///
/// `status` stays open for the fields beyond upstream's one word; `spec` is pruned to the known fields.
#[must_use]
pub fn crd() -> Value {
    let column = |name: &str, kind: &str, path: &str, about: &str| json!({"name": name, "type": kind, "jsonPath": path, "description": about});
    let mut spec = spec_schema().to_openapi();
    // Older manifests use the old names: they must survive pruning to be understood.
    for (old, new) in crate::OLD_NAMES {
        let mut schema = spec["properties"][new].clone();
        schema["description"] = json!(format!("The old name of {new}."));
        spec["properties"][old] = schema;
    }
    spec["properties"]["standby"]["x-kubernetes-validations"] = json!([
        rule(
            "!has(self.s3_wal_path) || self.s3_wal_path == '' || !has(self.gs_wal_path) || self.gs_wal_path == ''",
            "s3_wal_path and gs_wal_path exclude each other"
        ),
        rule(
            "!has(self.standby_port) || self.standby_port == '' || (self.standby_port.matches('^[0-9]{1,5}$') && int(self.standby_port) > 0 && int(self.standby_port) < 65536)",
            "standby_port must be a port, 1 to 65535"
        ),
    ]);
    spec["properties"]["clone"]["x-kubernetes-validations"] = json!([rule(
        "self.cluster == '' || (self.cluster.size() <= 63 && self.cluster.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$'))",
        "cluster must be the name of a cluster"
    ),]);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": CRD_NAME,
            "labels": {"app.kubernetes.io/name": "postgres-operator"},
            "annotations": {CRD_REVISION.0: CRD_REVISION.1.to_string()},
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND, "listKind": "postgresqlList", "plural": PLURAL, "singular": "postgresql",
                "shortNames": ["pg"], "categories": ["all"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    column("Team", "string", ".spec.teamId", "The team that owns the cluster"),
                    column("Version", "string", ".spec.postgresql.version", "The major version of PostgreSQL"),
                    column("Pods", "integer", ".spec.numberOfInstances", "The number of members"),
                    column("Volume", "string", ".spec.volume.size", "The size of each member's volume"),
                    column("CPU-Request", "string", ".spec.resources.requests.cpu", "Cores asked for by each member"),
                    column("Memory-Request", "string", ".spec.resources.requests.memory", "Memory asked for by each member"),
                    column("Age", "date", ".metadata.creationTimestamp", "How long the cluster has existed"),
                    column("Status", "string", ".status.PostgresClusterStatus", "What became of the last change"),
                ],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "required": ["metadata", "spec"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": spec,
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    },
                }},
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_field_is_structural() {
        fn check(schema: &Value, at: &str) {
            assert!(schema["type"].is_string(), "{at} has a type");
            assert!(
                !(schema["properties"].is_object() && schema["additionalProperties"].is_object()),
                "{at}: either fixed or chosen names"
            );
            for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
                check(inner, &format!("{at}.{name}"));
            }
            for key in ["additionalProperties", "items"] {
                if let Some(inner) = schema.get(key) {
                    check(inner, &format!("{at}.{key}"));
                }
            }
        }
        let crd = crd();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        check(schema, "");
        assert_eq!(
            schema["properties"]["spec"]["required"].as_array().map(Vec::len),
            Some(4)
        );
        assert!(schema["properties"]["spec"]["properties"]["init_containers"].is_object());
    }
}
