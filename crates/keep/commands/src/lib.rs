//! The commands on an archive: `howdah backup …` for people, `howdah wal …` for PostgreSQL, and both under the names that
//! existing configurations call (`wal-g`, `wal-e`, `envdir`).
//!
//! ```text
//!   variables.rs  environment, --env-dir, --config ─► howdah_archive::Settings
//!   cli.rs        arguments        backup.rs, wal.rs  what they do        output.rs, show.rs  what is printed
//!   walg.rs       WAL-G's and WAL-E's arguments ─► the same
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod archiver;
mod backup;
mod cli;
mod drill;
mod envdir;
mod failure;
mod follow;
mod look;
mod make_up;
mod output;
mod recovery_files;
mod retain;
mod scheduled;
mod show;
mod variables;
mod wal;
mod walg;

pub use cli::{ArchiverArgs, BackupArgs, EnvdirArgs, WalArgs};
pub use drill::ConfineArgs;
pub use failure::Failure;
pub use walg::WalGArgs;

/// Runs `howdah backup`.
///
/// # Errors
/// A [`Failure`] with an exit code, or what went wrong.
pub fn run_backup(args: BackupArgs) -> anyhow::Result<u8> {
    run(backup::run(args))?
}

/// Runs `howdah wal`.
///
/// # Errors
/// A [`Failure`] with the exit code that PostgreSQL acts on.
pub fn run_wal(args: WalArgs) -> anyhow::Result<u8> {
    wal::run(args)
}

/// Runs as `wal-g` or `wal-e`.
///
/// # Errors
/// As those of the commands that it stands for.
pub fn run_walg(args: WalGArgs) -> anyhow::Result<u8> {
    walg::run(args)
}

/// Runs the archiver of a data directory, and backups by a schedule, until the standard input ends.
///
/// # Errors
/// Settings cannot be read, or the schedule has no next moment.
pub fn run_archiver(args: ArchiverArgs) -> anyhow::Result<u8> {
    run(archiver::run(args))?
}

/// Becomes a program that can write below some directories only.
///
/// # Errors
/// The kernel cannot do that, or the program cannot be run.
pub fn run_confined(args: &ConfineArgs) -> anyhow::Result<u8> {
    drill::confine(args)
}

/// Runs as `envdir`: it becomes the command.
///
/// # Errors
/// The directory cannot be read, or the command not be run.
pub fn run_envdir(args: &EnvdirArgs) -> anyhow::Result<u8> {
    envdir::run(args)
}

fn run<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(work);
    // Threads that wait for a server that is gone must not keep the process.
    runtime.shutdown_background();
    Ok(ended)
}

/// The deadline of a command's requests beside the moving of data: a listing of a large archive takes its time.
pub(crate) fn soon() -> howdah_types::BootTime {
    howdah_clock::now() + std::time::Duration::from_secs(300)
}
