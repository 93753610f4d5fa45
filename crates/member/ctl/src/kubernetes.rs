//! Where a cluster's state is, and how to get there: etcd, or Kubernetes from inside a pod or with a kubeconfig.

use std::{path::PathBuf, time::Duration};

use howdah_clock::now;
use howdah_config::{EtcdConfig, KubernetesConfig, StoreConfig};
use howdah_dcs::Store;
use howdah_dcs_kube::Api;
use howdah_http::basic_auth;
use howdah_stores::{ApiAccess, Kubeconfig, KubeconfigError, Stores};
use howdah_types::Scope;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

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
        /// The server, once it was looked up: a program that gives credentials runs once.
        reached: Box<OnceCell<ApiAccess>>,
    },
}

/// A store, and the credential for REST APIs that lies beside it.
pub(crate) struct Opened {
    pub(crate) store: Box<dyn Store>,
    /// Not to be sent where another host may answer: see [`Context::call`](crate::context::Context::call).
    pub(crate) authorization: Option<String>,
}

impl Access {
    /// What the configuration says; one that names no store means the cluster that kubectl would reach.
    pub(crate) fn of(
        config: &Map<String, Value>,
        args: &CtlArgs,
        sandbox: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let asked = names_kubernetes(args);
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
        // Without a word about where the cluster is, only the sandbox of this machine is meant. Another Kubernetes is
        // named by an option, by $KUBECONFIG or by a section `kubernetes`.
        let is_named = asked || section.is_some() || names_kubeconfig();
        let files = match (&args.kubeconfig, sandbox.filter(|_| !is_named)) {
            (Some(path), _) => vec![path.clone()],
            (None, Some(path)) => vec![path],
            (None, None) if is_named => Kubeconfig::usual_files(),
            (None, None) => Vec::new(),
        };
        anyhow::ensure!(
            !files.is_empty() || !is_named,
            "no kubeconfig: name one with --kubeconfig or $KUBECONFIG; there is no ~/.kube/config"
        );
        anyhow::ensure!(
            !files.is_empty(),
            "no store: name a configuration with -c, a store with -d etcd3://host:port/namespace, or a Kubernetes with \
             --kubeconfig or --context; there is no sandbox on this machine ('howdah up' starts one)"
        );
        // As for an agent, a section without a namespace means 'default'; without a section it is the context's.
        let of_section = section.map(|_| kube.namespace.clone());
        Ok(Access::Kubeconfig {
            files,
            context: args.context.clone().or_else(|| text("context")),
            namespace: args.namespace.clone().or(of_section),
            kube,
            reached: Box::default(),
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
                reached,
            } => {
                let look_up = async || {
                    let config = Kubeconfig::read(files)?;
                    let access = config.access(context.as_deref()).await?;
                    let namespace = namespace.as_ref().unwrap_or(&access.namespace);
                    let file = files.first().map(|file| file.display().to_string());
                    // Commands act on what this names: it is said where that is.
                    eprintln!(
                        "Kubernetes of {} (context {}), namespace {namespace}.",
                        file.unwrap_or_default(),
                        access.context
                    );
                    Ok::<_, KubeconfigError>(access)
                };
                let access = reached.get_or_try_init(look_up).await?;
                let kube = KubernetesConfig {
                    namespace: namespace.clone().unwrap_or_else(|| access.namespace.clone()),
                    ..kube.clone()
                };
                let stores = Stores::kubernetes(access.api.clone(), &kube, scope, None);
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

fn names_kubernetes(args: &CtlArgs) -> bool {
    args.kubeconfig.is_some() || args.context.is_some() || args.namespace.is_some()
}

/// Refuses arguments that name a Kubernetes and another store.
pub(crate) fn one_place(args: &CtlArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.dcs_url.is_none() || !names_kubernetes(args),
        "--dcs-url (or DCS_URL) and --kubeconfig, --context or --namespace name two places: use one of them"
    );
    Ok(())
}

fn names_kubeconfig() -> bool {
    std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;
    use crate::cli::{ClusterArg, CtlCommand};

    fn args() -> CtlArgs {
        CtlArgs {
            config_file: None,
            dcs_url: None,
            kubeconfig: None,
            context: None,
            namespace: None,
            insecure: false,
            command: CtlCommand::ShowConfig(ClusterArg { cluster_name: None }),
        }
    }

    fn of(config: Value, args: &CtlArgs, sandbox: Option<&str>) -> anyhow::Result<Access> {
        Access::of(config.as_object().unwrap(), args, sandbox.map(PathBuf::from))
    }

    #[test]
    fn without_a_word_only_the_sandbox_is_meant() {
        // In the environment of a developer it may be set.
        if names_kubeconfig() {
            return;
        }
        match of(json!({}), &args(), Some("/sandbox")).unwrap() {
            Access::Kubeconfig { files, namespace, .. } => {
                assert_eq!((files, namespace), (vec![PathBuf::from("/sandbox")], None));
            }
            Access::Etcd(_) | Access::Pod(_) => panic!("not the sandbox"),
        }
        let error = of(json!({}), &args(), None).err().unwrap().to_string();
        assert!(error.starts_with("no store: "), "{error}");
    }

    #[test]
    fn another_kubernetes_that_is_named_is_never_the_sandbox() {
        let named = CtlArgs {
            context: Some("production".into()),
            ..args()
        };
        let section = json!({"kubernetes": {"labels": {"application": "x"}, "context": "c"}});
        for access in [
            of(json!({}), &named, Some("/sandbox")),
            of(section, &args(), Some("/sandbox")),
        ] {
            // Without a kubeconfig it is an error.
            if let Ok(Access::Kubeconfig { files, .. }) = access {
                assert!(!files.contains(&PathBuf::from("/sandbox")));
            }
        }
    }

    #[test]
    fn two_places_are_refused_and_a_section_means_its_own_namespace() {
        let both = CtlArgs {
            dcs_url: Some("etcd3://h:1/n".into()),
            context: Some("c".into()),
            ..args()
        };
        assert!(one_place(&both).is_err());
        assert!(one_place(&args()).is_ok());
        let named = CtlArgs {
            kubeconfig: Some("/k".into()),
            ..args()
        };
        let section = json!({"kubernetes": {"labels": {"application": "x"}}});
        match of(section, &named, None).unwrap() {
            Access::Kubeconfig { namespace, .. } => assert_eq!(namespace.as_deref(), Some("default")),
            Access::Etcd(_) | Access::Pod(_) => panic!("not a kubeconfig"),
        }
    }
}
