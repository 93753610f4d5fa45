use serde_json::{Value, json};

use crate::{Store, meta, store::Write};

/// As many events are kept for each namespace.
const KEPT: usize = 500;

/// The same thing again within so many seconds is no other event. What cannot be done is tried after every change, and an
/// event is a change.
const SAME: i64 = 5;

/// Records that something happened to an object. The same thing again raises its count.
pub(crate) fn record(store: &Store, about: &Value, kind: &str, reason: &str, message: &str) {
    let namespace = Some(meta::namespace(about))
        .filter(|ns| !ns.is_empty())
        .unwrap_or("default");
    let identity = format!("{}{reason}{message}", meta::uid(about));
    let name = format!(
        "{}.{:016x}",
        meta::name(about),
        crate::state::hash(identity.as_bytes())
    );
    let time = meta::timestamp();
    let written = store.write("/events", namespace, &name, |before| {
        let mut event = match before {
            Some(before) if is_fresh(before) => return Ok(Write::Nothing),
            Some(before) => before.clone(),
            None => json!({
                "kind": "Event", "apiVersion": "v1",
                "metadata": {"name": name, "namespace": namespace, "uid": meta::uuid(), "creationTimestamp": time},
                "involvedObject": {
                    "kind": about["kind"], "apiVersion": about["apiVersion"], "name": meta::name(about),
                    "namespace": namespace, "uid": meta::uid(about),
                },
                "type": kind, "reason": reason, "message": message, "source": {"component": "howdah-sandbox"},
                "firstTimestamp": time, "count": 0,
            }),
        };
        event["count"] = json!(event["count"].as_u64().unwrap_or(0) + 1);
        event["lastTimestamp"] = json!(time);
        Ok(Write::Put(event))
    });
    if let Err(error) = written {
        tracing::debug!(%error, "an event was not recorded");
    }
}

fn is_fresh(event: &Value) -> bool {
    let last = event["lastTimestamp"].as_str().unwrap_or_default();
    let last = last.parse::<jiff::Timestamp>();
    last.is_ok_and(|last| jiff::Timestamp::now().as_second() - last.as_second() < SAME)
}

/// Drops the oldest events.
pub(super) fn prune(store: &Store) {
    let mut events = store.all("/events", None);
    if events.len() <= KEPT {
        return;
    }
    events.sort_by_key(|event| meta::revision(event));
    for event in &events[..events.len() - KEPT] {
        let _ = store.write("/events", meta::namespace(event), meta::name(event), |_| {
            Ok(Write::Delete)
        });
    }
}
