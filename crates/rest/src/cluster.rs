use howdah_dcs::View;
use howdah_types::{Lsn, PgState, Role, Timeline};
use serde_json::{Map, Value, json};

/// One member as `GET /cluster` and `ctl list` show it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterRow {
    /// Its name.
    pub name: String,
    /// `leader`, `sync_standby`, `replica`
    pub role: &'static str,
    /// The state, or how a replica gets its WAL.
    pub state: String,
    /// REST address.
    pub api_url: String,
    /// PostgreSQL's host.
    pub host: String,
    /// PostgreSQL's port.
    pub port: Option<u16>,
    /// Its timeline.
    pub timeline: Option<Timeline>,
    /// Replica: received, and how far that is behind the leader.
    pub received: Option<(Lsn, u64)>,
    /// Replica: replayed, and how far that is behind the leader.
    pub replayed: Option<(Lsn, u64)>,
    /// It waits for a restart, and why.
    pub pending_restart: Option<Map<String, Value>>,
    /// A restart planned for later.
    pub scheduled_restart: Option<Value>,
    /// Its tags.
    pub tags: Map<String, Value>,
}

/// All members of a cluster, by name.
#[must_use]
pub fn cluster_rows(view: &View) -> Vec<ClusterRow> {
    let leader = view.leader.as_ref().map(|leader| leader.name.clone());
    let leader_lsn = view
        .leader_member()
        .and_then(|(_, member)| member.xlog_location)
        .max(view.status.optime)
        .unwrap_or(Lsn(0));
    view.members
        .iter()
        .map(|(name, member)| {
            let leads = leader.as_ref() == Some(name);
            let is_sync = view
                .sync
                .value
                .as_ref()
                .is_some_and(|sync| sync.standbys().any(|s| s.eq_ignore_ascii_case(name.as_str())));
            let role = match (leads, is_sync) {
                (true, _) if member.role == Role::StandbyLeader => "standby_leader",
                (true, _) => "leader",
                (_, true) => "sync_standby",
                _ => "replica",
            };
            let state = match &member.replication_state {
                Some(state) if !leads && member.state == PgState::Running => state.clone(),
                _ => member.state.as_str().to_owned(),
            };
            let (host, port) = member
                .address()
                .map_or((String::new(), None), |(h, p)| (h.to_owned(), Some(p)));
            let behind = |lsn: Option<Lsn>| lsn.filter(|_| !leads).map(|lsn| (lsn, leader_lsn.ahead_of(lsn)));
            ClusterRow {
                name: name.to_string(),
                role,
                state,
                api_url: member.api_url.clone(),
                host,
                port,
                timeline: member.timeline,
                received: behind(member.receive_lsn.or(member.xlog_location)),
                replayed: behind(member.replay_lsn.or(member.xlog_location)),
                pending_restart: member
                    .pending_restart
                    .then(|| member.pending_restart_reason.clone().unwrap_or_default()),
                scheduled_restart: member.scheduled_restart.clone(),
                tags: member.tags.published(),
            }
        })
        .collect()
}

/// `GET /cluster`
#[must_use]
pub fn cluster_document(view: &View, scope: &str, pause: bool) -> Value {
    let members: Vec<Value> = cluster_rows(view).iter().map(row_document).collect();
    let mut doc = json!({"members": members, "scope": scope});
    if pause {
        doc["pause"] = true.into();
    }
    if let Some(request) = &view.failover.value
        && let Some(at) = &request.scheduled_at
    {
        let mut scheduled = json!({ "at": at });
        if let Some(from) = &request.leader {
            scheduled["from"] = from.as_str().into();
        }
        if let Some(to) = &request.candidate {
            scheduled["to"] = to.as_str().into();
        }
        doc["scheduled_switchover"] = scheduled;
    }
    doc
}

fn row_document(row: &ClusterRow) -> Value {
    let mut doc = json!({
        "name": row.name, "role": row.role, "state": row.state, "api_url": row.api_url, "host": row.host,
        "port": row.port,
    });
    if let Some(timeline) = row.timeline {
        doc["timeline"] = timeline.0.into();
    }
    if let Some(reason) = &row.pending_restart {
        doc["pending_restart"] = true.into();
        doc["pending_restart_reason"] = reason.clone().into();
    }
    if let Some(scheduled) = &row.scheduled_restart {
        doc["scheduled_restart"] = scheduled.clone();
    }
    if !row.tags.is_empty() {
        doc["tags"] = row.tags.clone().into();
    }
    if !matches!(row.role, "leader" | "standby_leader") {
        let unknown = || (Value::from("unknown"), Value::from("unknown"));
        let pair = |value: Option<(Lsn, u64)>| {
            value.map_or_else(unknown, |(lsn, lag)| (lsn.to_string().into(), lag.into()))
        };
        for (name, value) in [("receive", row.received), ("replay", row.replayed)] {
            let (lsn, lag) = pair(value);
            doc[format!("{name}_lsn")] = lsn;
            doc[format!("{name}_lag")] = lag;
        }
        let (lsn, lag) = pair(row.received.max(row.replayed));
        doc["lsn"] = lsn;
        doc["lag"] = lag;
    }
    doc
}
