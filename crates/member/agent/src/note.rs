//! What an agent tells its next life, in files beside the data directory.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use howdah_postgres::{PgError, Server};

/// A file beside the data directory that says something of what lies there. Where the parent may not be written, it lies beside the
/// password file.
pub(crate) struct Note {
    beside: PathBuf,
    elsewhere: PathBuf,
}

impl Note {
    /// What lies there is half a copy, and of no use.
    pub(crate) fn half_copy(server: &Server) -> Self {
        Self::named(server, "incomplete")
    }

    /// The same of a rewind: the data can be replaced by a copy, and must never be started or rewound once more.
    pub(crate) fn half_rewind(server: &Server) -> Self {
        Self::named(server, "rewinding")
    }

    /// The other members, as the store has shown them last.
    pub(crate) fn members(server: &Server) -> Self {
        Self::named(server, "members")
    }

    /// What the member has promised a leader in failsafe mode.
    pub(crate) fn promise(server: &Server) -> Self {
        Self::named(server, "promise")
    }

    fn named(server: &Server, what: &str) -> Self {
        let path = server.dir.path();
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{what}"));
        let flat = path.display().to_string().replace('/', "-");
        let home = server.local.pgpass.parent().unwrap_or(Path::new("/"));
        Note {
            beside: PathBuf::from(beside),
            elsewhere: home.join(format!(".howdah{flat}.{what}")),
        }
    }

    pub(crate) fn is_marked(&self) -> bool {
        self.beside.exists() || self.elsewhere.exists()
    }

    /// What is written in it.
    pub(crate) fn lines(&self) -> Vec<String> {
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        let text = read(&self.beside)
            .or_else(|| read(&self.elsewhere))
            .unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Writes it, with these lines.
    pub(crate) fn mark(&self, lines: &[String]) -> Result<(), PgError> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let write = |path: &Path| {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, &text)
        };
        if write(&self.beside).is_ok() {
            return Ok(());
        }
        write(&self.elsewhere).map_err(|cause| PgError::File {
            path: self.elsewhere.clone(),
            cause,
        })
    }

    /// Writes it so that it is there after a power cut, and an earlier one until then.
    #[allow(clippy::disallowed_methods, reason = "called on a thread of its own")]
    pub(crate) fn mark_durably(&self, lines: &[String]) -> Result<(), PgError> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let place = |path: &Path| -> std::io::Result<()> {
            let parent = path.parent().unwrap_or(Path::new("/"));
            std::fs::create_dir_all(parent)?;
            let mut new = path.as_os_str().to_owned();
            new.push(".new");
            let new = PathBuf::from(new);
            let mut file = std::fs::File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, path)?;
            std::fs::File::open(parent)?.sync_all()
        };
        if place(&self.beside).is_ok() {
            return Ok(());
        }
        place(&self.elsewhere).map_err(|cause| PgError::File {
            path: self.elsewhere.clone(),
            cause,
        })
    }

    /// What is written at both places where it may lie.
    pub(crate) fn all_lines(&self) -> Vec<String> {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let (beside, elsewhere) = (read(&self.beside), read(&self.elsewhere));
        beside
            .lines()
            .chain(elsewhere.lines())
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn clear(&self) -> Result<(), PgError> {
        for path in [&self.beside, &self.elsewhere] {
            match std::fs::remove_file(path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(PgError::File {
                        path: path.clone(),
                        cause: source,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}
