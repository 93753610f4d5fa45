//! Where the data of a new cluster comes from, when it is that of another one.

use serde::Deserialize;
use serde_json::Value;

use crate::{is_dns_label, support::asks_for_nothing};

/// `spec.clone`: the cluster is made as a copy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CloneFrom {
    /// The cluster that is copied: of the same namespace, or with `timestamp` the one whose archive is restored.
    pub cluster: String,
    /// The uid of its object: the path in the operator's bucket has it.
    pub uid: String,
    /// Restore its archive to this moment; empty: copy the running cluster.
    pub timestamp: String,
    /// Where the archive is, in place of the operator's bucket.
    pub s3_wal_path: String,
    /// How that store is spoken with.
    pub s3_endpoint: String,
    /// Its access key.
    pub s3_access_key_id: String,
    /// The secret of the key.
    pub s3_secret_access_key: String,
    /// The bucket in the path and not in the host's name.
    pub s3_force_path_style: Option<bool>,
    /// Its address, where names of Services are not resolved.
    #[serde(skip)]
    pub address: Option<String>,
}

impl CloneFrom {
    /// Whether an archive is restored; else a running cluster is copied.
    #[must_use]
    pub fn is_restored(&self) -> bool {
        !self.timestamp.is_empty()
    }
}

/// `spec.standby`: the cluster follows another one, and takes no writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StandbyOf {
    /// The host of the other cluster's primary; empty for one that is fed by an archive alone.
    pub standby_host: String,
    /// Its port; 5432 unless set.
    pub standby_port: String,
    /// The replication slot there.
    pub standby_primary_slot_name: String,
    /// The other cluster's archive.
    pub s3_wal_path: String,
    /// The same in Google's store.
    pub gs_wal_path: String,
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
    let said = |field: &str, reason: String| Some((field.to_owned(), reason));
    if set(clone) && !set(&clone["cluster"]) {
        return said("clone.cluster", "is empty: which cluster is copied?".into());
    }
    let source = clone["cluster"].as_str().unwrap_or_default();
    let is_restored = set(&clone["timestamp"]);
    if set(&clone["s3_wal_path"]) && !is_restored {
        return said(
            "clone.s3_wal_path",
            format!(
                "has no effect without 'timestamp', and {EMPTY}; name the moment to restore to, or take the path out: then the running \
                 cluster '{source}' is copied"
            ),
        );
    }
    if is_restored && !set(&clone["uid"]) && !set(&clone["s3_wal_path"]) {
        return said(
            "clone.uid",
            format!(
                "is missing: the archive of '{source}' is in the bucket below the uid of its object (metadata.uid, or the listing of the \
                 bucket below spilo/{source}/), and {EMPTY}"
            ),
        );
    }
    // Upstream's way of restoring in place: the object is deleted, and made again from its own archive.
    if set(clone) && source == name && !is_restored {
        return said("clone.cluster", "is the cluster itself: name another one".into());
    }
    if set(clone) && (!is_dns_label(source) || source.len() > 63) {
        let reason =
            format!("'{source}' is no name of a cluster: use a-z, 0-9 and -, beginning with a letter");
        return said("clone.cluster", reason);
    }
    if set(clone) && set(standby) {
        return said(
            "standby",
            "is set beside 'clone': a cluster either is a copy or follows another one".into(),
        );
    }
    let follows = ["standby_host", "s3_wal_path", "gs_wal_path"]
        .into_iter()
        .any(|field| set(&standby[field]));
    if set(standby) && !follows {
        return said(
            "standby.standby_host",
            format!("is missing: which cluster is followed? {EMPTY}"),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_that_cannot_be_had_is_refused() {
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
        let moment = "2026-01-01T00:00:00+01:00";
        assert_eq!(
            field(json!({"cluster": "a", "timestamp": moment}), none.clone()).as_deref(),
            Some("clone.uid")
        );
        for there in [
            json!({"cluster": "a", "timestamp": moment, "uid": "b"}),
            json!({"cluster": "own", "timestamp": moment, "uid": "b"}),
            json!({"cluster": "a", "timestamp": moment, "s3_wal_path": "s3://b/p"}),
        ] {
            assert_eq!(field(there.clone(), none.clone()), None, "{there}");
        }
        assert_eq!(
            field(json!({"cluster": "a", "s3_wal_path": "s3://b/p"}), none.clone()).as_deref(),
            Some("clone.s3_wal_path")
        );
        assert_eq!(field(none.clone(), json!({"gs_wal_path": "a"})), None);
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
