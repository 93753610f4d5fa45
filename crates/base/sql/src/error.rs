use std::fmt;

use howdah_types::{Class, Classified};
use thiserror::Error;

/// Why SQL was not carried out, or may not have been.
#[derive(Debug, Error)]
pub enum SqlError {
    /// No answer in time. A statement may have been carried out all the same.
    #[error("{0} took too long")]
    Timeout(&'static str),
    /// The server has said no, with its severity, code and message.
    #[error("{}: {}", .0.severity(), .0.message())]
    Refused(Box<tokio_postgres::error::DbError>),
    /// The connection was not made, or has ended.
    #[error("{}", Chain(.0))]
    Connection(tokio_postgres::Error),
    /// A query that gives a row gave none.
    #[error("the query gave no row")]
    NoRow,
}

impl SqlError {
    /// The SQLSTATE, where the server has answered with one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            SqlError::Refused(error) => Some(error.code().code()),
            SqlError::Timeout(_) | SqlError::Connection(_) | SqlError::NoRow => None,
        }
    }

    /// The server's own sentence, where it has answered.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            SqlError::Refused(error) => Some(error.message()),
            SqlError::Timeout(_) | SqlError::Connection(_) | SqlError::NoRow => None,
        }
    }
}

impl Classified for SqlError {
    fn class(&self) -> Class {
        match self {
            SqlError::Timeout(_) | SqlError::Connection(_) => Class::Retry,
            SqlError::NoRow => Class::Bug,
            SqlError::Refused(error) => class_of(error.code().code()),
        }
    }
}

/// The class of an SQLSTATE (appendix A of PostgreSQL's documentation).
fn class_of(code: &str) -> Class {
    // A server that starts, stops or changes its role; too many connections, a full disk; a deadlock, or a transaction
    // that another one was in the way of.
    let passes = ["57P0", "25006", "53", "40", "55P03", "08"];
    if passes.iter().any(|prefix| code.starts_with(prefix)) {
        Class::Retry
    } else {
        Class::Refused
    }
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refused) => SqlError::Refused(Box::new(refused.clone())),
            None => SqlError::Connection(error),
        }
    }
}

/// An error with its causes: `tokio_postgres` says only what kind it is.
struct Chain<'a>(&'a tokio_postgres::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(inner) = cause {
            write!(f, ": {inner}")?;
            cause = inner.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        for (code, meaning) in [
            ("57P03", "the database system is starting up"),
            ("57P01", "terminating connection due to administrator command"),
            ("25006", "cannot execute UPDATE in a read-only transaction"),
            ("53300", "sorry, too many clients already"),
            ("53100", "could not extend file: No space left on device"),
            ("40P01", "deadlock detected"),
            ("40001", "could not serialize access"),
            ("55P03", "could not obtain lock on row"),
            ("08006", "connection failure"),
        ] {
            assert_eq!(class_of(code), Class::Retry, "{meaning}");
        }
        for (code, meaning) in [
            ("28P01", "password authentication failed"),
            ("42501", "permission denied"),
            ("42601", "syntax error"),
            ("3D000", "database does not exist"),
            ("57014", "canceling statement due to statement timeout"),
            ("XX001", "invalid page in block"),
            ("0A000", "feature not supported"),
        ] {
            assert_eq!(class_of(code), Class::Refused, "{meaning}");
        }
        assert_eq!(SqlError::Timeout("a query").class(), Class::Retry);
        assert_eq!(SqlError::NoRow.class(), Class::Bug);
    }
}
