use serde_json::Value;

/// An answer before it is one of HTTP.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) kind: &'static str,
    /// A position in the WAL, as the header `lsn`.
    pub(crate) lsn: Option<u64>,
}

impl Answer {
    pub(crate) fn text(status: u16, body: impl Into<String>) -> Self {
        Answer {
            status,
            body: body.into(),
            kind: "text/html",
            lsn: None,
        }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Answer::json_text(status, body.to_string())
    }

    pub(crate) fn json_text(status: u16, body: String) -> Self {
        Answer {
            kind: "application/json",
            ..Answer::text(status, body)
        }
    }

    pub(crate) fn plain(status: u16, body: String) -> Self {
        Answer {
            kind: "text/plain",
            ..Answer::text(status, body)
        }
    }

    pub(crate) fn with_lsn(self, lsn: Option<u64>) -> Self {
        Answer { lsn, ..self }
    }

    pub(crate) fn bare(ok: bool) -> Self {
        Answer::text(if ok { 200 } else { 503 }, "")
    }
}
