//! Checks a custom resource against its schema: types, limits, required and unknown fields; fills in defaults.

use serde_json::{Map, Value};

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Report {
    /// What is wrong: path and reason.
    pub(crate) wrong: Vec<(String, String)>,
    /// Fields that the schema does not have; they were taken out.
    pub(crate) unknown: Vec<String>,
}

/// Checks an object and makes it as the schema says: defaults in, unknown fields and nulls out.
pub(crate) fn conform(object: &mut Value, schema: &Value) -> Report {
    let mut report = Report::default();
    let Some(map) = object.as_object_mut() else {
        return report;
    };
    let properties = &schema["properties"];
    for (name, value) in map.iter_mut() {
        if matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(inner) = properties.get(name) {
            check(value, inner, name, &mut report);
        }
    }
    let known = |name: &String| {
        matches!(name.as_str(), "apiVersion" | "kind" | "metadata") || properties.get(name).is_some()
    };
    report
        .unknown
        .extend(map.keys().filter(|name| !known(name)).cloned());
    map.retain(|name, _| known(name));
    required(map, schema, "", &mut report);
    report
}

fn required(map: &Map<String, Value>, schema: &Value, path: &str, report: &mut Report) {
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !map.contains_key(name) {
            report.wrong.push((join(path, name), "Required value".into()));
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn check(value: &mut Value, schema: &Value, path: &str, report: &mut Report) {
    let wrong = |reason: String, report: &mut Report| report.wrong.push((path.to_owned(), reason));
    if schema["x-kubernetes-int-or-string"] == true {
        if !value.is_string() && !value.is_i64() && !value.is_u64() {
            wrong(
                format!("Invalid value: {value}: must be an integer or text"),
                report,
            );
        }
        return;
    }
    let kind = schema["type"].as_str().unwrap_or_default();
    let fits = match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    };
    if !fits {
        if !(value.is_null() && schema["nullable"] == true) {
            wrong(
                format!("Invalid value: {}: must be of type {kind}", value_text(value)),
                report,
            );
        }
        return;
    }
    limits(value, schema, path, report);
    match value {
        Value::Object(map) => object(map, schema, path, report),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                check(item, &schema["items"], &format!("{path}[{index}]"), report);
            }
        }
        _ => {}
    }
}

fn object(map: &mut Map<String, Value>, schema: &Value, path: &str, report: &mut Report) {
    let properties = &schema["properties"];
    let keeps = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let others = schema
        .get("additionalProperties")
        .filter(|others| others.is_object());
    // As Kubernetes does: a null where none is allowed counts as absent.
    map.retain(|name, value| {
        let inner = properties.get(name).or(others);
        !value.is_null() || inner.is_none_or(|inner| inner["nullable"] == true)
    });
    for (name, value) in map.iter_mut() {
        if let Some(inner) = properties.get(name).or(others) {
            check(value, inner, &join(path, name), report);
        }
    }
    if !keeps && others.is_none() {
        let known = |name: &String| properties.get(name).is_some();
        report.unknown.extend(
            map.keys()
                .filter(|name| !known(name))
                .map(|name| join(path, name)),
        );
        map.retain(|name, _| known(name));
    }
    for (name, inner) in properties.as_object().into_iter().flatten() {
        if let Some(default) = inner.get("default")
            && !map.contains_key(name)
        {
            map.insert(name.clone(), default.clone());
        }
    }
    required(map, schema, path, report);
}

fn limits(value: &Value, schema: &Value, path: &str, report: &mut Report) {
    let mut wrong = |reason: String| report.wrong.push((path.to_owned(), reason));
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        let words: Vec<String> = words.iter().map(value_text).collect();
        wrong(format!(
            "Unsupported value: {}: supported values: {}",
            value_text(value),
            words.join(", ")
        ));
    }
    if let (Some(text), Some(pattern)) = (value.as_str(), schema["pattern"].as_str()) {
        // An invalid pattern is the definition's mistake; it refuses nothing.
        let fits = regex::Regex::new(pattern).map_or(true, |pattern| pattern.is_match(text));
        if !fits {
            wrong(format!("Invalid value: \"{text}\": should match '{pattern}'"));
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as u64;
        if schema["minLength"].as_u64().is_some_and(|min| length < min)
            || schema["maxLength"].as_u64().is_some_and(|max| length > max)
        {
            wrong(format!("Invalid value: \"{text}\": has {length} characters"));
        }
    }
    if let Some(number) = value.as_f64() {
        if schema["minimum"].as_f64().is_some_and(|min| number < min) {
            wrong(format!(
                "Invalid value: {value}: should be greater than or equal to {}",
                schema["minimum"]
            ));
        }
        if schema["maximum"].as_f64().is_some_and(|max| number > max) {
            wrong(format!(
                "Invalid value: {value}: should be less than or equal to {}",
                schema["maximum"]
            ));
        }
    }
    if let Some(items) = value.as_array()
        && schema["maxItems"]
            .as_u64()
            .is_some_and(|max| items.len() as u64 > max)
    {
        wrong(format!(
            "Too many: {}: must have at most {} items",
            items.len(),
            schema["maxItems"]
        ));
    }
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Object(_) => "object".into(),
        Value::Array(_) => "array".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wrong_values_are_named_and_unknown_fields_taken_out() {
        let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": {
            "type": "object", "required": ["size"], "properties": {
                "size": {"type": "string"}, "cpu": {"type": "string", "pattern": "^\\d+m$"}, "count": {"type": "integer", "minimum": 0},
                "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
                "users": {"type": "object", "additionalProperties": {"type": "array", "nullable": true, "items": {"type": "string"}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}});
        let mut object = json!({"kind": "X", "metadata": {"name": "a"}, "extra": 1,
            "spec": {"cpu": "abc", "count": -1, "users": {"a": null, "b": [1]}, "typo": 1, "free": {"x": {"y": 1}}, "size": null}});
        let report = conform(&mut object, &schema);
        let paths: Vec<&str> = report.wrong.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["spec.cpu", "spec.count", "spec.users.b[0]", "spec.size"]);
        assert_eq!(report.unknown, ["spec.typo", "extra"]);
        assert_eq!(object["spec"]["mode"], "a");
        assert_eq!(object["spec"]["free"]["x"]["y"], 1);
        assert!(object["spec"]["users"]["a"].is_null());
    }
}
