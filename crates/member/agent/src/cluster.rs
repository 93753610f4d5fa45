use std::{sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_dcs::{KeyOp, Outcome, Store, StoreError, View};
use howdah_types::BootTime;

use crate::{repeated::Repeated, watching::Watching};

/// Without a change that the watch reports, the store is read again after this long.
const VIEW_LIFE: Duration = Duration::from_secs(60);

/// The same where positions have moved: replicas move their slots along with them.
const MOVED_LIFE: Duration = Duration::from_secs(20);

/// The cluster as the store describes it: what was read last, when, and whether it may still be so.
pub(crate) struct ClusterState {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) watching: Watching,
    /// What was read last; kept while the store does not answer.
    pub(crate) view: Option<Arc<View>>,
    read_at: BootTime,
    /// Wall clock of the last answer, in seconds since 1970, for people.
    pub(crate) seen_at: i64,
    /// The store has not answered a read since.
    down_since: Option<BootTime>,
    trouble: Repeated,
}

impl ClusterState {
    /// Nothing was read yet.
    pub(crate) fn new(store: Arc<dyn Store>, watching: Watching) -> Self {
        ClusterState {
            store,
            watching,
            view: None,
            read_at: now(),
            seen_at: 0,
            down_since: None,
            trouble: Repeated::default(),
        }
    }

    /// Reads the store. `None`: it does not answer.
    pub(crate) async fn read(&mut self, deadline: BootTime) -> Option<Arc<View>> {
        // What changes from here on is another change.
        self.watching.about_to_read();
        self.read_at = now();
        let read = self.store.read(deadline).await;
        self.note(read)
    }

    fn note(&mut self, read: Result<View, StoreError>) -> Option<Arc<View>> {
        match read {
            Ok(view) => {
                self.down_since = None;
                self.seen_at = jiff::Timestamp::now().as_second();
                if let Some(lasted) = self.trouble.over() {
                    tracing::info!("The store answers again, after {:.1} s.", lasted.as_secs_f64());
                }
                let view = Arc::new(view);
                self.view = Some(Arc::clone(&view));
                Some(view)
            }
            Err(error) => {
                if let Some(times) = self.trouble.happened() {
                    tracing::warn!(times, "The store cannot be read: {error}.");
                }
                self.down_since.get_or_insert_with(now);
                None
            }
        }
    }

    /// Writes one key. What was read before is no longer what the store has, whatever the outcome.
    pub(crate) async fn write(&mut self, op: &KeyOp, deadline: BootTime) -> Outcome<u64> {
        let outcome = self.store.write(op, deadline).await;
        self.watching.disturb();
        if let Outcome::Failed(reason) | Outcome::Unknown(reason) = &outcome
            && let Some(times) = self.trouble.happened()
        {
            tracing::warn!(reason, times, "A write to the store did not succeed.");
        }
        outcome
    }

    /// What was read last, if it is not old and the watch has reported no change since.
    pub(crate) fn unchanged(&self) -> Option<&Arc<View>> {
        let life = if self.watching.positions_moved() {
            MOVED_LIFE
        } else {
            VIEW_LIFE
        };
        let is_young = now() < self.read_at + life;
        self.view
            .as_ref()
            .filter(|_| is_young && self.down_since.is_none() && self.watching.is_quiet())
    }

    /// Since when the store has not answered a read; `None`: it has answered the last one.
    pub(crate) fn down_since(&self) -> Option<BootTime> {
        self.down_since
    }

    /// Whether what was read last may be shown as the cluster's state: it is not older than a lease.
    pub(crate) fn is_known(&self, ttl: Duration) -> bool {
        self.view.is_some() && self.down_since.is_none_or(|since| now().since(since) < ttl)
    }
}
