use std::{future::Future, sync::Arc, time::Duration};

use futures_util::StreamExt;
use howdah_plan::Settings;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Pod, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource,
    api::DynamicObject,
    runtime::{
        Controller,
        controller::{Action, Config},
        finalizer::{self, Event, finalizer},
        reflector::ObjectRef,
        watcher,
    },
};

use crate::{
    OperatorError, cleanup,
    context::{Context, postgresql_api, resource},
    error::kube_text,
    reconcile,
};

/// Upstream's finalizer: a deletion waits until the cluster's objects are gone.
const FINALIZER: &str = "postgres-operator.acid.zalan.do";

/// Which operator a cluster belongs to.
const CONTROLLER: &str = "acid.zalan.do/controller";

/// After a failure the next try waits so long; a change comes earlier.
const RETRY: Duration = Duration::from_secs(2);

/// Several changes within this time are one pass.
const GATHER: Duration = Duration::from_millis(20);

/// Runs the operator for all namespaces until `stop` ends. Clusters are worked on independently of one another.
pub async fn run(client: Client, settings: Settings, stop: impl Future<Output = ()> + Send + Sync + 'static) {
    let label = settings.cluster_name_label.clone();
    let selector: Vec<String> = settings
        .cluster_labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let ours = watcher::Config::default().labels(&selector.join(","));
    let context = Arc::new(Context::new(client.clone(), settings));
    let clusters = postgresql_api(client.clone(), None);
    Controller::new_with(clusters, watcher::Config::default(), resource())
        .with_config(Config::default().debounce(GATHER))
        .watches(
            Api::<Pod>::all(client.clone()),
            ours.clone(),
            cluster_of(label.clone()),
        )
        .watches(
            Api::<ConfigMap>::all(client.clone()),
            ours.clone(),
            cluster_of(label.clone()),
        )
        .watches(
            Api::<StatefulSet>::all(client.clone()),
            ours.clone(),
            cluster_of(label.clone()),
        )
        .watches(
            Api::<Service>::all(client.clone()),
            ours.clone(),
            cluster_of(label.clone()),
        )
        .watches(Api::<PodDisruptionBudget>::all(client), ours, cluster_of(label))
        .graceful_shutdown_on(stop)
        .run(pass, after_failure, context)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "a pass has failed");
            }
        })
        .await;
}

/// The cluster that an object belongs to, by its label.
fn cluster_of<K>(
    label: String,
) -> impl Fn(K) -> Option<ObjectRef<DynamicObject>> + Clone + Send + Sync + 'static
where
    K: Resource<DynamicType = ()>,
{
    move |object: K| {
        let meta = object.meta();
        let name = meta.labels.as_ref()?.get(&label)?.clone();
        let namespace = meta.namespace.clone()?;
        Some(ObjectRef::new_with(&name, resource()).within(&namespace))
    }
}

async fn pass(object: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, PassError> {
    let mine = std::env::var("CONTROLLER_ID").unwrap_or_default();
    let owner = object
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(CONTROLLER));
    if owner.map_or("", String::as_str) != mine {
        return Ok(Action::await_change());
    }
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let api = postgresql_api(context.client.clone(), Some(&namespace));
    finalizer(&api, FINALIZER, object, |event| async {
        match event {
            Event::Apply(object) => Ok(reconcile::cluster(&context, &object).await),
            Event::Cleanup(object) => cleanup::cluster(&context, &object).await,
        }
    })
    .await
    .map_err(|error| PassError(Box::new(error)))
}

#[derive(Debug, thiserror::Error)]
#[error("{}", self.told())]
struct PassError(Box<finalizer::Error<OperatorError>>);

impl PassError {
    fn told(&self) -> String {
        match &*self.0 {
            finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error) => error.told(),
            finalizer::Error::AddFinalizer(error) => format!("adding the finalizer: {}", kube_text(error)),
            finalizer::Error::RemoveFinalizer(error) => {
                format!("removing the finalizer: {}", kube_text(error))
            }
            other => other.to_string(),
        }
    }
}

fn after_failure(object: Arc<DynamicObject>, error: &PassError, _: Arc<Context>) -> Action {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let waits = matches!(
        &*error.0,
        finalizer::Error::CleanupFailed(OperatorError::Waiting(_))
    );
    if waits {
        tracing::debug!(cluster = name, %error, "a deletion goes on");
    } else {
        tracing::warn!(cluster = name, %error, "A pass has failed.");
    }
    Action::requeue(RETRY)
}
