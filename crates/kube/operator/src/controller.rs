use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use futures_util::{FutureExt, Stream, StreamExt, stream};
use howdah_blueprint::POOLER_LABEL;
use howdah_clock::now;
use howdah_types::BootTime;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, Event as KubeEvent, Node, PersistentVolumeClaim, Pod, Secret, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource,
    api::DynamicObject,
    core::NamespaceResourceScope,
    runtime::{
        Controller, WatchStreamExt,
        controller::{self, Action, Config},
        finalizer::{self, Event, finalizer},
        reflector::{ObjectRef, store::Writer},
        watcher,
    },
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::{
    OperatorError, cleanup,
    context::{Context, FINALIZER, postgresql_api, resource, selector},
    error::kube_text,
    index::{Index, Indexed, Kind},
    objects::ClusterKey,
    reconcile, refusals,
    setup::Setup,
};

/// Delay of the next try after a failure; a change comes earlier.
const RETRY: Duration = Duration::from_secs(2);

/// The first lists take this long at most, as a rule; until they are there, passes are tried after this pause.
const SETTLE: Duration = Duration::from_secs(10);
const LISTING: Duration = Duration::from_millis(100);

/// A watch that fails is tried again at most this much later. After that it is taken to be well: it tells nothing of its own when it
/// goes on where it was.
const BLIND: Duration = Duration::from_secs(75);

/// A pass that is put off for others comes after this time.
const LATER: Duration = Duration::from_secs(1);

/// Several changes within this time are one pass.
const GATHER: Duration = Duration::from_millis(20);

/// An operator, for one term.
pub struct Operator {
    pub(crate) context: Arc<Context>,
    namespace: Option<String>,
    workers: u16,
    nodes: bool,
    /// Why the watch of clusters has failed last, and when.
    blind: Mutex<Option<(String, BootTime)>>,
}

impl Operator {
    /// One that has not begun.
    #[must_use]
    pub fn new(client: Client, setup: Setup) -> Self {
        Operator {
            namespace: setup.namespace.clone(),
            workers: setup.workers,
            nodes: setup.nodes,
            context: Arc::new(Context::new(client, setup)),
            blind: Mutex::new(None),
        }
    }

    /// Works until `stop` ends. Clusters are worked on independently of one another.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send + Sync + 'static) {
        let context = &self.context;
        let namespace = self.namespace.as_deref();
        let clusters = postgresql_api(context.client.clone(), namespace);
        let writer = Writer::new(resource());
        let reader = writer.as_reader();
        let watched = watcher(clusters, listed())
            .default_backoff()
            .modify(|cluster| cluster.metadata.managed_fields = None)
            .reflect(writer);
        let controller = Controller::for_stream_with(once_listed(watched), reader, resource());
        // An operator has one term.
        let _ = context.store.set(controller.store());
        controller
            .with_config(Config::default().debounce(GATHER).concurrency(self.workers))
            .reconcile_on(changes::<Pod>(context, namespace))
            .reconcile_on(changes::<ConfigMap>(context, namespace))
            .reconcile_on(changes::<StatefulSet>(context, namespace))
            .reconcile_on(changes::<Service>(context, namespace))
            .reconcile_on(changes::<PodDisruptionBudget>(context, namespace))
            .reconcile_on(changes::<Secret>(context, namespace))
            .reconcile_on(changes::<PersistentVolumeClaim>(context, namespace))
            .reconcile_on(changes::<Deployment>(context, namespace))
            .reconcile_on(drained(context, self.nodes))
            .reconcile_on(refused(context, namespace))
            .graceful_shutdown_on(stop)
            .run(pass, after_failure, Arc::clone(context))
            .for_each(|result| {
                self.heard(result.err());
                std::future::ready(())
            })
            .await;
    }

    /// Takes the end of a pass, or of the watch of clusters.
    fn heard(&self, error: Option<controller::Error<PassError, watcher::Error>>) {
        match error {
            Some(controller::Error::QueueError(error)) => {
                let mut blind = self.blind.lock();
                if blind.as_ref().is_none_or(|(_, at)| now() >= *at + BLIND) {
                    tracing::warn!("The watch of clusters has failed and is tried again: {error}.");
                }
                *blind = Some((error.to_string(), now()));
            }
            Some(controller::Error::ObjectNotFound(cluster)) => {
                // It went without a pass of its own, by another client.
                self.context.forget(&ClusterKey {
                    namespace: cluster.namespace.unwrap_or_default(),
                    name: cluster.name,
                });
            }
            Some(error) => tracing::debug!(%error, "a pass has failed"),
            None => {}
        }
    }

    /// Whether it knows all clusters and their objects: before that it makes no pass.
    ///
    /// # Errors
    /// What it does not know.
    pub fn is_informed(&self) -> Result<(), String> {
        if let Some((reason, at)) = &*self.blind.lock()
            && now() < *at + BLIND
        {
            return Err(format!("the clusters cannot be watched: {reason}"));
        }
        let listed = self.context.store.get().is_some_and(|store| {
            let ready = std::pin::pin!(store.wait_until_ready());
            ready.now_or_never().is_some()
        });
        if listed && self.context.index().is_complete() {
            Ok(())
        } else {
            Err("the clusters and their objects are still being listed".to_owned())
        }
    }
}

