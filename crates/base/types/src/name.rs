use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a name is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// The name is empty.
    #[error("the name is empty")]
    Empty,
    /// `/` separates the levels of the store's key tree.
    #[error("'{0}' contains '/', which separates levels in the store")]
    Slash(String),
    /// Reserved by Patroni for strict synchronous mode without a standby.
    #[error("'{0}' is reserved")]
    Reserved(String),
}

/// Patroni 4.2's stand-in for "no synchronous standby yet"; no member may have this name.
const STRICT_SYNC_PLACEHOLDER: &str = "__patroni_strict_sync_replica_placeholder__";

/// The name of one member, unique in its cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MemberName(String);

impl MemberName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// Empty, with a slash, or reserved.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = checked(name.into())?;
        if name == STRICT_SYNC_PLACEHOLDER {
            return Err(NameError::Reserved(name));
        }
        Ok(MemberName(name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The replication slot of this member, by Patroni's rule: lower case, `-` and `.` become `_`, any other
    /// character outside `[a-z0-9_]` becomes `u` and its code point in at least four *decimal* digits, at most
    /// 63 characters.
    #[must_use]
    pub fn slot_name(&self) -> String {
        let mut slot = String::new();
        for c in self.0.to_lowercase().chars() {
            match c {
                'a'..='z' | '0'..='9' | '_' => slot.push(c),
                '-' | '.' => slot.push('_'),
                other => slot.push_str(&format!("u{:04}", u32::from(other))),
            }
        }
        slot.truncate(63);
        slot
    }
}

/// The name of a cluster (Patroni's `scope`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(String);

impl Scope {
    /// Checks and wraps a cluster name.
    ///
    /// # Errors
    /// Empty or with a slash.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        Ok(Scope(checked(name.into())?))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn checked(name: String) -> Result<String, NameError> {
    if name.is_empty() {
        Err(NameError::Empty)
    } else if name.contains('/') {
        Err(NameError::Slash(name))
    } else {
        Ok(name)
    }
}

macro_rules! text_conversions {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                $type::new(name)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}
text_conversions!(MemberName);
text_conversions!(Scope);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_names_follow_patroni() {
        let slot = |name: &str| MemberName::new(name).unwrap().slot_name();
        assert_eq!(slot("postgresql-0.Local"), "postgresql_0_local");
        assert_eq!(slot("a b"), "au0032b");
        assert_eq!(slot(&"x".repeat(80)).len(), 63);
    }

    #[test]
    fn bad_names_say_why() {
        assert_eq!(MemberName::new(""), Err(NameError::Empty));
        assert_eq!(MemberName::new("a/b"), Err(NameError::Slash("a/b".into())));
        assert!(MemberName::new(STRICT_SYNC_PLACEHOLDER).is_err());
    }
}
