use thiserror::Error;

/// Why a manifest cannot be acted on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{path}: {reason}")]
pub struct ManifestError {
    /// Where.
    pub path: String,
    /// What is wrong and what to write.
    pub reason: String,
}
