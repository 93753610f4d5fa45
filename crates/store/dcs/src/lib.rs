//! The distributed configuration store (DCS): which keys a cluster has, what is written in them, and the few
//! conditional operations that all decisions come down to.
//!
//! Keys and values are Patroni's, so that its agents and ours share a cluster. Pure: no I/O and no clock. A store
//! implements [`Store`] in a crate of its own (`dcs-etcd`); [`MemStore`] is the same semantics in memory, with time
//! passed in, and is what the model checker runs against.
//!
//! ```text
//!   keys.rs   Key, KeyTree                 op.rs     LeaseOp, KeyOp -> Outcome {Done, Refused, Failed, Unknown}
//!   view.rs   View: one consistent read    store.rs  the Store and Watcher traits
//!   change.rs which changes ask for a decision
//!   kubernetes.rs the keys as ConfigMaps, annotations and labels
//!   observed/ the leader's record in stores that end no lease
//!   document.rs a key with its new content      mem.rs    MemStore
//!   member.rs sync.rs failover.rs history.rs status.rs topology.rs: what the documents say
//! ```

// A variant that is added asks for a decision at every place.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

mod change;
mod document;
mod failover;
mod history;
mod keys;
pub mod kubernetes;
mod mem;
mod member;
pub mod observed;
mod op;
mod status;
mod store;
mod sync;
mod topology;
mod view;

pub use change::{Change, Changes};
pub use document::Document;
pub use failover::FailoverRequest;
pub use history::{HistoryEntry, history_from_json, history_to_json};
pub use keys::{Key, KeyTree};
pub use mem::MemStore;
pub use member::{ArchiveMark, HowdahMark, Member};
pub use op::{Cond, KeyOp, LeaderKey, LeaderSeen, LeaseDone, LeaseId, LeaseOp, Outcome, Refusal, Term};
pub use status::{LITTLE_WAL, Status};
pub use store::{Answer, Store, StoreError, Watcher};
pub use sync::SyncState;
pub use topology::Topology;
pub use view::{RawKey, Versioned, View};
