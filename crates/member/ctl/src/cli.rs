use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `howdah ctl`
#[derive(Debug, Args)]
pub struct CtlArgs {
    /// Configuration of the cluster: an agent's file will do. [default: patroni/patronictl.yaml in $XDG_CONFIG_HOME;
    /// without a store in it, the sandbox of this machine is meant]
    #[arg(short, long, env = "PATRONICTL_CONFIG_FILE", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// The store, as etcd3://host:port/namespace (or consul, or zookeeper); replaces the one in the file.
    #[arg(short, long, visible_alias = "dcs", env = "DCS_URL", value_name = "URL")]
    pub dcs_url: Option<String>,
    /// kubectl's configuration, for clusters on Kubernetes. [default: $KUBECONFIG; with --context, --namespace or a section
    /// 'kubernetes' ~/.kube/config; else the sandbox of this machine]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. [default: its current-context]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The Kubernetes namespace of the cluster. [default: the context's]
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Do not check the certificates of REST APIs.
    #[arg(short = 'k', long)]
    pub insecure: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: CtlCommand,
}

impl CtlArgs {
    /// The cluster that the command names.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        match &self.command {
            CtlCommand::List(args) => args.cluster_names.first().map(String::as_str),
            CtlCommand::Switchover(args) => args.cluster_name.as_deref(),
            CtlCommand::Failover(args) => args.cluster_name.as_deref(),
            CtlCommand::Restart(args) => Some(&args.members.cluster_name),
            CtlCommand::Reload(args) => Some(&args.members.cluster_name),
            CtlCommand::Reinit(args) => Some(&args.members.cluster_name),
            CtlCommand::Flush(args) => Some(&args.cluster_name),
            CtlCommand::Pause(args) | CtlCommand::Resume(args) => args.cluster_name.as_deref(),
            CtlCommand::ShowConfig(args) => args.cluster_name.as_deref(),
            CtlCommand::EditConfig(args) => args.cluster_name.as_deref(),
            CtlCommand::History(args) => args.cluster_name.as_deref(),
            CtlCommand::Topology(args) => args.cluster_names.first().map(String::as_str),
            CtlCommand::Dsn(args) => args.cluster_name.as_deref(),
            CtlCommand::Query(args) => args.cluster_name.as_deref(),
            CtlCommand::Version(args) => args.cluster_name.as_deref(),
            CtlCommand::Remove(args) => Some(&args.cluster_name),
            CtlCommand::DemoteCluster(args) => args.cluster_name.as_deref(),
            CtlCommand::PromoteCluster(args) => args.cluster_name.as_deref(),
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CtlCommand {
    /// List the members of a cluster.
    List(ListArgs),
    /// Move the leadership to another member, losing nothing.
    Switchover(SwitchoverArgs),
    /// Make a member the leader although the present one may be dead; may lose what the member has not received.
    Failover(FailoverArgs),
    /// Restart PostgreSQL on members.
    Restart(RestartArgs),
    /// Let members read their configuration again.
    Reload(ReloadArgs),
    /// Forget what was scheduled: restarts of members, or the switchover.
    Flush(FlushArgs),
    /// Discard the data of replicas and copy it again.
    Reinit(ReinitArgs),
    /// Begin maintenance mode: nothing is started, stopped or failed over by itself.
    Pause(PauseArgs),
    /// End maintenance mode.
    Resume(PauseArgs),
    /// Let the cluster follow another one: its primary becomes a standby of that.
    DemoteCluster(DemoteClusterArgs),
    /// Let a cluster that follows another one stand by itself: its leader becomes a primary.
    PromoteCluster(PromoteClusterArgs),
    /// Show the cluster-wide configuration.
    ShowConfig(ClusterArg),
    /// Change the cluster-wide configuration.
    EditConfig(EditConfigArgs),
    /// Show when the leadership has moved.
    History(HistoryArgs),
    /// List the members of a cluster as a tree: who streams from whom.
    Topology(TopologyArgs),
    /// Print host and port of a member's PostgreSQL; the leader's, unless told otherwise.
    Dsn(DsnArgs),
    /// Run SQL on a member; on the leader, unless told otherwise.
    Query(Box<QueryArgs>),
    /// Print this program's version, and those of a cluster's members.
    Version(VersionArgs),
    /// Delete everything that the store has of a cluster; its data directories stay.
    Remove(RemoveArgs),
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Pretty,
    /// Tab-separated values with a header line.
    Tsv,
    /// One array of objects.
    Json,
    /// A list of mappings.
    #[value(alias = "yml")]
    Yaml,
}

/// Arguments of `cluster`.
#[derive(Debug, Args)]
pub struct ClusterArg {
    /// The cluster. [default: scope of the configuration file]
    pub cluster_name: Option<String>,
}

/// Seconds between two repetitions.
fn interval(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.1..=86_400.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("from 0.1 to 86400 seconds".to_owned())
    }
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Clusters. [default: scope of the configuration file]
    pub cluster_names: Vec<String>,
    /// Show all columns.
    #[arg(short, long)]
    pub extended: bool,
    /// Print a time stamp first.
    #[arg(short, long)]
    pub timestamp: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub format: Format,
    /// Repeat every two seconds.
    #[arg(short = 'W')]
    pub watch_2: bool,
    /// Repeat after so many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = interval)]
    pub watch: Option<f64>,
}

