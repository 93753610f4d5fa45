//! The store on Kubernetes: Patroni's ConfigMaps, or Endpoints, and pod annotations.
//!
//! Kubernetes has no leases that a server ends, so each observer times the record itself, and the leader's record changes by
//! swaps on its resourceVersion: `howdah_dcs::observed` has the
//! rules, `howdah_dcs::kubernetes` the names. The incarnation annotation identifies the owner: an
//! annotation beside Patroni's that is bound to the time of the last renewal: a name proves nothing.
//!
//! ```text
//!   transport.rs one connection: what was refused, what was not sent, what is unknown
//!   hub.rs       what all stores of a process know of the leader's record
//!   store.rs     KubeStore: Store    lease.rs  the leader's record     watch.rs  KubeWatcher
//! ```
//!
//! Must not know what leadership is for. Uses no Kubernetes client library: a lease needs to know whether a write may have
//! happened, which those do not tell.

mod hub;
mod lease;
mod store;
mod transport;
mod watch;

pub use hub::KubeHub;
pub use store::KubeStore;
pub use transport::{Api, SetupError, Token};
