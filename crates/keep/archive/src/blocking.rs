//! Work for a thread of its own: disks, compression, digests.

use tokio::task::spawn_blocking;

use crate::ArchiveError;

/// Runs `work` off the threads that speak with the store.
///
/// # Errors
/// The work's own, or that it ended without a result.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ArchiveError::Refused(format!("a thread ended early: {error}"))),
    }
}
