//! The patches that clients send.

mod merge;
mod strategic;

pub(crate) use merge::merge;
pub(crate) use strategic::strategic;

use serde_json::Value;

use crate::ApiError;

/// RFC 6902.
pub(crate) fn json(object: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let patch: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| ApiError::bad_request(format!("the body is no JSON patch: {error}")))?;
    json_patch::patch(object, &patch).map_err(|error| {
        let mut refused = ApiError::invalid("patch", "", &[("patch".into(), error.to_string())]);
        refused.message = format!("the patch cannot be applied: {error}");
        refused
    })
}
