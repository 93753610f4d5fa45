use thiserror::Error;

use crate::Place;

/// A mistake in a configuration, with its place.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// Not YAML, or not a mapping.
    #[error("{file}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// What the parser says, with line and column.
        message: String,
    },
    /// A key with a wrong value, or a missing one.
    #[error("{path}{}: {message}", place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default())]
    Value {
        /// The key's path, with dots.
        path: String,
        /// Where it stands, or the section that it is missing from.
        place: Option<Place>,
        /// What is wrong and what to write.
        message: String,
    },
}
