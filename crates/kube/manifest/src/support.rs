use serde_json::{Map, Value};

use crate::{
    fields::spec_schema,
    schema::{Kind, Schema},
};

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Acted on.
    Applied,
    /// Accepted, kept and named in the condition `FullyApplied`.
    NotYet,
}

/// Fields that are accepted and not acted on; each stands for everything below it.
const NOT_YET: &[&str] = &[
    "volume.iops",
    "volume.throughput",
    "volume.type",
    "enableLogicalBackup",
    "logicalBackupSchedule",
    "logicalBackupRetention",
    "streams",
];

/// What becomes of the field at this path of the schema (`*` for chosen names).
#[must_use]
pub fn support(path: &str) -> Support {
    let below =
        |field: &str| path == field || path.strip_prefix(field).is_some_and(|rest| rest.starts_with('.'));
    if NOT_YET.iter().any(|field| below(field)) {
        Support::NotYet
    } else {
        Support::Applied
    }
}

/// The paths of all fields below `spec`, with `*` for chosen names.
#[must_use]
pub fn spec_paths() -> Vec<String> {
    spec_schema().paths()
}

/// The paths below `spec` that are set to something and not acted on. Values that ask for nothing (`false`, an empty
/// list, `tls.secretName: ""`) need no action and are not named.
#[must_use]
pub fn unsupported(spec: &Map<String, Value>) -> Vec<String> {
    let mut out = Vec::new();
    for (name, value) in spec {
        let schema = spec_schema();
        match schema.fields().iter().find(|field| field.name == name) {
            Some(field) => walk(&field.schema, name, name, value, &mut out),
            // Not pruned when it was stored, so the user means something by it.
            None => out.push(name.clone()),
        }
    }
    out
}

fn walk(schema: &Schema, pattern: &str, shown: &str, value: &Value, out: &mut Vec<String>) {
    if asks_for_nothing(value) {
        return;
    }
    if support(pattern) == Support::NotYet {
        out.push(shown.to_owned());
        return;
    }
    match (&schema.kind, value) {
        (Kind::Object(fields), Value::Object(map)) => {
            for (name, inner) in map {
                let (pattern, shown) = (format!("{pattern}.{name}"), format!("{shown}.{name}"));
                match fields.iter().find(|field| field.name == name) {
                    Some(field) => walk(&field.schema, &pattern, &shown, inner, out),
                    None => out.push(shown),
                }
            }
        }
        (Kind::Map(item), Value::Object(map)) => {
            for (name, inner) in map {
                walk(
                    item,
                    &format!("{pattern}.*"),
                    &format!("{shown}.{name}"),
                    inner,
                    out,
                );
            }
        }
        _ => {}
    }
}

pub(crate) fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(asks_for_nothing),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_entry_names_a_field_of_the_schema() {
        let paths = spec_schema().paths();
        for entry in NOT_YET {
            assert!(
                paths
                    .iter()
                    .any(|path| path == entry || path.starts_with(&format!("{entry}."))),
                "{entry} is in no schema"
            );
        }
    }

    #[test]
    fn what_is_set_is_named_and_what_asks_for_nothing_is_not() {
        let spec = json!({
            "teamId": "acid", "streams": [{"database": "a"}], "enableLogicalBackup": false, "tls": {"secretName": ""},
            "volume": {"size": "1Gi", "iops": 3000},
            "preparedDatabases": {"bar": {"extensions": {"hstore": "data"}}},
            "inventedBySomebody": 1,
        });
        assert_eq!(
            unsupported(spec.as_object().unwrap()),
            ["streams", "volume.iops", "inventedBySomebody"]
        );
    }
}
