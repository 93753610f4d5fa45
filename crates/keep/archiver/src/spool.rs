use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Whoever has asked for a file takes it at once.
const FORGOTTEN: std::time::Duration = std::time::Duration::from_secs(300);

/// Where fetched segments lie until PostgreSQL takes them: on its own file system, so that taking one is a rename.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    count: AtomicU64,
}

impl Spool {
    pub(crate) fn new(data: &Path) -> Self {
        Spool {
            dir: data.join("pg_wal/howdah_prefetch"),
            count: AtomicU64::new(0),
        }
    }

    /// A path for a file. No other process and no earlier fetch has the same one: a write that goes on after it was given up
    /// meets no file of PostgreSQL's.
    pub(crate) fn path(&self, name: &str) -> std::io::Result<PathBuf> {
        match std::fs::create_dir(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        Ok(self.dir.join(format!("{name}.{}-{count}", std::process::id())))
    }

    /// Takes away files whose asker has gone, and the directory if nothing is left in it.
    pub(crate) fn leave(&self) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let age = entry.metadata().and_then(|of| of.modified()).ok();
            if age
                .and_then(|at| at.elapsed().ok())
                .is_some_and(|age| age > FORGOTTEN)
            {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let _ = std::fs::remove_dir(&self.dir);
    }

    /// Takes everything away that an earlier process has left. Nothing is served yet.
    #[allow(
        clippy::disallowed_methods,
        reason = "this runs on a thread of its own, over a handful of files"
    )]
    pub(crate) fn clear(&self) {
        match std::fs::remove_dir_all(&self.dir) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{}: {error}.", self.dir.display()),
        }
    }

    /// Bytes that may be written while enough stays free for PostgreSQL.
    pub(crate) fn room(&self, segment: u64) -> u64 {
        let Ok(disk) = rustix::fs::statvfs(&self.dir) else {
            return 0;
        };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        free.saturating_sub(segment.saturating_mul(8).max(256 << 20))
    }
}
