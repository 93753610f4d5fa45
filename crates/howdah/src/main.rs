//! The one binary: the tree of commands, and logging. Everything else lives in the crates it calls.

mod cli;
mod logfile;
mod logging;

use std::{
    ffi::{CString, OsStr},
    io::{self, Write},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use cli::{AgentArgs, Cli, Command};
use howdah_agent::ConfigFile;

fn main() -> ExitCode {
    let args = cli::as_called(std::env::args_os(), &howdah_commands::kubeconfig_of_sandbox());
    let restores = cli::is_restore_command(&args);
    if cli::may_be_restore_command(&args) {
        end_with_255_at_a_panic();
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && cli::may_be_restore_command(&args) => {
            let _ = error.print();
            return ExitCode::from(255);
        }
        Err(error) => error.exit(),
    };
    let result = match cli.command {
        Command::Agent(args) => agent(&args),
        Command::AgentWorker(args) => worker(args),
        Command::Ctl(args) => {
            howdah_guard::end_at_closed_pipes();
            let (kubeconfig, namespace) = (args.kubeconfig.as_deref(), args.namespace.as_deref());
            howdah_commands::look_in_sandbox(kubeconfig, args.cluster(), namespace)
                .and_then(|()| howdah_ctl::run(args, howdah_commands::sandbox_kubeconfig()))
                .map(|code| {
                    // patronictl prints a refusal and exits with 0.
                    let is_fine =
                        code == howdah_ctl::REFUSED && cli::called_as(std::env::args_os(), "patronictl");
                    if is_fine { 0 } else { code }
                })
        }
        Command::Operator(args) => operator(&args),
        Command::Entrypoint(args) => howdah_entrypoint::run(&args),
        Command::Pooler => howdah_entrypoint::run_pooler(),
        Command::Cluster(command) => cluster(command),
        Command::Backup(args) => archive(|| howdah_backup_commands::run_backup(args)),
        Command::Wal(args) => archive(|| howdah_backup_commands::run_wal(args)),
        Command::WalG(args) => archive(|| howdah_backup_commands::run_walg(args)),
        Command::Archiver(args) => {
            keep_private();
            logging::start("INFO").and_then(|()| howdah_backup_commands::run_archiver(args))
        }
        Command::Confine(args) => howdah_backup_commands::run_confined(&args),
        Command::Envdir(args) => howdah_backup_commands::run_envdir(&args),
        Command::Completions { shell } => {
            howdah_guard::end_at_closed_pipes();
            clap_complete::generate(shell, &mut cli::complete(), "howdah", &mut io::stdout());
            Ok(0)
        }
        Command::Man { dir } => manual(&dir),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // The guard has made stderr non-blocking: a full pipe is no reason to panic.
            let _ = writeln!(io::stderr(), "Error: {error:#}");
            let of_archive = error.downcast_ref::<howdah_backup_commands::Failure>();
            ExitCode::from(match of_archive {
                Some(failure) if failure.is_final || !restores => failure.code,
                _ if restores => 255,
                Some(_) | None => howdah_commands::exit_code(&error),
            })
        }
    }
}

/// PostgreSQL takes a panic's exit code, 101, for the end of the archive, and promotes.
fn end_with_255_at_a_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(255);
    }));
}

/// Writes the manual pages.
fn manual(dir: &Path) -> anyhow::Result<u8> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    clap_mangen::generate_to(cli::complete(), dir).with_context(|| dir.display().to_string())?;
    println!("Written to {}.", dir.display());
    Ok(0)
}

/// Checks the configuration, then becomes the guard, which starts this binary again as the agent.
fn agent(args: &AgentArgs) -> anyhow::Result<u8> {
    if args.generate_sample_config || args.generate_config {
        return generate(args);
    }
    let path = args.config.clone().context("the configuration is not named")?;
    let file = ConfigFile { path: path.clone() };
    let (_, warning) = file.read()?;
    if args.validate_config {
        match warning {
            Some(warning) => println!("The configuration is usable. {warning}."),
            None => println!("The configuration is usable."),
        }
        return Ok(0);
    }
    anyhow::ensure!(
        !rustix::process::geteuid().is_root(),
        "PostgreSQL does not run as root, and neither does its agent: start it as the owner of the data, for example \
         with 'runuser -u postgres -- howdah agent {}'",
        path.display()
    );
    let program = std::env::current_exe().context("finding this program")?;
    let argv = [OsStr::new("howdah"), OsStr::new("agent-worker"), path.as_os_str()];
    let argv = argv
        .into_iter()
        .map(c_string)
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(howdah_guard::run(
        &c_string(Path::new(&program).as_os_str())?,
        &argv,
    )?)
}

/// Makes a configuration. It has passwords: a file is its owner's alone, and one that is there is left alone.
fn generate(args: &AgentArgs) -> anyhow::Result<u8> {
    let text = if args.generate_sample_config {
        howdah_agent::generate::sample()?
    } else {
        howdah_agent::generate::from_running(args.dsn.as_deref())?
    };
    let Some(path) = &args.config else {
        print!("{text}");
        return Ok(0);
    };
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("writing {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| path.display().to_string())?;
    println!("Written to {}.", path.display());
    Ok(0)
}

/// Upstream's variable asks for lines of JSON.
fn operator(args: &howdah_operate::OperatorArgs) -> anyhow::Result<u8> {
    let asks = std::env::var("ENABLE_JSON_LOGGING").is_ok_and(|value| value == "true");
    logging::start_for_server(asks)?;
    howdah_operate::run(args)
}

/// Only the server logs; the other commands print.
fn cluster(command: howdah_commands::ClusterCommand) -> anyhow::Result<u8> {
    if matches!(command, howdah_commands::ClusterCommand::Up(_)) {
        howdah_guard::pass_no_descriptors_on();
    }
    let is_server = matches!(&command, howdah_commands::ClusterCommand::Up(args) if !args.detach);
    logging::start(if is_server { "INFO" } else { "ERROR" })?;
    if !is_server {
        howdah_guard::end_at_closed_pipes();
    }
    howdah_commands::run(command)
}

/// Commands on an archive print, and say on stderr what went wrong on the way. A connection that the store closes must not end
/// them, so closed pipes do not either.
fn archive(work: impl FnOnce() -> anyhow::Result<u8>) -> anyhow::Result<u8> {
    logging::start("WARNING")?;
    keep_private();
    work()
}

/// What is stored in a directory or restored from an archive has all of a cluster's data and its passwords.
fn keep_private() {
    rustix::process::umask(rustix::fs::Mode::from_bits_retain(0o077));
}

fn worker(args: AgentArgs) -> anyhow::Result<u8> {
    let path = args.config.context("the configuration is not named")?;
    let file = ConfigFile { path };
    let (config, _) = file.read()?;
    logging::start_as(config.log)?;
    let ended = howdah_agent::run(file, logging::lost);
    logging::finish(ended.as_ref().err());
    ended
}

fn c_string(text: &OsStr) -> anyhow::Result<CString> {
    CString::new(text.as_bytes()).context("an argument contains a zero byte")
}
