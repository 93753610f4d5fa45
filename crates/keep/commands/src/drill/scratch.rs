use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use howdah_backup::Backup;
use rustix::fs::{FlockOperation, flock, statvfs};

/// The directory of a drill. It goes with the value, unless it is kept.
#[derive(Debug)]
pub(super) struct Scratch {
    root: PathBuf,
    reserve: u64,
    keeps: std::cell::Cell<bool>,
    /// Locked while the drill runs: a directory whose lock is free was left behind.
    _lock: File,
}

/// How the directories are called.
const PREFIX: &str = "howdah-drill-";

/// The longest path of a socket, by the kernel.
const SOCKET: usize = 107;

fn lock(root: &Path) -> std::io::Result<File> {
    let file = File::create(root.join("lock"))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// Takes away what drills have left that were killed.
#[allow(clippy::disallowed_methods, reason = "nothing else runs yet")]
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // One that is kept for a person has no lock.
        if is_ours && entry.path().join("lock").exists() && lock(&entry.path()).is_ok() {
            tracing::warn!(
                "{} was left by a drill that was killed, and is removed.",
                entry.path().display()
            );
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Scratch {
    /// Makes a new directory below `parent`, which has room for `needed` bytes.
    pub(super) fn make(parent: Option<&Path>, needed: u64) -> Result<Self, String> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let parent =
            std::path::absolute(&parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        if parent.ancestors().any(|dir| dir.join("PG_VERSION").exists()) {
            return Err(format!(
                "{} is part of a data directory: name another place with --scratch",
                parent.display()
            ));
        }
        sweep(&parent);
        let disk = statvfs(&parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let reserve = (disk.f_blocks.saturating_mul(disk.f_frsize) / 20).min(super::RESERVE);
        if free < needed.saturating_add(reserve) {
            return Err(format!(
                "{} has {} free; the restored files need {}, and {} stay free: name another place with --scratch",
                parent.display(),
                crate::output::bytes(free),
                crate::output::bytes(needed),
                crate::output::bytes(reserve)
            ));
        }
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|error| error.to_string())?;
        let root = parent.join(format!("{PREFIX}{:08x}", u32::from_ne_bytes(random)));
        if root.join(".s.PGSQL.5432.lock").as_os_str().len() > SOCKET {
            return Err(format!(
                "{} is too long a path for the socket of a server: name another place with --scratch",
                parent.display()
            ));
        }
        // Only its owner may read what is restored.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&root);
        made.map_err(|error| format!("{}: {error}", root.display()))?;
        let lock = lock(&root).map_err(|error| format!("{}: {error}", root.display()))?;
        Ok(Scratch {
            root,
            reserve,
            keeps: std::cell::Cell::new(false),
            _lock: lock,
        })
    }

    /// Whether half of what is to stay free is free.
    pub(super) fn has_room(&self) -> bool {
        statvfs(&self.root).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= self.reserve / 2)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The directory of the socket: the path of a socket is at most 107 bytes.
    pub(super) fn sockets(&self) -> &Path {
        &self.root
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Tablespaces lie below it too.
    pub(super) fn tablespaces(&self, backup: &Backup) -> BTreeMap<String, PathBuf> {
        let numbers = backup
            .sentinel
            .iter()
            .filter_map(|sentinel| sentinel.spec.as_ref())
            .flat_map(|spec| &spec.tablespaces);
        numbers
            .map(|number| (number.clone(), self.root.join(format!("tablespace-{number}"))))
            .collect()
    }

    /// Leaves the directory where it is.
    pub(super) fn keep(&self) -> PathBuf {
        self.keeps.set(true);
        let _ = std::fs::remove_file(self.root.join("lock"));
        self.root.clone()
    }

    /// Takes the directory away.
    pub(super) fn remove(self) {
        drop(self);
    }
}

impl Drop for Scratch {
    #[allow(
        clippy::disallowed_methods,
        reason = "it is the last thing that the command does"
    )]
    fn drop(&mut self) {
        if self.keeps.get() {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.root) {
            tracing::warn!("{}: {error}.", self.root.display());
        }
    }
}
