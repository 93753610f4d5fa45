//! Consul as the store: Patroni's keys below `<namespace>/<scope>`, members and leader locked by sessions.
//!
//! A session is the lease. Consul ends it not before its TTL and not after twice that, so it has half of the lease's length, as
//! Patroni's has, and a leader relies on that half alone. Writes are transactions: what they demand and what they do is decided
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
