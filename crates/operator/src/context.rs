use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use howdah_api::{GROUP, KIND, PLURAL, VERSION};
use howdah_plan::Settings;
use howdah_types::BootTime;
use kube::{
    Client,
    api::{Api, DynamicObject},
    core::{ApiResource, GroupVersionKind},
};
use parking_lot::Mutex;

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

/// What all passes share.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    memory: Mutex<BTreeMap<(String, String), Memory>>,
}

/// What an operator remembers of a cluster to save work. Nothing depends on it.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    /// The objects as they were last applied, their versions after that, and when.
    pub(crate) applied: Option<(String, Vec<String>, BootTime)>,
    /// The roles and databases as they were last compared.
    pub(crate) database: Option<Arc<DatabasePass>>,
    /// Passwords by role, as the Secrets last had them.
    pub(crate) passwords: BTreeMap<String, String>,
    /// The restart that was asked for last: which member, what for, when.
    pub(crate) restarted: Option<(String, String, BootTime)>,
    /// Notes that were told as events.
    pub(crate) told: BTreeSet<String>,
}

/// A comparison of roles and databases.
#[derive(Clone)]
pub(crate) struct DatabasePass {
    /// For which spec, on which primary.
    pub(crate) of: (i64, String),
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
            settings,
            memory: Mutex::default(),
        }
    }

    pub(crate) fn memory(&self, namespace: &str, name: &str) -> Memory {
        let key = (namespace.to_owned(), name.to_owned());
        self.memory.lock().get(&key).cloned().unwrap_or_default()
    }

    pub(crate) fn remember(&self, namespace: &str, name: &str, memory: Memory) {
        self.memory
            .lock()
            .insert((namespace.to_owned(), name.to_owned()), memory);
    }

    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        self.memory
            .lock()
            .remove(&(namespace.to_owned(), name.to_owned()));
    }
}
