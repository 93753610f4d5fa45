//! Segments that are fetched before a server that replays asks for them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use howdah_backup::{Segment, SegmentSize};
use howdah_http::timeout_at;
use howdah_types::BootTime;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};

use crate::{blocking::blocking, depth::Depth, opened::Opened, spool::Spool};

/// Segments ahead at most, and their bytes.
const MOST: u64 = 8;
const BYTES: u64 = 512 << 20;

/// A server that asks for nothing for this time has come to the end: what was fetched for it goes.
const IDLE: Duration = Duration::from_secs(60);

/// A segment that is fetched.
#[derive(Debug)]
struct Fetched {
    /// From where: another archive may have another one of its name.
    opened: Arc<Opened>,
    /// `None` while it is under way; then its file, if it could be fetched.
    file: watch::Receiver<Option<Option<PathBuf>>>,
}

/// What to fetch next.
#[derive(Clone, Debug)]
struct Wanted {
    opened: Arc<Opened>,
    timeline: howdah_types::Timeline,
    first: u64,
    count: u64,
    size: SegmentSize,
}

/// Segments by timeline and number.
#[derive(Debug)]
pub(crate) struct Prefetch {
    data: PathBuf,
    pub(crate) spool: Arc<Spool>,
    depth: Mutex<Depth>,
    fetched: Mutex<BTreeMap<Segment, Fetched>>,
    wanted: watch::Sender<Option<Wanted>>,
}

impl Prefetch {
    pub(crate) fn new(data: PathBuf) -> Self {
        let spool = Arc::new(Spool::new(&data));
        Prefetch {
            data,
            spool,
            depth: Mutex::new(Depth::new()),
            fetched: Mutex::default(),
            wanted: watch::Sender::new(None),
        }
    }

    /// The file of a segment that was fetched, and whether the server need not wait for it.
    pub(crate) async fn take(
        &self,
        segment: Segment,
        opened: &Arc<Opened>,
        deadline: BootTime,
    ) -> (Option<PathBuf>, bool) {
        let fetched = self.fetched.lock().remove(&segment);
        let Some(mut fetched) = fetched.filter(|fetched| Arc::ptr_eq(&fetched.opened, opened)) else {
            return (None, false);
        };
        let was_ready = matches!(&*fetched.file.borrow(), Some(Some(_)));
        match timeout_at(deadline, fetched.file.wait_for(Option::is_some)).await {
            Ok(Ok(file)) => (file.clone().flatten(), was_ready),
            Ok(Err(_)) | Err(_) => (None, false),
        }
    }

    /// A segment was handed over: the next ones are fetched.
    pub(crate) fn asked(&self, segment: Segment, size: SegmentSize, was_ready: bool, opened: &Arc<Opened>) {
        let Some(number) = segment.number(size) else {
            return;
        };
        let downloads = u64::try_from(opened.settings().downloads).unwrap_or(MOST);
        let limit = MOST.min(downloads).min(BYTES / size.bytes().max(1));
        let count = self
            .depth
            .lock()
            .asked(segment.timeline.0, number, was_ready, limit);
        self.wanted.send_replace(Some(Wanted {
            opened: Arc::clone(opened),
            timeline: segment.timeline,
            first: number + 1,
            count,
            size,
        }));
    }

    /// There is no further segment for now.
    pub(crate) fn ended(&self) {
        self.depth.lock().ended();
    }

    /// Fetches until it is dropped.
    pub(crate) async fn run(&self) {
        let mut wanted = self.wanted.subscribe();
        let mut working: JoinSet<bool> = JoinSet::new();
        let mut end = false;
        let mut last = howdah_clock::now();
        let mut is_clear = true;
        loop {
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    (end, is_clear, last) = (false, false, howdah_clock::now());
                }
                Some(done) = working.join_next() => end |= !done.unwrap_or(false),
                () = howdah_http::sleep_until(last + IDLE), if !is_clear => {
                    let all = std::mem::take(&mut *self.fetched.lock());
                    forget(all).await;
                    let spool = Arc::clone(&self.spool);
                    blocking(move || spool.leave()).await;
                    is_clear = true;
                    continue;
                }
            }
            let now = wanted.borrow_and_update().clone();
            if let Some(now) = now.filter(|_| !end) {
                self.fill(&now, &mut working).await;
            }
        }
    }

    async fn fill(&self, now: &Wanted, working: &mut JoinSet<bool>) {
        let first = Segment::new(now.timeline, now.first, now.size);
        let passed = {
            let mut fetched = self.fetched.lock();
            let later = fetched.split_off(&first);
            std::mem::replace(&mut *fetched, later)
        };
        forget(passed).await;
        let spool = Arc::clone(&self.spool);
        let size = now.size.bytes();
        let room = blocking(move || spool.room(size)).await.unwrap_or(0);
        for number in now.first..now.first + now.count.min(room / size.max(1)) {
            let segment = Segment::new(now.timeline, number, now.size);
            if working.len() >= usize::try_from(now.count).unwrap_or(1) {
                return;
            }
            if self.fetched.lock().contains_key(&segment) {
                continue;
            }
            let (spool, name) = (Arc::clone(&self.spool), segment.to_string());
            let Some(Ok(target)) = blocking(move || spool.path(&name)).await else {
                return;
            };
            let (tell, file) = watch::channel(None);
            let opened = Arc::clone(&now.opened);
            let job = Fetched {
                opened: Arc::clone(&opened),
                file,
            };
            self.fetched.lock().insert(segment, job);
            let data = self.data.clone();
            working.spawn(async move {
                let found = fetch(&opened, segment, &target, &data).await;
                tell.send_replace(Some(found.then(|| target.clone())));
                // It was forgotten meanwhile.
                if tell.receiver_count() == 0 {
                    blocking(move || std::fs::remove_file(target)).await;
                }
                found
            });
        }
    }
}

async fn fetch(opened: &Opened, segment: Segment, target: &Path, data: &Path) -> bool {
    let deadline = howdah_clock::now() + opened.settings().get_patience;
    match opened.fetch(segment, target, data, deadline).await {
        Ok(got) => got.is_some(),
        Err(error) => {
            // The server asks for it soon, and the reason is told then.
            tracing::debug!("{segment} is not fetched yet: {error}");
            false
        }
    }
}

/// Files that are not asked for any longer. One that is under way is removed when it is there.
async fn forget(passed: BTreeMap<Segment, Fetched>) {
    for fetched in passed.into_values() {
        let file = fetched.file.borrow().clone().flatten();
        if let Some(file) = file {
            blocking(move || std::fs::remove_file(file)).await;
        }
    }
}
