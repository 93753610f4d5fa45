//! The patches that clients send.

mod merge;
mod strategic;

pub(crate) use merge::merge;
pub(crate) use strategic::strategic;

use serde_json::Value;

use crate::ApiError;

/// RFC 6902, with Kubernetes' reading of it: a missing value passes a test for null.
pub(crate) fn json(object: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let operations = patch
        .as_array()
        .ok_or_else(|| ApiError::bad_request("the body is no JSON patch: it must be a list of operations"))?;
    for operation in operations {
        let path = operation["path"].as_str().unwrap_or_default();
        if operation["op"] == "test" && operation["value"].is_null() && object.pointer(path).is_none() {
            continue;
        }
        let one: json_patch::PatchOperation = serde_json::from_value(operation.clone())
            .map_err(|error| ApiError::bad_request(format!("the body is no JSON patch: {error}")))?;
        json_patch::patch(object, &[one]).map_err(|error| {
            let mut refused = ApiError::invalid("patch", "", &[("patch".into(), error.to_string())]);
            refused.message = format!("the patch cannot be applied: {error}");
            refused
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    #[test]
    fn a_missing_value_passes_a_test_for_null() {
        let mut object = value!({"metadata": {"name": "x"}});
        let patch = value!([
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["f"]},
        ]);
        json(&mut object, &patch).unwrap();
        assert_eq!(object["metadata"]["finalizers"], value!(["f"]));
        assert_eq!(json(&mut object, &patch).unwrap_err().code, 422);
    }
}
