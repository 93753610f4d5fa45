use serde_json::{Value, json};
use thiserror::Error;

/// An error in Kubernetes' form.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub code: u16,
    /// One word for programs, such as `NotFound`.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
    /// `details`, where clients read them.
    pub details: Value,
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        ApiError {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            401,
            "Unauthorized",
            "no valid token: use the kubeconfig that 'howdah kubeconfig' names",
        )
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    pub(crate) fn not_found(kind: &str, name: &str) -> Self {
        let mut error = Self::new(404, "NotFound", format!("{kind} \"{name}\" not found"));
        error.details = json!({"name": name, "kind": kind});
        error
    }

    pub(crate) fn no_such_path(path: &str) -> Self {
        Self::new(404, "NotFound", format!("the sandbox serves nothing at {path}"))
    }

    pub(crate) fn exists(kind: &str, name: &str) -> Self {
        let mut error = Self::new(409, "AlreadyExists", format!("{kind} \"{name}\" already exists"));
        error.details = json!({"name": name, "kind": kind});
        error
    }

    pub(crate) fn conflict(kind: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {kind} \"{name}\": {why}");
        let mut error = Self::new(409, "Conflict", message);
        error.details = json!({"name": name, "kind": kind});
        error
    }

    pub(crate) fn modified(kind: &str, name: &str) -> Self {
        Self::conflict(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// An object that is not as its schema says; `causes` are (path, reason).
    pub(crate) fn invalid(kind: &str, name: &str, causes: &[(String, String)]) -> Self {
        let told: Vec<String> = causes
            .iter()
            .map(|(path, reason)| format!("{path}: {reason}"))
            .collect();
        let message = format!("{kind} \"{name}\" is invalid: {}", told.join(", "));
        let mut error = Self::new(422, "Invalid", message);
        let causes: Vec<Value> = causes
            .iter()
            .map(|(path, reason)| json!({"reason": "FieldValueInvalid", "field": path, "message": reason}))
            .collect();
        error.details = json!({"name": name, "kind": kind, "causes": causes});
        error
    }

    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        Self::new(429, "TooManyRequests", message)
    }

    /// An eviction that a budget forbids for now.
    pub(crate) fn disrupts(budget: &str, must: usize, healthy: usize) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let mut error = Self::new(429, "TooManyRequests", message);
        error.details = json!({"causes": [{"reason": "DisruptionBudget", "message": format!(
            "The disruption budget {budget} needs {must} healthy pods and has {healthy} currently"
        )}]});
        error
    }

    /// A change that was not made, since it could not be kept.
    pub(crate) fn no_space(why: &str) -> Self {
        Self::new(
            507,
            "InsufficientStorage",
            format!("the sandbox's state cannot be written ({why}): nothing was changed"),
        )
    }

    pub(crate) fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn method(what: &str) -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            format!("the sandbox does not offer {what}"),
        )
    }

    pub(crate) fn media_type(have: &str, want: &str) -> Self {
        let message = format!("the sandbox does not read bodies of type {have}; it reads {want}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large() -> Self {
        Self::new(413, "RequestEntityTooLarge", "the body is larger than 3 MiB")
    }

    pub(crate) fn not_implemented(what: &str) -> Self {
        Self::new(
            501,
            "NotImplemented",
            format!("the sandbox does not offer {what}"),
        )
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }

    /// The error as a `Status` object.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}
