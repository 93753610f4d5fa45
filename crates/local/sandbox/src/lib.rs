//! Kubernetes for one machine: a small API server, the controllers that a PostgreSQL cluster needs, and a node that runs
//! pods as processes. The operator, the agents and `kubectl` use it as they use a real one.
//!
//! It is not Kubernetes: what the API does not offer answers 405 or 501 and names the limit (docs/sandbox.md).
//!
//! ```text
//!   request ─► api/ (routes, discovery, tables, watches) ─► patch/, fields/ (who owns which field), schema.rs
//!                      │                                             │
//!                      ▼                                             ▼
//!               store/ (objects, revisions, a ring of events, a log on disk)
//!                      ▲
//!   controllers/ (StatefulSet, claims, Services, garbage) ── node/ (pods as processes, addresses, proxies, logs)
//!                                                              ▲
//!                                   streams/ (exec and port-forward over WebSocket and SPDY)
//! ```
//!
//! Must not know PostgreSQL: images map to programs that the caller names.

mod api;
mod builtin;
mod certificate;
mod controllers;
mod defaults;
mod error;
mod fields;
mod labelled;
mod meta;
mod node;
mod patch;
mod resources;
mod schema;
mod selector;
mod server;
mod state;
mod store;
mod streams;

use error::ApiError;
use store::Store;

pub use node::{Images, Program};
pub use server::{Running, Sandbox, StartError, purge, start};
pub use state::{SandboxDir, StateError};
