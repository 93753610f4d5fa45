use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

/// Why an environment cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SpiloError {
    /// A variable that must be set is not.
    #[error("{name} is not set: {why}")]
    Missing {
        /// Which.
        name: &'static str,
        /// What it is for.
        why: &'static str,
    },
    /// A variable holds something unusable.
    #[error("{name}: {reason}")]
    Bad {
        /// Which.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// No PostgreSQL can run the data.
    #[error("{0}")]
    Version(String),
}

/// The environment variables of a container.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(vars: I) -> Self {
        Environment(vars.into_iter().collect())
    }
}

impl Environment {
    /// A variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// A variable, or its default.
    #[must_use]
    pub fn or<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.get(name).unwrap_or(default)
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn on(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "on" | "1" | "yes"))
    }

    /// A variable that holds a YAML mapping.
    ///
    /// # Errors
    /// It holds something else.
    pub fn mapping(&self, name: &str) -> Result<Map<String, Value>, SpiloError> {
        let Some(text) = self.get(name) else {
            return Ok(Map::new());
        };
        let bad = |reason: String| SpiloError::Bad {
            name: name.to_owned(),
            reason,
        };
        let value: Value = serde_saphyr::from_str(text).map_err(|e| bad(format!("is not YAML: {e}")))?;
        match value {
            Value::Object(map) => Ok(map),
            Value::Null => Ok(Map::new()),
            _ => Err(bad("must be a mapping".into())),
        }
    }

    /// Variables with this prefix, without it.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }
}
