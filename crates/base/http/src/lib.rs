//! The one HTTP stack: a client with absolute deadlines, a server, and TLS for both, on hyper and rustls.
//!
//! What distinguishes it from a general client is the error: it says whether the request may have reached the server,
//! because a write to the store must never be taken for lost when it may have happened.
//!
//! ```text
//!   client.rs  Client ─► Connection (keep-alive) ─► Response       tls.rs  certificates from PEM files, one provider
//!   error.rs   NotSent | Lost | Timeout                            server.rs  accept loop, one service per connection
//! ```
//!
//! A connection may leave HTTP (`switch.rs`, `raw.rs`): what serves it then runs in the connection's own task.
//!
//! Must not depend on what is talked about: no cluster, no store, no agent.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod client;
mod deadline;
mod dial;
mod error;
mod pinned;
mod places;
mod raw;
mod server;
mod switch;
mod tls;
mod url;

pub use client::{Client, Connection, Response, StreamBody};
pub use deadline::{sleep_until, timeout_at};
pub use dial::{ByteStream, dial};
pub use error::{Cause, HttpError};
pub use hyper::Method;
pub use places::Limits;
pub use raw::{Hangup, Raw};
pub use rustls::{ClientConfig, ServerConfig};
pub use server::{Peer, Reply, ServerTls, serve};
pub use switch::Switch;
pub use tls::{Pem, TlsError, client_tls, client_tls_of, server_tls, server_tls_of, use_ring};
pub use url::{Url, basic_auth};
