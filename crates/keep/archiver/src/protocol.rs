//! What is said over the socket: a line of JSON each way. Empty lines before the answer say that it is being worked on.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The longest line that is read.
pub(crate) const LONGEST: u64 = 256 * 1024;

/// How often the archiver says that it is at work, in milliseconds.
pub(crate) const BEAT_MS: u64 = 500;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The data directory that the command was started in.
    pub data: PathBuf,
    /// The variables that say where the archive is and how it is written. The socket is its owner's alone.
    pub variables: BTreeMap<String, String>,
    /// What to do.
    pub work: Work,
}

impl std::fmt::Debug for Request {
    /// Without the variables: they have secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} for {}", self.work, self.data.display())
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Archive a file.
    Push {
        /// The file, relative to the data directory or absolute.
        path: PathBuf,
        /// Nothing behind it: a server that has stopped archives what belongs to its successor too, and no more.
        #[serde(default)]
        alone: bool,
    },
    /// Fetch a file into the archiver's directory.
    Get {
        /// Its name.
        name: String,
        /// An archive that does not answer counts as one without the file: the server has another one to stream from.
        streams: bool,
    },
    /// Say how things are.
    Report,
}

/// What has come of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The exit code of the command; `None` if the archiver does not do this, so that the command does it.
    pub code: Option<u8>,
    /// What to say.
    #[serde(default)]
    pub text: String,
    /// Where a file is that was fetched. It is the asker's from now on.
    #[serde(default)]
    pub file: Option<PathBuf>,
}

impl Answer {
    /// The asker is to do it.
    pub(crate) fn not_here(why: impl Into<String>) -> Self {
        Answer {
            code: None,
            text: why.into(),
            file: None,
        }
    }

    pub(crate) fn of(code: u8, text: impl Into<String>) -> Self {
        Answer {
            code: Some(code),
            text: text.into(),
            file: None,
        }
    }
}
