use std::fmt;

use howdah_archive::ArchiveError;

/// An error with the exit code of its command.
#[derive(Debug)]
pub struct Failure {
    text: String,
    /// The exit code.
    pub code: u8,
    /// It was decided for `restore_command`; any other code means something else there.
    pub is_final: bool,
}

impl Failure {
    /// Of a command for people.
    pub(crate) fn of(error: ArchiveError) -> anyhow::Error {
        anyhow::Error::new(Failure::said(error.exit_code(), error.to_string(), false))
    }

    /// Of `archive_command`.
    pub(crate) fn of_push(error: ArchiveError) -> Self {
        Failure::said(error.of_archive_command(), error.to_string(), false)
    }

    /// Of `restore_command`.
    pub(crate) fn of_get(error: ArchiveError) -> Self {
        Failure::said(error.of_restore_command(), error.to_string(), true)
    }

    /// As another process has decided it.
    pub(crate) fn said(code: u8, text: String, is_final: bool) -> Self {
        Failure { text, code, is_final }
    }
}

/// A runtime could not be made.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::said(255, error.to_string(), true)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
