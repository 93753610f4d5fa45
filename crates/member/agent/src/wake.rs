use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes the loop. Many wakes before it looks are one.
#[derive(Clone, Default)]
pub(crate) struct Wake(Arc<Notify>);

impl Wake {
    /// The world may have changed.
    pub(crate) fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits for a wake that has not been seen.
    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }
}
