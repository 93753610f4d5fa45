//! Which resources there are: the built-in ones, and those of CustomResourceDefinitions.

use serde_json::Value;

/// One resource of the API.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    /// It has a status that only `/status` writes.
    pub(crate) status: bool,
    /// It has `/scale`.
    pub(crate) scale: bool,
    /// The definition, for custom resources: the version's entry.
    pub(crate) custom: Option<Value>,
}

impl Resource {
    /// What the store calls it.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.group, self.plural)
    }

    /// `apiVersion` of its objects.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The name in messages: `pods`, `statefulsets.apps`.
    pub(crate) fn told(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The resources that a definition adds.
    pub(crate) fn of_definition(definition: &Value) -> Vec<Resource> {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list =
            |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().map(text).collect() };
        let names = &spec["names"];
        spec["versions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|version| version["served"] == true)
            .map(|version| Resource {
                group: text(&spec["group"]),
                version: text(&version["name"]),
                plural: text(&names["plural"]),
                singular: text(&names["singular"]),
                kind: text(&names["kind"]),
                list_kind: match names["listKind"].as_str() {
                    Some(kind) => kind.to_owned(),
                    None => format!("{}List", text(&names["kind"])),
                },
                short_names: list(&names["shortNames"]),
                categories: list(&names["categories"]),
                namespaced: spec["scope"] == "Namespaced",
                status: version["subresources"]["status"].is_object(),
                scale: version["subresources"]["scale"].is_object(),
                custom: Some(version.clone()),
            })
            .collect()
    }
}

/// group, version, plural, kind, short names, namespaced, status, scale, category all
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    bool,
    bool,
    bool,
    bool,
);

const BUILT_IN: &[Row] = &[
    (
        "",
        "v1",
        "namespaces",
        "Namespace",
        "ns",
        false,
        true,
        false,
        false,
    ),
    ("", "v1", "nodes", "Node", "no", false, true, false, false),
    ("", "v1", "pods", "Pod", "po", true, true, false, true),
    ("", "v1", "services", "Service", "svc", true, true, false, true),
    (
        "",
        "v1",
        "configmaps",
        "ConfigMap",
        "cm",
        true,
        false,
        false,
        false,
    ),
    ("", "v1", "secrets", "Secret", "", true, false, false, false),
    (
        "",
        "v1",
        "serviceaccounts",
        "ServiceAccount",
        "sa",
        true,
        false,
        false,
        false,
    ),
    (
        "",
        "v1",
        "persistentvolumeclaims",
        "PersistentVolumeClaim",
        "pvc",
        true,
        true,
        false,
        false,
    ),
    ("", "v1", "events", "Event", "ev", true, false, false, false),
    (
        "apps",
        "v1",
        "statefulsets",
        "StatefulSet",
        "sts",
        true,
        true,
        true,
        true,
    ),
    (
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        "pdb",
        true,
        true,
        false,
        false,
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "roles",
        "Role",
        "",
        true,
        false,
        false,
        false,
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "rolebindings",
        "RoleBinding",
        "",
        true,
        false,
        false,
        false,
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterroles",
        "ClusterRole",
        "",
        false,
        false,
        false,
        false,
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
        "",
        false,
        false,
        false,
        false,
    ),
    (
        "coordination.k8s.io",
        "v1",
        "leases",
        "Lease",
        "",
        true,
        false,
        false,
        false,
    ),
    (
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        "EndpointSlice",
        "",
        true,
        false,
        false,
        false,
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "crd,crds",
        false,
        true,
        false,
        false,
    ),
];

/// The resource of CustomResourceDefinitions in the store.
pub(crate) const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// The resources that are always there.
pub(crate) fn built_in() -> Vec<Resource> {
    BUILT_IN
        .iter()
        .map(
            |(group, version, plural, kind, short, namespaced, status, scale, all)| Resource {
                group: (*group).into(),
                version: (*version).into(),
                plural: (*plural).into(),
                singular: kind.to_lowercase(),
                kind: (*kind).into(),
                list_kind: format!("{kind}List"),
                short_names: short
                    .split(',')
                    .filter(|s| !s.is_empty())
                    .map(str::to_owned)
                    .collect(),
                categories: if *all { vec!["all".into()] } else { Vec::new() },
                namespaced: *namespaced,
                status: *status,
                scale: *scale,
                custom: None,
            },
        )
        .collect()
}
