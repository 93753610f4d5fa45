use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use clap::Args;

/// What `howdah operator` takes. Flags and variables that upstream's operator has are accepted as there.
#[derive(Debug, Args)]
#[command(
    long_about = "Make clusters be what their manifests say, on a Kubernetes.\n\n\
        In a pod it uses the pod's account, elsewhere a kubeconfig. Of several replicas one leads, by the Lease \
        'howdah-operator' of its namespace; the others wait. It is not in the path of a failover: clusters run on without it.\n\n\
        The configuration is upstream's: the ConfigMap that CONFIG_MAP_NAME names, or the OperatorConfiguration that \
        POSTGRES_OPERATOR_CONFIGURATION_OBJECT names, which wins.",
    after_help = "Examples:\n  howdah operator --kubeconfig ~/.kube/config --namespace '*'\n  \
        WATCHED_NAMESPACE=databases howdah operator"
)]
pub struct OperatorArgs {
    /// The API server and the credentials; in a pod its account, elsewhere $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context, instead of its current one.
    #[arg(long)]
    pub context: Option<String>,
    /// The namespace to look after; '*': all; the operator's own unless this or the configuration (watched_namespace) names one.
    #[arg(long, env = "WATCHED_NAMESPACE")]
    pub namespace: Option<String>,
    /// Where the operator itself is: its Lease, its ConfigMap. In a pod the pod's namespace.
    #[arg(long, env = "OPERATOR_NAMESPACE", hide_env_values = true)]
    pub operator_namespace: Option<String>,
    /// Take only clusters whose annotation acid.zalan.do/controller is this.
    #[arg(long, env = "CONTROLLER_ID", value_name = "NAME")]
    pub controller_id: Option<String>,
    /// The ConfigMap with the configuration: NAME or NAMESPACE/NAME.
    #[arg(long, env = "CONFIG_MAP_NAME", value_name = "NAME")]
    pub config_map: Option<String>,
    /// The OperatorConfiguration with the configuration: NAME or NAMESPACE/NAME.
    #[arg(long, env = "POSTGRES_OPERATOR_CONFIGURATION_OBJECT", value_name = "NAME")]
    pub configuration: Option<String>,
    /// Where health, metrics and the debug API are served: port 8080 of all addresses unless this or api_port says otherwise.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Who may see the debug API: those who send this as a bearer token. Without one it is closed.
    #[arg(
        long,
        env = "OPERATOR_API_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub api_token: Option<String>,
    /// Where the admission webhook answers, over TLS: what is wrong with a manifest is said before it is stored. Without it there is none.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub webhook_listen: Option<SocketAddr>,
    /// The names by which the API server reaches the webhook: its certificate is for them.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub webhook_host: Vec<String>,
    /// The ValidatingWebhookConfiguration that is told whom to trust; the certificate is in the Secret of this name and '-webhook'.
    #[arg(long, value_name = "NAME", default_value = "howdah")]
    pub webhook_configuration: String,
    /// The name of the Lease of the replicas; howdah-operator, with the controller's name where there is one, unless set.
    #[arg(long, env = "OPERATOR_LEASE", value_name = "NAME")]
    pub lease: Option<String>,
    /// Lead without a Lease: there is no other replica.
    #[arg(long)]
    pub no_leader_election: bool,
    /// Leave roles and databases alone (upstream's flag).
    #[arg(long)]
    pub nodatabaseaccess: bool,
    /// Upstream's flag: use a kubeconfig although this is a pod.
    #[arg(long)]
    pub outofcluster: bool,
    /// Do not ask the teams API (upstream's flag).
    #[arg(long)]
    pub noteamsapi: bool,
    /// Upstream's flag, without effect: requests are not limited, since an idle cluster costs less than one a minute.
    #[arg(long, hide = true, value_name = "N")]
    pub kubeqps: Option<u32>,
    /// Upstream's flag, without effect.
    #[arg(long, hide = true, value_name = "N")]
    pub kubeburst: Option<u32>,
}

/// Switches, which a Go program also takes with a value.
const SWITCHES: [&str; 4] = [
    "no-leader-election",
    "nodatabaseaccess",
    "outofcluster",
    "noteamsapi",
];

/// Upstream's operator is a Go program: its flags may be written with one dash (`-kubeqps=20`), and switches with a value
/// (`--nodatabaseaccess=true`).
#[must_use]
pub fn with_double_dashes(args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_none_or(|command| command != "operator") {
        return args;
    }
    args.into_iter().filter_map(as_ours).collect()
}

/// One argument; `None`: a switch that is off.
fn as_ours(arg: OsString) -> Option<OsString> {
    let Some(text) = arg.to_str() else {
        return Some(arg);
    };
    let is_single = text.starts_with('-') && !text.starts_with("--") && text.len() > 2;
    let text = if is_single {
        format!("-{text}")
    } else {
        text.to_owned()
    };
    match text.strip_prefix("--").and_then(|flag| flag.split_once('=')) {
        Some((name, "true")) if SWITCHES.contains(&name) => Some(format!("--{name}").into()),
        Some((name, "false")) if SWITCHES.contains(&name) => None,
        _ => Some(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_a_go_program_are_understood() {
        let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        let given = words(&[
            "howdah",
            "operator",
            "-kubeqps=20",
            "-h",
            "--nodatabaseaccess=true",
            "-outofcluster=false",
            "-noteamsapi",
            "--namespace",
            "-",
        ]);
        let wanted = words(&[
            "howdah",
            "operator",
            "--kubeqps=20",
            "-h",
            "--nodatabaseaccess",
            "--noteamsapi",
            "--namespace",
            "-",
        ]);
        assert_eq!(with_double_dashes(given), wanted);
        let other = words(&["howdah", "list", "-oyaml"]);
        assert_eq!(with_double_dashes(other.clone()), other);
        // Each switch is a flag of the command.
        let command = OperatorArgs::augment_args(clap::Command::new("operator"));
        for switch in SWITCHES {
            assert!(
                command.get_arguments().any(|arg| arg.get_long() == Some(switch)),
                "{switch}"
            );
        }
    }
}
