use std::fmt;

use howdah_archive::ArchiveError;

/// An error with the exit code of its command.
#[derive(Debug)]
pub struct Failure {
    error: ArchiveError,
    /// The exit code.
    pub code: u8,
    /// It was decided for `restore_command`; any other code means something else there.
    pub is_final: bool,
}

impl Failure {
    /// Of a command for people.
    pub(crate) fn of(error: ArchiveError) -> anyhow::Error {
        let code = error.exit_code();
        anyhow::Error::new(Failure {
            error,
            code,
            is_final: false,
        })
    }

    /// Of `archive_command`.
    pub(crate) fn of_push(error: ArchiveError) -> anyhow::Error {
        let code = error.of_archive_command();
        anyhow::Error::new(Failure {
            error,
            code,
            is_final: false,
        })
    }

    /// Of `restore_command`.
    pub(crate) fn of_get(error: ArchiveError) -> anyhow::Error {
        let code = error.of_restore_command();
        anyhow::Error::new(Failure {
            error,
            code,
            is_final: true,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Failure {}
