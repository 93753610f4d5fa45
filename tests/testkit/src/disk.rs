use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Room for a cluster that is written to for some minutes. A segment of WAL has a file for each timeline that has been in it, and
/// a campaign has a hundred.
const SIZE: &str = "size=3g";

/// A file system in memory; unmounted when it is dropped.
pub(crate) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one at `path`, for the owner of the member's processes.
    pub(crate) fn mount(path: PathBuf, owner: Option<(u32, u32)>) -> anyhow::Result<Self> {
        fs::create_dir(&path)?;
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "howdah-lab"])
            .arg(&path)
            .status()?;
        anyhow::ensure!(status.success(), "a small file system needs root: {status}");
        if let Some((uid, gid)) = owner {
            chown(&path, Some(uid), Some(gid))?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(SmallDisk { path })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

/// Takes all room on a file system, also what others give back, until it is dropped.
pub(crate) struct Filler {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Filler {
    /// Returns when all room on the file system of `data` is taken.
    pub(crate) fn fill(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("filler");
        let mut file = fs::File::create(&path)?;
        take_all(&mut file);
        let ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                take_all(&mut file);
                std::thread::park_timeout(Duration::from_millis(1));
            }
        });
        Ok(Filler {
            ended,
            thread: Some(thread),
            path,
        })
    }
}

fn take_all(file: &mut fs::File) {
    let mut size = 1 << 20;
    while size > 0 {
        if file.write_all(&vec![0; size]).is_err() {
            size /= 2;
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}
