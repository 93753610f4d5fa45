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
pub(super) fn document(manifest: &Manifest) -> Value {
    let spec = &manifest.spec;
    let local: BTreeMap<&String, &String> = spec
        .postgresql
        .parameters
        .iter()
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
    let wanted = document(manifest);
    let live_document = live.and_then(|text| serde_json::from_str::<Value>(text).ok());
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
