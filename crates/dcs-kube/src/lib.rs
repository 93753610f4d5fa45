//! The store on Kubernetes: Patroni's ConfigMaps and pod annotations.
//!
//! Kubernetes has no leases that a server ends, so time is counted by whoever looks: the leader's record is over when it
//! has not changed for its length *on the observer's clock since the observer saw it*, and then only if a fresh read says
//! the same, and then by a swap on that resourceVersion. The leader counts from when it *sent* a renewal, which is earlier
//! than any observer can have seen it. Whose record it is tells the incarnation, an annotation beside Patroni's that is
//! bound to the time of the last renewal: a name proves nothing.
//!
//! ```text
//!   observed.rs  what this process has seen of the leader's record, and since when     (pure)
//!   layout.rs    ConfigMaps and Pods ⇄ keys: names, annotations, labels               (pure)
//!   transport.rs one connection: what was refused, what was not sent, what is unknown
//!   store.rs     KubeStore: Store    lease.rs  the leader's record     watch.rs  KubeWatcher
//! ```
//!
//! Must not know what leadership is for. Uses no Kubernetes client library: a lease needs to know whether a write may have
//! happened, which those do not tell.

mod layout;
mod lease;
mod observed;
#[cfg(test)]
mod race_test;
mod store;
mod transport;
mod watch;

pub use layout::{INCARNATION, Layout};
pub use store::{KubeHub, KubeStore};
pub use transport::{Api, SetupError};
