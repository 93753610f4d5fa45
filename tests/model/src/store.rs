use std::sync::Arc;

use howdah_dcs::{
    KeyOp, KeyTree, LeaderKey, LeaseDone, LeaseId, LeaseOp, MemStore, Outcome, View,
    observed::{Attempt, Next, Observed, Record, Reply, Request},
};
use howdah_types::BootTime;

use crate::kubernetes::Kubernetes;

/// The store of a world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Store {
    Etcd(MemStore),
    Kubernetes(Kubernetes),
}

/// What travels to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    /// An operation that is one request.
    Op(LeaseOp),
    /// One of the requests that an operation on the leader's record consists of where the store ends no leases.
    Record(Request),
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Back {
    Outcome(Outcome<LeaseDone>),
    Record(Option<Record>),
    Conflict,
}

impl Store {
    pub(crate) fn new(kubernetes: bool) -> Self {
        if kubernetes {
            Store::Kubernetes(Kubernetes::default())
        } else {
            Store::Etcd(MemStore::default())
        }
    }

    /// Carries out an operation on a lease that is one request.
    fn lease(&mut self, op: &LeaseOp, now: BootTime) -> Outcome<LeaseDone> {
        match self {
            Store::Etcd(store) => store.lease(op, now),
            Store::Kubernetes(store) => store.lease(op, now),
        }
    }

    /// Writes one key.
    pub(crate) fn write(&mut self, op: &KeyOp, now: BootTime) -> Outcome<u64> {
        match self {
            Store::Etcd(store) => store.write(op, now),
            Store::Kubernetes(store) => store.write(op, now),
        }
    }

    /// Carries out what has arrived.
    pub(crate) fn carry_out(&mut self, wire: &Wire, now: BootTime) -> Back {
        match (self, wire) {
            (Store::Kubernetes(store), Wire::Record(request)) => match store.ask(request, now) {
                Ok(record) => Back::Record(record),
                Err(()) => Back::Conflict,
            },
            (store, Wire::Op(op)) => Back::Outcome(store.lease(op, now)),
            (Store::Etcd(_), Wire::Record(_)) => Back::Conflict,
        }
    }

    /// Everything is gone.
    pub(crate) fn wipe(&mut self) {
        match self {
            Store::Etcd(store) => store.wipe(),
            Store::Kubernetes(store) => store.wipe(),
        }
    }

    /// Ends what has run out, where the store does that.
    pub(crate) fn expire(&mut self, now: BootTime) {
        if let Store::Etcd(store) = self {
            store.expire(now);
        }
    }

    /// The whole cluster, as an observer that has seen this much reads it now.
    pub(crate) fn view(&mut self, tree: &KeyTree, seen: &mut Seen, now: BootTime) -> Arc<View> {
        match self {
            Store::Etcd(store) => store.view(tree, now),
            Store::Kubernetes(store) => {
                let held = match store.record() {
                    Some(record) => seen.observed.see(record.clone(), now, now).is_held(),
                    None => false,
                };
                store.view(tree, held, now)
            }
        }
    }

    /// Who leads without doubt.
    pub(crate) fn leader(&self, now: BootTime) -> Option<LeaderKey> {
        match self {
            Store::Etcd(store) => store.leader().cloned(),
            Store::Kubernetes(store) => store.leader(now),
        }
    }
}

/// What one life of an agent has seen of a store that ends no leases, and what it is about to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    observed: Observed,
    /// The lease that this life has, and its length.
    lease: Option<(LeaseId, std::time::Duration)>,
    /// The operation that is under way, and its last request.
    attempt: Option<(Attempt, Request)>,
}

impl Seen {
    /// The next request of an operation, or how it has ended.
    pub(crate) fn wire(&mut self, store: &Store, op: &LeaseOp) -> Result<Wire, Outcome<LeaseDone>> {
        if matches!(store, Store::Etcd(_)) {
            return Ok(Wire::Op(op.clone()));
        }
        if let Some((_, request)) = &self.attempt {
            return Ok(Wire::Record(request.clone()));
        }
        let ttl = |lease: &LeaseId| self.lease.filter(|(known, _)| known == lease).map(|(_, ttl)| ttl);
        let mut attempt = match op {
            LeaseOp::Renew { lease, .. } => Attempt::to_renew(*lease, ttl(lease)),
            LeaseOp::Acquire { me, lease } => Attempt::to_acquire(me.clone(), *lease, ttl(lease)),
            LeaseOp::Release { lease } => Attempt::to_release(*lease, ttl(lease)),
            LeaseOp::Grant { .. } | LeaseOp::KeepAlive { .. } | LeaseOp::Revoke { .. } => {
                return Ok(Wire::Op(op.clone()));
            }
        };
        match attempt.begin(self.observed.record().cloned()) {
            Next::Ask(request) => {
                self.attempt = Some((attempt, request.clone()));
                Ok(Wire::Record(request))
            }
            Next::End(outcome) => Err(outcome),
        }
    }

    /// What an answer to a request of `sent` says: the operation's outcome, or `None` if it goes on.
    pub(crate) fn hear(&mut self, back: Back, sent: BootTime, now: BootTime) -> Option<Outcome<LeaseDone>> {
        let reply = match back {
            Back::Outcome(outcome) => {
                if let Outcome::Done(LeaseDone::Granted { lease, ttl }) = &outcome {
                    self.lease = Some((*lease, *ttl));
                }
                return Some(outcome);
            }
            Back::Conflict => Reply::Conflict,
            Back::Record(Some(record)) => Reply::Found {
                held: self.observed.see(record.clone(), sent, now).is_held(),
                record,
            },
            Back::Record(None) => {
                self.observed.absent(now);
                Reply::Absent {
                    held: self.observed.is_held(now),
                }
            }
        };
        let (mut attempt, asked) = self.attempt.take()?;
        match attempt.hear(&asked, reply) {
            Next::Ask(request) => {
                self.attempt = Some((attempt, request));
                None
            }
            Next::End(outcome) => Some(outcome),
        }
    }

    /// The operation is given up: its answer did not come in time.
    pub(crate) fn give_up(&mut self) {
        self.attempt = None;
    }
}
