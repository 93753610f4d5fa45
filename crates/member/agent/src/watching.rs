//! Watching the store, and what may be concluded from silence.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use howdah_clock::now;
use howdah_dcs::{Change, Watcher};
use howdah_http::sleep_until;

use crate::wake::Wake;

/// A watch that breaks is begun again after this long.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether what was read last is still what the store has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watching(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The watch stands: a change would be told.
    stands: AtomicBool,
    /// Something has changed, or may have, since the flag was cleared.
    changed: AtomicBool,
    /// Positions have moved since then.
    moved: AtomicBool,
}

impl Watching {
    /// Nothing has changed since [`Watching::about_to_read`], as far as the store tells.
    pub(crate) fn is_quiet(&self) -> bool {
        self.0.stands.load(Ordering::SeqCst) && !self.0.changed.load(Ordering::SeqCst)
    }

    /// Positions have moved since [`Watching::about_to_read`].
    pub(crate) fn positions_moved(&self) -> bool {
        self.0.moved.load(Ordering::SeqCst)
    }

    /// Call before a read: what changes from now on is another change.
    pub(crate) fn about_to_read(&self) {
        self.0.changed.store(false, Ordering::SeqCst);
        self.0.moved.store(false, Ordering::SeqCst);
    }

    /// We have written, or may have: what was read before is no longer what the store has.
    pub(crate) fn disturb(&self) {
        self.0.changed.store(true, Ordering::SeqCst);
    }

    fn note(&self, stands: bool) {
        self.0.changed.store(true, Ordering::SeqCst);
        self.0.stands.store(stands, Ordering::SeqCst);
    }

    /// Watches, and wakes the loop at every change of the cluster's keys but those of positions.
    pub(crate) async fn run(self, mut watcher: Box<dyn Watcher>, wake: Wake) {
        loop {
            match watcher.changed().await {
                Ok(Change::Positions) => self.0.moved.store(true, Ordering::SeqCst),
                Ok(Change::Other) => {
                    self.note(true);
                    wake.wake();
                }
                Err(error) => {
                    tracing::debug!(%error, "the watch has ended");
                    self.note(false);
                    wake.wake();
                    sleep_until(now() + AGAIN).await;
                }
            }
        }
    }
}
