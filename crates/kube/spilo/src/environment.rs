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

    /// A variable that is set, if only to nothing.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
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
        let value: Value = serde_saphyr::from_str(text)
            // Never with the lines around it: they may have a password in them.
            .map_err(|error| bad(format!("is not YAML: {}", error.without_snippet())))?;
        match value {
            Value::Object(map) => Ok(map),
            Value::Null => Ok(Map::new()),
            _ => Err(bad("must be a mapping".into())),
        }
    }

    /// Names of the variables that are set and not empty, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, _)| name.as_str())
    }

    /// Variables with this prefix, without it.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_no_password() {
        let text = "postgresql:\n  authentication:\n    superuser: {password: leaked}\n  x: [1";
        let env: Environment = std::iter::once(("A".to_owned(), text.to_owned())).collect();
        let told = env.mapping("A").unwrap_err().to_string();
        assert!(
            told.starts_with("A: is not YAML") && !told.contains("leaked"),
            "{told}"
        );
    }
}
