use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use howdah_blueprint::{Login, OtherRoles, Settings, Step};
use howdah_clock::now;
use howdah_manifest::{GROUP, KIND, PLURAL, Status, VERSION};
use howdah_types::BootTime;
use kube::{
    Client,
    api::{Api, DynamicObject},
    core::{ApiResource, GroupVersionKind},
    runtime::reflector::Store,
};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value};

use crate::{
    fence::Fence,
    index::{Index, Indexed},
    known::Known,
    meter::Meter,
    objects::ClusterKey,
    observe::Seen,
    setup::Setup,
};

/// Which operator a cluster belongs to.
const CONTROLLER: &str = "acid.zalan.do/controller";

/// Under this name the operator owns fields.
pub(crate) const MANAGER: &str = "howdah-operator";

/// Upstream's finalizer: a deletion waits until the cluster's objects are gone.
pub(crate) const FINALIZER: &str = "postgres-operator.acid.zalan.do";

/// A pass is put off this often at most.
const PUT_OFF: u8 = 5;

/// `postgresql` objects: of a namespace, or of all.
#[must_use]
pub fn postgresql_api(client: Client, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource()),
        None => Api::all_with(client, &resource()),
    }
}

pub(crate) fn resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, KIND), PLURAL)
}

/// The selector of objects that have all these labels.
pub(crate) fn selector(labels: &BTreeMap<String, String>) -> String {
    let parts: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    parts.join(",")
}

/// What all passes share.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) fence: Fence,
    pub(crate) meter: Arc<Meter>,
    /// The namespace that it looks after; `None`: all.
    pub(crate) namespace: Option<String>,
    /// The operator's own namespace.
    pub(crate) home: String,
    /// The teams API may be asked.
    pub(crate) asks_teams: bool,
    /// What was read of what the settings name.
    pub(crate) known_sources: Known,
    /// Which clusters are ours: those with this name in their annotation; empty: those without one.
    pub(crate) controller_id: String,
    /// When the term began.
    pub(crate) begun: BootTime,
    index: Mutex<Index>,
    /// When the members' account of a namespace was seen to be there.
    accounts: Mutex<BTreeMap<String, BootTime>>,
    memory: Mutex<BTreeMap<ClusterKey, Memory>>,
    /// The clusters, once the watch has begun.
    pub(crate) store: OnceLock<Store<DynamicObject>>,
}

/// What an operator remembers of a cluster between passes. After a restart a pass does without it: it compares again,
/// may write an event a second time, and cannot restore a Secret that was deleted meanwhile.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    /// A digest of the objects as they were last applied, their versions after that, and when.
    pub(crate) applied: Option<([u8; 32], Vec<String>, BootTime)>,
    /// The same of the connection poolers, by name; of their Deployments, the generation.
    pub(crate) poolers: BTreeMap<String, ([u8; 32], i64, BootTime)>,
    /// The versions of the poolers' Services after that, and when they were last seen so.
    pub(crate) pooler_services: BTreeMap<String, (String, BootTime)>,
    /// The size that volumes were refused last, why, and when.
    pub(crate) resize_refused: Option<(String, String, BootTime)>,
    /// The roles and databases as they were last compared.
    pub(crate) database: Option<Arc<DatabasePass>>,
    /// Passwords by role, as the Secrets last had them.
    pub(crate) passwords: BTreeMap<String, String>,
    /// What the Secrets last said, by their places.
    pub(crate) logins: BTreeMap<String, Login>,
    /// Secrets that could not be had, by their places: why, and when.
    pub(crate) unmade: BTreeMap<String, (String, BootTime)>,
    /// The restart or switchover that the operator asked for last, and when.
    pub(crate) asked: Option<(Step, BootTime)>,
    /// The switchover that was told as an event last, since the cluster was ready.
    pub(crate) announced: Option<Step>,
    /// The change of the dynamic configuration that was sent last, and when.
    pub(crate) configured: Option<(Map<String, Value>, BootTime)>,
    /// A Secret of the cluster lacks its labels: no watch reports a change of it.
    pub(crate) unwatched: bool,
    /// Why the last pass failed, if it did.
    pub(crate) failed: Option<Failed>,
    /// It was ready after the last pass.
    pub(crate) is_ready: bool,
    /// When the status has changed last.
    pub(crate) changed: Option<BootTime>,
    /// How often in a row a pass was put off for the first passes of others; before the first one has ended, how often it was begun.
    pub(crate) put_off: u8,
    /// How often in a row the status could not be written.
    pub(crate) unwritten: u32,
    /// The status as it was written last, and the object's version with it.
    pub(crate) written: Option<(Status, u64)>,
    /// Since when a pod cannot be made.
    pub(crate) refused_since: Option<BootTime>,
    /// Troubles of pods that were written as events and have not passed yet.
    pub(crate) troubles: BTreeSet<String>,
    /// Notes that were written as events.
    pub(crate) told: BTreeSet<String>,
}

