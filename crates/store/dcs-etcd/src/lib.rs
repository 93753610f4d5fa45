//! etcd v3 as the store, through its JSON gateway (`/v3/kv/txn`, `/v3/lease/keepalive`, `/v3/watch`, …).
//!
//! The gateway and not gRPC: one HTTP stack in the agent, no protobuf compiler at build time, and the same failures
//! as Patroni's `etcd3` has. Every way in which an operation can end is distinguished: see [`howdah_dcs::Outcome`].
//!
//! ```text
//!   store.rs  EtcdStore: Op ─► request ─► Outcome      wire.rs  the gateway's JSON (base64 keys, integers as text)
//!   watch.rs  EtcdWatcher: one endless request         transport.rs  endpoints, tokens, keep-alive connections
//! ```

mod store;
mod transport;
mod watch;
mod wire;

pub use store::EtcdStore;
pub use transport::{Endpoints, SetupError};
