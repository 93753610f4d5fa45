//! Work that waits for a disk, off the threads that keep leases and answer health checks.

use anyhow::Context;

/// Runs `work` on a thread of its own. It is not cancelled when the caller is: a directory that is being emptied goes on
/// being emptied.
///
/// # Errors
/// It panicked, or the runtime is ending.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context(what)
}
