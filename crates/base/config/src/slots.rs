//! Replication slots of the dynamic configuration: permanent ones (`slots`, and its older names), and those that are left alone
//! (`ignore_slots`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::{ConfigError, reader::Reader};

/// What a slot is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum SlotKind {
    /// It keeps WAL.
    Physical,
    /// It decodes the WAL of one database.
    Logical {
        /// The database.
        database: String,
        /// The output plugin.
        plugin: String,
    },
}

/// A slot that exists on whoever leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PermanentSlot {
    /// Physical or logical.
    pub kind: SlotKind,
    /// Where it exists.
    pub cluster_type: ClusterType,
}

/// `cluster_type` of a permanent slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClusterType {
    /// In every cluster.
    #[default]
    Any,
    /// Not while the cluster follows another one.
    Primary,
    /// While the cluster follows another one.
    Standby,
}

impl ClusterType {
    /// Whether the slot exists in this cluster.
    #[must_use]
    pub fn includes(self, is_standby_cluster: bool) -> bool {
        match self {
            ClusterType::Any => true,
            ClusterType::Primary => !is_standby_cluster,
            ClusterType::Standby => is_standby_cluster,
        }
    }
}

/// An entry of `ignore_slots`: it matches a slot that has every attribute that it gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotMatcher {
    /// Its name.
    pub name: Option<String>,
    /// Logical: whose changes it decodes.
    pub database: Option<String>,
    /// Logical: its output plugin.
    pub plugin: Option<String>,
    /// `physical` or `logical`.
    pub kind: Option<String>,
}

impl SlotMatcher {
    /// Whether the slot is left alone.
    #[must_use]
    pub fn matches(&self, name: &str, kind: &SlotKind) -> bool {
        let is = |wanted: &Option<String>, has: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == has)
        };
        let (word, database, plugin) = match kind {
            SlotKind::Physical => ("physical", None, None),
            SlotKind::Logical { database, plugin } => {
                ("logical", Some(database.as_str()), Some(plugin.as_str()))
            }
        };
        is(&self.name, Some(name))
            && is(&self.kind, Some(word))
            && is(&self.database, database)
            && is(&self.plugin, plugin)
    }
}

/// What the configuration says of permanent slots.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub(crate) permanent: BTreeMap<String, PermanentSlot>,
    pub(crate) unreadable: BTreeSet<String>,
}

/// Permanent slots by name. One that cannot be made is left out with a warning, as Patroni does; a slip of the pen drops no slot. Of the three keys
/// the first that is not empty counts.
pub(crate) fn permanent_slots(root: &Reader<'_>, warnings: &mut Vec<String>) -> Result<Slots, ConfigError> {
    let mut slots = Slots::default();
    let keys = ["permanent_replication_slots", "permanent_slots", "slots"];
    let mut given = keys
        .into_iter()
        .filter(|key| root.value(key).is_some_and(|value| !is_empty(value)));
    let Some(key) = given.next() else {
        return Ok(slots);
    };
    for other in given {
        warnings.push(format!("{other} is not read beside {key}"));
    }
    for (name, value) in root.section(key)?.map() {
        match slot(&name, &value) {
            Ok((slot, warning)) => {
                warnings.extend(warning.map(|warning| format!("{key}.{name}: {warning}")));
                slots.permanent.insert(name, slot);
            }
            Err(why) => {
                warnings.push(format!("{key}.{name}: {why}; it is left alone"));
                slots.unreadable.insert(name);
            }
        }
    }
    Ok(slots)
}

/// As Python sees it.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// The slot, and what is odd about it.
fn slot(name: &str, value: &Value) -> Result<(PermanentSlot, Option<String>), String> {
    if !is_slot_name(name) {
        return Err(
            "a replication slot's name has lower case letters, digits and '_', 63 at most".to_owned(),
        );
    }
    let text = |key: &str| {
        let text = value.get(key).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    };
    if !is_empty(value) && !value.is_object() {
        return Err("it must be a section with type, database, plugin, cluster_type".to_owned());
    }
    let of_database = text("database").zip(text("plugin"));
    let kind = match (text("type"), of_database) {
        (Some("logical") | None, Some((database, plugin))) => SlotKind::Logical {
            database: database.to_owned(),
            plugin: plugin.to_owned(),
        },
        (Some("physical") | None, _) => SlotKind::Physical,
        (Some("logical"), None) => return Err("a logical slot needs database and plugin".to_owned()),
        (Some(other), _) => return Err(format!("type must be physical or logical, not {other}")),
    };
    let mut warning = None;
    let cluster_type = match text("cluster_type") {
        // They do not exist in clusters that follow another one, and Patroni does not look further.
        _ if matches!(kind, SlotKind::Logical { .. }) => ClusterType::Any,
        None | Some("any") => ClusterType::Any,
        Some("primary") => ClusterType::Primary,
        Some("standby") => ClusterType::Standby,
        Some(other) => {
            warning = Some(format!(
                "cluster_type is any, primary or standby; {other} counts as any"
            ));
            ClusterType::Any
        }
    };
    Ok((PermanentSlot { kind, cluster_type }, warning))
}

