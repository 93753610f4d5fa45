use serde_json::Value;

/// How a list is merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// As one value.
    Atomic,
    /// Of scalars, each owned by itself.
    Set,
    /// Of objects told apart by these fields.
    Map(Vec<String>),
}

/// The lists of a kind of object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lists<'a> {
    /// Of a built-in kind: Kubernetes' own list types.
    BuiltIn,
    /// Of a custom resource: as its schema says.
    Custom(&'a Value),
}

impl Lists<'_> {
    /// The list at a path of field names (without indices).
    pub(crate) fn kind(&self, path: &[&str]) -> ListKind {
        match (self, path) {
            (_, ["metadata", ..]) | (Lists::BuiltIn, _) => built_in(path),
            (Lists::Custom(schema), _) => custom(schema, path),
        }
    }
}

fn built_in(path: &[&str]) -> ListKind {
    let map = |keys: &[&str]| ListKind::Map(keys.iter().map(|key| (*key).to_owned()).collect());
    match path.last().copied().unwrap_or_default() {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" | "secrets" => {
            map(&["name"])
        }
        "volumeMounts" => map(&["mountPath"]),
        "ports" if path.contains(&"containers") || path.contains(&"initContainers") => {
            map(&["containerPort", "protocol"])
        }
        "ports" => map(&["port", "protocol"]),
        "conditions" => map(&["type"]),
        "ownerReferences" => map(&["uid"]),
        "topologySpreadConstraints" => map(&["topologyKey", "whenUnsatisfiable"]),
        "finalizers" => ListKind::Set,
        _ => ListKind::Atomic,
    }
}

fn custom(schema: &Value, path: &[&str]) -> ListKind {
    let mut at = schema;
    for name in path {
        // Items of a list on the way have no name in the path.
        while at["type"] == "array" {
            at = &at["items"];
        }
        at = match at["properties"].get(*name) {
            Some(found) => found,
            None => &at["additionalProperties"],
        };
    }
    match at["x-kubernetes-list-type"].as_str() {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = at["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            ListKind::Map(keys.filter_map(Value::as_str).map(str::to_owned).collect())
        }
        _ => ListKind::Atomic,
    }
}
