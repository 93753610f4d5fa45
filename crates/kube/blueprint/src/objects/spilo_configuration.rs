use std::collections::BTreeMap;

use howdah_manifest::Manifest;
use serde_json::{Map, Value, json};

use crate::dynamic::{is_local, wanted};

/// initdb's switches that are written as plain words when they are "true".
const SWITCHES: &[&str] = &[
    "data-checksums",
    "debug",
    "no-locale",
    "noclean",
    "nosync",
    "sync-only",
];

/// The document in `SPILO_CONFIGURATION`: local parameters, and how the cluster is bootstrapped.
///
/// A local parameter with a wrong value keeps the value that it has in `live`.
pub(super) fn document(manifest: &Manifest, live: Option<&Value>) -> Value {
    let spec = &manifest.spec;
    let right = spec.postgresql.parameters.iter();
    let kept = manifest.wrong_parameters.keys().filter_map(|name| {
        let value = live?["postgresql"]["parameters"].get(name)?;
        Some((name, value.clone()))
    });
    let local: BTreeMap<&String, Value> = right
        .map(|(name, value)| (name, json!(value)))
        .chain(kept)
        .filter(|(name, _)| is_local(name))
        .collect();
    let mut postgresql = Map::new();
    if !local.is_empty() {
        postgresql.insert("parameters".into(), json!(local));
    }
    if !spec.patroni.pg_hba.is_empty() {
        postgresql.insert("pg_hba".into(), json!(spec.patroni.pg_hba));
    }
    let mut initdb = vec![
        json!({"auth-host": "scram-sha-256"}),
        json!({"auth-local": "trust"}),
    ];
    for (name, value) in &spec.patroni.initdb {
        if !SWITCHES.contains(&name.as_str()) {
            initdb.push(json!({ name: value }));
        } else if value == "true" {
            initdb.push(json!(name));
        }
    }
    json!({
        "postgresql": postgresql,
        "bootstrap": {"initdb": initdb, "dcs": wanted(manifest)},
    })
}

/// The document's text with the bootstrap section of a text that is live, where nothing else differs: that section
/// counts once, so a change of it must not replace pods.
pub(super) fn text(manifest: &Manifest, live: Option<&str>) -> String {
    let live_document = live.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let wanted = document(manifest, live_document.as_ref());
    if let (Some(text), Some(live)) = (live, live_document)
        && without_bootstrap(&live) == without_bootstrap(&wanted)
    {
        return text.to_owned();
    }
    wanted.to_string()
}

fn without_bootstrap(document: &Value) -> Value {
    let mut out = document.clone();
    if let Some(bootstrap) = out.get_mut("bootstrap").and_then(Value::as_object_mut) {
        bootstrap.remove("dcs");
    }
    out
}