/// Lists come in parts: thousands of objects in one answer would be the most memory that the operator ever needs.
fn listed() -> watcher::Config {
    watcher::Config::default().page_size(100)
}

/// The clusters that a watch reports; those of a list when it has ended. Before that the store does not have them, and a pass
/// would find an older one there, or nothing at all.
fn once_listed(
    watched: impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>> + Send + 'static,
) -> impl Stream<Item = watcher::Result<DynamicObject>> + Send + 'static {
    let mut listed = Vec::new();
    watched.flat_map(move |event| {
        let clusters = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                Vec::new()
            }
            Ok(watcher::Event::InitApply(cluster)) => {
                listed.push(cluster);
                Vec::new()
            }
            Ok(watcher::Event::InitDone) => std::mem::take(&mut listed).into_iter().map(Ok).collect(),
            Ok(watcher::Event::Apply(cluster)) => vec![Ok(cluster)],
            Ok(watcher::Event::Delete(_)) => Vec::new(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(clusters)
    })
}

/// Watches one kind of our objects into the index: the clusters that need a pass.
fn changes<K>(
    context: &Arc<Context>,
    namespace: Option<&str>,
) -> impl Stream<Item = ObjectRef<DynamicObject>> + Send + use<K>
where
    K: Indexed + Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let ours = match K::KIND {
        // Poolers have upstream's labels, which are not those of clusters.
        Kind::Deployment => listed().labels(POOLER_LABEL),
        _ => listed().labels(&selector(&context.settings.cluster_labels)),
    };
    let client = context.client.clone();
    let api = match namespace {
        Some(namespace) => Api::<K>::namespaced(client, namespace),
        None => Api::<K>::all(client),
    };
    let told = |error: &watcher::Error| {
        tracing::warn!(kind = %K::kind(&()), "A watch has failed and is tried again: {error}.");
    };
    into_index(context, watcher(api, ours), told, |index, event| {
        index.take(event)
    })
}

/// Takes the events of a watch into the index: the clusters that need a pass. A watch that breaks begins again, with growing
/// pauses, and is told of once; until then the index is as old as the last event.
fn into_index<K, S, T, F>(
    context: &Arc<Context>,
    events: S,
    told: T,
    take: F,
) -> impl Stream<Item = ObjectRef<DynamicObject>> + Send + use<K, S, T, F>
where
    K: Send + 'static,
    S: Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    T: Fn(&watcher::Error) + Send + 'static,
    F: Fn(&mut Index, watcher::Event<K>) -> Vec<ClusterKey> + Send + 'static,
{
    let context = context.clone();
    let mut failing = false;
    events.default_backoff().flat_map(move |event| {
        let changed = match event {
            Ok(event) => {
                failing = false;
                take(&mut context.index(), event)
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    told(&error);
                }
                Vec::new()
            }
        };
        stream::iter(references(&context, &changed))
    })
}

