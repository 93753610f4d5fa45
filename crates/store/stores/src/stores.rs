use std::time::Duration;

use howdah_config::{ConsulConfig, EtcdConfig, KubernetesConfig, StoreConfig, ZooKeeperConfig};
use howdah_dcs::{
    KeyTree, Store,
    kubernetes::{Layout, Routing},
};
use howdah_dcs_consul::{Agent, ConsulHub, ServiceOptions};
use howdah_dcs_etcd::{Endpoints, EtcdStore};
use howdah_dcs_kube::{Api, KubeHub};
use howdah_dcs_zookeeper::{Access, Certificates, Ensemble, ZooHub};
use howdah_types::{MemberName, Scope};
use thiserror::Error;

/// Why a store cannot be opened.
#[derive(Debug, Error)]
pub enum SetupError {
    /// Its section `etcd3` is unusable.
    #[error("the section etcd3")]
    Etcd(#[source] howdah_dcs_etcd::SetupError),
    /// The API server cannot be used.
    #[error("the section kubernetes")]
    Kubernetes(#[from] howdah_dcs_kube::SetupError),
    /// Its section `consul` is unusable.
    #[error("the section consul")]
    Consul(#[from] howdah_dcs_consul::SetupError),
    /// Its section `zookeeper` is unusable.
    #[error("the section zookeeper")]
    ZooKeeper(#[from] howdah_dcs_zookeeper::SetupError),
}

/// The store of one cluster. Each thread opens one with a connection of its own.
#[derive(Clone)]
pub enum Stores {
    /// etcd's v3 API.
    Etcd(KeyTree, Endpoints),
    /// The Kubernetes API.
    Kubernetes(KubeHub),
    /// ZooKeeper.
    ZooKeeper(ZooHub),
    /// Consul.
    Consul(ConsulHub),
}

impl Stores {
    /// The store of the cluster `scope`, seen by the member `me`. On Kubernetes the credentials are those of the pod that
    /// this process runs in; `namespace` is the prefix of the keys in etcd and means nothing there.
    ///
    /// # Errors
    /// A certificate or an address is unusable, or this is not a pod.
    pub fn of(
        config: &StoreConfig,
        namespace: &str,
        scope: &Scope,
        me: Option<&MemberName>,
    ) -> Result<Self, SetupError> {
        match config {
            StoreConfig::Etcd(etcd) => Self::etcd(etcd, namespace, scope),
            StoreConfig::Kubernetes(kube) => {
                let api = Api::in_pod(kube.service_account.clone(), kube.cacert.clone())?;
                Ok(Stores::Kubernetes(Self::kubernetes(api, kube, scope, me)))
            }
            StoreConfig::Consul(consul) => Self::consul(consul, namespace, scope, me),
            StoreConfig::ZooKeeper(zookeeper) => Self::zookeeper(zookeeper, namespace, scope),
        }
    }

    /// The store in etcd, below `/<namespace>/<scope>/`.
    ///
    /// # Errors
    /// A certificate or an address is unusable.
    pub fn etcd(etcd: &EtcdConfig, namespace: &str, scope: &Scope) -> Result<Self, SetupError> {
        let cert = etcd.client_cert.as_ref();
        let endpoints = Endpoints::new(
            &etcd.endpoints,
            etcd.auth.clone(),
            etcd.cacert.as_deref(),
            cert.map(|(cert, key)| (cert.as_path(), key.as_path())),
        )
        .map_err(SetupError::Etcd)?;
        Ok(Stores::Etcd(KeyTree::new(namespace, scope), endpoints))
    }

    /// The store in Consul, below `<namespace>/<scope>/`.
    ///
    /// # Errors
    /// A certificate or the address is unusable.
    pub fn consul(
        config: &ConsulConfig,
        namespace: &str,
        scope: &Scope,
        me: Option<&MemberName>,
    ) -> Result<Self, SetupError> {
        let cert = config.client_cert.as_ref();
        let agent = Agent::new(
            &config.url,
            config.token.as_deref(),
            config.datacenter.as_deref(),
            config.cacert.as_deref(),
            cert.map(|(cert, key)| (cert.as_path(), key.as_path())),
            config.verify,
        )?;
        let service = config.service.as_ref().map(|service| ServiceOptions {
            tags: service.tags.clone(),
            check_interval: service.check_interval.clone(),
            tls_server_name: service.tls_server_name.clone(),
        });
        let tree = KeyTree::new(namespace, scope);
        Ok(Stores::Consul(ConsulHub::new(
            agent,
            tree,
            scope.clone(),
            me.cloned(),
            service,
        )))
    }

    /// The store in ZooKeeper, below `/<namespace>/<scope>`.
    ///
    /// # Errors
    /// A certificate is unusable.
    pub fn zookeeper(config: &ZooKeeperConfig, namespace: &str, scope: &Scope) -> Result<Self, SetupError> {
        let access = config.access.iter().map(|(principal, rights)| Access {
            principal: principal.clone(),
            rights: *rights,
        });
        let tls = config.tls.as_ref().map(|tls| {
            let cert = tls.client_cert.as_ref();
            let cert = cert.map(|(cert, key)| (cert.as_path(), key.as_path()));
            Certificates {
                ca: tls.cacert.as_deref(),
                client: cert,
                verify: tls.verify,
            }
        });
        let access: Vec<Access> = access.collect();
        let ensemble = Ensemble::new(&config.servers, &config.auth, &access, tls)?;
        let namespace = format!("{}/{namespace}", config.chroot);
        Ok(Stores::ZooKeeper(ZooHub::new(
            KeyTree::new(&namespace, scope),
            ensemble,
        )))
    }

    /// The store behind an API server that is reached as `api` says.
    #[must_use]
    pub fn kubernetes(api: Api, kube: &KubernetesConfig, scope: &Scope, me: Option<&MemberName>) -> KubeHub {
        let layout = Layout {
            scope: scope.clone(),
            namespace: kube.namespace.clone(),
            labels: kube.labels.clone(),
            scope_label: kube.scope_label.clone(),
            role_label: kube.role_label.clone(),
            leader_value: kube.leader_label_value.clone(),
            follower_value: kube.follower_label_value.clone(),
            standby_leader_value: kube.standby_leader_label_value.clone(),
            tmp_role_label: kube.tmp_role_label.clone(),
            bootstrap_labels: kube.bootstrap_labels.clone(),
            routing: kube.endpoints.as_ref().map(|endpoints| Routing {
                pod_ip: endpoints.pod_ip.clone(),
                ports: endpoints.ports.clone(),
            }),
        };
        KubeHub::new(api, layout, me.cloned())
    }

    /// For an agent that follows another one under the same guard: the lease that it goes on with was granted with this length.
    /// Where the store does not tell it and it is not known, the lease is given up.
    #[must_use]
    pub fn with_leases_of(self, length: Option<Duration>) -> Self {
        match self {
            Stores::ZooKeeper(hub) => Stores::ZooKeeper(hub.with_leases_of(length)),
            // The store knows.
            other @ (Stores::Etcd(..) | Stores::Kubernetes(_) | Stores::Consul(_)) => other,
        }
    }

    /// A store with a connection of its own.
    #[must_use]
    pub fn open(&self) -> Box<dyn Store> {
        match self {
            Stores::Etcd(tree, endpoints) => Box::new(EtcdStore::new(tree.clone(), endpoints.clone())),
            Stores::Kubernetes(hub) => Box::new(hub.store()),
            Stores::ZooKeeper(hub) => Box::new(hub.store()),
            Stores::Consul(hub) => Box::new(hub.store()),
        }
    }
}
