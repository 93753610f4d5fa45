//! How far a long work is, and whether it is still wanted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::ArchiveError;

/// Counters that a work advances and another task reads, and the word that it is to end early.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: AtomicU64,
    done: AtomicU64,
    moved: AtomicU64,
    given_up: watch::Sender<bool>,
    waiting: Mutex<Option<String>>,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            given_up: watch::Sender::new(false),
            waiting: Mutex::default(),
        }
    }
}

/// A look at the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes of files in all; 0 until that is known.
    pub total: u64,
    /// Bytes of files that are done.
    pub done: u64,
    /// Bytes that went over the network.
    pub moved: u64,
}

impl Progress {
    pub(crate) fn set_total(&self, bytes: u64) {
        self.0.total.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_waiting(&self, what: Option<String>) {
        *self.0.waiting.lock() = what;
    }

    /// What the work waits for, in a sentence; `None` while it goes on.
    #[must_use]
    pub fn waiting(&self) -> Option<String> {
        self.0.waiting.lock().clone()
    }

    pub(crate) fn add_done(&self, bytes: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_moved(&self, bytes: u64) {
        self.0.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Now.
    #[must_use]
    pub fn see(&self) -> Seen {
        Seen {
            total: self.0.total.load(Ordering::Relaxed),
            done: self.0.done.load(Ordering::Relaxed),
            moved: self.0.moved.load(Ordering::Relaxed),
        }
    }

    /// Ends the work: it stops where it is, and takes away what it has made.
    pub fn give_up(&self) {
        self.0.given_up.send_replace(true);
    }

    /// Waits until the work is not wanted any longer.
    pub(crate) async fn given_up(&self) {
        let mut given_up = self.0.given_up.subscribe();
        // The sender lives as long as this does.
        let _ = given_up.wait_for(|given_up| *given_up).await;
    }

    /// Runs a part of the work, until the work is not wanted any longer at the latest. When a part fails, the whole does.
    pub(crate) async fn run<T>(
        &self,
        part: impl Future<Output = Result<T, ArchiveError>>,
    ) -> Result<T, ArchiveError> {
        let ended = tokio::select! {
            biased;
            () = self.given_up() => Err(ArchiveError::Interrupted),
            ended = part => ended,
        };
        if ended.is_err() {
            self.give_up();
        }
        ended
    }
}

/// The results of all parts, or the error that ended the others.
pub(crate) fn all<T>(results: Vec<Result<T, ArchiveError>>) -> Result<Vec<T>, ArchiveError> {
    let mut done = Vec::new();
    let mut failed = None;
    for result in results {
        match (result, &failed) {
            (Ok(one), _) => done.push(one),
            (Err(error), None | Some(ArchiveError::Interrupted)) => failed = Some(error),
            (Err(_), Some(_)) => {}
        }
    }
    failed.map_or(Ok(done), Err)
}
