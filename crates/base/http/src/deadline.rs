use std::future::Future;

use howdah_types::BootTime;

/// Runs `future` until `deadline` at the latest.
///
/// # Errors
/// The deadline passed first; the future is dropped where it stood.
pub async fn timeout_at<F: Future>(
    deadline: BootTime,
    future: F,
) -> Result<F::Output, tokio::time::error::Elapsed> {
    tokio::time::timeout(howdah_clock::now().until(deadline), future).await
}

/// Waits until `moment`. tokio's clock stands still in a suspended machine, so nothing that safety rests on may wait
/// here: the guard keeps its own timer.
pub async fn sleep_until(moment: BootTime) {
    // tokio refuses very long sleeps, and a far future is only "until something else happens".
    let longest = std::time::Duration::from_secs(3600);
    tokio::time::sleep(howdah_clock::now().until(moment).min(longest)).await;
}