/// PostgreSQL's rule.
fn is_slot_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=63).contains(&name.len()) && name.chars().all(allowed)
}

/// `ignore_slots`. An entry that says nothing matches all slots; so does what cannot be read.
pub(crate) fn ignored_slots(root: &Reader<'_>, warnings: &mut Vec<String>) -> Vec<SlotMatcher> {
    let Some(value) = root.value("ignore_slots").filter(|value| !is_empty(value)) else {
        return Vec::new();
    };
    let Value::Array(entries) = value else {
        warnings.push(
            "ignore_slots must be a list of {name, type, database, plugin}: no slot is dropped".to_owned(),
        );
        return vec![SlotMatcher::default()];
    };
    let mut matchers = Vec::new();
    for entry in entries {
        let text = |key: &str| {
            let text = entry.get(key).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let matcher = SlotMatcher {
            name: text("name"),
            database: text("database"),
            plugin: text("plugin"),
            kind: text("type"),
        };
        if matcher == SlotMatcher::default() {
            warnings.push(format!(
                "ignore_slots: {entry} gives none of name, type, database and plugin: it matches every slot"
            ));
        }
        matchers.push(matcher);
    }
    matchers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::places::NOWHERE;

    fn read(config: &Value) -> (Slots, Vec<SlotMatcher>, Vec<String>) {
        let map = config.as_object().unwrap();
        let root = Reader::root(map, &NOWHERE);
        let mut warnings = Vec::new();
        let slots = permanent_slots(&root, &mut warnings).unwrap();
        let ignored = ignored_slots(&root, &mut warnings);
        (slots, ignored, warnings)
    }

    #[test]
    fn slots_are_physical_unless_they_decode_a_database() {
        let (slots, _, warnings) = read(&json!({"slots": {
            "a": null, "b": {}, "c": {"type": "physical", "cluster_type": "standby"},
            "d": {"type": "logical", "database": "x", "plugin": "pgoutput", "cluster_type": "primary"},
            "e": {"database": "x", "plugin": "wal2json"}, "f": false, "g": {"cluster_type": "any"},
        }}));
        assert_eq!(warnings, Vec::<String>::new());
        let slots = slots.permanent;
        let kind = |name: &str| slots[name].kind.clone();
        for name in ["a", "b", "c", "f", "g"] {
            assert_eq!(kind(name), SlotKind::Physical, "{name}");
        }
        assert!(matches!(kind("e"), SlotKind::Logical { plugin, .. } if plugin == "wal2json"));
        let exists = |name: &str, standby: bool| slots[name].cluster_type.includes(standby);
        assert_eq!((exists("c", true), exists("c", false)), (true, false));
        assert_eq!((exists("g", true), exists("g", false)), (true, true));
    }

    #[test]
    fn a_slot_that_cannot_be_made_is_left_out() {
        let (slots, _, warnings) = read(&json!({"slots": {
            "Bad": {}, "a": {"type": "logical", "database": "x"}, "b": {"type": "other"}, "c": 5,
        }}));
        assert!(slots.permanent.is_empty());
        assert_eq!(slots.unreadable.len(), 4, "what has such a name is left alone");
        assert_eq!(warnings.len(), 4, "{warnings:?}");
    }

    #[test]
    fn what_python_takes_for_empty_is_empty() {
        for empty in [json!([]), json!(""), json!(false), json!(null), json!({})] {
            let (slots, ignored, warnings) = read(&json!({"slots": empty, "ignore_slots": empty}));
            assert!(slots.permanent.is_empty() && ignored.is_empty() && warnings.is_empty());
        }
        let (slots, _, warnings) =
            read(&json!({"permanent_slots": {"a": {}}, "slots": {"b": {"cluster_type": "both"}}}));
        assert_eq!(slots.permanent.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let (slots, _, warnings) = read(&json!({"slots": {"b": {"cluster_type": "both"}}}));
        assert_eq!((slots.permanent.len(), warnings.len()), (1, 1));
    }

    #[test]
    fn a_matcher_matches_what_has_all_that_it_gives() {
        let (_, matchers, warnings) = read(&json!({"ignore_slots": [
            {"name": "a"}, {"type": "logical", "plugin": "wal2json"},
        ]}));
        assert_eq!((matchers.len(), warnings.len()), (2, 0));
        let logical = |plugin: &str| SlotKind::Logical {
            database: "x".to_owned(),
            plugin: plugin.to_owned(),
        };
        let ignored =
            |name: &str, kind: &SlotKind| matchers.iter().any(|matcher| matcher.matches(name, kind));
        assert!(ignored("a", &SlotKind::Physical));
        assert!(ignored("z", &logical("wal2json")));
        assert!(!ignored("z", &logical("pgoutput")));
        assert!(!ignored("z", &SlotKind::Physical));
        for unreadable in [json!([{}]), json!(["b"]), json!("b")] {
            let (_, matchers, warnings) = read(&json!({"ignore_slots": unreadable}));
            assert!(
                matchers[0].matches("z", &SlotKind::Physical),
                "nothing is dropped by a slip of the pen"
            );
            assert_eq!(warnings.len(), 1);
        }
    }
}
