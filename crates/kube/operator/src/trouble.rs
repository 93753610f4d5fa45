//! Why a member's pod is not there, in Kubernetes' own words.

use std::time::Duration;

use howdah_clock::now;
use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use crate::{
    OperatorError,
    context::{Context, Memory},
    objects::ClusterKey,
    observe::Seen,
};

/// A StatefulSet that has fewer pods than it wants for this long is asked why.
const MISSING: Duration = Duration::from_secs(4);

/// Why the StatefulSet's controller cannot make a pod that is missing: a quota, Pod Security, an admission webhook. It tells
/// that in events alone.
pub(crate) async fn of_missing_pod(
    context: &Context,
    key: &ClusterKey,
    seen: &Seen,
    memory: &mut Memory,
) -> Result<Option<String>, OperatorError> {
    let wanted = seen
        .statefulset
        .as_ref()
        .and_then(|set| set.spec.as_ref()?.replicas)
        .unwrap_or(0);
    let have = seen.pods.len();
    if usize::try_from(wanted).unwrap_or(0) <= have || seen.pods.iter().any(|pod| pod.trouble.is_some()) {
        memory.short_since = None;
        return Ok(None);
    }
    let since = *memory.short_since.get_or_insert_with(now);
    if now() < since + MISSING {
        return Ok(None);
    }
    let uid = seen.statefulset.as_ref().and_then(|set| set.metadata.uid.clone());
    let of_set = format!(
        "involvedObject.kind=StatefulSet,involvedObject.name={},involvedObject.uid={}",
        key.name,
        uid.unwrap_or_default()
    );
    let events = Api::<Event>::namespaced(context.client.clone(), &key.namespace)
        .list(&ListParams::default().fields(&of_set))
        .await
        .map_err(OperatorError::kube("reading the StatefulSet's events"))?;
    Ok(refusal_in(events.items))
}

/// The refusal that the StatefulSet's controller has met last, unless it has made a pod since.
fn refusal_in(events: Vec<Event>) -> Option<String> {
    let last = events
        .into_iter()
        .filter(|event| {
            let reason = event.reason.as_deref();
            matches!(reason, Some("FailedCreate" | "SuccessfulCreate"))
        })
        .max_by(|one, other| one.last_timestamp.cmp(&other.last_timestamp))?;
    last.message
        .filter(|_| last.reason.as_deref() == Some("FailedCreate"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_counts_until_a_pod_is_made() {
        let event = |second: u32, reason: &str| -> Event {
            serde_json::from_value(json!({
                "metadata": {}, "involvedObject": {}, "reason": reason, "message": format!("at {second}"),
                "lastTimestamp": format!("2026-01-01T00:00:0{second}Z"),
            }))
            .unwrap()
        };
        let refused = vec![
            event(2, "FailedCreate"),
            event(1, "SuccessfulCreate"),
            event(3, "Other"),
        ];
        assert_eq!(refusal_in(refused).unwrap(), "at 2");
        assert_eq!(
            refusal_in(vec![event(2, "FailedCreate"), event(3, "SuccessfulCreate")]),
            None
        );
        assert_eq!(refusal_in(Vec::new()), None);
    }
}
