use std::{
    fs, io,
    path::{Path, PathBuf},
};

use howdah_pgconf::{ControlData, ControlError, newest_at};
use howdah_types::{Lsn, Timeline};

use rustix::io::Errno;

use crate::PgError;

/// A data directory: what lies in it, not what it is for.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// How often a control file that looks torn is read.
const CONTROL_TRIES: u32 = 20;

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
    /// The directory at `path`, which need not exist. A link is followed once: what is moved and created again is
    /// the directory, and not the link.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        DataDir {
            path: path.canonicalize().unwrap_or(path),
        }
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

    /// Whether it has lost what makes it one: neither a version nor a control file is there.
    #[must_use]
    pub fn is_gutted(&self) -> bool {
        !self.path.join("PG_VERSION").exists() && !self.path.join("global/pg_control").exists()
    }

    /// It is a copy that no server has recovered yet: its control file is that of the server it was copied from.
    #[must_use]
    pub fn has_backup_label(&self) -> bool {
        self.path.join("backup_label").exists()
    }

    /// The control file. PostgreSQL writes it in one piece, which a reader may see half done.
    ///
    /// # Errors
    /// It is missing, not one, or torn.
    pub fn control(&self) -> Result<ControlData, PgError> {
        let path = self.path.join("global/pg_control");
        let mut tries = 0;
        loop {
            tries += 1;
            let bytes = fs::read(&path).map_err(PgError::file(&path))?;
            match ControlData::parse(&bytes) {
                Err(ControlError::Checksum) if tries < CONTROL_TRIES => std::thread::yield_now(),
                parsed => return parsed.map_err(|cause| PgError::Control { path, cause }),
            }
        }
    }

    /// The newest timeline that has a WAL segment in which WAL before `end` lies.
    #[must_use]
    pub fn newest_timeline_at(&self, end: Lsn, segment_size: u64) -> Option<Timeline> {
        let entries = fs::read_dir(self.path.join("pg_wal")).ok()?;
        let names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        newest_at(names.iter().map(String::as_str), end, segment_size)
    }

    /// The newest timeline that has a history file; PostgreSQL follows the newest one that it finds.
    #[must_use]
    pub fn newest_history(&self) -> Option<Timeline> {
        let entries = fs::read_dir(self.path.join("pg_wal")).ok()?;
        entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let digits = name.strip_suffix(".history")?;
                u32::from_str_radix(digits, 16).ok().map(Timeline)
            })
            .max()
    }

    /// Takes a `postmaster.pid` away that a dead postmaster has left. PostgreSQL refuses to start over one whose number
    /// another process of the same user has by now, which is likely in containers. Does nothing while any process works in
    /// the directory.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_stale_pid_file(&self) -> Result<(), PgError> {
        let path = self.path.join("postmaster.pid");
        if !path.exists() || self.postmaster().is_some() || self.is_worked_in() {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PgError::file(path)(error)),
            _ => Ok(()),
        }
    }

    /// Whether any process has it as its working directory, as all of PostgreSQL's have.
    fn is_worked_in(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Ok(here) = fs::metadata(&self.path) else {
            return false;
        };
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| name.parse::<u32>().is_ok())
            })
            .any(|entry| {
                fs::metadata(entry.path().join("cwd"))
                    .is_ok_and(|cwd| (cwd.dev(), cwd.ino()) == (here.dev(), here.ino()))
            })
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
        let cwd = howdah_proc::working_directory_metadata(i32::try_from(pid).ok()?)?;
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

    /// Removes everything in it, and what its links lead to: tablespaces, and a WAL directory elsewhere. The directory
    /// itself stays, since it may be a mount point. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn wipe(&self) -> Result<(), PgError> {
        for outside in self.tablespaces().into_iter().chain(self.wal_elsewhere()) {
            empty(&outside)?;
        }
        match remove_contents(&self.path) {
            Err(PgError::File { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes the links to tablespaces and to a WAL directory elsewhere that lead to none of these. What lies there is
    /// untouched: a program that was to fill this directory may have linked what another server uses.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn forget_links(&self, ours: &[PathBuf]) -> Result<(), PgError> {
        for (link, outside) in self.links() {
            if !ours.contains(&outside) {
                fs::remove_file(&link).map_err(PgError::file(&link))?;
            }
        }
        Ok(())
    }

    /// Where its links lead: tablespaces, and a WAL directory elsewhere.
    #[must_use]
    pub fn outside(&self) -> Vec<PathBuf> {
        self.links().into_iter().map(|(_, outside)| outside).collect()
    }

    /// Moves it out of the way as `<path>.<suffix>`, with its tablespaces and a WAL directory elsewhere, whose links are
    /// changed: what is copied in its place must not find them in use.
    ///
    /// # Errors
    /// It cannot be renamed: it is a mount point, or its parent may not be written. Nothing was moved then.
    pub fn set_aside(&self, suffix: &str) -> Result<PathBuf, PgError> {
        let target = beside(&self.path, suffix);
        fs::rename(&self.path, &target).map_err(|error| match error.raw_os_error() {
            Some(code)
                if [Errno::BUSY, Errno::XDEV, Errno::ACCESS]
                    .map(Errno::raw_os_error)
                    .contains(&code) =>
            {
                PgError::NotMovable {
                    path: self.path.clone(),
                    cause: error,
                }
            }
            _ => PgError::file(&self.path)(error),
        })?;
        let moved = DataDir { path: target.clone() };
        for (link, outside) in moved.links() {
            let kept = beside(&outside, suffix);
            fs::create_dir_all(&kept).map_err(PgError::file(&kept))?;
            for entry in fs::read_dir(&outside).map_err(PgError::file(&outside))?.flatten() {
                fs::rename(entry.path(), kept.join(entry.file_name()))
                    .map_err(PgError::file(entry.path()))?;
            }
            fs::remove_file(&link).map_err(PgError::file(&link))?;
            std::os::unix::fs::symlink(&kept, &link).map_err(PgError::file(&link))?;
        }
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

    /// Where its tablespaces lie.
    #[must_use]
    pub fn tablespaces(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path.join("pg_tblspc"))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .collect()
    }

    /// The WAL directory, when that is a link.
    fn wal_elsewhere(&self) -> Option<PathBuf> {
        fs::read_link(self.path.join("pg_wal")).ok()
    }

    /// Links that lead out of the directory, and where to.
    fn links(&self) -> Vec<(PathBuf, PathBuf)> {
        let entries = fs::read_dir(self.path.join("pg_tblspc"))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .map(|entry| entry.path())
            .chain([self.path.join("pg_wal")])
            .filter_map(|link| Some((link.clone(), fs::read_link(link).ok()?)))
            .collect()
    }
}

/// Empties a directory that a copy is about to fill; one that is not there is empty.
///
/// # Errors
/// Something cannot be removed.
pub fn empty(dir: &Path) -> Result<(), PgError> {
    match remove_contents(dir) {
        Err(PgError::File { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether nothing lies in it. One that is not there, or is no directory, holds nothing.
#[must_use]
pub fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found"))
    })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{suffix}"));
    PathBuf::from(name)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the agent calls it through its blocking()"
)]
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
