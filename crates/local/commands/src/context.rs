use std::path::Path;

use anyhow::Context as _;
use howdah_operator::postgresql_api;
use howdah_sandbox::SandboxDir;
use http::{HeaderValue, header::USER_AGENT};
use kube::{
    Api, Client, Config,
    api::DynamicObject,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{failure::Failure, server::Server};

/// The Kubernetes that a command talks to. There is only the sandbox so far; `~/.kube/config` is never looked at.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) dir: SandboxDir,
}

impl Context {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let dir = SandboxDir::of_user();
        if Server::find(&dir).is_none_or(|server| !server.ready) {
            return Err(Failure::NotRunning.into());
        }
        Ok(Context {
            client: client(&dir.kubeconfig()).await?,
            dir,
        })
    }

    /// For people: where changes go.
    pub(crate) fn described(&self) -> String {
        format!("sandbox in {}", self.dir.root().display())
    }

    pub(crate) fn clusters(&self, namespace: &str) -> Api<DynamicObject> {
        postgresql_api(self.client.clone(), Some(namespace))
    }

    /// One cluster's object.
    pub(crate) async fn cluster(&self, name: &str, namespace: &str) -> anyhow::Result<DynamicObject> {
        let found = self
            .clusters(namespace)
            .get_opt(name)
            .await
            .context("reading the cluster")?;
        found.ok_or_else(|| {
            Failure::NoCluster {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
            }
            .into()
        })
    }
}

const AGENT: &str = concat!("howdah/", env!("CARGO_PKG_VERSION"));

/// A client with the credentials of a kubeconfig.
pub(crate) async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig).with_context(|| format!("{}", kubeconfig.display()))?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    // By it the API names who owns a field where a request does not say.
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    Ok(Client::try_from(config)?)
}
