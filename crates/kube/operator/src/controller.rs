use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use howdah_blueprint::Settings;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client,
    api::DynamicObject,
    runtime::{
        Controller, WatchStreamExt,
        controller::{Action, Config},
        finalizer::{self, Event, finalizer},
        reflector::ObjectRef,
        watcher,
    },
};
use serde::de::DeserializeOwned;

use crate::{
    OperatorError, cleanup,
    context::{Context, postgresql_api, resource, selector},
    error::kube_text,
    index::Indexed,
    reconcile,
};

/// Upstream's finalizer: a deletion waits until the cluster's objects are gone.
const FINALIZER: &str = "postgres-operator.acid.zalan.do";

/// Which operator a cluster belongs to.
const CONTROLLER: &str = "acid.zalan.do/controller";

/// Delay of the next try after a failure; a change comes earlier.
const RETRY: Duration = Duration::from_secs(2);

/// Several changes within this time are one pass.
const GATHER: Duration = Duration::from_millis(20);

/// Runs the operator for all namespaces until `stop` ends. Clusters are worked on independently of one another.
pub async fn run(client: Client, settings: Settings, stop: impl Future<Output = ()> + Send + Sync + 'static) {
    let context = Arc::new(Context::new(client.clone(), settings));
    let clusters = postgresql_api(client, None);
    Controller::new_with(clusters, watcher::Config::default(), resource())
        .with_config(Config::default().debounce(GATHER))
        .reconcile_on(changes::<Pod>(&context))
        .reconcile_on(changes::<ConfigMap>(&context))
        .reconcile_on(changes::<StatefulSet>(&context))
        .reconcile_on(changes::<Service>(&context))
        .reconcile_on(changes::<PodDisruptionBudget>(&context))
        .reconcile_on(changes::<Secret>(&context))
        .reconcile_on(changes::<PersistentVolumeClaim>(&context))
        .graceful_shutdown_on(stop)
        .run(pass, after_failure, context)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "a pass has failed");
            }
        })
        .await;
}

/// Watches one kind of our objects into the index: the clusters that need a pass. A watch that breaks begins again, with
/// growing pauses; until then the index is as old as the last event.
fn changes<K>(context: &Arc<Context>) -> impl Stream<Item = ObjectRef<DynamicObject>> + Send + 'static
where
    K: Indexed + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let ours = watcher::Config::default().labels(&selector(&context.settings.cluster_labels));
    let context = context.clone();
    watcher(Api::<K>::all(context.client.clone()), ours)
        .default_backoff()
        .flat_map(move |event| {
            let changed = match event {
                Ok(event) => context.index().take(event),
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "A watch has failed and is tried again.");
                    Vec::new()
                }
            };
            let clusters = changed
                .into_iter()
                .map(|key| ObjectRef::new_with(&key.name, resource()).within(&key.namespace));
            stream::iter(clusters.collect::<Vec<_>>())
        })
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
    if !context.index().is_complete() {
        return Ok(Action::requeue(GATHER));
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
#[error("{}", self.in_one_line())]
struct PassError(Box<finalizer::Error<OperatorError>>);

impl PassError {
    fn in_one_line(&self) -> String {
        match &*self.0 {
            finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error) => {
                error.in_one_line()
            }
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
