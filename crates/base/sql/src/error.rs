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
            SqlError::Refused(error) => {
                let code = error.code().code();
                // A server that starts, stops or changes its role; too many connections, a full disk; a deadlock, or a
                // transaction that another one was in the way of.
                let passes = ["57P0", "25006", "53", "40", "55P03", "08"];
                if passes.iter().any(|prefix| code.starts_with(prefix)) {
                    Class::Retry
                } else {
                    Class::Refused
                }
            }
        }
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
