use std::{io, path::PathBuf};

use howdah_sql::SqlError;
use thiserror::Error;

/// SQLSTATE of a server that starts, stops or recovers.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// What went wrong with the local PostgreSQL.
#[derive(Debug, Error)]
pub enum PgError {
    /// A file or directory.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why; part of the text, so no source of its own that would be told twice.
        cause: io::Error,
    },
    /// The data directory cannot be moved out of the way.
    #[error(
        "{path} cannot be moved aside ({cause}): it is a mount point, or its parent may not be written. Use a directory \
         below it as data_dir, or allow the diverged data to be removed \
         (remove_data_directory_on_diverged_timelines, remove_data_directory_on_rewind_failure)"
    )]
    NotMovable {
        /// Which.
        path: PathBuf,
        /// Why; part of the text, so no source of its own that would be told twice.
        cause: io::Error,
    },
    /// `pg_control` is not readable as one.
    #[error("{path}: {cause}")]
    Control {
        /// Which.
        path: PathBuf,
        /// Why; part of the text, so no source of its own that would be told twice.
        cause: howdah_pgconf::ControlError,
    },
    /// The server starts, or recovers after the crash of a backend, and takes no connections meanwhile.
    #[error("{0}")]
    NotYet(String),
    /// A program is not there.
    #[error("{program} was not found in {place}; install PostgreSQL, or set postgresql.bin_dir")]
    NoProgram {
        /// Which.
        program: String,
        /// Where it was looked for.
        place: String,
    },
    /// A program failed; the end of what it said.
    #[error("{program} failed ({status}): {output}")]
    Tool {
        /// Which.
        program: String,
        /// How it ended.
        status: String,
        /// Its last lines.
        output: String,
    },
    /// A slot of another server cannot be used here.
    #[error("the file of slot {name} is damaged: {why}")]
    SlotFile {
        /// Which.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// SQL failed.
    #[error(transparent)]
    Sql(SqlError),
    /// A certificate is unusable.
    #[error(transparent)]
    Tls(#[from] howdah_http::TlsError),
    /// Certificates are to be checked, and nothing says against what.
    #[error("sslmode={0} needs sslrootcert")]
    NoRootCertificate(String),
    /// It did not happen in time.
    #[error("{0} took too long")]
    Timeout(&'static str),
    /// The version cannot be run.
    #[error("PostgreSQL {0} is not supported: from {oldest} on", oldest = howdah_types::PgVersion::OLDEST)]
    Version(String),
}

impl PgError {
    /// Whether the server has said it, which shows that it works.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            PgError::NotYet(_) => true,
            PgError::Sql(error) => error.code().is_some(),
            _ => false,
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> PgError {
        let path = path.into();
        move |cause| PgError::File { path, cause }
    }
}

impl From<SqlError> for PgError {
    fn from(error: SqlError) -> Self {
        match (error.code(), error.message()) {
            (Some(CANNOT_CONNECT_NOW), Some(message)) => PgError::NotYet(message.to_owned()),
            _ => PgError::Sql(error),
        }
    }
}
