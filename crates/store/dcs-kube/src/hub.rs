use std::{collections::BTreeMap, sync::Arc, time::Duration};

use howdah_dcs::{
    Key, LeaseId,
    kubernetes::Layout,
    observed::{Observed, Record, Sight},
};
use howdah_types::{BootTime, MemberName};
use parking_lot::{Mutex as ShortLock, MutexGuard};
use serde_json::{Map, Value, json};

use crate::Api;

/// What all stores of one process share: what was seen of the leader's record, and since when; and what the keeper is to
/// write with its next renewal, since no other task may write that object.
#[derive(Clone)]
pub struct KubeHub {
    pub(crate) api: Arc<Api>,
    pub(crate) layout: Arc<Layout>,
    /// The member whose pod this process is in; `None`: a command that only looks and asks.
    pub(crate) me: Option<MemberName>,
    shared: Arc<ShortLock<Shared>>,
}

#[derive(Default)]
pub(crate) struct Shared {
    observed: Observed,
    /// The wanted length of each lease of this process.
    ttl: BTreeMap<LeaseId, Duration>,
    pub(crate) status: Option<String>,
    /// What the record is to say of the failsafe mode; the inner `None` deletes it.
    pub(crate) failsafe: Option<Option<String>>,
    /// Our pod, as far as Endpoints name it.
    pod: Option<Value>,
}

impl KubeHub {
    /// The cluster of `layout`; only its members, which say who they are, can claim the bootstrap.
    #[must_use]
    pub fn new(api: Api, layout: Layout, me: Option<MemberName>) -> Self {
        KubeHub {
            api: Arc::new(api),
            layout: Arc::new(layout),
            me,
            shared: Arc::default(),
        }
    }

    /// Held for a few instructions, never over an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock()
    }

    pub(crate) fn see(&self, record: Record, sent: BootTime, now: BootTime) -> Sight {
        self.lock().observed.see(record, sent, now)
    }

    pub(crate) fn absent(&self, now: BootTime) {
        self.lock().observed.absent(now);
    }

    pub(crate) fn known(&self) -> Option<Record> {
        self.lock().observed.record().cloned()
    }

    pub(crate) fn is_held(&self, now: BootTime) -> bool {
        self.lock().observed.is_held(now)
    }

    pub(crate) fn ends(&self) -> Option<BootTime> {
        self.lock().observed.ends()
    }

    pub(crate) fn set_ttl(&self, lease: LeaseId, ttl: Duration) {
        self.lock().ttl.insert(lease, ttl);
    }

    /// The length of a lease of this process.
    pub(crate) fn ttl(&self, lease: LeaseId) -> Option<Duration> {
        self.lock().ttl.get(&lease).copied()
    }

    /// Keeps what Endpoints say of our pod; one that is not seen is as it was.
    pub(crate) fn note_pod(&self, pod: Option<&Value>) {
        let Some(pod) = pod.filter(|_| self.layout.routing.is_some()) else {
            return;
        };
        let kept = json!({
            "metadata": {
                "name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"], "uid": pod["metadata"]["uid"],
            },
            "spec": {"hostname": pod["spec"]["hostname"], "nodeName": pod["spec"]["nodeName"]},
            "status": {"podIP": pod["status"]["podIP"]},
        });
        self.lock().pod = Some(kept);
    }

    pub(crate) fn pod(&self) -> Option<Value> {
        self.lock().pod.clone()
    }

    /// What goes along with a renewal.
    pub(crate) fn alongside(&self, layout: &Layout) -> Map<String, Value> {
        let shared = self.lock();
        let mut annotations = match &shared.status {
            Some(text) => layout.annotations_of(Key::Status, Some(text)),
            None => Map::new(),
        };
        if let Some(failsafe) = &shared.failsafe {
            annotations.extend(layout.annotations_of(Key::Failsafe, failsafe.as_deref()));
        }
        annotations
    }

    /// What was to go along with renewals is of the past.
    pub(crate) fn forget_alongside(&self) {
        let mut shared = self.lock();
        shared.status = None;
        shared.failsafe = None;
    }

    /// Whether the record is another life's: what is not known is not held against ours.
    pub(crate) fn other_leads(&self, lease: LeaseId) -> bool {
        self.known()
            .is_some_and(|record| record.holder.is_some() && record.lease != Some(lease))
    }
}
