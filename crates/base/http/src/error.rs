use thiserror::Error;

/// How a request failed; what matters is whether the server may have acted on it.
#[derive(Debug, Error)]
pub enum HttpError {
    /// No connection: the server has not seen the request.
    #[error("cannot connect to {url}: {reason}")]
    NotSent {
        /// Where to.
        url: String,
        /// Why.
        reason: String,
    },
    /// The connection broke after the request was begun: the server may have acted on it.
    #[error("the connection to {url} broke: {reason}")]
    Lost {
        /// Where to.
        url: String,
        /// Why.
        reason: String,
    },
    /// The deadline passed after the request was begun: the server may have acted on it, or will.
    #[error("{url} did not answer in time")]
    Timeout {
        /// Where to.
        url: String,
    },
    /// The address is not one.
    #[error("'{0}' is not an http or https URL")]
    BadUrl(String),
}

impl HttpError {
    /// Whether the server has certainly not acted on the request.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        matches!(self, HttpError::NotSent { .. } | HttpError::BadUrl(_))
    }
}
