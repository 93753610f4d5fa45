use std::{fs, net::IpAddr, path::Path};

use anyhow::Context as _;
use http::{HeaderValue, header::USER_AGENT};
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::OperatorArgs;

const AGENT: &str = concat!("howdah-operator/", env!("CARGO_PKG_VERSION"));

/// The namespace of the pod that this is.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Where the operator is and what it talks to.
pub(crate) struct Place {
    /// The API server and the credentials.
    pub(crate) config: Config,
    /// The operator's own namespace.
    pub(crate) namespace: String,
    /// This replica's name.
    pub(crate) name: String,
    /// Where others reach its HTTP server: the pod's address, without the port.
    pub(crate) address: Option<IpAddr>,
}

impl Place {
    pub(crate) async fn find(args: &OperatorArgs) -> anyhow::Result<Self> {
        let is_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let by_file = args.kubeconfig.is_some() || args.context.is_some() || args.outofcluster;
        let mut config = if is_pod && !by_file {
            Config::incluster().context("the pod's account cannot be used")?
        } else {
            from_file(args).await?
        };
        config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
        let own = read(NAMESPACE_FILE).unwrap_or_else(|| config.default_namespace.clone());
        let named = args.operator_namespace.clone().filter(|name| !name.is_empty());
        let host = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
        let host = host
            .ok()
            .or_else(|| read("/proc/sys/kernel/hostname"))
            .unwrap_or_default();
        let mut random = [0; 4];
        getrandom::fill(&mut random).context("no random numbers")?;
        Ok(Place {
            namespace: named.unwrap_or(own),
            // A restarted container must not take its last self's Lease for its own.
            name: format!("{host}_{:08x}", u32::from_ne_bytes(random)),
            address: std::env::var("POD_IP").ok().and_then(|text| text.parse().ok()),
            config,
        })
    }
}

async fn from_file(args: &OperatorArgs) -> anyhow::Result<Config> {
    let options = KubeConfigOptions {
        context: args.context.clone(),
        ..KubeConfigOptions::default()
    };
    let read = match &args.kubeconfig {
        Some(path) => {
            Kubeconfig::read_from(path).with_context(|| format!("--kubeconfig {}", path.display()))?
        }
        None => Kubeconfig::read().context(
            "this is no pod, and no kubeconfig is found: name one with --kubeconfig or in $KUBECONFIG",
        )?,
    };
    Config::from_custom_kubeconfig(read, &options)
        .await
        .context("the kubeconfig cannot be used")
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
