//! Work that waits for a disk, off the threads that keep leases and answer health checks.

use anyhow::Context;
use tokio::sync::{Mutex, oneshot};

/// Runs `work` on a thread of its own: the runtime's only one looks up names, and may wait for a resolver. It is not cancelled
/// when the caller is: a directory that is being emptied goes on being emptied.
///
/// # Errors
/// It panicked, or the runtime is ending.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let (tell, done) = oneshot::channel();
    std::thread::Builder::new()
        .name("blocking".to_owned())
        .spawn(move || {
            // The caller may have been dropped.
            let _ = tell.send(work());
        })
        .context(what)?;
    done.await.context(what)
}

/// The same for PostgreSQL's configuration files, one after the other: an action and the loop may both write them.
pub(crate) async fn writing<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    static TURN: Mutex<()> = Mutex::const_new(());
    let _turn = TURN.lock().await;
    blocking("writing the configuration", work).await
}
