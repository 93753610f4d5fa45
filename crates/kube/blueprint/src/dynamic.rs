use std::collections::BTreeSet;

use howdah_manifest::Manifest;
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Map, Value, json};

/// An annotation of the StatefulSet: the names of the parameters and slots that were last applied. One that is removed
/// from the manifest goes back to its default; without this it would not be known that it was ours.
pub const APPLIED_ANNOTATION: &str = "howdah.io/applied-dynamic-configuration";

/// How slots differ from parameters in [`applied_names`].
const SLOT: &str = "slots/";

/// The section by which a cluster follows another one, also as a name in the annotation.
const STANDBY: &str = "standby_cluster";

/// Parameters that stay local to a pod: they are part of its environment, and changing them replaces it (upstream's
/// list).
const LOCAL: &[&str] = &[
    "archive_command",
    "shared_buffers",
    "logging_collector",
    "log_destination",
    "log_directory",
    "log_filename",
    "log_file_mode",
    "log_rotation_age",
    "log_truncate_on_rotation",
    "ssl",
    "ssl_ca_file",
    "ssl_crl_file",
    "ssl_cert_file",
    "ssl_key_file",
    "shared_preload_libraries",
    "bg_mon.listen_address",
    "bg_mon.history_buckets",
    "pg_stat_statements.track_utility",
    "extwlist.extensions",
    "extwlist.custom_path",
];

/// Whether a parameter is local to the pods.
pub(crate) fn is_local(name: &str) -> bool {
    LOCAL.contains(&name)
}

