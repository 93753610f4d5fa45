use std::{
    fs, io,
    path::{Path, PathBuf},
};

use howdah_pgconf::ControlData;

use crate::PgError;

/// A data directory: what lies in it, not what it is for.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// What `postmaster.pid` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postmaster {
    /// Its pid.
    pub pid: u32,
    /// When it started, in seconds since 1970.
    pub started: i64,
    /// Takes connections (`ready`, or `standby` for a replica that is consistent).
    pub accepts: bool,
}

impl DataDir {
    /// The directory at `path`, which need not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        DataDir { path: path.into() }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is nothing in it: it does not exist, or is empty but for `lost+found`.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn is_missing(&self) -> Result<bool, PgError> {
        match fs::read_dir(&self.path) {
            Ok(entries) => Ok(entries.flatten().all(|entry| entry.file_name() == "lost+found")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(PgError::file(&self.path)(error)),
        }
    }

    /// The control file.
    ///
    /// # Errors
    /// It is missing or not one.
    pub fn control(&self) -> Result<ControlData, PgError> {
        let path = self.path.join("global/pg_control");
        let bytes = fs::read(&path).map_err(PgError::file(&path))?;
        ControlData::parse(&bytes).map_err(|source| PgError::Control { path, source })
    }

    /// Whether PostgreSQL would start as replica.
    #[must_use]
    pub fn is_standby(&self) -> bool {
        self.path.join("standby.signal").exists()
    }

    /// The postmaster that runs on it, if one does. A file that a dead one left behind does not count.
    #[must_use]
    pub fn postmaster(&self) -> Option<Postmaster> {
        let text = fs::read_to_string(self.path.join("postmaster.pid")).ok()?;
        let lines: Vec<&str> = text.lines().collect();
        let pid: u32 = lines.first()?.trim().parse().ok()?;
        // Only a process that works in this directory is its postmaster: pids are used again.
        let cwd = fs::metadata(format!("/proc/{pid}/cwd")).ok()?;
        let here = fs::metadata(&self.path).ok()?;
        use std::os::unix::fs::MetadataExt;
        if (cwd.dev(), cwd.ino()) != (here.dev(), here.ino()) {
            return None;
        }
        let status = lines.get(7).map_or("", |line| line.trim());
        Some(Postmaster {
            pid,
            started: lines
                .get(2)
                .and_then(|line| line.trim().parse().ok())
                .unwrap_or(0),
            accepts: matches!(status, "ready" | "standby"),
        })
    }

    /// Removes everything in it; the directory itself stays, since it may be a mount point.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn wipe(&self) -> Result<(), PgError> {
        for tablespace in self.tablespaces() {
            remove_contents(&tablespace)?;
        }
        match remove_contents(&self.path) {
            Err(PgError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Moves it out of the way as `<path>.<suffix>`.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn set_aside(&self, suffix: &str) -> Result<PathBuf, PgError> {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{suffix}"));
        let target = PathBuf::from(name);
        fs::rename(&self.path, &target).map_err(PgError::file(&self.path))?;
        Ok(target)
    }

    /// Makes it, readable by its owner alone.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(&self) -> Result<(), PgError> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path);
        made.map_err(PgError::file(&self.path))?;
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700)).map_err(PgError::file(&self.path))
    }

    fn tablespaces(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path.join("pg_tblspc")) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .collect()
    }
}

fn remove_contents(dir: &Path) -> Result<(), PgError> {
    for entry in fs::read_dir(dir).map_err(PgError::file(dir))?.flatten() {
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir && entry.file_name() == "lost+found" {
            continue;
        }
        let removed = if is_dir {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(PgError::file(path))?;
    }
    Ok(())
}
