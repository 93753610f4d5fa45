//! Where a cluster's state is, and how to get there: a store that the configuration names, or a Kubernetes that is reached with
//! a kubeconfig.

use std::{path::PathBuf, time::Duration};

use howdah_clock::now;
use howdah_config::{KubernetesConfig, LeaderEndpoints, StoreConfig};
use howdah_dcs::Store;
use howdah_http::basic_auth;
use howdah_stores::{ApiAccess, KubeStore, Kubeconfig, KubeconfigError, Stores};
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
    /// As the configuration says; Kubernetes with the ServiceAccount of the pod that this command runs in.
    Configured(StoreConfig),
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

/// What lies around a command, besides its arguments.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// The kubeconfig of the sandbox of this machine.
    pub(crate) sandbox: Option<PathBuf>,
    /// The kubeconfigs that kubectl would read.
    pub(crate) kubeconfigs: Vec<PathBuf>,
    /// `$KUBECONFIG` names them.
    pub(crate) names_kubeconfig: bool,
    /// This is a pod.
    pub(crate) in_pod: bool,
}

impl Surroundings {
    pub(crate) fn look(sandbox: Option<PathBuf>) -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Surroundings {
            sandbox,
            kubeconfigs: Kubeconfig::usual_files(),
            names_kubeconfig: is_set("KUBECONFIG"),
            in_pod: is_set("KUBERNETES_SERVICE_HOST"),
        }
    }
}

/// A store, and the credential for REST APIs that lies beside it.
pub(crate) struct Opened {
    pub(crate) store: Box<dyn Store>,
    /// Not to be sent where another host may answer: see [`Context::call`](crate::context::Context::call).
    pub(crate) authorization: Option<String>,
}

impl Access {
    /// What configuration, arguments and surroundings say. Without a word about where the cluster is, only the sandbox of this
    /// machine is meant: a command must not act on the current context of a kubeconfig by itself.
    pub(crate) fn of(
        config: &Map<String, Value>,
        args: &CtlArgs,
        surroundings: Surroundings,
    ) -> anyhow::Result<Self> {
        let asked = names_kubernetes(args);
        let (kube, section) = match StoreConfig::from_config(config) {
            Ok(store @ (StoreConfig::Etcd(_) | StoreConfig::ZooKeeper(_) | StoreConfig::Consul(_)))
                if !asked =>
            {
                return Ok(Access::Configured(store));
            }
            Ok(StoreConfig::Kubernetes(kube)) => (kube, config.get("kubernetes")),
            Err(error) if !asked && names_a_store(config) => return Err(error.into()),
            Ok(StoreConfig::Etcd(_) | StoreConfig::ZooKeeper(_) | StoreConfig::Consul(_)) | Err(_) => {
                (of_manifests()?, None)
            }
        };
        if surroundings.in_pod && !asked && section.is_some() {
            return Ok(Access::Configured(StoreConfig::Kubernetes(kube)));
        }
        let text = |key: &str| {
            section
                .and_then(|section| section[key].as_str())
                .map(str::to_owned)
        };
        let is_named = asked || section.is_some() || surroundings.names_kubeconfig;
        let files = match &args.kubeconfig {
            Some(path) => vec![path.clone()],
            None if is_named => surroundings.kubeconfigs,
            None => surroundings.sandbox.into_iter().collect(),
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
            Access::Configured(store) => Ok(Opened {
                store: Stores::of(store, prefix, scope, None)?.open(),
                authorization: None,
            }),
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
                let mut store = Stores::kubernetes(access.api.clone(), &kube, scope, None).store();
                if store.is_of_other_kind(now() + STORE).await? {
                    let other = KubernetesConfig {
                        endpoints: match kube.endpoints {
                            Some(_) => None,
                            None => Some(LeaderEndpoints {
                                pod_ip: None,
                                ports: Vec::new(),
                            }),
                        },
                        ..kube
                    };
                    store = Stores::kubernetes(access.api.clone(), &other, scope, None).store();
                }
                Ok(Opened {
                    authorization: superuser(&store, scope).await,
                    store: Box::new(store),
                })
            }
        }
    }
}

/// The credential of a cluster made from a manifest. A caller that may not read the Secret can still run what only reads.
async fn superuser(store: &KubeStore, scope: &Scope) -> Option<String> {
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
        StoreConfig::Etcd(_) | StoreConfig::ZooKeeper(_) | StoreConfig::Consul(_) => {
            anyhow::bail!("the default store is not Kubernetes")
        }
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

    /// The files that would be read, and the namespace; or the error.
    fn of(config: Value, args: &CtlArgs) -> Result<(Vec<PathBuf>, Option<String>), String> {
        let surroundings = Surroundings {
            sandbox: Some("/sandbox".into()),
            kubeconfigs: vec!["/usual".into()],
            ..Surroundings::default()
        };
        match Access::of(config.as_object().unwrap(), args, surroundings) {
            Ok(Access::Kubeconfig { files, namespace, .. }) => Ok((files, namespace)),
            Ok(Access::Configured(_)) => panic!("not with a kubeconfig"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn section() -> Value {
        json!({"kubernetes": {"labels": {"application": "x"}}})
    }

    #[test]
    fn without_a_word_only_the_sandbox_is_meant() {
        assert_eq!(of(json!({}), &args()), Ok((vec!["/sandbox".into()], None)));
        // Not even where kubectl would know a cluster.
        let without_sandbox = Surroundings {
            kubeconfigs: vec!["/usual".into()],
            ..Surroundings::default()
        };
        let error = Access::of(&Map::new(), &args(), without_sandbox).err().unwrap();
        assert!(error.to_string().starts_with("no store: "), "{error}");
    }

    #[test]
    fn another_kubernetes_that_is_named_is_never_the_sandbox() {
        let named = CtlArgs {
            context: Some("production".into()),
            ..args()
        };
        assert_eq!(of(json!({}), &named), Ok((vec!["/usual".into()], None)));
        // A section without a namespace means 'default', as for an agent.
        assert_eq!(
            of(section(), &args()),
            Ok((vec!["/usual".into()], Some("default".into())))
        );
        let file = CtlArgs {
            kubeconfig: Some("/k".into()),
            ..args()
        };
        assert_eq!(of(json!({}), &file), Ok((vec!["/k".into()], None)));
    }

    #[test]
    fn in_a_pod_its_own_section_counts() {
        let pod = || Surroundings {
            in_pod: true,
            ..Surroundings::default()
        };
        let config = section();
        let access = Access::of(config.as_object().unwrap(), &args(), pod()).unwrap();
        assert!(matches!(access, Access::Configured(StoreConfig::Kubernetes(_))));
        assert!(Access::of(&Map::new(), &args(), pod()).is_err());
    }

    #[test]
    fn two_places_are_refused() {
        let both = CtlArgs {
            dcs_url: Some("etcd3://h:1/n".into()),
            context: Some("c".into()),
            ..args()
        };
        assert!(one_place(&both).is_err());
        assert!(one_place(&args()).is_ok());
    }
}
