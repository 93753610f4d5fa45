use serde_json::{Value, json};

use super::{
    ListKind, Lists,
    set::{Path, Paths, Step, decode, encode, get, key_of, names, paths_of, remove},
};
use crate::{ApiError, meta};

struct Manager {
    name: String,
    operation: String,
    subresource: String,
    paths: Paths,
    time: Value,
}

fn managers(object: &Value) -> Vec<Manager> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| Manager {
            name: text(&entry["manager"]),
            operation: text(&entry["operation"]),
            subresource: text(&entry["subresource"]),
            paths: decode(&entry["fieldsV1"]),
            time: entry["time"].clone(),
        })
        .collect()
}

fn write_managers(object: &mut Value, managers: &[Manager]) {
    let version = object["apiVersion"].clone();
    let entries: Vec<Value> = managers
        .iter()
        .filter(|manager| !manager.paths.is_empty())
        .map(|manager| {
            let mut entry = json!({
                "manager": manager.name, "operation": manager.operation, "apiVersion": version,
                "time": manager.time, "fieldsType": "FieldsV1", "fieldsV1": encode(&manager.paths),
            });
            if !manager.subresource.is_empty() {
                entry["subresource"] = json!(manager.subresource);
            }
            entry
        })
        .collect();
    meta::set(object, &["metadata", "managedFields"], Value::Array(entries));
}

/// Notes who changed what by a write other than an apply. What `after` says of earlier managers is the beginning.
pub(crate) fn track(
    before: Option<&Value>,
    after: &mut Value,
    manager: &str,
    subresource: &str,
    lists: Lists<'_>,
) {
    if let Some(before) = before
        && let Some(entry) = renewed_by(before, after, manager, subresource)
    {
        after["metadata"]["managedFields"][entry]["time"] = json!(meta::timestamp());
    } else {
        track_all(before, after, manager, subresource, lists);
    }
}

/// The same for any write.
fn track_all(before: Option<&Value>, after: &mut Value, manager: &str, subresource: &str, lists: Lists<'_>) {
    let empty = json!({});
    let before = before.unwrap_or(&empty);
    let now = paths_of(after, lists);
    let changed: Paths = now
        .iter()
        .filter(|path| get(before, path) != get(after, path))
        .cloned()
        .collect();
    let mut managers = managers(after);
    for entry in &mut managers {
        let mine = is(entry, manager, "Update", subresource);
        entry
            .paths
            .retain(|path| now.contains(path) && (mine || !changed.contains(path)));
    }
    if !changed.is_empty() {
        entry(&mut managers, manager, "Update", subresource)
            .paths
            .extend(changed);
    }
    write_managers(after, &managers);
}

/// The entry of a manager who has changed only values of annotations that are its own already: all that changes is the time
/// of its entry. Agents renew leases so, a few each second.
fn renewed_by(before: &Value, after: &Value, manager: &str, subresource: &str) -> Option<usize> {
    if !meta::same_but_in_metadata(before, after, &["annotations"]) {
        return None;
    }
    let old = before["metadata"]["annotations"].as_object()?;
    let new = after["metadata"]["annotations"].as_object()?;
    if old.len() != new.len() || !new.keys().all(|name| old.contains_key(name)) {
        return None;
    }
    let changed: Vec<String> = new
        .iter()
        .filter(|(name, value)| old.get(*name) != Some(value))
        .map(|(name, _)| format!("f:{name}"))
        .collect();
    let entries = after["metadata"]["managedFields"].as_array()?;
    let owns = |entry: &Value, name: &String| {
        let owned = &entry["fieldsV1"]["f:metadata"]["f:annotations"];
        owned.get(name).is_some()
    };
    let mine = entries.iter().position(|entry| {
        entry["manager"] == manager
            && entry["operation"] == "Update"
            && entry["subresource"].as_str().unwrap_or_default() == subresource
    })?;
    let alone = entries.iter().enumerate().all(|(index, entry)| {
        let owned = changed.iter().filter(|name| owns(entry, name)).count();
        owned == if index == mine { changed.len() } else { 0 }
    });
    (alone && !changed.is_empty()).then_some(mine)
}

fn is(entry: &Manager, name: &str, operation: &str, subresource: &str) -> bool {
    entry.name == name && entry.operation == operation && entry.subresource == subresource
}

fn entry<'a>(
    managers: &'a mut Vec<Manager>,
    name: &str,
    operation: &str,
    subresource: &str,
) -> &'a mut Manager {
    let index = match managers
        .iter()
        .position(|entry| is(entry, name, operation, subresource))
    {
        Some(index) => index,
        None => {
            managers.push(Manager {
                name: name.to_owned(),
                operation: operation.to_owned(),
                subresource: subresource.to_owned(),
                paths: Paths::new(),
                time: Value::Null,
            });
            managers.len() - 1
        }
    };
    managers[index].time = json!(meta::timestamp());
    &mut managers[index]
}

