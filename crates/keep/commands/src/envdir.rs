use std::{os::unix::process::CommandExt, process::Command};

use anyhow::Context;

use crate::{cli::EnvdirArgs, variables::directory};

/// Becomes the command, with the variables of a directory.
pub(crate) fn run(args: &EnvdirArgs) -> anyhow::Result<u8> {
    let (program, rest) = args.command.split_first().context("no command is named")?;
    let mut command = Command::new(program);
    command.args(rest);
    let variables = directory(&args.dir)?;
    for (name, value) in variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // It returns only when the command could not be run.
    Err(command.exec()).with_context(|| program.to_string_lossy().into_owned())
}
