//! Spilo's contract: environment variables in, the agent's configuration out.
//!
//! What the image assumes and a plain system lacks (libraries to preload, a locale, the wanted major) is left out or
//! replaced by the nearest, and every such difference is reported; what an environment asks for and is not there yet is
//! reported as well, never ignored in silence.
//!
//! ```text
//!   Environment + Facts of the machine ─► version.rs, libraries.rs, hba.rs, store.rs ─► agent.rs ─► Outcome
//! ```
//!
//! Pure: the caller reads the environment and looks at the machine.

mod agent;
mod archive;
mod defaults;
mod environment;
mod hba;
mod libraries;
mod objects;
mod origin;
mod store;
mod variables;
mod version;

pub use agent::{Outcome, configure};
pub use environment::{Environment, SpiloError};
pub use variables::{Effect, VARIABLES, Variable, effect_of};
pub use version::{Choice, choose};

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// What the machine has.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The member's name: a pod's host name.
    pub hostname: String,
    /// Installed majors and their directories of programs.
    pub installed: BTreeMap<u32, PathBuf>,
    /// The major of the data that is there, from `PG_VERSION`.
    pub data_major: Option<u32>,
    /// Libraries that each installed major has.
    pub libraries: BTreeMap<u32, BTreeSet<String>>,
    /// Locales that initdb can use, as `locale -a` prints them.
    pub locales: BTreeSet<String>,
    /// Memory of the pod or the machine, in bytes.
    pub memory: u64,
    /// Where the pod's absolute paths are: `/` in a container, a directory in the sandbox.
    pub root: PathBuf,
    /// A short directory for sockets, where the one below `root` would be too long.
    pub run_dir: PathBuf,
    /// This program.
    pub program: PathBuf,
    /// The server's certificate and key, if there are any.
    pub certificate: Option<Certificates>,
    /// Those of the REST API; `None`: it speaks HTTP.
    pub rest_certificate: Option<Certificates>,
}

/// Files of a TLS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// PEM chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// PEM certificates that sign those of clients.
    pub ca: Option<PathBuf>,
    /// Certificates of clients that do not count any more.
    pub crl: Option<PathBuf>,
}

impl Facts {
    /// A path of the pod, on this machine.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}