/// Passes that failed in a row for one reason.
#[derive(Clone)]
pub(crate) struct Failed {
    pub(crate) why: String,
    pub(crate) times: u32,
}

/// What a comparison of roles and databases depends on, beside the database.
#[derive(Clone, PartialEq)]
pub(crate) struct DatabaseInput {
    /// The manifest's generation.
    pub(crate) generation: i64,
    /// The primary's name.
    pub(crate) primary: String,
    /// Passwords by role.
    pub(crate) passwords: BTreeMap<String, String>,
    /// Roles that do not come from the manifest.
    pub(crate) others: OtherRoles,
}

/// A comparison of roles and databases.
#[derive(Clone)]
pub(crate) struct DatabasePass {
    pub(crate) of: DatabaseInput,
    pub(crate) at: BootTime,
    pub(crate) roles: usize,
    pub(crate) databases: usize,
    pub(crate) skipped: Vec<String>,
    pub(crate) version: String,
}

impl Context {
    pub(crate) fn new(client: Client, setup: Setup) -> Self {
        Context {
            client,
            index: Mutex::new(Index::new(setup.settings.clone(), setup.namespace.is_none())),
            settings: setup.settings,
            fence: setup.fence,
            meter: setup.meter,
            controller_id: setup.controller_id,
            namespace: setup.namespace,
            home: setup.home,
            asks_teams: setup.asks_teams,
            known_sources: Known::default(),
            begun: now(),
            accounts: Mutex::default(),
            memory: Mutex::default(),
            store: OnceLock::new(),
        }
    }

    /// The index of all clusters' objects. The guard is held for one operation and never across an await.
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock()
    }

    /// A cluster as the watches know it.
    pub(crate) fn seen(&self, cluster: &ClusterKey) -> Seen {
        self.index.lock().seen(cluster)
    }

    /// Takes the answer to a write into the index.
    pub(crate) fn wrote<K: Indexed>(&self, object: &K) {
        self.index.lock().wrote(object);
    }

    /// Whether the members' account of a namespace was there less than `long` ago.
    pub(crate) fn has_account(&self, namespace: &str, at: BootTime, long: Duration) -> bool {
        let accounts = self.accounts.lock();
        accounts.get(namespace).is_some_and(|seen| at < *seen + long)
    }

    /// The members' account of a namespace is there.
    pub(crate) fn made_account(&self, namespace: &str, at: BootTime) {
        self.accounts.lock().insert(namespace.to_owned(), at);
    }

    /// The clusters that are ours.
    pub(crate) fn known(&self) -> Vec<Arc<DynamicObject>> {
        let all = self.store.get().map(Store::state).unwrap_or_default();
        all.into_iter().filter(|cluster| self.is_ours(cluster)).collect()
    }

    /// Whether a cluster belongs to the operator of this name.
    pub(crate) fn is_ours(&self, cluster: &DynamicObject) -> bool {
        let annotations = cluster.metadata.annotations.as_ref();
        let owner = annotations.and_then(|all| all.get(CONTROLLER));
        owner.map_or("", String::as_str) == self.controller_id
    }

    /// Whether a pass over this cluster is put off, because others wait for their first one. A new cluster has no objects at all
    /// before that, and one that is being made gets on without the operator for a while.
    pub(crate) fn puts_off(&self, cluster: &DynamicObject) -> bool {
        let known = self.known();
        let mut memory = self.memory.lock();
        let own = memory.entry(ClusterKey::of_object(cluster)).or_default();
        if cluster.metadata.deletion_timestamp.is_some() || own.is_ready {
            return false;
        }
        if own.changed.is_none() {
            // One whose first pass does not come to an end is not waited for without end.
            own.put_off = own.put_off.saturating_add(1);
            return false;
        }
        if own.put_off >= PUT_OFF {
            own.put_off = 0;
            return false;
        }
        let waits = |other: &Arc<DynamicObject>| {
            other.metadata.deletion_timestamp.is_none()
                && memory
                    .get(&ClusterKey::of_object(other))
                    .is_none_or(|memory| memory.changed.is_none() && memory.put_off < PUT_OFF)
        };
        let puts_off = known.iter().any(waits);
        if let Some(own) = memory.get_mut(&ClusterKey::of_object(cluster)) {
            own.put_off = if puts_off { own.put_off + 1 } else { 0 };
        }
        puts_off
    }

    pub(crate) fn memory(&self, cluster: &ClusterKey) -> Memory {
        self.memory.lock().get(cluster).cloned().unwrap_or_default()
    }

    pub(crate) fn remember(&self, cluster: &ClusterKey, memory: Memory) {
        self.memory.lock().insert(cluster.clone(), memory);
    }

    pub(crate) fn forget(&self, cluster: &ClusterKey) {
        self.meter.forget(cluster);
        self.memory.lock().remove(cluster);
    }
}