/// Server-side apply: what `manager` applies becomes so; what it applied before and no longer does goes away unless
/// another manager owns it too; what others own and would change is a conflict unless forced.
///
/// # Errors
/// A conflict (409), with every field and its owner.
pub(crate) fn apply(
    live: Option<&Value>,
    applied: &Value,
    manager: &str,
    subresource: &str,
    force: bool,
    lists: Lists<'_>,
) -> Result<Value, ApiError> {
    let wanted = paths_of(applied, lists);
    let empty = json!({"apiVersion": applied["apiVersion"], "kind": applied["kind"]});
    let live = live.unwrap_or(&empty);
    let mut managers = managers(live);

    let mut conflicts: Vec<(String, Path)> = Vec::new();
    for entry in managers
        .iter()
        .filter(|entry| !is(entry, manager, "Apply", subresource))
    {
        for path in entry.paths.iter().filter(|path| wanted.contains(*path)) {
            let is_item = matches!(path.last(), Some(Step::Key(_)));
            if !is_item && get(live, path) != get(applied, path) {
                conflicts.push((entry.name.clone(), path.clone()));
            }
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflict_error(live, &conflicts));
    }
    for entry in managers
        .iter_mut()
        .filter(|entry| !is(entry, manager, "Apply", subresource))
    {
        entry
            .paths
            .retain(|path| !conflicts.iter().any(|(_, taken)| taken == path));
    }

    let before: Paths = managers
        .iter()
        .filter(|entry| is(entry, manager, "Apply", subresource))
        .flat_map(|entry| entry.paths.clone())
        .collect();
    let mut out = live.clone();
    for gone in before.difference(&wanted) {
        let owned = managers
            .iter()
            .filter(|entry| !is(entry, manager, "Apply", subresource))
            .any(|entry| entry.paths.iter().any(|path| path.starts_with(gone)));
        // Something that is still wanted may lie below, when a leaf became a mapping.
        let needed = wanted.iter().any(|path| path.starts_with(gone));
        if !owned && !needed {
            remove(&mut out, gone);
        }
    }
    merge(&mut out, applied, &mut Vec::new(), lists);
    entry(&mut managers, manager, "Apply", subresource).paths = wanted;
    write_managers(&mut out, &managers);
    Ok(out)
}

fn conflict_error(live: &Value, conflicts: &[(String, Path)]) -> ApiError {
    let shown: Vec<String> = conflicts
        .iter()
        .map(|(manager, path)| format!("conflict with \"{manager}\": .{}", names(path).join(".")))
        .collect();
    let kind = live["kind"].as_str().unwrap_or_default();
    let mut error = ApiError::conflict(
        kind,
        meta::name(live),
        &format!("Apply failed with {} conflict(s)", conflicts.len()),
    );
    error.message = format!(
        "Apply failed with {} conflict{}: {}",
        conflicts.len(),
        if conflicts.len() == 1 { "" } else { "s" },
        shown.join(", ")
    );
    error.details["causes"] = conflicts
        .iter()
        .map(|(manager, path)| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with \"{manager}\""),
                "field": format!(".{}", names(path).join("."))})
        })
        .collect();
    error
}

/// Puts `from` over `into`: mappings and keyed lists merge, the rest is replaced.
fn merge(into: &mut Value, from: &Value, path: &mut Path, lists: Lists<'_>) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                // Fields without an owner are not merged; managedFields are written apart.
                let at_metadata = matches!(path.as_slice(), [Step::Field(m)] if m == "metadata");
                if at_metadata
                    && matches!(
                        name.as_str(),
                        "managedFields" | "resourceVersion" | "uid" | "creationTimestamp" | "generation"
                    )
                {
                    continue;
                }
                path.push(Step::Field(name.clone()));
                match into.get_mut(name) {
                    Some(old) => merge(old, value, path, lists),
                    None => {
                        into.insert(name.clone(), value.clone());
                    }
                }
                path.pop();
            }
        }
        (Value::Array(into), Value::Array(from)) => merge_list(into, from, path, lists),
        (into, from) => *into = from.clone(),
    }
}

