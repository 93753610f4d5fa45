//! The disk of this machine, off the thread that answers.

use tokio::task::spawn_blocking;

/// Runs `work` on a thread of its own; `None` if it has ended without a result.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    spawn_blocking(work).await.ok()
}
