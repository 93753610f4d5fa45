//! The resident archiver: one process beside a server that `archive_command` and `restore_command` ask over a Unix socket.
//! It keeps its connections to the store, archives the segments that come next before they are asked for, and fetches
//! ahead while a server replays. Whoever asks does the work itself when the archiver is not there, ends, or hangs.
//!
//! ```text
//!   client.rs ──{socket}──► protocol.rs ──► serve.rs ─┬─► ahead.rs     .ready files pushed before their turn
//!                                                     ├─► prefetch.rs  segments fetched before their turn   depth.rs  how many
//!                                                     └─► opened.rs    settings ─► stores that stay open
//!   backlog.rs  what waits, how fast it grows     dropped.rs  what was given up
//!   report.rs   all of it as a document, line by line to the agent
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod ahead;
mod backlog;
mod blocking;
mod client;
mod depth;
mod dropped;
mod opened;
mod peer;
mod prefetch;
mod protocol;
mod report;
mod serve;
mod socket;
mod spool;
mod tally;

pub use client::{ask, place_file};
pub use opened::{FenceWatch, Opened};
pub use protocol::{Answer, Request, Work};
pub use serve::{Archiver, Options};
pub use socket::socket_of;
