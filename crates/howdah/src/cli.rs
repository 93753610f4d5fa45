use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use clap::{Args, CommandFactory, Parser, Subcommand};

/// High availability for PostgreSQL with provable fencing, compatible with Patroni.
#[derive(Debug, Parser)]
#[command(
    name = "howdah",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
#[command(
    after_help = "Of 'howdah ctl' these may be written without 'ctl': switchover, failover, restart, reinit, pause, resume, \
        history.\nCalled as 'patroni', 'patronictl', 'wal-g', 'wal-e' or 'envdir' (through a symbolic link) it behaves as those do.\n\n\
        HOWDAH_STATE names the directory of the sandbox: /var/lib/howdah (as root) or ~/.local/state/howdah unless set.\n\n\
        Examples:\n  howdah up --detach\n  howdah apply -f cluster.yaml --wait\n  howdah get acid-minimal-cluster\n  \
        howdah switchover acid-minimal-cluster"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Cluster(howdah_commands::ClusterCommand),
    /// Run one member of a cluster: its PostgreSQL, its agent, and the guard above both.
    Agent(AgentArgs),
    /// The agent below a guard.
    #[command(hide = true)]
    AgentWorker(AgentArgs),
    /// What a pod of the image begins with: from the environment to the agent.
    #[command(hide = true)]
    Entrypoint(howdah_entrypoint::EntrypointArgs),
    /// What a connection pooler's pod begins with: PgBouncer, configured by the environment.
    #[command(hide = true)]
    Pooler,
    /// Make clusters be what their manifests say, on a Kubernetes.
    Operator(howdah_operate::OperatorArgs),
    /// Look at a cluster and change it, with patronictl's commands and output.
    Ctl(howdah_ctl::CtlArgs),
    /// Backups: list them, make one, restore, delete what is not needed any longer.
    Backup(howdah_backup_commands::BackupArgs),
    /// Archive and fetch WAL, as PostgreSQL's archive_command and restore_command.
    Wal(howdah_backup_commands::WalArgs),
    /// WAL-G's and WAL-E's command lines.
    #[command(hide = true, name = "wal-g")]
    WalG(howdah_backup_commands::WalGArgs),
    /// Serve archive_command and restore_command of a server, and make backups by a schedule.
    #[command(hide = true)]
    Archiver(howdah_backup_commands::ArchiverArgs),
    /// Run a command that can write below some directories only.
    #[command(hide = true)]
    Confine(howdah_backup_commands::ConfineArgs),
    /// Run a command with variables from a directory of files.
    #[command(hide = true)]
    Envdir(howdah_backup_commands::EnvdirArgs),
    /// Print the completions for a shell.
    #[command(
        after_help = "Example:\n  howdah completions bash > ~/.local/share/bash-completion/completions/howdah"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command.
    #[command(after_help = "Example:\n  howdah man ~/.local/share/man/man1 && man howdah-apply")]
    Man {
        /// The directory for them.
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(
    long_about = "Run one member of a cluster: its PostgreSQL, its agent, and the guard above both.\n\n\
        Reads Patroni's configuration (patroni.yml). Environment variables PATRONI_* override the file.\n\n\
        SIGTERM or SIGINT hands leadership over and stops PostgreSQL; SIGHUP reads the configuration again; SIGUSR2 \
        restarts the agent from the installed binary and leaves PostgreSQL running.",
    after_help = "Examples:\n  howdah agent /etc/patroni/patroni.yml\n  howdah agent --validate-config patroni.yml\n  \
        howdah agent --generate-sample-config main.yml\n  howdah agent --generate-config --dsn 'host=/tmp user=postgres' main.yml"
)]
pub struct AgentArgs {
    /// A YAML file, or a directory of *.yml and *.yaml files that are merged in order of their names; with --generate-… the file to write.
    #[arg(required_unless_present_any = ["generate_sample_config", "generate_config"])]
    pub config: Option<PathBuf>,
    /// Check the configuration, say what is wrong with it, and end.
    #[arg(long)]
    pub validate_config: bool,
    /// Print a configuration with comments for a new cluster, or write it to CONFIG, and end.
    #[arg(long, conflicts_with = "validate_config")]
    pub generate_sample_config: bool,
    /// Print a configuration for the PostgreSQL that runs here, or write it to CONFIG, and end.
    #[arg(long, conflicts_with_all = ["validate_config", "generate_sample_config"])]
    pub generate_config: bool,
    /// With --generate-config: how to connect to the server as superuser. PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE say the rest.
    #[arg(long, requires = "generate_config")]
    pub dsn: Option<String>,
}

