//! A program that can write below some directories only, by Landlock.
//!
//! Replay of WAL makes tablespaces where the original has them. On the machine of the original those directories are in use,
//! and PostgreSQL in recovery does not mind: without this, a drill could write into a live server's files.

use std::{ffi::OsString, os::unix::process::CommandExt, path::PathBuf};

use anyhow::Context;
use clap::Args;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};

/// Arguments of the wrapper.
#[derive(Debug, Args)]
pub struct ConfineArgs {
    /// A directory that may be written below
    #[arg(long, required = true)]
    write: Vec<PathBuf>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// The first version that knows truncation, which a writer needs to be kept from.
const NEEDED: ABI = ABI::V3;

/// Becomes the program, confined.
///
/// # Errors
/// The kernel cannot confine it, or the program cannot be run.
pub(crate) fn run(args: &ConfineArgs) -> anyhow::Result<u8> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::from_read(NEEDED)))?;
    let devices = ["/dev/null", "/dev/shm"].map(PathBuf::from);
    for path in args
        .write
        .iter()
        .chain(devices.iter().filter(|path| path.exists()))
    {
        let open = PathFd::new(path).with_context(|| path.display().to_string())?;
        let access = if path.is_dir() {
            AccessFs::from_all(NEEDED)
        } else {
            AccessFs::from_file(NEEDED)
        };
        rules = rules.add_rule(PathBeneath::new(open, access))?;
    }
    // A drill that is killed leaves no server behind.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::QUIT))?;
    let status = rules.restrict_self()?;
    anyhow::ensure!(
        status.ruleset == RulesetStatus::FullyEnforced,
        "Landlock is not in force"
    );
    let (program, arguments) = args.command.split_first().context("no program is named")?;
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(error).with_context(|| program.to_string_lossy().into_owned())
}

/// Whether this kernel can do it.
pub(super) fn is_possible() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))
        .and_then(Ruleset::create)
        .is_ok()
}
