use std::fmt;

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
