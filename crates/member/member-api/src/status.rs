use howdah_types::{BootTime, Lsn, MemberName, Role, Scope, Tags, Timeline};
use serde_json::{Map, Value, json};

use crate::{MemberFacts, PATRONI_VERSION, Position};

/// `GET /patroni`, also the body of every health check.
#[must_use]
pub fn status_document(facts: &MemberFacts, now: BootTime) -> Map<String, Value> {
    let mut doc = Map::new();
    let mut set = |key: &str, value: Value| {
        doc.insert(key.to_owned(), value);
    };
    set("state", facts.state.as_str().into());
    if let Some(time) = &facts.postmaster_start_time {
        set("postmaster_start_time", time.clone().into());
    }
    set("role", facts.role.as_str().into());
    if let Some(version) = facts.server_version {
        set("server_version", version.into());
    }
    match &facts.position {
        Some(Position::Primary { location, timeline }) => {
            set("xlog", json!({ "location": location.0 }));
            set("timeline", timeline.0.into());
        }
        Some(Position::Replica {
            received,
            replayed,
            replayed_at,
            paused,
            timeline,
            ..
        }) => {
            set(
                "xlog",
                json!({
                    "received_location": received.0, "replayed_location": replayed.0,
                    "replayed_timestamp": replayed_at, "paused": paused,
                }),
            );
            set("timeline", timeline.0.into());
        }
        None => {}
    }
    if let Some(state) = facts.replication_state {
        set("replication_state", state.into());
    }
    if !facts.replication.is_empty() {
        set("replication", facts.replication.clone().into());
    }
    for (key, value) in [
        ("sync_standby", facts.sync_standby),
        ("quorum_standby", facts.quorum_standby),
        ("watchdog_failed", facts.watchdog_failed),
        ("pause", facts.pause),
        ("cluster_unlocked", facts.cluster_unlocked),
        ("failsafe_mode_is_active", facts.failsafe_is_active),
        ("pending_restart", !facts.pending_restart.is_empty()),
    ] {
        if value {
            set(key, true.into());
        }
    }
    if !facts.pending_restart.is_empty() {
        set("pending_restart_reason", facts.pending_restart.clone().into());
    }
    if let Some(scheduled) = &facts.scheduled_restart {
        set("scheduled_restart", scheduled.clone());
    }
    set("dcs_last_seen", facts.dcs_last_seen.into());
    let tags = facts.tags.published();
    if !tags.is_empty() {
        set("tags", tags.into());
    }
    if let Some(id) = &facts.system_id {
        set("database_system_identifier", id.clone().into());
    }
    set(
        "patroni",
        json!({"version": PATRONI_VERSION, "scope": facts.scope.as_str(), "name": facts.name.as_str()}),
    );
    let mut howdah =
        json!({"version": env!("CARGO_PKG_VERSION"), "leads": facts.leads(now), "reasons": facts.reasons});
    if facts.log_lost > 0 {
        howdah["log_lines_lost"] = facts.log_lost.into();
    }
    if facts.replaying {
        howdah["replaying"] = true.into();
    }
    if facts.attached {
        howdah["attached"] = true.into();
    }
    if let Some(archive) = &facts.archive {
        howdah["archive"] = serde_json::to_value(archive.as_ref()).unwrap_or_default();
    }
    set("howdah", howdah);
    doc
}

/// What a race reads from a peer's `GET /patroni`, Patroni's or ours.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    /// Its name and its cluster, if it says so.
    pub name: Option<String>,
    /// See `name`.
    pub scope: Option<String>,
    /// Its PostgreSQL is a running primary.
    pub primary: bool,
    /// Its PostgreSQL runs.
    pub running: bool,
    /// It streams from another server, or tries to. Patroni's members do not say it.
    pub attached: bool,
    /// Its PostgreSQL is being started.
    pub starting: bool,
    /// Its PostgreSQL could not be started.
    pub start_failed: bool,
    /// Its system identifier.
    pub system_id: Option<String>,
    /// Its place in the WAL.
    pub lsn: Lsn,
    /// Its timeline.
    pub timeline: Option<Timeline>,
    /// Its tags.
    pub tags: Tags,
    /// It needs a watchdog and has none.
    pub watchdog_failed: bool,
}

impl PeerStatus {
    /// Whether it may be this member. An address that was its may belong to another one by now.
    #[must_use]
    pub fn may_be(&self, scope: &Scope, name: &MemberName) -> bool {
        self.scope.as_ref().is_none_or(|theirs| theirs == scope.as_str())
            && self.name.as_ref().is_none_or(|theirs| theirs == name.as_str())
    }

    /// Reads the document; `None` if it is not one, or PostgreSQL does not answer there (no position).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let doc: Value = serde_json::from_str(text).ok()?;
        let state = doc["state"].as_str()?;
        let xlog = doc.get("xlog").or_else(|| doc.get("wal"));
        let lsn = |key: &str| xlog.and_then(|xlog| xlog[key].as_u64()).unwrap_or(0);
        let location = lsn("location");
        let role: Role = serde_json::from_value(doc["role"].clone()).unwrap_or_default();
        let running = state == "running" && xlog.is_some();
        // Its position is not where its WAL ends: it may be ahead, and has no vote.
        let replaying = doc["howdah"]["replaying"] == true;
        let of = |key: &str| doc["patroni"][key].as_str().map(str::to_owned);
        Some(PeerStatus {
            name: of("name"),
            scope: of("scope"),
            // A position of a primary's form counts, whatever the role says: better no failover than two primaries.
            primary: running && (role == Role::Primary || location > 0),
            running: running && !replaying,
            attached: doc["howdah"]["attached"] == true,
            starting: replaying || matches!(state, "starting" | "restarting"),
            start_failed: matches!(state, "start failed" | "restart failed"),
            system_id: doc["database_system_identifier"].as_str().map(str::to_owned),
            lsn: Lsn(location
                .max(lsn("received_location"))
                .max(lsn("replayed_location"))),
            timeline: doc["timeline"]
                .as_u64()
                .and_then(|t| u32::try_from(t).ok())
                .map(Timeline),
            tags: serde_json::from_value(doc["tags"].clone()).unwrap_or_default(),
            watchdog_failed: doc["watchdog_failed"].as_bool().unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patroni_replica_is_understood() {
        let text = r#"{"state":"running","role":"replica","server_version":150018,"xlog":{"received_location":100,"replayed_location":90,"replayed_timestamp":null,"paused":false},"timeline":2,"tags":{"nofailover":true},"patroni":{"version":"4.1.5"}}"#;
        let peer = PeerStatus::parse(text).unwrap();
        assert!(!peer.primary && peer.running && peer.tags.nofailover());
        assert_eq!((peer.lsn, peer.timeline), (Lsn(100), Some(Timeline(2))));
    }

    #[test]
    fn a_replica_that_has_not_replayed_what_it_has_counts_as_one_that_starts() {
        let text = r#"{"state":"running","role":"replica","xlog":{"received_location":0,"replayed_location":90},"howdah":{"replaying":true}}"#;
        let peer = PeerStatus::parse(text).unwrap();
        assert!(!peer.running && peer.starting && !peer.primary);
    }

    #[test]
    fn a_stopping_primary_is_not_one() {
        let peer = PeerStatus::parse(r#"{"state":"stopping","role":"primary"}"#).unwrap();
        assert!(!peer.primary && !peer.running);
        assert!(PeerStatus::parse("<html>").is_none());
    }
}
