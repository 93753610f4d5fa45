use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use howdah_types::{BootTime, MemberName};

use crate::{
    Cond, Key, KeyOp, KeyTree, LeaderKey, LeaderSeen, LeaseDone, LeaseId, LeaseOp, Outcome, RawKey, Refusal,
    Term, View,
};

/// A store in memory with etcd's semantics and a clock that is passed in. Comparable and hashable, so that a model
/// checker can tell whether it has seen a state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemStore {
    rev: u64,
    next_lease: u64,
    leases: BTreeMap<LeaseId, Lease>,
    leader: Option<LeaderKey>,
    members: BTreeMap<MemberName, (String, LeaseId)>,
    keys: BTreeMap<Key, (String, u64)>,
    /// The lease that the empty `initialize` is bound to.
    claim: Option<LeaseId>,
    last: LastRead,
}

/// What was read last, while nothing has been written since: a model reads far more often than it writes. It is no part of the
/// state: all stores are equal in it.
#[derive(Clone, Debug, Default)]
struct LastRead(Option<Arc<View>>);

impl PartialEq for LastRead {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LastRead {}

impl Hash for LastRead {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lease {
    ttl: std::time::Duration,
    expires: BootTime,
}

impl MemStore {
    /// Ends the leases that have run out, with the keys bound to them.
    pub fn expire(&mut self, now: BootTime) {
        let gone: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.expires <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.end_lease(id);
        }
    }

    /// Forgets everything, as a store that was lost and set up again: no key, no lease, and revisions from one. Only the
    /// numbers of leases go on, since etcd draws them by chance.
    pub fn wipe(&mut self) {
        *self = MemStore {
            next_lease: self.next_lease,
            ..MemStore::default()
        };
    }

    /// When the next lease runs out, unless it is renewed.
    #[must_use]
    pub fn next_expiry(&self) -> Option<BootTime> {
        self.leases.values().map(|lease| lease.expires).min()
    }

