use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

/// Commands on clusters.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Start Kubernetes for this machine, with the operator in it
    #[command(
        long_about = "Start a small Kubernetes for this machine (the sandbox), and in it the operator that makes clusters from \
            manifests. Pods run as processes with loopback addresses of their own; nothing is downloaded.\n\n\
            State is kept in /var/lib/howdah (as root) or ~/.local/state/howdah; $HOWDAH_STATE names another place. As root, \
            pods run as the user 'postgres'.\n\n\
            In the foreground Ctrl-C stops the pods in order and ends. A second 'howdah up' continues with the same clusters."
    )]
    Up(UpArgs),
    /// Stop it; the clusters' data stays unless --purge
    Down(DownArgs),
    /// Create or change clusters from manifests
    Apply(ApplyArgs),
    /// List the clusters
    List(ListArgs),
    /// Show one cluster: members, conditions, how to connect
    #[command(visible_alias = "status")]
    Get(GetArgs),
    /// Show what has happened to a cluster
    Events(EventsArgs),
    /// Open psql on a cluster, through its Service
    Psql(PsqlArgs),
    /// Show what a cluster's members log
    Logs(LogsArgs),
    /// Delete a cluster and all of its data
    Delete(DeleteArgs),
    /// Check manifests without a server
    Lint(LintArgs),
    /// Print the CustomResourceDefinitions
    Crd,
    /// Print the path of the kubeconfig, for kubectl
    Kubeconfig,
}

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  howdah up --detach\n  howdah apply -f examples/minimal-postgres-manifest.yaml --wait\n  \
        kubectl --kubeconfig $(howdah kubeconfig) get all"
)]
pub struct UpArgs {
    /// Run in the background; returns when everything is there
    #[arg(long, short)]
    pub detach: bool,
    /// The user that pods run as when root starts the sandbox
    #[arg(long, default_value = "postgres")]
    pub pod_user: String,
}

#[derive(Debug, Args)]
pub struct DownArgs {
    /// Also remove everything: clusters, their data, credentials
    #[arg(long)]
    pub purge: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 applied (and ready with --wait), 2 a manifest has errors and nothing was changed (or, with \
        --wait, the operator cannot act on it), 3 applied but not ready within --timeout.\n\n\
        Examples:\n  howdah apply -f cluster.yaml --wait --timeout 2m\n  howdah apply -f manifests/\n  \
        kubectl get postgresql -o yaml | howdah apply -f -"
)]
pub struct ApplyArgs {
    /// Files, directories or URLs with manifests; '-' reads from the standard input
    #[arg(long, short, required = true)]
    pub file: Vec<PathBuf>,
    /// Wait until the clusters are ready, and show how they become so
    #[arg(long, short)]
    pub wait: bool,
    /// How long to wait, such as 90s, 10m or 1h
    #[arg(long, default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
    /// The namespace of objects that name none
    #[arg(long, short)]
    pub namespace: Option<String>,
}

/// Where a cluster is.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// The namespace
    #[arg(long, short, default_value = "default")]
    pub namespace: String,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this namespace
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// table, json or yaml
    #[arg(long, short, default_value = "table", value_parser = ["table", "json", "yaml"])]
    pub output: String,
}

#[derive(Debug, Args)]
pub struct GetArgs {
    /// The cluster
    pub cluster: String,
    /// text, json or yaml
    #[arg(long, short, default_value = "text", value_parser = ["text", "json", "yaml"])]
    pub output: String,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  howdah events acid-minimal-cluster --follow")]
pub struct EventsArgs {
    /// The cluster
    pub cluster: String,
    /// Go on as events come
    #[arg(long, short)]
    pub follow: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  howdah psql acid-minimal-cluster -d foo\n  howdah psql acid-minimal-cluster -d foo -- -c 'select 1'"
)]
pub struct PsqlArgs {
    /// The cluster
    pub cluster: String,
    /// The database
    #[arg(long, short, default_value = "postgres")]
    pub dbname: String,
    /// The role; its password is taken from its Secret
    #[arg(long, short = 'U', default_value = "postgres")]
    pub user: String,
    /// A replica instead of the primary
    #[arg(long)]
    pub replica: bool,
    #[command(flatten)]
    pub place: Place,
    /// More arguments for psql
    #[arg(last = true)]
    pub args: Vec<String>,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The cluster
    pub cluster: String,
    /// Only this member, such as acid-minimal-cluster-0
    #[arg(long, short)]
    pub member: Option<String>,
    /// Go on as lines are written
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last lines of each member
    #[arg(long, value_name = "LINES")]
    pub tail: Option<i64>,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The cluster
    pub cluster: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// How long to wait until everything is gone
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Each finding is one line: FILE:LINE: error|warning: FIELD: what is wrong and what to write.\nExit codes: 0 no \
        errors (warnings may be), 2 errors."
)]
pub struct LintArgs {
    /// Files, directories or URLs with manifests; '-' reads from the standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// `90s`, `10m`, `1h`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| "write a number and s, m or h, such as 90s".to_owned())?;
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        other => return Err(format!("'{other}' is no unit: write s, m or h")),
    };
    number
        .checked_mul(unit)
        .map(Duration::from_secs)
        .ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert!(
            duration("soon").is_err()
                && duration("5d").is_err()
                && duration("99999999999999999999h").is_err()
        );
    }
}
