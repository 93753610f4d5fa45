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
    pub(crate) fn full_name(&self) -> String {
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

/// A built-in resource; all of them are of version v1.
struct BuiltIn {
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    /// Separated by commas.
    short_names: &'static str,
    namespaced: bool,
    status: bool,
    scale: bool,
    /// `kubectl get all` shows it.
    all: bool,
}

impl BuiltIn {
    const fn new(
        group: &'static str,
        plural: &'static str,
        kind: &'static str,
        short_names: &'static str,
    ) -> Self {
        BuiltIn {
            group,
            plural,
            kind,
            short_names,
            namespaced: true,
            status: false,
            scale: false,
            all: false,
        }
    }

    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn status(mut self) -> Self {
        self.status = true;
        self
    }

    const fn scale(mut self) -> Self {
        self.scale = true;
        self
    }

    const fn in_all(mut self) -> Self {
        self.all = true;
        self
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

const BUILT_IN: &[BuiltIn] = &[
    BuiltIn::new("", "namespaces", "Namespace", "ns")
        .cluster()
        .status(),
    BuiltIn::new("", "nodes", "Node", "no").cluster().status(),
    BuiltIn::new("", "pods", "Pod", "po").status().in_all(),
    BuiltIn::new("", "services", "Service", "svc").status().in_all(),
    BuiltIn::new("", "configmaps", "ConfigMap", "cm"),
    BuiltIn::new("", "secrets", "Secret", ""),
    BuiltIn::new("", "serviceaccounts", "ServiceAccount", "sa"),
    BuiltIn::new("", "persistentvolumeclaims", "PersistentVolumeClaim", "pvc").status(),
    BuiltIn::new("", "events", "Event", "ev"),
    BuiltIn::new("", "endpoints", "Endpoints", "ep"),
    BuiltIn::new("apps", "statefulsets", "StatefulSet", "sts")
        .status()
        .scale()
        .in_all(),
    BuiltIn::new("apps", "deployments", "Deployment", "deploy")
        .status()
        .scale()
        .in_all(),
    BuiltIn::new("policy", "poddisruptionbudgets", "PodDisruptionBudget", "pdb").status(),
    BuiltIn::new(RBAC, "roles", "Role", ""),
    BuiltIn::new(RBAC, "rolebindings", "RoleBinding", ""),
    BuiltIn::new(RBAC, "clusterroles", "ClusterRole", "").cluster(),
    BuiltIn::new(RBAC, "clusterrolebindings", "ClusterRoleBinding", "").cluster(),
    BuiltIn::new("coordination.k8s.io", "leases", "Lease", ""),
    BuiltIn::new("discovery.k8s.io", "endpointslices", "EndpointSlice", ""),
    BuiltIn::new(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "crd,crds",
    )
    .cluster()
    .status(),
];

/// The resource of CustomResourceDefinitions in the store.
pub(crate) const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// The resources that are always there.
pub(crate) fn built_in() -> Vec<Resource> {
    BUILT_IN
        .iter()
        .map(|of| Resource {
            group: of.group.into(),
            version: "v1".into(),
            plural: of.plural.into(),
            singular: of.kind.to_lowercase(),
            kind: of.kind.into(),
            list_kind: format!("{}List", of.kind),
            short_names: of
                .short_names
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            categories: if of.all { vec!["all".into()] } else { Vec::new() },
            namespaced: of.namespaced,
            status: of.status,
            scale: of.scale,
            custom: None,
        })
        .collect()
}
