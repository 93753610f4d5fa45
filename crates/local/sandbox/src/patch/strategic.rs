use serde_json::{Map, Value};

use crate::fields::{ListKind, Lists};

/// Kubernetes' strategic merge patch, for built-in kinds: like a merge patch, but lists of objects merge by their key,
/// and `$patch`, `$deleteFromPrimitiveList` and `$setElementOrder` direct it.
pub(crate) fn strategic(target: &mut Value, patch: &Value) {
    let mut path = Vec::new();
    merge(target, patch, &mut path);
}

fn merge<'a>(target: &mut Value, patch: &'a Value, path: &mut Vec<&'a str>) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if changes.get("$patch").and_then(Value::as_str) == Some("replace") {
        *target = without_directives(patch);
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, change) in changes {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = change.as_array().cloned().unwrap_or_default();
            if let Some(items) = target[list].as_array_mut() {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if name == "$retainKeys" {
            let kept = change.as_array().cloned().unwrap_or_default();
            if let Some(map) = target.as_object_mut() {
                map.retain(|key, _| kept.iter().any(|kept| kept == key.as_str()));
            }
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        if change.is_null() {
            if let Some(map) = target.as_object_mut() {
                map.shift_remove(name);
            }
            continue;
        }
        path.push(name);
        match change {
            Value::Array(items) => merge_list(&mut target[name.as_str()], items, path),
            _ => merge(&mut target[name.as_str()], change, path),
        }
        path.pop();
    }
}

fn merge_list<'a>(target: &mut Value, patch: &'a [Value], path: &mut Vec<&'a str>) {
    let key = match Lists::BuiltIn.kind(path) {
        ListKind::Atomic => {
            *target = Value::Array(patch.iter().map(without_directives).collect());
            return;
        }
        ListKind::Set => {
            let mut items = target.as_array().cloned().unwrap_or_default();
            for item in patch {
                if !items.contains(item) {
                    items.push(item.clone());
                }
            }
            *target = Value::Array(items);
            return;
        }
        // The merge key is the first of the keys that tell items apart.
        ListKind::Map(keys) => keys.into_iter().next().unwrap_or_default(),
    };
    if patch
        .iter()
        .any(|item| item["$patch"] == "replace" && item.as_object().is_some_and(|o| o.len() == 1))
    {
        let rest = patch.iter().filter(|item| item["$patch"] != "replace");
        *target = Value::Array(rest.map(without_directives).collect());
        return;
    }
    let mut items = target.as_array().cloned().unwrap_or_default();
    for item in patch {
        let found = items.iter().position(|old| old[&key] == item[&key]);
        match (item["$patch"].as_str(), found) {
            (Some("delete"), Some(index)) => {
                items.remove(index);
            }
            (Some("delete"), None) => {}
            (_, Some(index)) => merge(&mut items[index], item, path),
            (_, None) => items.push(without_directives(item)),
        }
    }
    *target = Value::Array(items);
}

fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(name, value)| !name.starts_with('$') && !value.is_null())
                .map(|(name, value)| (name.clone(), without_directives(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_directives).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_merge_by_their_key() {
        let mut pod =
            json!({"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}]}});
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}, {"name": "c"}]}});
        strategic(&mut pod, &patch);
        assert_eq!(
            pod,
            json!({"spec": {"containers": [{"name": "a", "image": "2", "args": ["x"]}, {"name": "c"}]}})
        );
    }

    #[test]
    fn directives_delete_and_replace() {
        let mut object = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "y"}}});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "labels": {"$patch": "replace", "z": "1"}}});
        strategic(&mut object, &patch);
        assert_eq!(
            object,
            json!({"metadata": {"finalizers": ["b"], "labels": {"z": "1"}}})
        );
    }
}
