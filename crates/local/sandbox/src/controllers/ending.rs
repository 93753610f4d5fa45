use serde_json::{Value, json};

use crate::meta;

/// The object with its end begun: pods are ended by their node, everything else when its finalizers are gone.
pub(super) fn begun(before: &Value) -> Value {
    let mut after = before.clone();
    let grace = before["spec"]["terminationGracePeriodSeconds"]
        .as_u64()
        .unwrap_or(30);
    meta::set(
        &mut after,
        &["metadata", "deletionTimestamp"],
        json!(meta::timestamp()),
    );
    meta::set(
        &mut after,
        &["metadata", "deletionGracePeriodSeconds"],
        json!(grace),
    );
    after
}