/// The names that the StatefulSet remembers as applied last.
#[must_use]
pub fn remembered_names(statefulset: Option<&StatefulSet>) -> BTreeSet<String> {
    let annotations = statefulset.and_then(|set| set.metadata.annotations.as_ref());
    annotations
        .and_then(|all| all.get(APPLIED_ANNOTATION))
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// The names to remember: what of a manifest goes into the dynamic configuration and may be removed again.
#[must_use]
pub fn applied_names(manifest: &Manifest) -> BTreeSet<String> {
    let parameters = manifest.spec.postgresql.parameters.keys();
    let slots = manifest.spec.patroni.slots.keys();
    parameters
        .filter(|name| !is_local(name))
        .cloned()
        .chain(slots.map(|slot| format!("{SLOT}{slot}")))
        .chain(manifest.spec.standby.iter().map(|_| STANDBY.to_owned()))
        .collect()
}

/// The dynamic configuration that a manifest asks for.
#[must_use]
pub fn wanted(manifest: &Manifest) -> Map<String, Value> {
    let patroni = &manifest.spec.patroni;
    let mut out = Map::new();
    let numbers = [
        ("ttl", patroni.ttl.map(i64::from)),
        ("loop_wait", patroni.loop_wait.map(i64::from)),
        ("retry_timeout", patroni.retry_timeout.map(i64::from)),
        ("maximum_lag_on_failover", patroni.maximum_lag_on_failover),
        (
            "synchronous_node_count",
            patroni.synchronous_node_count.map(i64::from),
        ),
    ];
    for (key, number) in numbers {
        // Upstream's zero means: not set.
        if let Some(number) = number.filter(|n| *n != 0) {
            out.insert(key.into(), json!(number));
        }
    }
    let flags = [
        ("synchronous_mode", patroni.synchronous_mode),
        ("synchronous_mode_strict", patroni.synchronous_mode_strict),
        ("failsafe_mode", patroni.failsafe_mode),
    ];
    for (key, flag) in flags {
        if let Some(flag) = flag {
            out.insert(key.into(), json!(flag));
        }
    }
    if !patroni.slots.is_empty() {
        out.insert("slots".into(), json!(patroni.slots));
    }
    let parameters: Map<String, Value> = manifest
        .spec
        .postgresql
        .parameters
        .iter()
        .filter(|(name, _)| !is_local(name))
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    if !parameters.is_empty() {
        out.insert("postgresql".into(), json!({"parameters": parameters}));
    }
    out
}

/// What to PATCH so that `current` becomes what the manifest asks for; `None` when nothing differs. `before` are
/// the names that were applied last: those no longer wanted are set to null.
#[must_use]
pub fn change(
    manifest: &Manifest,
    current: &Map<String, Value>,
    before: &BTreeSet<String>,
) -> Option<Map<String, Value>> {
    let mut change = Map::new();
    let none = Map::new();
    for (key, value) in &wanted(manifest) {
        if key != "postgresql" && key != "slots" && !same(current.get(key), value) {
            change.insert(key.clone(), value.clone());
        }
    }
    let slots = current.get("slots").and_then(Value::as_object).unwrap_or(&none);
    let mut slot_change: Map<String, Value> = Map::new();
    for (name, slot) in &manifest.spec.patroni.slots {
        let slot = json!(slot);
        if slots.get(name) != Some(&slot) {
            slot_change.insert(name.clone(), slot);
        }
    }
    let wanted = applied_names(manifest);
    // A wrong value leaves the one before in force.
    let stays = |name: &String| wanted.contains(name) || manifest.wrong_parameters.contains_key(name);
    let gone = || before.iter().filter(|name| !stays(name));
    for slot in gone().filter_map(|name| name.strip_prefix(SLOT)) {
        if slots.contains_key(slot) {
            slot_change.insert(slot.to_owned(), Value::Null);
        }
    }
    if !slot_change.is_empty() {
        change.insert("slots".into(), Value::Object(slot_change));
    }
    let have = current
        .get("postgresql")
        .and_then(|section| section.get("parameters"))
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let mut parameters = Map::new();
    for (name, value) in &manifest.spec.postgresql.parameters {
        if !is_local(name) && !same(have.get(name), &json!(value)) {
            parameters.insert(name.clone(), json!(value));
        }
    }
    for name in gone() {
        if have.contains_key(name) {
            parameters.insert(name.clone(), Value::Null);
        }
    }
    if !parameters.is_empty() {
        change.insert("postgresql".into(), json!({"parameters": parameters}));
    }
    if let Some(section) = standby_change(manifest, current.get(STANDBY), before.contains(STANDBY)) {
        change.insert(STANDBY.into(), section);
    }
    (!change.is_empty()).then_some(change)
}

/// What changes of the section by which a cluster follows another one. `Null`: it is promoted, since the manifest had the
/// section (`ours`) and has it no more.
fn standby_change(manifest: &Manifest, have: Option<&Value>, ours: bool) -> Option<Value> {
    let follows = have.is_some_and(Value::is_object);
    let Some(standby) = &manifest.spec.standby else {
        return (ours && follows).then_some(Value::Null);
    };
    if standby.standby_host.is_empty() {
        // The members have begun with an archive, and their configuration names it. A running cluster begins with nothing.
        return None;
    }
    let have = |key: &str| have.and_then(|section| section.get(key));
    let mut section = Map::new();
    for (key, want) in [
        ("host", json!(standby.standby_host)),
        ("port", json!(standby.port())),
    ] {
        if !same(have(key), &want) {
            section.insert(key.into(), want);
        }
    }
    let slot = &standby.standby_primary_slot_name;
    match have("primary_slot_name") {
        Some(_) if slot.is_empty() => {
            section.insert("primary_slot_name".into(), Value::Null);
        }
        have if !slot.is_empty() && !same(have, &json!(slot)) => {
            section.insert("primary_slot_name".into(), json!(slot));
        }
        _ => {}
    }
    (!section.is_empty() || !follows).then_some(Value::Object(section))
}

/// Texts and numbers of one value are the same: JSON keeps what was written.
fn same(have: Option<&Value>, want: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    have.is_some_and(|have| have == want || text(have) == text(want))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(parameters: Value, patroni: Value) -> Manifest {
        let spec = json!({"teamId": "a", "numberOfInstances": 1, "volume": {"size": "1Gi"},
            "postgresql": {"version": "15", "parameters": parameters}, "patroni": patroni});
        Manifest::read(&Manifest::object(
            "a",
            spec.as_object().cloned().unwrap_or_default(),
        ))
        .unwrap()
    }

    #[test]
    fn only_what_differs_is_patched_and_what_was_removed_is_reset() {
        let manifest = manifest(
            json!({"work_mem": "8MB", "shared_buffers": "64MB"}),
            json!({"ttl": 20}),
        );
        let current = json!({"ttl": 20, "loop_wait": 10, "postgresql": {"parameters": {"work_mem": "8MB", "max_connections": "50"}}});
        let current = current.as_object().unwrap();
        let before = BTreeSet::from(["max_connections".to_owned(), "work_mem".to_owned()]);
        let change = change(&manifest, current, &before).unwrap();
        assert_eq!(
            json!(change),
            json!({"postgresql": {"parameters": {"max_connections": null}}})
        );
    }

    #[test]
    fn a_standby_cluster_is_followed_moved_and_promoted() {
        let with = |standby: Value| {
            let mut spec = manifest(json!({}), json!({}));
            spec.spec.standby = serde_json::from_value(standby).unwrap();
            spec
        };
        let none = BTreeSet::new();
        let ours = BTreeSet::from([STANDBY.to_owned()]);
        let current = |section: Value| json!({ STANDBY: section }).as_object().cloned().unwrap();
        let host = json!({"host": "a", "port": 5432});
        let other = with(json!({"standby_host": "a"}));
        assert_eq!(
            json!(change(&other, &Map::new(), &none)),
            json!({ STANDBY: host })
        );
        // What another operator or an administrator has put beside stays.
        let more = json!({"host": "a", "port": "5432", "create_replica_methods": ["basebackup"]});
        assert_eq!(change(&other, &current(more.clone()), &ours), None);
        let moved = with(json!({"standby_host": "b", "standby_primary_slot_name": "s"}));
        assert_eq!(
            json!(change(&moved, &current(more.clone()), &ours)),
            json!({ STANDBY: {"host": "b", "primary_slot_name": "s"} })
        );
        let slot = json!({"host": "a", "port": 5432, "primary_slot_name": "s"});
        assert_eq!(
            json!(change(&other, &current(slot), &ours)),
            json!({ STANDBY: {"primary_slot_name": null} })
        );
        let alone = with(Value::Null);
        assert_eq!(
            json!(change(&alone, &current(more.clone()), &ours)),
            json!({ STANDBY: null })
        );
        assert_eq!(
            change(&alone, &current(more), &none),
            None,
            "it was never asked for"
        );
        assert_eq!(change(&alone, &Map::new(), &ours), None);
        // One that is fed by an archive has what its members began with.
        let fed = with(json!({"s3_wal_path": "s3://b/p"}));
        let begun = json!({"restore_command": "howdah wal get \"%f\" \"%p\""});
        assert_eq!(change(&fed, &current(begun), &ours), None);
        assert_eq!(change(&fed, &Map::new(), &none), None);
    }

    #[test]
    fn what_is_the_same_is_left_alone() {
        let manifest = manifest(json!({"max_connections": "50"}), json!({}));
        let current = json!({"ttl": 30, "postgresql": {"parameters": {"max_connections": 50}}});
        assert_eq!(
            change(&manifest, current.as_object().unwrap(), &BTreeSet::new()),
            None
        );
    }
}
