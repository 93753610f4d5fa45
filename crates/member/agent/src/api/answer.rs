use serde_json::Value;

/// An answer before it is one of HTTP.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) kind: &'static str,
}

impl Answer {
    pub(crate) fn text(status: u16, body: impl Into<String>) -> Self {
        Answer {
            status,
            body: body.into(),
            kind: "text/html",
        }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Answer {
            status,
            body: body.to_string(),
            kind: "application/json",
        }
    }

    pub(crate) fn bare(ok: bool) -> Self {
        Answer::text(if ok { 200 } else { 503 }, "")
    }
}
