use std::path::{Path, PathBuf};

use howdah_backup::{BadPage, BadWalName, Foreign, recovery::Refusal};
use thiserror::Error;

/// Why something did not happen. Each class has an exit code, which PostgreSQL acts on ([`ArchiveError::of_archive_command`],
/// [`ArchiveError::of_restore_command`]).
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The store has said that there is no such object.
    #[error("{0} is not in the archive")]
    Missing(String),
    /// The store cannot be reached, does not answer in time, or answers that it cannot.
    #[error("{place} does not answer: {reason}")]
    Outage {
        /// Which archive.
        place: String,
        /// What was seen.
        reason: String,
    },
    /// The credentials are wrong, have run out, or may not do this.
    #[error("{place} refuses the credentials: {reason}")]
    Denied {
        /// Which archive.
        place: String,
        /// What the store says.
        reason: String,
    },
    /// A bucket or a directory that is not there.
    #[error("{0} does not exist: check the name, create it, or mount it")]
    NoPlace(String),
    /// An archive without anything in it, where something is asked for.
    #[error("{0} is empty: check the prefix (it ends with the cluster's uid and its major version)")]
    Empty(String),
    /// There is already one of that name.
    #[error("{0} is in the archive already")]
    Exists(String),
    /// Something else is archived under this name.
    #[error(
        "{name} is in the archive already with other content, and that stays: two servers have written this segment, or the \
         archive is of another cluster. Compare both before anything is removed"
    )]
    OtherContent {
        /// The file.
        name: String,
    },
    /// It is another cluster's.
    #[error("{place} is another cluster's archive: {reason}. Use an empty prefix for a new cluster")]
    Foreign {
        /// Which archive.
        place: String,
        /// What does not fit.
        reason: Foreign,
    },
    /// The name is not one of a file that PostgreSQL archives.
    #[error(transparent)]
    Name(#[from] BadWalName),
    /// The file is no segment.
    #[error("{name}: {reason}")]
    NoSegment {
        /// The file.
        name: String,
        /// Why.
        reason: BadPage,
    },
    /// An object's content is not what was stored, or cannot be read.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// The object.
        object: String,
        /// What does not fit.
        reason: String,
    },
    /// A file of this machine.
    #[error("{path}: {source}")]
    Local {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A variable or an option.
    #[error("{0}")]
    Setting(String),
    /// The server.
    #[error("{what}: {source}")]
    Server {
        /// What was asked of it.
        what: &'static str,
        /// Why not.
        source: howdah_sql::SqlError,
    },
    /// A restore that cannot reach its target.
    #[error(transparent)]
    Plan(#[from] Refusal),
    /// It was asked to end, or another part of the same work failed.
    #[error("interrupted")]
    Interrupted,
    /// A rule of this program.
    #[error("{0}")]
    Refused(String),
}

/// What a text from a store says, on one line and not longer than a person reads.
pub(crate) fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(400) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}

impl ArchiveError {
    pub(crate) fn local(path: &Path, source: std::io::Error) -> Self {
        ArchiveError::Local {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn damaged(object: &str, reason: impl std::fmt::Display) -> Self {
        ArchiveError::Damaged {
            object: object.to_owned(),
            reason: short(&reason.to_string()),
        }
    }

    /// Whether trying again later can help.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, ArchiveError::Outage { .. })
    }

    /// The exit code for `archive_command`: PostgreSQL tries again after any but 0, and ends its archiver above 125.
    #[must_use]
    pub fn of_archive_command(&self) -> u8 {
        match self {
            ArchiveError::Outage { .. } => 75,
            ArchiveError::Denied { .. } | ArchiveError::NoPlace(_) | ArchiveError::Empty(_) => 77,
            ArchiveError::OtherContent { .. } => 45,
            ArchiveError::Foreign { .. } => 44,
            ArchiveError::Setting(_) | ArchiveError::Name(_) => 64,
            _ => 1,
        }
    }

    /// The exit code for `restore_command`. PostgreSQL takes 1 to 125 for "there is no such file" and ends recovery, or
    /// promotes; only what the store has said to be missing may look like that. 255 stops the server with nothing lost.
    #[must_use]
    pub fn of_restore_command(&self) -> u8 {
        match self {
            // WAL-G's code.
            ArchiveError::Missing(_) => 74,
            _ => 255,
        }
    }

    /// The exit code of commands for people.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            ArchiveError::Missing(_) => 74,
            ArchiveError::Plan(_) | ArchiveError::Refused(_) => 2,
            other => other.of_archive_command(),
        }
    }
}