/// Watches nodes: the clusters with pods on one that was closed or opened.
fn drained(
    context: &Arc<Context>,
    watches: bool,
) -> impl Stream<Item = ObjectRef<DynamicObject>> + Send + use<> {
    let nodes = watcher(Api::<Node>::all(context.client.clone()), listed());
    let told = |error: &watcher::Error| {
        tracing::warn!(
            "The watch of nodes has failed and is tried again; until then primaries do not leave nodes that are drained: {error}."
        );
    };
    let nodes = into_index(context, nodes, told, Index::take_node);
    if watches {
        nodes.boxed()
    } else {
        stream::pending().boxed()
    }
}

/// Watches what the StatefulSets' controller is refused: the clusters whose pods cannot be made.
fn refused(
    context: &Arc<Context>,
    namespace: Option<&str>,
) -> impl Stream<Item = ObjectRef<DynamicObject>> + Send + use<> {
    let client = context.client.clone();
    let api = match namespace {
        Some(namespace) => Api::<KubeEvent>::namespaced(client, namespace),
        None => Api::all(client),
    };
    let events = watcher(api, listed().fields(refusals::SELECTOR));
    let told = |error: &watcher::Error| {
        tracing::warn!(
            "The watch of events has failed and is tried again; until then nothing says why a pod cannot be made: {error}."
        );
    };
    into_index(context, events, told, Index::take_refusal)
}

fn references(context: &Context, clusters: &[ClusterKey]) -> Vec<ObjectRef<DynamicObject>> {
    context.meter.changed(clusters.iter());
    clusters
        .iter()
        .map(|key| ObjectRef::new_with(&key.name, resource()).within(&key.namespace))
        .collect()
}

async fn pass(object: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, PassError> {
    if !context.is_ours(&object) {
        // It may have been.
        context.forget(&ClusterKey::of_object(&object));
        return Ok(Action::await_change());
    }
    if !context.index().is_complete() {
        // Within a moment at the start; as long as a kind cannot be listed, seldom.
        let begun = now() < context.begun + SETTLE;
        return Ok(Action::requeue(if begun { LISTING } else { RETRY }));
    }
    let key = ClusterKey::of_object(&object);
    if context.puts_off(&object) {
        return Ok(Action::requeue(LATER));
    }
    if object.metadata.deletion_timestamp.is_some() && cleanup::kept(&context, &object).is_some() {
        // It is looked after until its annotations let it go. The finalizer stays, and with it the object.
        let meter = Arc::clone(&context.meter);
        let _pass = meter.pass(&key);
        let work = reconcile::cluster(&context, &object);
        return Ok(context
            .fence
            .hold(work)
            .await
            .unwrap_or_else(Action::await_change));
    }
    let api = postgresql_api(context.client.clone(), Some(&key.namespace));
    let work = finalizer(&api, FINALIZER, object, |event| async {
        match event {
            Event::Apply(object) => Ok(reconcile::cluster(&context, &object).await),
            Event::Cleanup(object) => cleanup::cluster(&context, &object).await,
        }
    });
    let meter = Arc::clone(&context.meter);
    let _pass = meter.pass(&key);
    match context.fence.hold(work).await {
        // Its last finalizer was taken away by another client, and it is gone.
        Some(Err(finalizer::Error::RemoveFinalizer(kube::Error::Api(status)))) if status.code == 404 => {
            Ok(Action::await_change())
        }
        Some(done) => done.map_err(|error| PassError(Box::new(error))),
        // Another operator may lead by now, and this one's term ends.
        None => Ok(Action::await_change()),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{}", self.in_one_line())]
struct PassError(Box<finalizer::Error<OperatorError>>);

impl PassError {
    fn reason(&self) -> &'static str {
        match &*self.0 {
            finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error) => error.reason(),
            _ => "finalizer",
        }
    }

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

fn after_failure(object: Arc<DynamicObject>, error: &PassError, context: Arc<Context>) -> Action {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let waits = matches!(
        &*error.0,
        finalizer::Error::CleanupFailed(OperatorError::Waiting(_))
    );
    if waits {
        tracing::debug!(cluster = name, %error, "a deletion goes on");
    } else {
        context.meter.failed(error.reason());
        tracing::warn!(cluster = name, %error, "A pass has failed.");
    }
    Action::requeue(RETRY)
}
