use serde_json::{Map, Value};

/// Merges `changes` into `target` as Patroni does everywhere: null deletes, mappings merge, and other values are
/// compared by their string form, so that `1` → `"1"` is no change. Says whether anything changed.
pub fn patch(target: &mut Map<String, Value>, changes: &Map<String, Value>) -> bool {
    let mut changed = false;
    for (key, value) in changes {
        match (target.get_mut(key), value) {
            (old, Value::Null) => {
                if old.is_some() {
                    target.shift_remove(key);
                    changed = true;
                }
            }
            (Some(Value::Object(old)), Value::Object(new)) => changed |= patch(old, new),
            (Some(old), new) => {
                if string_form(old) != string_form(new) {
                    *old = without_nulls(new);
                    changed = true;
                }
            }
            (None, new) => {
                target.insert(key.clone(), without_nulls(new));
                changed = true;
            }
        }
    }
    changed
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k.clone(), without_nulls(v)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// A scalar as PostgreSQL's configuration would show it; mappings and lists as JSON.
#[must_use]
pub fn string_form(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => if *flag { "on" } else { "off" }.to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn null_deletes_and_mappings_merge() {
        let mut target = object(json!({"ttl": 30, "postgresql": {"parameters": {"a": 1, "b": 2}}}));
        let changes =
            object(json!({"ttl": null, "postgresql": {"parameters": {"a": "1", "c": {"x": null}}}}));
        assert!(patch(&mut target, &changes));
        assert_eq!(
            Value::Object(target),
            json!({"postgresql": {"parameters": {"a": 1, "b": 2, "c": {}}}})
        );
    }

    proptest! {
        #[test]
        fn patching_twice_changes_nothing_more(a in mapping(), b in mapping()) {
            let mut target = a;
            patch(&mut target, &b);
            let once = target.clone();
            prop_assert!(!patch(&mut target, &b));
            prop_assert_eq!(once, target);
        }
    }

    fn mapping() -> impl Strategy<Value = Map<String, Value>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3i64).prop_map(Value::from)
        ];
        let value = leaf.prop_recursive(3, 12, 3, |inner| {
            prop::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|m| Value::Object(m.into_iter().collect()))
        });
        prop::collection::btree_map("[abc]", value, 0..4).prop_map(|m| m.into_iter().collect())
    }
}
