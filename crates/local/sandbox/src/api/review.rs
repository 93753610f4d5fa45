//! Reviews of a client's rights and name, which kubectl and dashboards ask before they offer something. Whoever has a token
//! may do everything here.

use serde_json::json;

use super::{reply::Reply, request::Request};
use crate::ApiError;

/// Answers a review; nothing is stored.
pub(super) fn create(request: &Request, plural: &str, user: &str) -> Result<Reply, ApiError> {
    let mut review = request.object()?;
    if !review.is_object() {
        return Err(ApiError::bad_request("the review is no object"));
    }
    review["status"] = match plural {
        "selfsubjectaccessreviews" | "subjectaccessreviews" | "localsubjectaccessreviews" => {
            json!({"allowed": true, "reason": "the sandbox lets every token do everything"})
        }
        "selfsubjectrulesreviews" => json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
        "selfsubjectreviews" => {
            json!({"userInfo": {"username": user, "groups": ["system:masters", "system:authenticated"]}})
        }
        _ => return Err(ApiError::no_such_path(&request.path.join("/"))),
    };
    if review["metadata"].is_null() {
        review["metadata"] = json!({});
    }
    Ok(Reply::json(&review).created())
}
