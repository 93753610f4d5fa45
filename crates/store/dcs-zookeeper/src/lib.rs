//! ZooKeeper as the store: Patroni's nodes below `/<namespace>/<scope>`, members and leader bound to sessions.
//!
//! A session is the lease: what is bound to it goes when it ends. The client is our own, a few requests of ZooKeeper's protocol:
//! a renewal must be known to have reached the quorum, and an answer that was lost must never look like a refusal; clients that
//! exist reconnect and repeat by themselves.
//!
//! ```text
//!   store.rs    ZooStore: Op ─► requests ─► Outcome        connection.rs  one connection: a task that writes, reads, pings
//!   session.rs  the lease's session, and when it was renewed    wire.rs   the protocol's bytes
//!   watch.rs    ZooWatcher: one recursive watch            ensemble.rs    servers, TLS, credentials, access rights
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod connection;
mod ensemble;
mod session;
mod store;
mod watch;
mod wire;

pub use ensemble::{Access, Certificates, Ensemble, SetupError};
pub use store::{ZooHub, ZooStore};
