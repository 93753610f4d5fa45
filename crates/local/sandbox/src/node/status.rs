use serde_json::{Value, json};

use super::{NODE, Node};
use crate::{meta, store::Write};

/// What a container does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Container {
    /// It cannot run, or not yet.
    Waiting { reason: &'static str, message: String },
    /// It runs since then.
    Running { since: String, ready: bool },
}

/// How a container ended last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    pub(super) code: i64,
    pub(super) signal: Option<i64>,
    pub(super) at: String,
}

impl Node {
    /// Writes a pod's status.
    pub(super) fn report(
        &self,
        pod: &Value,
        address: &str,
        state: &Container,
        restarts: u64,
        last: Option<&Ended>,
    ) {
        let container = &pod["spec"]["containers"][0];
        let (shown, running, ready) = match state {
            Container::Waiting { reason, message } => (
                json!({"waiting": {"reason": reason, "message": message}}),
                false,
                false,
            ),
            Container::Running { since, ready } => (json!({"running": {"startedAt": since}}), true, *ready),
        };
        let mut status = json!({
            "name": container["name"], "image": container["image"], "imageID": container["image"], "state": shown,
            "ready": ready, "started": running, "restartCount": restarts, "lastState": {},
        });
        if let Some(last) = last {
            status["lastState"] = json!({"terminated": {
                "exitCode": last.code, "reason": if last.code == 0 { "Completed" } else { "Error" },
                "signal": last.signal, "finishedAt": last.at,
            }});
        }
        let mut statuses = vec![status];
        let others = pod["spec"]["containers"].as_array().into_iter().flatten().skip(1);
        statuses.extend(others.map(|container| {
            let state = json!({"waiting": {
                "reason": "NotInSandbox", "message": "the sandbox runs no containers, only the pod's first program",
            }});
            json!({
                "name": container["name"], "image": container["image"], "imageID": "", "state": state, "ready": false,
                "started": false, "restartCount": 0, "lastState": {},
            })
        }));
        let uid = meta::uid(pod).to_owned();
        let written = self.store.write("/pods", meta::namespace(pod), meta::name(pod), |before| {
            let Some(before) = before.filter(|before| meta::uid(before) == uid) else {
                return Ok(Write::Nothing);
            };
            let mut after = before.clone();
            after["spec"]["nodeName"] = json!(NODE);
            let since = |kind: &str, holds: bool| {
                let conditions = before["status"]["conditions"].as_array().into_iter().flatten();
                let now = if holds { "True" } else { "False" };
                let old = conditions.into_iter().find(|c| c["type"] == kind && c["status"] == now);
                let time = old.map_or_else(|| json!(meta::timestamp()), |old| old["lastTransitionTime"].clone());
                json!({"type": kind, "status": now, "lastTransitionTime": time})
            };
            after["status"] = json!({
                "phase": if running || restarts > 0 { "Running" } else { "Pending" },
                "podIP": address, "podIPs": [{"ip": address}], "hostIP": "127.0.0.1",
                "startTime": before["status"]["startTime"].as_str().map_or_else(meta::timestamp, str::to_owned),
                "conditions": [
                    since("PodScheduled", true), since("Initialized", true), since("ContainersReady", ready), since("Ready", ready),
                ],
                "containerStatuses": statuses,
            });
            Ok(Write::Put(after))
        });
        if let Err(error) = written {
            tracing::debug!(%error, "a pod's status was not written");
        }
    }
}