/// Whether the program was called by this name, through a symbolic link.
pub fn called_as(mut args: impl Iterator<Item = OsString>, name: &str) -> bool {
    args.next().is_some_and(|program| file_name(&program) == name)
}

fn file_name(program: &OsStr) -> &OsStr {
    Path::new(program).file_name().unwrap_or_default()
}

/// Commands of `ctl` that may be written without it.
const SHORT: &[&str] = &[
    "switchover",
    "failover",
    "restart",
    "reinit",
    "pause",
    "resume",
    "history",
];

/// The tree of commands with those that may be written without `ctl`, for completions and manual pages.
pub fn complete() -> clap::Command {
    let tree = Cli::command();
    let short: Vec<clap::Command> = tree
        .find_subcommand("ctl")
        .into_iter()
        .flat_map(clap::Command::get_subcommands)
        .filter(|command| SHORT.contains(&command.get_name()))
        .cloned()
        .collect();
    tree.subcommands(short)
}

/// Options of `ctl` that say where a cluster is.
const PLACES: &[&str] = &[
    "-c",
    "--config-file",
    "-d",
    "--dcs-url",
    "--dcs",
    "--kubeconfig",
    "--context",
];

/// Puts the right subcommand in when the binary was called by another name.
///
/// The short commands are for the sandbox, as all beside them are, unless an option names another place.
pub fn as_called(args: impl Iterator<Item = OsString>, sandbox: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.collect();
    let name = args.first().map(|program| file_name(program).to_string_lossy());
    let subcommand = match name.as_deref() {
        Some("patroni") => Some("agent"),
        Some("patronictl") => Some("ctl"),
        Some("wal-g" | "wal-e") => Some("wal-g"),
        Some("envdir") => Some("envdir"),
        Some(_) | None => None,
    };
    let of_ctl = |word: &OsString| SHORT.iter().any(|short| word == *short);
    if name.as_deref() == Some("restore_command.sh") {
        // Spilo's script, which configurations name.
        args.splice(1..1, ["wal".into(), "get".into()]);
    } else if let Some(subcommand) = subcommand {
        args.insert(1, subcommand.into());
    } else if args.get(1).is_some_and(of_ctl) {
        args.insert(1, "ctl".into());
        let names_place = args.iter().any(|arg| {
            let text = arg.to_string_lossy();
            PLACES
                .iter()
                .any(|place| text == *place || text.starts_with(&format!("{place}=")))
        });
        if !names_place {
            args.splice(2..2, ["--kubeconfig".into(), sandbox.into()]);
        }
    }
    howdah_operate::with_double_dashes(args)
}

/// Whether PostgreSQL may call this as its `restore_command`: it takes exit codes up to 125 for "there is no such file" and
/// promotes, so that a mistake in the command must not end with one of these. `envdir` stands before any command.
pub fn is_restore_command(args: &[OsString]) -> bool {
    let has = |word: &str| args.iter().any(|arg| arg == word);
    (has("wal") && has("get")) || (has("wal-g") && has("wal-fetch")) || has("envdir")
}

/// The same for a command line that cannot be read: its words may be misspelled.
pub fn may_be_restore_command(args: &[OsString]) -> bool {
    ["wal", "wal-g", "envdir"]
        .iter()
        .any(|word| args.iter().any(|arg| arg == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_consistent() {
        Cli::command().debug_assert();
        let complete = complete();
        for short in SHORT {
            assert!(complete.find_subcommand(short).is_some(), "{short}");
        }
    }

    #[test]
    fn other_names_are_other_commands() {
        let called = |words: &[&str]| as_called(words.iter().map(OsString::from), Path::new("/s"));
        let args = called(&["/usr/bin/patronictl", "list"]);
        assert_eq!(args, ["/usr/bin/patronictl", "ctl", "list"]);
        let args = called(&["howdah", "switchover", "a"]);
        assert_eq!(args, ["howdah", "ctl", "--kubeconfig", "/s", "switchover", "a"]);
        for own in ["--context=b", "-c", "--kubeconfig"] {
            let args = called(&["howdah", "pause", own, "x", "a"]);
            assert_eq!(args, ["howdah", "ctl", "pause", own, "x", "a"]);
        }
        let args = called(&["howdah", "list"]);
        assert_eq!(args, ["howdah", "list"]);
        let args = called(&["/usr/local/bin/wal-e", "wal-push", "f"]);
        assert_eq!(args, ["/usr/local/bin/wal-e", "wal-g", "wal-push", "f"]);
        let args = called(&["/scripts/restore_command.sh", "f", "p"]);
        assert_eq!(args, ["/scripts/restore_command.sh", "wal", "get", "f", "p"]);
        assert!(is_restore_command(&args));
    }
}