fn merge_list(into: &mut Vec<Value>, from: &[Value], path: &mut Path, lists: Lists<'_>) {
    match lists.kind(&names(path)) {
        ListKind::Atomic => *into = from.to_vec(),
        ListKind::Set => {
            for item in from {
                if !into.contains(item) {
                    into.push(item.clone());
                }
            }
        }
        ListKind::Map(keys) => {
            for item in from {
                let key = key_of(item, &keys);
                path.push(Step::Key(key.clone()));
                match into.iter_mut().find(|old| key_of(old, &keys) == key) {
                    Some(old) => merge(old, item, path, lists),
                    None => into.push(item.clone()),
                }
                path.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec})
    }

    fn applied(live: Option<&Value>, spec: Value, manager: &str, force: bool) -> Result<Value, ApiError> {
        apply(live, &object(spec), manager, "", force, Lists::BuiltIn)
    }

    #[test]
    fn what_is_no_longer_applied_goes_and_what_others_own_stays() {
        let first = applied(
            None,
            json!({"a": 1, "b": 2, "containers": [{"name": "x", "image": "i"}]}),
            "me",
            false,
        )
        .unwrap();
        let mut touched = first.clone();
        touched["spec"]["c"] = json!(3);
        touched["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "sidecar", "image": "s"}));
        track(Some(&first), &mut touched, "kubectl", "", Lists::BuiltIn);
        let next = applied(
            Some(&touched),
            json!({"a": 1, "containers": [{"name": "x", "image": "j"}]}),
            "me",
            false,
        )
        .unwrap();
        assert_eq!(
            next["spec"],
            json!({"a": 1, "c": 3, "containers": [{"name": "x", "image": "j"}, {"name": "sidecar", "image": "s"}]})
        );
        let without = applied(Some(&next), json!({"a": 1}), "me", false).unwrap();
        assert_eq!(
            without["spec"]["containers"],
            json!([{"name": "sidecar", "image": "s"}])
        );
    }

    #[test]
    fn the_short_way_of_a_renewal_notes_what_the_long_one_notes() {
        let agent = |note: &str, more: &str| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "labels": {"a": "b"},
                "annotations": {"renewed": note, "other": more}}})
        };
        let lists = || Lists::BuiltIn;
        let mut first = agent("1", "x");
        track(None, &mut first, "agent", "", lists());
        let renewed = |before: &Value, note: &str, more: &str, by: &str| {
            let mut after = agent(note, more);
            after["metadata"]["managedFields"] = before["metadata"]["managedFields"].clone();
            let is_short = renewed_by(before, &after, by, "").is_some();
            let mut long = after.clone();
            track_all(Some(before), &mut long, by, "", lists());
            track(Some(before), &mut after, by, "", lists());
            let owners = |object: &Value| -> Vec<(String, Paths)> {
                managers(object).into_iter().map(|m| (m.name, m.paths)).collect()
            };
            assert_eq!(owners(&after), owners(&long), "{note} {more} {by}");
            (is_short, after)
        };
        let (is_short, second) = renewed(&first, "2", "x", "agent");
        assert!(is_short);
        // Another client takes one of them, and the agent takes it back.
        let (is_short, third) = renewed(&second, "2", "y", "kubectl");
        assert!(!is_short);
        let (is_short, fourth) = renewed(&third, "3", "y", "agent");
        assert!(is_short);
        let (is_short, fifth) = renewed(&fourth, "4", "z", "agent");
        assert!(!is_short);
        assert!(renewed(&fifth, "5", "z", "agent").0);
    }

    #[test]
    fn a_field_of_somebody_else_is_a_conflict_unless_forced() {
        let first = applied(None, json!({"replicas": 1}), "one", false).unwrap();
        let error = applied(Some(&first), json!({"replicas": 2}), "two", false).unwrap_err();
        assert_eq!(error.code, 409);
        assert!(
            error.message.contains("conflict with \"one\": .spec.replicas"),
            "{error}"
        );
        // The same value is owned together.
        assert!(applied(Some(&first), json!({"replicas": 1}), "two", false).is_ok());
        let forced = applied(Some(&first), json!({"replicas": 2}), "two", true).unwrap();
        assert_eq!(forced["spec"]["replicas"], 2);
        // Taken from the first: it is not in its way any more, and its next apply is the conflict.
        assert!(applied(Some(&forced), json!({"replicas": 1}), "one", false).is_err());
    }

    #[test]
    fn applying_twice_changes_nothing() {
        let first = applied(
            None,
            json!({"a": {"b": [1, 2]}, "finalizers": ["x"]}),
            "me",
            false,
        )
        .unwrap();
        let mut again = applied(
            Some(&first),
            json!({"a": {"b": [1, 2]}, "finalizers": ["x"]}),
            "me",
            false,
        )
        .unwrap();
        again["metadata"]["managedFields"][0]["time"] = first["metadata"]["managedFields"][0]["time"].clone();
        assert_eq!(first, again);
    }
}
