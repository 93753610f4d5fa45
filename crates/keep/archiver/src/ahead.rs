//! Segments that are archived before PostgreSQL asks for them. It asks for one after the other; the next ones are on their way
//! by then. What has become of them is kept in memory only: after a restart they are found in the archive.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use howdah_backup::WalName;
use howdah_clock::now;
use howdah_http::timeout_at;
use howdah_types::BootTime;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    blocking::blocking,
    opened::{FenceWatch, Opened},
};

/// Files that are archived and not asked for yet, at most.
const WINDOW: usize = 16;

/// At once, whatever the settings say: beyond that only memory grows.
const AT_ONCE: usize = 4;

/// What tells a file from another one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Mark {
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let of = std::fs::metadata(path).ok()?;
        Some(Mark {
            inode: of.ino(),
            length: of.len(),
            modified: (of.mtime(), of.mtime_nsec()),
        })
    }
}

/// A file that is archived before its turn.
#[derive(Debug)]
struct Job {
    mark: Mark,
    /// Where it goes: another archive has not got it.
    opened: Arc<Opened>,
    /// `None` while it is under way; then since when it is in the archive, if it is.
    done: watch::Receiver<Option<Option<BootTime>>>,
}

/// How long a result is believed: an archive may be emptied by hand while nothing is archived.
const BELIEVED: Duration = Duration::from_secs(60);

/// The file that was asked for last, and where it goes.
#[derive(Clone, Debug)]
struct Asked {
    name: String,
    opened: Arc<Opened>,
}

/// The files, by name.
#[derive(Debug)]
pub(crate) struct Ahead {
    data: PathBuf,
    fence: FenceWatch,
    jobs: Mutex<BTreeMap<String, Job>>,
    asked: watch::Sender<Option<Asked>>,
}

impl Ahead {
    pub(crate) fn new(data: PathBuf, fence: FenceWatch) -> Self {
        Ahead {
            data,
            fence,
            jobs: Mutex::default(),
            asked: watch::Sender::new(None),
        }
    }

    /// PostgreSQL asks for a file: those behind it come next. True if it is in this archive already.
    pub(crate) async fn asked(&self, name: &str, opened: &Arc<Opened>, deadline: BootTime) -> bool {
        self.asked.send_replace(Some(Asked {
            name: name.to_owned(),
            opened: Arc::clone(opened),
        }));
        let job = self.jobs.lock().remove(name);
        let Some(mut job) = job.filter(|job| Arc::ptr_eq(&job.opened, opened)) else {
            return false;
        };
        // A channel that closes without a word belongs to work that was given up.
        let since = match timeout_at(deadline, job.done.wait_for(Option::is_some)).await {
            Ok(Ok(done)) => done.flatten(),
            Ok(Err(_)) | Err(_) => None,
        };
        if since.is_none_or(|since| now().since(since) > BELIEVED) {
            return false;
        }
        let path = self.data.join("pg_wal").join(name);
        blocking(move || Mark::of(&path)).await.flatten() == Some(job.mark)
    }

    /// Archives ahead until it is dropped.
    pub(crate) async fn run(&self) {
        let mut asked = self.asked.subscribe();
        let mut working: JoinSet<()> = JoinSet::new();
        loop {
            tokio::select! {
                changed = asked.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // What has failed is tried again when PostgreSQL goes on.
                    self.jobs.lock().retain(|_, job| *job.done.borrow() != Some(None));
                }
                Some(_) = working.join_next() => {}
            }
            let Some(last) = asked.borrow_and_update().clone() else {
                continue;
            };
            self.fill(&last, &mut working).await;
        }
    }

    async fn fill(&self, last: &Asked, working: &mut JoinSet<()>) {
        let (status, after) = (self.data.join("pg_wal/archive_status"), last.name.clone());
        let ready = blocking(move || ready_behind(&status, &after))
            .await
            .unwrap_or_default();
        let limit = last.opened.settings().uploads.clamp(1, AT_ONCE);
        {
            // PostgreSQL renames or removes files that it knows to be archived.
            let mut jobs = self.jobs.lock();
            jobs.retain(|name, job| job.done.borrow().is_none() || ready.contains(name));
        }
        for name in ready {
            // The one that PostgreSQL waits for is archived too.
            if working.len() + 1 >= limit.max(2) || self.jobs.lock().len() >= WINDOW {
                return;
            }
            if self.jobs.lock().contains_key(&name) || self.is_fenced() {
                continue;
            }
            self.begin(name, last, working).await;
        }
    }

    fn is_fenced(&self) -> bool {
        self.fence.borrow().unwrap_or_default().has_run_out(now())
    }

    async fn begin(&self, name: String, last: &Asked, working: &mut JoinSet<()>) {
        let path = self.data.join("pg_wal").join(&name);
        let of = path.clone();
        let Some(mark) = blocking(move || Mark::of(&of)).await.flatten() else {
            return;
        };
        let (tell, done) = watch::channel(None);
        let job = Job {
            mark,
            opened: Arc::clone(&last.opened),
            done,
        };
        self.jobs.lock().insert(name.clone(), job);
        let opened = Arc::clone(&last.opened);
        let fence = self.fence.clone();
        working.spawn(async move {
            let pushed = opened.push(&path, Some(fence)).await;
            if let Err(error) = &pushed {
                // PostgreSQL asks for it soon, and the reason is told then.
                tracing::debug!("{name} is not archived yet: {error}");
            }
            tell.send_replace(Some(pushed.is_ok().then(howdah_clock::now)));
        });
    }
}

/// Segments that wait behind a file, in their order.
fn ready_behind(status: &Path, after: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(status) else {
        return Vec::new();
    };
    let mut found: Vec<String> = entries
        .filter_map(|entry| {
            let file = entry.ok()?.file_name();
            let name = file.to_str()?.strip_suffix(".ready")?.to_owned();
            let is_segment = matches!(name.parse(), Ok(WalName::Segment(_)));
            (is_segment && name.as_str() > after).then_some(name)
        })
        .collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_behind_one_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "000000010000000000000004.ready",
            "000000010000000000000003.ready",
            "000000010000000000000001.ready",
            "000000010000000000000005.done",
            "00000002.history.ready",
            "000000010000000000000003.00000028.backup.ready",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(
            ready_behind(dir.path(), "000000010000000000000002"),
            ["000000010000000000000003", "000000010000000000000004"]
        );
        assert!(ready_behind(&dir.path().join("none"), "").is_empty());
    }
}
