//! One local PostgreSQL: its files, its tools and its SQL.
//!
//! Carries out and observes; decides nothing and knows no cluster and no store. It never starts or promotes
//! PostgreSQL: it gives the command line, and the guard runs it.
//!
//! ```text
//!   data_dir.rs  what lies there        conf.rs      postgresql.conf, pg_hba.conf, signal files
//!   programs.rs  where the tools are    command.rs   the postmaster's command line
//!   auto_conf.rs what ALTER SYSTEM must not say      check.rs     values that it would not start with
//!   commit_wait.rs whether commits wait for a standby
//!   tools.rs     initdb, pg_basebackup, pg_rewind, user scripts
//!   session.rs   one SQL connection     sample.rs    everything a decision needs, in one query
//!   origins.rs   which promotion began a timeline      first_record.rs   as its WAL tells
//!   roles.rs     roles of a new cluster    slots.rs  replication slots    settings.rs  what needs a restart
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod archive_ready;
mod auto_conf;
mod check;
mod command;
mod commit_wait;
mod conf;
mod data_dir;
mod error;
mod files;
mod first_record;
mod local_trust;
mod origins;
mod programs;
mod roles;
mod sample;
mod server;
mod session;
mod settings;
mod slot_files;
mod slots;
mod tools;

pub use archive_ready::archive_ready;
pub use check::{BadParameter, bad_parameters, hba_refusal};
pub use command::command_line;
pub use commit_wait::write_wal;
pub use conf::{Conf, Recovery, Source};
pub use data_dir::{DataDir, Postmaster, empty, is_empty};
pub use error::PgError;
pub use howdah_sql::Session;
pub use programs::Programs;
pub use sample::{Receiver, Sample, Sender, SlotRow};
pub use server::Server;
pub use settings::{PendingRestart, file_errors};
pub use slot_files::{SlotFile, WalFiles, read_slot_files};
pub use slots::{
    advance_logical_slot, advance_slot, catalog_xmins, create_logical_slot, create_slot, drop_slot,
};
pub use tools::{RewindFailed, base_backup, initdb, replication_conninfo, rewind, run_script};
