//! The commands on an archive: `howdah backup …` for people, `howdah wal …` for PostgreSQL, and both under the names that
//! existing configurations call (`wal-g`, `wal-e`, `envdir`).
//!
//! ```text
//!   variables.rs  environment, --env-dir, --config ─► howdah_archive::Settings
//!   cli.rs        arguments        backup.rs, wal.rs  what they do        output.rs, show.rs  what is printed
//!   walg.rs       WAL-G's and WAL-E's arguments ─► the same
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod backup;
mod cli;
mod envdir;
mod failure;
mod follow;
mod output;
mod recovery_files;
mod retain;
mod scheduled;
mod show;
mod variables;
mod wal;
mod walg;

pub use cli::{BackupArgs, EnvdirArgs, WalArgs};
pub use failure::Failure;
pub use scheduled::ScheduleArgs;
pub use walg::WalGArgs;

/// Runs `howdah backup`.
///
/// # Errors
/// A [`Failure`] with an exit code, or what went wrong.
pub fn run_backup(args: BackupArgs) -> anyhow::Result<u8> {
    run(backup::run(args))
}

/// Runs `howdah wal`.
///
/// # Errors
/// A [`Failure`] with the exit code that PostgreSQL acts on.
pub fn run_wal(args: WalArgs) -> anyhow::Result<u8> {
    run(wal::run(args))
}

/// Runs as `wal-g` or `wal-e`.
///
/// # Errors
/// As those of the commands that it stands for.
pub fn run_walg(args: WalGArgs) -> anyhow::Result<u8> {
    run(walg::run(args))
}

/// Makes backups by a schedule until the standard input ends.
///
/// # Errors
/// The schedule has no next moment.
pub fn run_schedule(args: ScheduleArgs) -> anyhow::Result<u8> {
    run(scheduled::run(args))
}

/// Runs as `envdir`: it becomes the command.
///
/// # Errors
/// The directory cannot be read, or the command not be run.
pub fn run_envdir(args: &EnvdirArgs) -> anyhow::Result<u8> {
    envdir::run(args)
}

fn run(work: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(work);
    // Threads that wait for a server that is gone must not keep the process.
    runtime.shutdown_background();
    ended
}

/// The deadline of a command's requests beside the moving of data: a listing of a large archive takes its time.
pub(crate) fn soon() -> howdah_types::BootTime {
    howdah_clock::now() + std::time::Duration::from_secs(300)
}
