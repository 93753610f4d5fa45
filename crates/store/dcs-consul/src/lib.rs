//! Consul as the store: Patroni's keys below `<namespace>/<scope>`, members and leader locked by sessions.
//!
//! A session is the lease. Consul ends it not before its TTL and not after twice that, unless its node leaves or a hand ends it; in
//! any case no other session locks its keys before the lock delay is over. Both are a third of the lease, and a leader relies on
//! the delay. Writes are transactions: what they demand and what they do is decided
//! at one moment.
//!
//! ```text
//!   store.rs  ConsulStore: Op ─► request ─► Outcome     agent.rs    the agent's HTTP API, tokens, outcomes
//!   watch.rs  ConsulWatcher: blocking queries           wire.rs     keys and transactions in JSON
//!                                                       service.rs  the member as a service of Consul's
//! ```

mod agent;
mod service;
mod store;
mod watch;
mod wire;

pub use agent::{Agent, SetupError};
pub use service::ServiceOptions;
pub use store::{ConsulHub, ConsulStore};
