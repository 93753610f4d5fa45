use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use howdah_blueprint::{Settings, Step};
use howdah_manifest::{GROUP, KIND, PLURAL, VERSION};
use howdah_types::BootTime;
use kube::{
    Client,
    api::{Api, DynamicObject},
    core::{ApiResource, GroupVersionKind},
};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value};

use crate::{
    index::{Index, Indexed},
    objects::ClusterKey,
    observe::Seen,
};

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
    index: Mutex<Index>,
    memory: Mutex<BTreeMap<ClusterKey, Memory>>,
}

/// What an operator remembers of a cluster between passes. After a restart a pass does without it: it compares again,
/// may write an event a second time, and cannot restore a Secret that was deleted meanwhile.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    /// The objects as they were last applied, their versions after that, and when.
    pub(crate) applied: Option<(String, Vec<String>, BootTime)>,
    /// The roles and databases as they were last compared.
    pub(crate) database: Option<Arc<DatabasePass>>,
    /// Passwords by role, as the Secrets last had them.
    pub(crate) passwords: BTreeMap<String, String>,
    /// The restart or switchover that the operator asked for last, and when.
    pub(crate) asked: Option<(Step, BootTime)>,
    /// The change of the dynamic configuration that was sent last, and when.
    pub(crate) configured: Option<(Map<String, Value>, BootTime)>,
    /// A Secret of the cluster lacks its labels: no watch reports a change of it.
    pub(crate) unwatched: bool,
    /// Why the last pass failed, if it did.
    pub(crate) failed: Option<Failed>,
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
    pub(crate) fn new(client: Client, settings: Settings) -> Self {
        Context {
            client,
            index: Mutex::new(Index::new(settings.clone())),
            settings,
            memory: Mutex::default(),
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

    pub(crate) fn memory(&self, cluster: &ClusterKey) -> Memory {
        self.memory.lock().get(cluster).cloned().unwrap_or_default()
    }

    pub(crate) fn remember(&self, cluster: &ClusterKey, memory: Memory) {
        self.memory.lock().insert(cluster.clone(), memory);
    }

    pub(crate) fn forget(&self, cluster: &ClusterKey) {
        self.memory.lock().remove(cluster);
    }
}
