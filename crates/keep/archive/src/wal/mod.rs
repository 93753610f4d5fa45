//! What `archive_command` and `restore_command` do with one file.

mod find;
mod get;
mod push;
mod whose;

pub use get::{Got, get};
pub use push::{Pushed, push};
pub use whose::identity;

/// The largest segment that PostgreSQL can be made with, and the most that a file of WAL is read to.
const LARGEST: u64 = 1 << 30;

/// The name of a digest beside an object.
const SHA256: &str = "howdah-sha256";