/// Arguments of `topology`.
#[derive(Debug, Args)]
pub struct TopologyArgs {
    /// Clusters. [default: scope of the configuration file]
    pub cluster_names: Vec<String>,
    /// Repeat every two seconds.
    #[arg(short = 'W')]
    pub watch_2: bool,
    /// Repeat after so many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = interval)]
    pub watch: Option<f64>,
}

/// One member.
#[derive(Debug, Args)]
pub struct OneMember {
    /// Any member with this role.
    #[arg(
        short,
        long,
        value_parser = ["leader", "primary", "standby-leader", "replica", "standby", "any"],
        conflicts_with = "member"
    )]
    pub role: Option<String>,
    /// This member.
    #[arg(short, long, value_name = "NAME")]
    pub member: Option<String>,
}

/// Arguments of `dsn`.
#[derive(Debug, Args)]
pub struct DsnArgs {
    /// The cluster. [default: scope of the configuration file]
    pub cluster_name: Option<String>,
    /// Which member.
    #[command(flatten)]
    pub which: OneMember,
}

/// Arguments of `query`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// The cluster. [default: scope of the configuration file]
    pub cluster_name: Option<String>,
    /// Which member.
    #[command(flatten)]
    pub which: OneMember,
    /// The statements.
    #[arg(short, long, value_name = "SQL", conflicts_with = "file")]
    pub command: Option<String>,
    /// A file with the statements.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value = "tsv")]
    pub format: Format,
    /// What separates columns in the format tsv.
    #[arg(long, default_value = "\t", hide_default_value = true)]
    pub delimiter: String,
    /// The role to connect as. [default: $PGUSER, or the system's user]
    #[arg(short = 'U', long, value_name = "ROLE")]
    pub username: Option<String>,
    /// Ask for the password. [default: $PGPASSWORD, or the password file]
    #[arg(long)]
    pub password: bool,
    /// The database. [default: $PGDATABASE, or the role's name]
    #[arg(short, long, value_name = "NAME")]
    pub dbname: Option<String>,
    /// Repeat every two seconds.
    #[arg(short = 'W')]
    pub watch_2: bool,
    /// Repeat after so many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = interval)]
    pub watch: Option<f64>,
}

/// Arguments of `version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// The cluster.
    pub cluster_name: Option<String>,
    /// Members. [default: all]
    pub member_names: Vec<String>,
}

/// Arguments of `remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The cluster.
    pub cluster_name: String,
    /// How to print its members.
    #[arg(short, long, value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `switchover`.
