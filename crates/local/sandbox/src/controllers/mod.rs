//! What keeps objects as they should be. Each controller looks at all it cares for after every change; a sandbox is small.

mod deployment;
mod ending;
mod endpoints;
mod events;
mod garbage;
mod statefulset;

use std::time::Duration;

use howdah_clock::now;
use howdah_http::sleep_until;
use tokio::sync::watch;

use crate::Store;

pub(crate) use events::record;

/// After a change the controllers wait this long for more: a burst is handled once.
const GATHER: Duration = Duration::from_millis(5);

/// Runs until `stop`.
pub(crate) async fn run(store: Store, mut stop: watch::Receiver<bool>) {
    let mut changed = store.subscribe();
    loop {
        changed.mark_unchanged();
        statefulset::reconcile(&store);
        deployment::reconcile(&store);
        endpoints::reconcile(&store);
        garbage::collect(&store);
        events::prune(&store);
        // What they changed themselves wakes them again.
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            result = changed.changed() => {
                if result.is_err() {
                    return;
                }
            }
        }
        sleep_until(now() + GATHER).await;
    }
}
