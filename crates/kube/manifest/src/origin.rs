//! Where the data of a new cluster comes from, when it is that of another one.

use serde::Deserialize;
use serde_json::Value;

use crate::{is_dns_label, support::asks_for_nothing};

/// `spec.clone`: the cluster is made as a copy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CloneFrom {
    /// The cluster that is copied, of the same namespace.
    pub cluster: String,
    /// Its address, where names of Services are not resolved.
    #[serde(skip)]
    pub address: Option<String>,
}

/// `spec.standby`: the cluster follows another one, and takes no writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StandbyOf {
    /// The host of the other cluster's primary.
    pub standby_host: String,
    /// Its port; 5432 unless set.
    pub standby_port: String,
    /// The replication slot there.
    pub standby_primary_slot_name: String,
}

impl StandbyOf {
    /// The port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self.standby_port.as_str() {
            "" => Some(5432),
            text => text.parse().ok().filter(|port| *port > 0),
        }
    }
}

/// Why the data of a new cluster cannot be had, if it cannot: the field, and the reason. An empty, writable cluster would be
/// taken for the one that was asked for.
#[must_use]
pub(crate) fn unavailable(name: &str, clone: &Value, standby: &Value) -> Option<(String, String)> {
    const EMPTY: &str = "no cluster is created, since an empty one would be taken for the real one";
    let set = |value: &Value| !asks_for_nothing(value);
    if set(clone) && !set(&clone["cluster"]) {
        return Some((
            "clone.cluster".into(),
            "is empty: which cluster is copied?".into(),
        ));
    }
    let backup = ["timestamp", "s3_wal_path"]
        .into_iter()
        .find(|field| set(&clone[*field]));
    if let Some(field) = backup {
        return Some((
            format!("clone.{field}"),
            format!(
                "restoring a backup is not supported yet, and {EMPTY}; without '{field}' the running cluster '{}' is copied",
                clone["cluster"].as_str().unwrap_or_default()
            ),
        ));
    }
    let source = clone["cluster"].as_str().unwrap_or_default();
    if set(clone) && source == name {
        return Some((
            "clone.cluster".into(),
            "is the cluster itself: name another one".into(),
        ));
    }
    if set(clone) && (!is_dns_label(source) || source.len() > 63) {
        let reason =
            format!("'{source}' is no name of a cluster: use a-z, 0-9 and -, beginning with a letter");
        return Some(("clone.cluster".into(), reason));
    }
    let archive = ["s3_wal_path", "gs_wal_path"]
        .into_iter()
        .find(|field| set(&standby[*field]));
    if let Some(field) = archive
        && !set(&standby["standby_host"])
    {
        return Some((
            format!("standby.{field}"),
            format!(
                "following an archive is not supported yet, and {EMPTY}; name the primary's address in 'standby_host'"
            ),
        ));
    }
    if set(clone) && set(standby) {
        return Some((
            "standby".into(),
            "is set beside 'clone': a cluster either is a copy or follows another one".into(),
        ));
    }
    if set(standby) && !set(&standby["standby_host"]) {
        return Some((
            "standby.standby_host".into(),
            format!("is missing: which cluster is followed? {EMPTY}"),
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_backup_would_be_needed_for_is_refused() {
        let field =
            |clone: Value, standby: Value| unavailable("own", &clone, &standby).map(|(field, _)| field);
        let none = Value::Null;
        assert_eq!(field(json!({"cluster": "a"}), none.clone()), None);
        assert_eq!(field(json!({"cluster": "a", "uid": "b"}), json!({})), None);
        for wrong in ["own", "A b", ""] {
            let clone = json!({"cluster": wrong, "uid": "b"});
            assert_eq!(
                field(clone, none.clone()).as_deref(),
                Some("clone.cluster"),
                "{wrong}"
            );
        }
        assert_eq!(
            field(
                json!({"cluster": "a", "timestamp": "2026-01-01T00:00:00+01:00"}),
                none.clone()
            )
            .as_deref(),
            Some("clone.timestamp")
        );
        assert_eq!(
            field(none.clone(), json!({"gs_wal_path": "a"})).as_deref(),
            Some("standby.gs_wal_path")
        );
        assert_eq!(
            field(none.clone(), json!({"standby_port": "5433"})).as_deref(),
            Some("standby.standby_host")
        );
        assert_eq!(
            field(none.clone(), json!({"gs_wal_path": "a", "standby_host": "b"})),
            None
        );
        assert_eq!(field(none, json!({"standby_host": ""})), None);
    }
}