#[derive(Debug, Args)]
pub struct SwitchoverArgs {
    /// The cluster. [default: scope of the configuration file]
    pub cluster_name: Option<String>,
    /// The present leader; must match.
    #[arg(long, alias = "primary", value_name = "NAME")]
    pub leader: Option<String>,
    /// The member that takes over. [default: the best candidate]
    #[arg(long, value_name = "NAME")]
    pub candidate: Option<String>,
    /// When, such as 2026-01-02T03:04:05+01:00, or 'now'.
    #[arg(long, value_name = "TIME")]
    pub scheduled: Option<String>,
    /// Ask nothing.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `failover`.
#[derive(Debug, Args)]
pub struct FailoverArgs {
    /// The cluster. [default: scope of the configuration file]
    pub cluster_name: Option<String>,
    /// The member that takes over.
    #[arg(long, value_name = "NAME")]
    pub candidate: Option<String>,
    /// Ask nothing. In maintenance mode also go on while the leader does not answer: it may still take writes, which are
    /// lost then.
    #[arg(long)]
    pub force: bool,
}

/// Which members.
#[derive(Debug, Args)]
pub struct MembersArgs {
    /// The cluster.
    pub cluster_name: String,
    /// Members. [default: all that fit]
    pub member_names: Vec<String>,
    /// Only members with this role.
    #[arg(short, long, value_parser = ["leader", "primary", "replica", "standby", "any"])]
    pub role: Option<String>,
    /// Ask nothing.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `restart`.
#[derive(Debug, Args)]
pub struct RestartArgs {
    /// Which.
    #[command(flatten)]
    pub members: MembersArgs,
    /// One of them, by chance.
    #[arg(long)]
    pub any: bool,
    /// Only members that wait for a restart.
    #[arg(long)]
    pub pending: bool,
    /// Only members whose PostgreSQL is older than this.
    #[arg(long, value_name = "VERSION")]
    pub pg_version: Option<String>,
    /// When, such as 2026-01-02T03:04:05+01:00, or 'now'.
    #[arg(long, value_name = "TIME")]
    pub scheduled: Option<String>,
    /// How long PostgreSQL may take to start, such as 90 or 2min.
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
}

/// Arguments of `flush`.
#[derive(Debug, Args)]
#[command(override_usage = "howdah ctl flush [OPTIONS] <CLUSTER_NAME> [MEMBER]... <restart|switchover>")]
pub struct FlushArgs {
    /// The cluster.
    pub cluster_name: String,
    /// What is forgotten: 'restart', after the members whose restart it is if not all; or 'switchover'.
    #[arg(required = true, value_name = "WHAT")]
    pub what: Vec<String>,
    /// Only members with this role.
    #[arg(short, long, value_parser = ["leader", "primary", "replica", "standby", "any"])]
    pub role: Option<String>,
    /// Ask nothing.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Which.
    #[command(flatten)]
    pub members: MembersArgs,
}

/// Arguments of `reinit`.
#[derive(Debug, Args)]
pub struct ReinitArgs {
    /// Which.
    #[command(flatten)]
    pub members: MembersArgs,
    /// Copy from the leader.
    #[arg(long)]
    pub from_leader: bool,
    /// Wait until the copy is there.
    #[arg(long)]
    pub wait: bool,
}

/// Arguments of `pause`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// The cluster. [default: scope of the configuration file]
    pub cluster_name: Option<String>,
    /// Wait until all members know.
    #[arg(long)]
    pub wait: bool,
}

/// Arguments of `demote-cluster`.
#[derive(Debug, Args)]
pub struct DemoteClusterArgs {
    /// The cluster. [default: scope of the configuration file]
    pub cluster_name: Option<String>,
    /// Address of the other cluster's server, or several with commas between them.
    #[arg(long)]
    pub host: Option<String>,
    /// Its port.
    #[arg(long)]
    pub port: Option<u16>,
    /// Command that fetches WAL files of the other cluster.
    #[arg(long)]
    pub restore_command: Option<String>,
    /// Replication slot on the other cluster's server.
    #[arg(long)]
    pub primary_slot_name: Option<String>,
    /// Do not ask.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `promote-cluster`.
#[derive(Debug, Args)]
pub struct PromoteClusterArgs {
    /// The cluster. [default: scope of the configuration file]
    pub cluster_name: Option<String>,
    /// Do not ask.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `edit-config`.
#[derive(Debug, Args)]
pub struct EditConfigArgs {
    /// The cluster. [default: scope of the configuration file]
    pub cluster_name: Option<String>,
    /// Do not print the difference.
    #[arg(short, long)]
    pub quiet: bool,
    /// Set one key: a.path=value, the value in YAML; null deletes. May be repeated.
    #[arg(short, long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Set one parameter of PostgreSQL: name=value. May be repeated.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub pg: Vec<String>,
    /// Merge a YAML file ('-' for standard input).
    #[arg(long, value_name = "FILE")]
    pub apply: Option<PathBuf>,
    /// Replace everything by a YAML file ('-' for standard input).
    #[arg(long, value_name = "FILE", conflicts_with = "apply")]
    pub replace: Option<PathBuf>,
    /// Ask nothing.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The cluster. [default: scope of the configuration file]
    pub cluster_name: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub format: Format,
}
