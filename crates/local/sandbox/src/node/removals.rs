//! Removing volumes and directories of pods, which takes as long as the disk takes: a thread of its own does it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use crate::meta;

/// What is to be removed is moved here first, which takes no time. What a sandbox has not finished the next one does.
#[derive(Debug)]
pub(crate) struct Removals {
    dir: PathBuf,
    wake: Option<SyncSender<()>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Removals {
    /// Begins, with what is left from before.
    ///
    /// # Errors
    /// `dir` cannot be made, or no thread.
    pub(crate) fn start(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        // One place: a second wish to look is the first one.
        let (wake, wakes) = sync_channel(1);
        let _ = wake.try_send(());
        let ending = Arc::new(AtomicBool::new(false));
        let (path, end) = (dir.clone(), Arc::clone(&ending));
        let thread = std::thread::Builder::new()
            .name("removals".to_owned())
            .spawn(move || work(&path, &wakes, &end))?;
        Ok(Removals {
            dir,
            wake: Some(wake),
            ending,
            thread: Some(thread),
        })
    }

    /// It is gone from its place when this returns. A path that does not exist is no error.
    pub(crate) fn remove(&self, path: &Path) {
        match fs::rename(path, self.dir.join(meta::uuid())) {
            Ok(()) => {
                if let Some(wake) = &self.wake {
                    let _ = wake.try_send(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{} cannot be removed: {error}.", path.display()),
        }
    }
}

impl Drop for Removals {
    /// Waits for no more than the tree that is being removed now; a sandbox that is asked to end does not wait even for that.
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

fn work(dir: &Path, wakes: &Receiver<()>, ending: &AtomicBool) {
    while wakes.recv().is_ok() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if ending.load(Ordering::Relaxed) {
                return;
            }
            remove(&entry.path());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one thread that may wait for this")]
fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path).or_else(|_| fs::remove_file(path)) {
        tracing::warn!("{} cannot be removed: {error}.", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_is_gone_at_once_and_then_from_the_disk() {
        let root = std::env::temp_dir().join(meta::uuid());
        let (victim, dir) = (root.join("volume"), root.join("gone"));
        fs::create_dir_all(victim.join("base/1")).unwrap();
        fs::write(victim.join("base/1/2"), "x").unwrap();
        fs::create_dir_all(dir.join("left/from/before")).unwrap();
        let removals = Removals::start(dir.clone()).unwrap();
        removals.remove(&victim);
        removals.remove(&victim);
        assert!(!victim.exists());
        let deadline = howdah_clock::now() + std::time::Duration::from_secs(10);
        while fs::read_dir(&dir).unwrap().next().is_some() {
            assert!(howdah_clock::now() < deadline, "it is still there");
            std::thread::yield_now();
        }
        drop(removals);
        fs::remove_dir(&dir).unwrap();
        fs::remove_dir(&root).unwrap();
    }
}
