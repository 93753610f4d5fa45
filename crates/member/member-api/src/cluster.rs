use howdah_dcs::View;
use howdah_overview::{MemberOverview, WalPosition, members};
use serde_json::{Value, json};

/// `GET /cluster`
#[must_use]
pub fn cluster_document(view: &View, scope: &str, pause: bool) -> Value {
    let members: Vec<Value> = members(view).iter().map(member_document).collect();
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

fn member_document(member: &MemberOverview) -> Value {
    let mut doc = json!({
        "name": member.name, "role": member.role.as_str(), "state": member.state.to_string(), "api_url": member.api_url, "host": member.host,
        "port": member.port,
    });
    if let Some(timeline) = member.timeline {
        doc["timeline"] = timeline.0.into();
    }
    if let Some(reason) = &member.pending_restart {
        doc["pending_restart"] = true.into();
        doc["pending_restart_reason"] = reason.clone().into();
    }
    if let Some(scheduled) = &member.scheduled_restart {
        doc["scheduled_restart"] = scheduled.clone();
    }
    if !member.tags.is_empty() {
        doc["tags"] = member.tags.clone().into();
    }
    if !member.role.leads() {
        let unknown = || (Value::from("unknown"), Value::from("unknown"));
        let pair = |value: Option<WalPosition>| {
            value.map_or_else(unknown, |position| {
                (position.lsn.to_string().into(), position.lag.into())
            })
        };
        for (name, value) in [("receive", member.received), ("replay", member.replayed)] {
            let (lsn, lag) = pair(value);
            doc[format!("{name}_lsn")] = lsn;
            doc[format!("{name}_lag")] = lag;
        }
        let (lsn, lag) = pair(member.received.max(member.replayed));
        doc["lsn"] = lsn;
        doc["lag"] = lag;
    }
    doc
}
