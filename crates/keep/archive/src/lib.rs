//! An archive of backups and WAL in object storage or a directory: what PostgreSQL's `archive_command` and
//! `restore_command` run, base backups, and their restore. The rules are in `howdah-backup`; this is their I/O.
//!
//! ```text
//!   settings.rs  WAL-G's variables ─► store.rs  objects with deadlines and classes of errors ─► open.rs, connector.rs  HTTP
//!   wal/push.rs  segment ─► whose? ─► packed ─► created if absent, else compared      codec.rs, cipher.rs, lzop.rs
//!   wal/get.rs   found ─► unpacked beside the target ─► whose? ─► renamed
//!   create/      pg_backup_start ─► files into archives ─► pg_backup_stop ─► WAL seen ─► sentinel
//!   restore/     archives ─► files, deltas over them ─► pg_control last
//!   catalogue.rs listing and documents ─► howdah_backup::Catalogue
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod blocking;
mod catalogue;
mod cipher;
mod codec;
mod connector;
mod create;
mod error;
mod hex;
mod local;
mod lzop;
mod open;
mod progress;
mod remove;
mod restore;
mod settings;
mod store;
mod throttle;
mod verify;
mod wal;
mod words;

pub use catalogue::catalogue;
pub use cipher::Key;
pub use create::{Made, Options as CreateOptions, Server, claim_backup, create, is_replica};
pub use error::ArchiveError;
pub use progress::{Progress, Seen};
pub use remove::{apply, delete, everything};
pub use restore::{Options as RestoreOptions, Tablespaces, restore};
pub use settings::{Azure, Place, S3, Settings};
pub use store::Store;
pub use verify::{Verification, verify, verify_wal};
pub use wal::{Got, Pushed, fetch as wal_fetch, get as wal_get, identity, push as wal_push};
