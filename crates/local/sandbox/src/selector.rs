use serde_json::Value;

use crate::{
    ApiError,
    labelled::{is_qualified, is_value},
    meta::{self, Label},
};

/// A label or field selector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug)]
enum Requirement {
    Is(String, Vec<String>),
    IsNot(String, Vec<String>),
    Exists(String),
    Missing(String),
}

/// Field selectors that are understood, and where they look.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "involvedObject.uid",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.kind",
    "involvedObject.apiVersion",
    "reason",
    "type",
    "status.phase",
    "spec.nodeName",
];

impl Selector {
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, ApiError> {
        Ok(Selector {
            labels: split(labels)
                .into_iter()
                .map(requirement)
                .collect::<Result<_, _>>()?,
            fields: fields
                .split(',')
                .filter(|part| !part.is_empty())
                .map(field)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Labels that every object has to have with this one value.
    pub(crate) fn labels(&self) -> Vec<Label> {
        let equal = self.labels.iter().filter_map(|requirement| match requirement {
            Requirement::Is(name, values) => match values.as_slice() {
                [value] => Some((name.clone(), value.clone())),
                _ => None,
            },
            Requirement::IsNot(..) | Requirement::Exists(_) | Requirement::Missing(_) => None,
        });
        equal.collect()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let label = |name: &str| {
            meta::labels(object)
                .and_then(|labels| labels.get(name))
                .and_then(Value::as_str)
        };
        let by_label = self.labels.iter().all(|requirement| match requirement {
            Requirement::Is(name, values) => label(name).is_some_and(|have| values.iter().any(|v| v == have)),
            Requirement::IsNot(name, values) => {
                label(name).is_none_or(|have| values.iter().all(|v| v != have))
            }
            Requirement::Exists(name) => label(name).is_some(),
            Requirement::Missing(name) => label(name).is_none(),
        });
        by_label
            && self.fields.iter().all(|(path, equal, value)| {
                let found = path.split('.').fold(object, |at, key| &at[key]);
                (found.as_str().unwrap_or_default() == value) == *equal
            })
    }
}

/// The parts of an object that selectors look at: labels, and [`FIELDS`].
pub(crate) fn selectable(object: &Value) -> Value {
    let mut out = Value::Null;
    if let Some(labels) = object["metadata"].get("labels") {
        meta::set(&mut out, &["metadata", "labels"], labels.clone());
    }
    for field in FIELDS {
        let path: Vec<&str> = field.split('.').collect();
        if let Value::String(text) = path.iter().fold(object, |at, key| &at[*key]) {
            meta::set(&mut out, &path, Value::String(text.clone()));
        }
    }
    out
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    let parts: Vec<&str> = parts.into_iter().map(str::trim).collect();
    match parts.as_slice() {
        [""] => Vec::new(),
        _ => parts,
    }
}

fn requirement(part: &str) -> Result<Requirement, ApiError> {
    let found = parsed(part)?;
    let (Requirement::Is(name, values) | Requirement::IsNot(name, values)) = &found else {
        let (Requirement::Exists(name) | Requirement::Missing(name)) = &found else {
            return Ok(found);
        };
        return if is_qualified(name) {
            Ok(found)
        } else {
            Err(no_selector(part))
        };
    };
    if is_qualified(name) && values.iter().all(|value| is_value(value)) {
        Ok(found)
    } else {
        Err(no_selector(part))
    }
}

fn no_selector(part: &str) -> ApiError {
    ApiError::bad_request(format!(
        "unable to parse requirement: '{part}' is no label selector"
    ))
}

fn parsed(part: &str) -> Result<Requirement, ApiError> {
    let own = str::to_owned;
    if let Some((name, value)) = part.split_once("!=") {
        return Ok(Requirement::IsNot(own(name.trim()), vec![own(value.trim())]));
    }
    if let Some((name, value)) = part.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value).trim();
        return Ok(Requirement::Is(own(name.trim()), vec![own(value)]));
    }
    if let Some(name) = part.strip_prefix('!') {
        return Ok(Requirement::Missing(own(name.trim())));
    }
    let Some((head, list)) = part.split_once('(') else {
        return Ok(Requirement::Exists(own(part)));
    };
    let list = list.strip_suffix(')').ok_or_else(|| no_selector(part))?;
    let values = list.split(',').map(|value| own(value.trim())).collect();
    let mut words = head.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(name), Some("in"), None) if !list.trim().is_empty() => Ok(Requirement::Is(own(name), values)),
        (Some(name), Some("notin"), None) if !list.trim().is_empty() => {
            Ok(Requirement::IsNot(own(name), values))
        }
        _ => Err(no_selector(part)),
    }
}

fn field(part: &str) -> Result<(String, bool, String), ApiError> {
    let (path, equal, value) = match part.split_once("!=") {
        Some((path, value)) => (path, false, value),
        None => {
            let (path, value) = part
                .split_once('=')
                .ok_or_else(|| ApiError::bad_request(format!("'{part}' is no field selector")))?;
            (path, true, value.trim_start_matches('='))
        }
    };
    if !FIELDS.contains(&path) {
        return Err(ApiError::bad_request(format!(
            "the sandbox does not select by field {path}; it knows {}",
            FIELDS.join(", ")
        )));
    }
    Ok((path.to_owned(), equal, value.to_owned()))
}

/// Whether a `LabelSelector` (`matchLabels`, `matchExpressions`) covers an object. An empty one covers all; without one nothing
/// is covered.
pub(crate) fn matches_label_selector(selector: &Value, object: &Value) -> bool {
    if !selector.is_object() {
        return false;
    }
    let label = |name: &str| object["metadata"]["labels"][name].as_str();
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    equal
        .into_iter()
        .all(|(name, value)| label(name) == value.as_str())
        && expressions.into_iter().all(|expression| {
            let have = label(expression["key"].as_str().unwrap_or_default());
            let mut values = expression["values"].as_array().into_iter().flatten();
            let listed = values.any(|value| have.is_some() && value.as_str() == have);
            match expression["operator"].as_str().unwrap_or_default() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => have.is_some(),
                "DoesNotExist" => have.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_and_fields_select() {
        let object = json!({"metadata": {"name": "a", "labels": {"app": "x", "tier": "db"}}});
        for (labels, fields, matches) in [
            ("", "", true),
            ("app=x,tier=db", "", true),
            ("app==x", "metadata.name=a", true),
            ("app in (x, y),!gone", "", true),
            ("app notin (x)", "", false),
            ("app!=y,tier", "metadata.name!=b", true),
            ("other", "", false),
            ("app=y", "", false),
        ] {
            let selector = Selector::parse(labels, fields).unwrap();
            assert_eq!(selector.matches(&object), matches, "{labels} {fields}");
            assert_eq!(
                selector.matches(&selectable(&object)),
                matches,
                "{labels} {fields}"
            );
        }
        assert!(Selector::parse("", "spec.replicas=1").is_err());
        for wrong in [
            "a b",
            "x in (",
            "a in b",
            "a===b",
            ",,",
            "!a b",
            "x notin ()",
            "a,",
            "a b in (c)",
        ] {
            assert!(Selector::parse(wrong, "").is_err(), "{wrong}");
        }
    }
}