    /// Carries out an operation on a lease or the leader key at `now`.
    pub fn lease(&mut self, op: &LeaseOp, now: BootTime) -> Outcome<LeaseDone> {
        self.expire(now);
        match self.try_lease(op, now) {
            Ok(done) => Outcome::Done(done),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    /// Writes one key at `now`: done with its revision.
    pub fn write(&mut self, op: &KeyOp, now: BootTime) -> Outcome<u64> {
        self.expire(now);
        match self.try_write(op) {
            Ok(rev) => Outcome::Done(rev),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn try_lease(&mut self, op: &LeaseOp, now: BootTime) -> Result<LeaseDone, Refusal> {
        match op {
            LeaseOp::Grant { ttl } => {
                self.next_lease += 1;
                let lease = LeaseId(self.next_lease);
                self.leases.insert(
                    lease,
                    Lease {
                        ttl: *ttl,
                        expires: now + *ttl,
                    },
                );
                Ok(LeaseDone::Granted { lease, ttl: *ttl })
            }
            LeaseOp::KeepAlive { lease } => Ok(LeaseDone::Renewed {
                ttl: self.extend(*lease, now)?,
                leader: LeaderSeen::NotRead,
            }),
            LeaseOp::Renew { lease, read } => Ok(LeaseDone::Renewed {
                ttl: self.extend(*lease, now)?,
                leader: if *read {
                    LeaderSeen::Read(self.leader.clone())
                } else {
                    LeaderSeen::NotRead
                },
            }),
            LeaseOp::Revoke { lease } => {
                self.end_lease(*lease);
                Ok(LeaseDone::Ended)
            }
            LeaseOp::Acquire { me, lease } => {
                self.leases.get(lease).ok_or(Refusal::NoLease)?;
                if let Some(leader) = &self.leader {
                    return Err(Refusal::HasLeader(leader.clone()));
                }
                let term = Term(self.bump());
                self.leader = Some(LeaderKey {
                    name: me.clone(),
                    lease: Some(*lease),
                    term,
                });
                Ok(LeaseDone::Acquired { term })
            }
            LeaseOp::Release { lease } => {
                if self
                    .leader
                    .as_ref()
                    .is_some_and(|leader| leader.lease == Some(*lease))
                {
                    self.leader = None;
                    self.bump();
                    Ok(LeaseDone::Ended)
                } else {
                    Err(Refusal::Condition)
                }
            }
        }
    }

    fn try_write(&mut self, op: &KeyOp) -> Result<u64, Refusal> {
        match op {
            KeyOp::PutMember { me, lease, record } => {
                self.leases.get(lease).ok_or(Refusal::NoLease)?;
                self.members.insert(me.clone(), (record.clone(), *lease));
                Ok(self.bump())
            }
            KeyOp::Claim { lease } => {
                self.leases.get(lease).ok_or(Refusal::NoLease)?;
                if self.claim != Some(*lease) {
                    self.check(Key::Initialize, Cond::Absent)?;
                    let rev = self.bump();
                    self.keys.insert(Key::Initialize, (String::new(), rev));
                    self.claim = Some(*lease);
                }
                Ok(self.rev)
            }
            KeyOp::Put { document, cond } => {
                let key = document.key();
                self.check(key, *cond)?;
                if key == Key::Initialize {
                    self.claim = None;
                }
                let rev = self.bump();
                self.keys.insert(key, (document.text().to_owned(), rev));
                Ok(rev)
            }
            KeyOp::Delete { key, cond } => {
                self.check(*key, *cond)?;
                self.keys.remove(key);
                Ok(self.bump())
            }
        }
    }

    /// The whole cluster at `now`, of a store that has always been read with this tree.
    pub fn view(&mut self, tree: &KeyTree, now: BootTime) -> Arc<View> {
        self.expire(now);
        let last = self.last.0.take().unwrap_or_else(|| Arc::new(self.read(tree)));
        Arc::clone(self.last.0.insert(last))
    }

    fn read(&self, tree: &KeyTree) -> View {
        let raw = |path: String, value: String, modified: u64, lease: Option<LeaseId>| RawKey {
            path,
            value,
            created: modified,
            modified,
            lease,
        };
        let keys = self
            .keys
            .iter()
            .map(|(key, (value, rev))| raw(tree.path(*key), value.clone(), *rev, None));
        let members = self
            .members
            .iter()
            .map(|(name, (value, lease))| raw(tree.member(name), value.clone(), 1, Some(*lease)));
        let leader = self
            .leader
            .iter()
            .map(|key| raw(tree.leader(), key.name.to_string(), key.term.0, key.lease));
        View::from_keys(tree, self.rev, keys.chain(members).chain(leader))
    }

    /// Who leads.
    #[must_use]
    pub fn leader(&self) -> Option<&LeaderKey> {
        self.leader.as_ref()
    }

    fn check(&self, key: Key, cond: Cond) -> Result<(), Refusal> {
        let rev = self.keys.get(&key).map(|(_, rev)| *rev);
        let holds = match cond {
            Cond::Always => true,
            Cond::Absent => rev.is_none(),
            Cond::Rev(wanted) => rev.unwrap_or(0) == wanted,
        };
        if holds { Ok(()) } else { Err(Refusal::Condition) }
    }

    fn extend(&mut self, lease: LeaseId, now: BootTime) -> Result<std::time::Duration, Refusal> {
        let found = self.leases.get_mut(&lease).ok_or(Refusal::NoLease)?;
        found.expires = now + found.ttl;
        Ok(found.ttl)
    }

    fn end_lease(&mut self, id: LeaseId) {
        if self.leases.remove(&id).is_none() {
            return;
        }
        let claimed = self.claim.take_if(|claim| *claim == id).is_some();
        if claimed {
            self.keys.remove(&Key::Initialize);
        }
        let members = self.members.len();
        self.members.retain(|_, (_, lease)| *lease != id);
        let led = self
            .leader
            .as_ref()
            .is_some_and(|leader| leader.lease == Some(id));
        if led {
            self.leader = None;
        }
        if led || claimed || members != self.members.len() {
            self.bump();
        }
    }

    /// Something is changed: a new revision.
    fn bump(&mut self) -> u64 {
        self.last = LastRead(None);
        self.rev += 1;
        self.rev
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;
    use std::time::Duration;

    const TTL: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> BootTime {
        BootTime::from_secs(seconds)
    }

    fn grant(store: &mut MemStore, now: BootTime) -> LeaseId {
        match store.lease(&LeaseOp::Grant { ttl: TTL }, now) {
            Outcome::Done(LeaseDone::Granted { lease, .. }) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn leadership_ends_with_its_lease_and_terms_grow() {
        let mut store = MemStore::default();
        let (a, b) = (MemberName::new("a").unwrap(), MemberName::new("b").unwrap());
        let (la, lb) = (grant(&mut store, at(0)), grant(&mut store, at(0)));
        let Outcome::Done(LeaseDone::Acquired { term: first }) =
            store.lease(&LeaseOp::Acquire { me: a, lease: la }, at(1))
        else {
            panic!("a must lead")
        };
        let wants = LeaseOp::Acquire { me: b, lease: lb };
        assert!(matches!(
            store.lease(&wants, at(20)),
            Outcome::Refused(Refusal::HasLeader(_))
        ));
        store.lease(&LeaseOp::KeepAlive { lease: lb }, at(20));
        let Outcome::Done(LeaseDone::Acquired { term: second }) = store.lease(&wants, at(31)) else {
            panic!("the lease of a has run out")
        };
        assert!(second > first);
        assert_eq!(
            store.lease(&LeaseOp::Release { lease: la }, at(32)),
            Outcome::Refused(Refusal::Condition)
        );
        assert_eq!(
            store.lease(
                &LeaseOp::Renew {
                    lease: la,
                    read: true
                },
                at(32)
            ),
            Outcome::Refused(Refusal::NoLease)
        );
    }

    #[test]
    fn conditions_compare_revisions() {
        let mut store = MemStore::default();
        let put = |cond| KeyOp::Put {
            document: Document::verbatim(Key::Sync, "{}".into()),
            cond,
        };
        let Outcome::Done(rev) = store.write(&put(Cond::Absent), at(0)) else {
            panic!()
        };
        assert_eq!(
            store.write(&put(Cond::Absent), at(0)),
            Outcome::Refused(Refusal::Condition)
        );
        assert!(matches!(
            store.write(&put(Cond::Rev(rev)), at(0)),
            Outcome::Done(_)
        ));
        assert_eq!(
            store.write(&put(Cond::Rev(rev)), at(0)),
            Outcome::Refused(Refusal::Condition)
        );
    }
}
