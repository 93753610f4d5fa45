//! Where a cluster's state is, and how to get there: etcd, or Kubernetes from inside a pod or with a kubeconfig.

use std::{path::PathBuf, time::Duration};

use howdah_clock::now;
use howdah_config::{EtcdConfig, KubernetesConfig, StoreConfig};
use howdah_dcs::Store;
use howdah_dcs_kube::Api;
use howdah_http::basic_auth;
use howdah_stores::{Kubeconfig, Stores};
use howdah_types::Scope;
use serde_json::{Map, Value, json};

use crate::cli::CtlArgs;

/// Patience with the store.
pub(crate) const STORE: Duration = Duration::from_secs(10);

/// The superuser of clusters made from manifests, whose password is the credential of their REST APIs.
const SUPERUSER: &str = "postgres";

/// How the store is reached.
pub(crate) enum Access {
    Etcd(EtcdConfig),
    /// With the ServiceAccount of the pod that this command runs in.
    Pod(KubernetesConfig),
    /// With kubectl's configuration.
    Kubeconfig {
        files: Vec<PathBuf>,
        context: Option<String>,
        /// The namespace is the context's unless one is named.
        namespace: Option<String>,
        kube: KubernetesConfig,
    },
}

/// A store, and the credential for REST APIs that lies beside it.
pub(crate) struct Opened {
    pub(crate) store: Box<dyn Store>,
    pub(crate) authorization: Option<String>,
}

impl Access {
    /// What the configuration says; one that names no store means the cluster that kubectl would reach.
    pub(crate) fn of(
        config: &Map<String, Value>,
        args: &CtlArgs,
        sandbox: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let asked = args.kubeconfig.is_some() || args.context.is_some() || args.namespace.is_some();
        let (kube, section) = match StoreConfig::from_config(config) {
            Ok(StoreConfig::Etcd(etcd)) if !asked => return Ok(Access::Etcd(etcd)),
            Ok(StoreConfig::Kubernetes(kube)) => (kube, config.get("kubernetes")),
            Err(error) if !asked && names_a_store(config) => return Err(error.into()),
            Ok(StoreConfig::Etcd(_)) | Err(_) => (of_manifests()?, None),
        };
        let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        if in_pod && !asked && section.is_some() {
            return Ok(Access::Pod(kube));
        }
        let text = |key: &str| {
            section
                .and_then(|section| section[key].as_str())
                .map(str::to_owned)
        };
        let files = match &args.kubeconfig {
            Some(path) => vec![path.clone()],
            None => files(sandbox),
        };
        anyhow::ensure!(
            !files.is_empty(),
            "no store: name a configuration with -c, a store with -d etcd3://host:port/namespace, or a kubeconfig with \
             --kubeconfig; there is no sandbox on this machine ('howdah up' starts one), no $KUBECONFIG and no \
             ~/.kube/config"
        );
        Ok(Access::Kubeconfig {
            files,
            context: args.context.clone().or_else(|| text("context")),
            namespace: args.namespace.clone().or_else(|| text("namespace")),
            kube,
        })
    }

    /// Opens the store of one cluster; `prefix` is that of the keys in etcd.
    pub(crate) async fn open(&self, prefix: &str, scope: &Scope) -> anyhow::Result<Opened> {
        match self {
            Access::Etcd(etcd) => Ok(Opened {
                store: Stores::etcd(etcd, prefix, scope)?.open(),
                authorization: None,
            }),
            Access::Pod(kube) => {
                let api = Api::in_pod(kube.service_account.clone(), kube.cacert.clone())?;
                Ok(Opened {
                    store: Stores::kubernetes(api, kube, scope, None).open(),
                    authorization: None,
                })
            }
            Access::Kubeconfig {
                files,
                context,
                namespace,
                kube,
            } => {
                let access = Kubeconfig::read(files)?.access(context.as_deref()).await?;
                let kube = KubernetesConfig {
                    namespace: namespace.clone().unwrap_or(access.namespace),
                    ..kube.clone()
                };
                let stores = Stores::kubernetes(access.api, &kube, scope, None);
                Ok(Opened {
                    authorization: superuser(&stores, scope).await,
                    store: stores.open(),
                })
            }
        }
    }
}

/// The credential of a cluster made from a manifest. A caller that may not read the Secret can still run what only reads.
async fn superuser(stores: &Stores, scope: &Scope) -> Option<String> {
    let store = stores.open_kubernetes()?;
    let name = format!("{SUPERUSER}.{scope}.credentials.postgresql.acid.zalan.do");
    let password = store.secret(&name, "password", now() + STORE).await.ok()??;
    Some(basic_auth(SUPERUSER, &String::from_utf8(password).ok()?))
}

fn names_a_store(config: &Map<String, Value>) -> bool {
    [
        "etcd3",
        "etcd",
        "consul",
        "zookeeper",
        "exhibitor",
        "raft",
        "kubernetes",
    ]
    .iter()
    .any(|store| config.contains_key(*store))
}

/// Clusters that an operator has made from manifests, with its default labels.
fn of_manifests() -> anyhow::Result<KubernetesConfig> {
    let config = json!({"kubernetes": {"labels": {"application": "spilo"}, "role_label": "spilo-role"}});
    let config = config.as_object().cloned().unwrap_or_default();
    match StoreConfig::from_config(&config)? {
        StoreConfig::Kubernetes(kube) => Ok(kube),
        StoreConfig::Etcd(_) => anyhow::bail!("the default store is not Kubernetes"),
    }
}

/// `$KUBECONFIG`, else the sandbox on this machine, else `~/.kube/config`.
fn files(sandbox: Option<PathBuf>) -> Vec<PathBuf> {
    let is_named = std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty());
    match sandbox.filter(|path| !is_named && path.is_file()) {
        Some(path) => vec![path],
        None => Kubeconfig::usual_files(),
    }
}
