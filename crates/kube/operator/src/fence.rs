use std::{future::Future, pin::pin, task::Poll};

use howdah_clock::now;
use howdah_http::sleep_until;
use howdah_types::BootTime;
use tokio::sync::watch;

/// Until when this process may work on clusters. Of several operators only the one that leads may, and it leads until a moment
/// of its own clock that each renewal of its Lease moves on.
#[derive(Clone, Debug)]
pub struct Fence(Option<watch::Receiver<BootTime>>);

impl Fence {
    /// There is no other operator: the sandbox's.
    #[must_use]
    pub fn open() -> Self {
        Fence(None)
    }

    /// The moment comes through a channel. Once the sender is gone, the fence is closed.
    #[must_use]
    pub fn until(moment: watch::Receiver<BootTime>) -> Self {
        Fence(Some(moment))
    }

    /// Does `work` while the fence is open. `None`: it has closed first, and the work stands where it was.
    ///
    /// The clock is read before each step of the work: a process that was frozen sends nothing that the work would have sent
    /// next. What was handed to the kernel before that may still arrive.
    pub async fn hold<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        let Some(moment) = &self.0 else {
            return Some(work.await);
        };
        let mut moment = moment.clone();
        loop {
            let end = *moment.borrow_and_update();
            if now() >= end || moment.has_changed().is_err() {
                return None;
            }
            let guarded = std::future::poll_fn(|task| {
                if now() >= end {
                    return Poll::Ready(None);
                }
                work.as_mut().poll(task).map(Some)
            });
            tokio::select! {
                biased;
                _ = moment.changed() => {}
                () = sleep_until(end) => {}
                done = guarded => {
                    if done.is_some() {
                        return done;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_while_the_moment_is_moved_and_ends_when_it_comes() {
        let (moment, seen) = watch::channel(now() + Duration::from_secs(1));
        let fence = Fence::until(seen);
        let renewing = async {
            for _ in 0..15 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                moment.send_replace(now() + Duration::from_secs(1));
            }
        };
        let long = fence.hold(tokio::time::sleep(Duration::from_millis(1300)));
        let (done, ()) = tokio::join!(long, renewing);
        assert!(done.is_some(), "the moment was moved on in time");
        let endless = fence.hold(std::future::pending::<()>());
        assert_eq!(endless.await, None);
    }

    #[tokio::test]
    async fn nothing_is_begun_behind_a_closed_fence() {
        let (moment, seen) = watch::channel(now());
        let fence = Fence::until(seen);
        let mut begun = false;
        let work = async { begun = true };
        assert_eq!(fence.hold(work).await, None);
        moment.send_replace(now() + Duration::from_secs(9));
        drop(moment);
        assert_eq!(fence.hold(async {}).await, None, "its owner is gone");
        assert!(!begun);
    }
}
