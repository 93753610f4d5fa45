//! What `archive_command` and `restore_command` do with one file.

mod find;
mod get;
mod push;
mod whose;

pub use get::{Got, fetch, get};
pub use push::{Pushed, push};
pub use whose::identity;

/// The largest segment that PostgreSQL can be made with, and the most that a file of WAL is read to.
const LARGEST: u64 = 1 << 30;

/// The name of a digest beside an object. Azure takes letters, digits and `_` only, and some proxies drop names with `_`.
const SHA256: &str = "howdahsha256";

/// Under which it was stored at first.
const OLD_SHA256: &str = "howdah-sha256";

/// The name of a leader's term beside an object.
const TERM: &str = "howdahterm";
