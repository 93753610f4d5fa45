use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{ListKind, Lists};

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A field of a mapping.
    Field(String),
    /// An item of a list, by its keys (JSON with sorted keys).
    Key(String),
    /// An item of a set.
    Value(String),
}

/// A place in an object.
pub(super) type Path = Vec<Step>;
/// Places in an object: leaves, and items of lists.
pub(super) type Paths = BTreeSet<Path>;

/// Metadata without an owner.
const UNOWNED: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// All places of an object.
pub(super) fn paths_of(object: &Value, lists: Lists<'_>) -> Paths {
    let mut out = Paths::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        match name.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if !UNOWNED.contains(&name.as_str()) {
                        let path = vec![Step::Field("metadata".into()), Step::Field(name.clone())];
                        collect(value, path, lists, &mut out);
                    }
                }
            }
            _ => collect(value, vec![Step::Field(name.clone())], lists, &mut out),
        }
    }
    out
}

fn collect(value: &Value, path: Path, lists: Lists<'_>, out: &mut Paths) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, inner) in map {
                let mut path = path.clone();
                path.push(Step::Field(name.clone()));
                collect(inner, path, lists, out);
            }
        }
        Value::Array(items) => match lists.kind(&names(&path)) {
            ListKind::Atomic => {
                out.insert(path);
            }
            ListKind::Set => {
                for item in items {
                    let mut path = path.clone();
                    path.push(Step::Value(item.to_string()));
                    out.insert(path);
                }
            }
            ListKind::Map(keys) => {
                for item in items {
                    let mut path = path.clone();
                    path.push(Step::Key(key_of(item, &keys)));
                    out.insert(path.clone());
                    for (name, inner) in item.as_object().into_iter().flatten() {
                        let mut path = path.clone();
                        path.push(Step::Field(name.clone()));
                        collect(inner, path, lists, out);
                    }
                }
            }
        },
        _ => {
            out.insert(path);
        }
    }
}

/// The field names of a path, without items.
pub(super) fn names(path: &[Step]) -> Vec<&str> {
    path.iter()
        .filter_map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            _ => None,
        })
        .collect()
}

/// An item's keys.
pub(super) fn key_of(item: &Value, keys: &[String]) -> String {
    let mut sorted: Vec<&String> = keys.iter().collect();
    sorted.sort();
    let map: Map<String, Value> = sorted
        .into_iter()
        .filter(|key| !item[key.as_str()].is_null())
        .map(|key| (key.clone(), item[key.as_str()].clone()))
        .collect();
    Value::Object(map).to_string()
}

/// Whether an item has these keys.
fn has_key(item: &Value, key: &str) -> bool {
    let wanted: Value = serde_json::from_str(key).unwrap_or_default();
    wanted
        .as_object()
        .is_some_and(|wanted| wanted.iter().all(|(name, value)| item.get(name) == Some(value)))
}

/// The value at a path.
pub(super) fn get<'a>(object: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(object, |at, step| match step {
        Step::Field(name) => at.get(name),
        Step::Key(key) => at.as_array()?.iter().find(|item| has_key(item, key)),
        Step::Value(value) => {
            let wanted: Value = serde_json::from_str(value).ok()?;
            at.as_array()?.iter().find(|item| **item == wanted)
        }
    })
}

/// Takes the value at a path away, and mappings and lists that are empty then.
pub(super) fn remove(object: &mut Value, path: &[Step]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    match (first, object) {
        (Step::Field(name), Value::Object(map)) => {
            if rest.is_empty() {
                map.shift_remove(name);
            } else if let Some(inner) = map.get_mut(name) {
                remove(inner, rest);
                let empty = inner.as_object().is_some_and(Map::is_empty)
                    || inner.as_array().is_some_and(Vec::is_empty);
                if empty {
                    map.shift_remove(name);
                }
            }
        }
        (Step::Key(key), Value::Array(items)) => {
            if rest.is_empty() {
                items.retain(|item| !has_key(item, key));
            } else if let Some(item) = items.iter_mut().find(|item| has_key(item, key)) {
                remove(item, rest);
            }
        }
        (Step::Value(value), Value::Array(items)) => {
            let gone: Value = serde_json::from_str(value).unwrap_or_default();
            items.retain(|item| *item != gone);
        }
        _ => {}
    }
}

/// The paths in the form of `fieldsV1`.
pub(super) fn encode(paths: &Paths) -> Value {
    let mut root = json!({});
    for path in paths {
        let mut at = &mut root;
        for step in path {
            let key = match step {
                Step::Field(name) => format!("f:{name}"),
                Step::Key(key) => format!("k:{key}"),
                Step::Value(value) => format!("v:{value}"),
            };
            if !at[&key].is_object() {
                at[&key] = json!({});
            }
            at = &mut at[&key];
        }
        if matches!(path.last(), Some(Step::Key(_))) {
            at["."] = json!({});
        }
    }
    root
}

/// The paths of a `fieldsV1`.
pub(super) fn decode(fields: &Value) -> Paths {
    let mut out = Paths::new();
    decode_into(fields, &mut Vec::new(), &mut out);
    out
}

fn decode_into(fields: &Value, path: &mut Path, out: &mut Paths) {
    let Some(map) = fields.as_object().filter(|map| !map.is_empty()) else {
        if !path.is_empty() {
            out.insert(path.clone());
        }
        return;
    };
    for (key, inner) in map {
        let step = match key.split_at_checked(2) {
            Some(("f:", name)) => Step::Field(name.to_owned()),
            Some(("k:", key)) => Step::Key(key.to_owned()),
            Some(("v:", value)) => Step::Value(value.to_owned()),
            _ => {
                out.insert(path.clone());
                continue;
            }
        };
        path.push(step);
        decode_into(inner, path, out);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_and_read_back() {
        let object = json!({
            "metadata": {"name": "x", "labels": {"a": "b"}, "finalizers": ["f/x"]},
            "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i", "args": ["1"]}]}}, "empty": {}},
        });
        let paths = paths_of(&object, Lists::BuiltIn);
        let encoded = encode(&paths);
        assert_eq!(decode(&encoded), paths);
        assert_eq!(encoded["f:metadata"]["f:finalizers"], json!({"v:\"f/x\"": {}}));
        let item = &encoded["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"];
        assert_eq!(*item, json!({".": {}, "f:name": {}, "f:image": {}, "f:args": {}}));
        assert!(encoded["f:metadata"]["f:name"].is_null());
    }
}
