//! Kubernetes as the store of a world: a ConfigMap with a version, and no server that ends a lease.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use howdah_dcs::{
    KeyOp, KeyTree, LeaderKey, LeaderSeen, LeaseDone, LeaseId, LeaseOp, MemStore, Member, Outcome, View,
    observed::{Record, Request},
};
use howdah_types::{BootTime, MemberName};

/// The objects of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Kubernetes {
    /// Everything but the leader's record and the pods.
    keys: MemStore,
    /// What each pod says of itself. It stays when the pod's processes die.
    pods: BTreeMap<MemberName, String>,
    record: Option<Record>,
    version: u64,
    /// When the record was last taken or renewed, by a clock that no member of the world has.
    renewed: BootTime,
    lives: u64,
    /// Of all leases: in a world they have one length.
    ttl: Duration,
    read: Read,
}

/// What was read last, until something of it changes. It is no part of the state.
#[derive(Clone, Debug, Default)]
struct Read(Option<Box<LastRead>>);

#[derive(Clone, Debug)]
struct LastRead {
    keys: Arc<View>,
    leader: Option<LeaderKey>,
    view: Arc<View>,
}

impl PartialEq for Read {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Read {}

impl Hash for Read {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Kubernetes {
    /// What no attempt is made of: it is one request, or none. The record's operations are attempts.
    pub(crate) fn lease(&mut self, op: &LeaseOp, now: BootTime) -> Outcome<LeaseDone> {
        match op {
            LeaseOp::Grant { ttl } => {
                self.lives += 1;
                self.ttl = *ttl;
                Outcome::Done(LeaseDone::Granted {
                    lease: LeaseId(self.lives),
                    ttl: *ttl,
                })
            }
            // A lease is nothing but a number before it leads.
            LeaseOp::KeepAlive { .. } => Outcome::Done(LeaseDone::Renewed {
                ttl: self.ttl,
                leader: LeaderSeen::NotRead,
            }),
            LeaseOp::Revoke { .. } => Outcome::Done(LeaseDone::Ended),
            LeaseOp::Renew { .. } | LeaseOp::Acquire { .. } | LeaseOp::Release { .. } => {
                self.keys.lease(op, now)
            }
        }
    }

    /// Writes one key.
    pub(crate) fn write(&mut self, op: &KeyOp, now: BootTime) -> Outcome<u64> {
        match op {
            KeyOp::PutMember { me, record, .. } => {
                self.pods.insert(me.clone(), record.clone());
                self.read = Read(None);
                Outcome::Done(0)
            }
            KeyOp::Claim { .. } | KeyOp::Put { .. } | KeyOp::Delete { .. } => self.keys.write(op, now),
        }
    }

    /// One request for the leader's record: what stands there afterwards, or `Err` if another client was faster.
    pub(crate) fn ask(&mut self, request: &Request, now: BootTime) -> Result<Option<Record>, ()> {
        match request {
            Request::Read => {}
            Request::Create if self.record.is_some() => return Err(()),
            Request::Create => {
                self.version += 1;
                self.record = Some(Record {
                    version: self.version,
                    ..Record::default()
                });
            }
            Request::Swap { over, change } => {
                if self.record.as_ref().map(|record| record.version) != Some(over.version) {
                    return Err(());
                }
                self.version += 1;
                self.renewed = now;
                self.record = Some(over.after(change, self.version, self.version.to_string()));
            }
        }
        Ok(self.record.clone())
    }

    /// All ConfigMaps are deleted; pods, and what they say, stay.
    pub(crate) fn wipe(&mut self) {
        self.keys.wipe();
        self.record = None;
        self.version += 1;
    }

    /// The record as it stands.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// The whole cluster, for an observer to which the record is `held`.
    pub(crate) fn view(&mut self, tree: &KeyTree, held: bool, now: BootTime) -> Arc<View> {
        let keys = self.keys.view(tree, now);
        let leader = self.record.as_ref().filter(|_| held).and_then(Record::leader);
        let last = self.read.0.take();
        let is_same = |last: &LastRead| Arc::ptr_eq(&last.keys, &keys) && last.leader == leader;
        let parse = |(name, text): (&MemberName, &String)| (name.clone(), Member::parse(text));
        let last = last.filter(|last| is_same(last)).unwrap_or_else(|| {
            Box::new(LastRead {
                view: Arc::new(View {
                    members: self.pods.iter().map(parse).collect(),
                    leader: leader.clone(),
                    ..View::clone(&keys)
                }),
                keys,
                leader,
            })
        });
        Arc::clone(&self.read.0.insert(last).view)
    }

    /// The certain leader: no other member can have taken the record yet.
    pub(crate) fn leader(&self, now: BootTime) -> Option<LeaderKey> {
        let record = self.record.as_ref()?;
        record.leader().filter(|_| now < self.renewed + record.ttl)
    }
}
