//! What an archive of backups and WAL is, without touching one: names, documents, what is in it, what a restore would
//! take and what retention may delete. The layout is WAL-G's, so that both read what the other has written.
//!
//! ```text
//!   listing + documents ─► Catalogue ─┬─► recovery::plan   which backup, which timelines, which segments, or why not
//!                                     ├─► retention::plan  what goes, what stays, and why
//!                                     └─► gaps             segments that are missing
//!   segment's first page ─► PageHeader ─► Identity::check  whose WAL this is
//! ```
//!
//! Must not depend on a store, a file system or a server.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod catalogue;
mod codec;
mod copied;
mod health;
mod history;
mod identity;
mod increment;
mod layout;
mod page;
mod proof;
mod receipt;
pub mod recovery;
mod report;
pub mod retention;
mod schedule;
mod sentinel;
mod wal_name;
mod wal_page;

pub use catalogue::{Backup, Catalogue, Gap, Object, Window};
pub use codec::{Codec, UnknownCodec};
pub use copied::{Copied, how_copied, is_relation};
pub use health::Health;
pub use history::{Path, Step, path};
pub use identity::{Foreign, Identity, check_place};
pub use increment::{Increment, IncrementError};
pub use layout::{BackupName, BadBackupName, Layout, backup_name};
pub use page::{BLOCK, block_checksum, is_sound};
pub use proof::Proof;
pub use receipt::{Pages, Receipt, Stored};
pub use report::{ArchiveState, Backlog, Fence, Report, second};
pub use schedule::{BadSchedule, Schedule};
pub use sentinel::{FileEntry, FilesMetadata, Metadata, Sentinel, TablespacePlace, TablespaceSpec};
pub use wal_name::{BadWalName, Segment, SegmentSize, WalName};
pub use wal_page::{BadPage, PageHeader};
