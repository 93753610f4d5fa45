//! Copying a running member.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_guard::StartMode;
use howdah_ha::Upstream;
use howdah_postgres::{PgError, Server, base_backup};

use super::{Outcome, start};
use crate::outside::{Outside, source};

/// Copies and starts as replica.
pub(crate) async fn copy(outside: &Outside, from: &Upstream, follow: &Upstream) -> Outcome {
    let server = &outside.server;
    // What we have is not thrown away for a source that is not there.
    outside
        .server
        .connect_to(&source(from), now() + Duration::from_secs(5))
        .await
        .context("reaching the source")?;
    let incomplete = Incomplete::of(server);
    incomplete.mark()?;
    Incomplete::rewind_of(server).clear()?;
    server.dir.create()?;
    server.dir.wipe()?;
    tracing::info!(from = %from.name, "Copying the data.");
    // The password file is written with the configuration, which needs the directory.
    server.write_pgpass()?;
    base_backup(&server.local, &server.programs, &source(from)).await?;
    server.set_standby(true)?;
    incomplete.clear()?;
    let ended = outside.start(StartMode::Replica, Some(follow)).await?;
    start::settle(outside, ended).await
}

/// A file beside the data directory that says: what lies there is half a copy, and of no use.
pub(crate) struct Incomplete(PathBuf);

impl Incomplete {
    pub(crate) fn of(server: &Server) -> Self {
        let mut name = server.dir.path().as_os_str().to_owned();
        name.push(".incomplete");
        Incomplete(PathBuf::from(name))
    }

    /// The same for a rewind: the data can be rewound again, or copied, and must never be started.
    pub(crate) fn rewind_of(server: &Server) -> Self {
        let mut name = server.dir.path().as_os_str().to_owned();
        name.push(".rewinding");
        Incomplete(PathBuf::from(name))
    }

    pub(crate) fn is_marked(&self) -> bool {
        self.0.exists()
    }

    pub(crate) fn mark(&self) -> Result<(), PgError> {
        if let Some(parent) = self.0.parent() {
            std::fs::create_dir_all(parent).map_err(|source| PgError::File {
                path: parent.into(),
                source,
            })?;
        }
        std::fs::write(&self.0, "").map_err(|source| PgError::File {
            path: self.0.clone(),
            source,
        })
    }

    pub(crate) fn clear(&self) -> Result<(), PgError> {
        match std::fs::remove_file(&self.0) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(PgError::File {
                path: self.0.clone(),
                source,
            }),
            _ => Ok(()),
        }
    }
}
