use std::collections::BTreeMap;

use howdah_types::{BootTime, MemberName};

use crate::{
    Cond, Done, Key, KeyTree, LeaderKey, LeaderSeen, LeaseId, Op, Outcome, RawKey, Refusal, Term, View,
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

    /// When the next lease runs out, if nobody renews it.
    #[must_use]
    pub fn next_expiry(&self) -> Option<BootTime> {
        self.leases.values().map(|lease| lease.expires).min()
    }

    /// Carries out one operation at `now`.
    pub fn apply(&mut self, op: &Op, now: BootTime) -> Outcome {
        self.expire(now);
        match self.try_apply(op, now) {
            Ok(done) => Outcome::Done(done),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn try_apply(&mut self, op: &Op, now: BootTime) -> Result<Done, Refusal> {
        match op {
            Op::Grant { ttl } => {
                self.next_lease += 1;
                let lease = LeaseId(self.next_lease);
                self.leases.insert(
                    lease,
                    Lease {
                        ttl: *ttl,
                        expires: now + *ttl,
                    },
                );
                Ok(Done::Lease { lease, ttl: *ttl })
            }
            Op::KeepAlive { lease } => Ok(Done::Renewed {
                ttl: self.extend(*lease, now)?,
                leader: LeaderSeen::NotRead,
            }),
            Op::Renew { lease, read } => Ok(Done::Renewed {
                ttl: self.extend(*lease, now)?,
                leader: if *read {
                    LeaderSeen::Read(self.leader.clone())
                } else {
                    LeaderSeen::NotRead
                },
            }),
            Op::Revoke { lease } => {
                self.end_lease(*lease);
                Ok(Done::Written { rev: self.rev })
            }
            Op::Acquire { me, lease } => {
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
                Ok(Done::Acquired { term })
            }
            Op::Release { lease } => {
                if self
                    .leader
                    .as_ref()
                    .is_some_and(|leader| leader.lease == Some(*lease))
                {
                    self.leader = None;
                    Ok(Done::Written { rev: self.bump() })
                } else {
                    Err(Refusal::Condition)
                }
            }
            Op::PutMember { me, lease, value } => {
                self.leases.get(lease).ok_or(Refusal::NoLease)?;
                self.members.insert(me.clone(), (value.clone(), *lease));
                Ok(Done::Written { rev: self.bump() })
            }
            Op::Claim { lease } => {
                self.leases.get(lease).ok_or(Refusal::NoLease)?;
                if self.claim != Some(*lease) {
                    self.check(Key::Initialize, Cond::Absent)?;
                    let rev = self.bump();
                    self.keys.insert(Key::Initialize, (String::new(), rev));
                    self.claim = Some(*lease);
                }
                Ok(Done::Written { rev: self.rev })
            }
            Op::Put { key, value, cond } => {
                self.check(*key, *cond)?;
                if *key == Key::Initialize {
                    self.claim = None;
                }
                let rev = self.bump();
                self.keys.insert(*key, (value.clone(), rev));
                Ok(Done::Written { rev })
            }
            Op::Delete { key, cond } => {
                self.check(*key, *cond)?;
                self.keys.remove(key);
                Ok(Done::Written { rev: self.bump() })
            }
        }
    }

    /// The whole cluster at `now`.
    pub fn view(&mut self, tree: &KeyTree, now: BootTime) -> View {
        self.expire(now);
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
        if self.claim.take_if(|claim| *claim == id).is_some() {
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
        if led || members != self.members.len() {
            self.bump();
        }
    }

    fn bump(&mut self) -> u64 {
        self.rev += 1;
        self.rev
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const TTL: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> BootTime {
        BootTime::from_secs(seconds)
    }

    fn grant(store: &mut MemStore, now: BootTime) -> LeaseId {
        match store.apply(&Op::Grant { ttl: TTL }, now) {
            Outcome::Done(Done::Lease { lease, .. }) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn leadership_ends_with_its_lease_and_terms_grow() {
        let mut store = MemStore::default();
        let (a, b) = (MemberName::new("a").unwrap(), MemberName::new("b").unwrap());
        let (la, lb) = (grant(&mut store, at(0)), grant(&mut store, at(0)));
        let Outcome::Done(Done::Acquired { term: first }) =
            store.apply(&Op::Acquire { me: a, lease: la }, at(1))
        else {
            panic!("a must lead")
        };
        let wants = Op::Acquire { me: b, lease: lb };
        assert!(matches!(
            store.apply(&wants, at(20)),
            Outcome::Refused(Refusal::HasLeader(_))
        ));
        store.apply(&Op::KeepAlive { lease: lb }, at(20));
        let Outcome::Done(Done::Acquired { term: second }) = store.apply(&wants, at(31)) else {
            panic!("the lease of a has run out")
        };
        assert!(second > first);
        assert_eq!(
            store.apply(&Op::Release { lease: la }, at(32)),
            Outcome::Refused(Refusal::Condition)
        );
        assert_eq!(
            store.apply(
                &Op::Renew {
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
        let put = |cond| Op::Put {
            key: Key::Sync,
            value: "{}".into(),
            cond,
        };
        let Outcome::Done(Done::Written { rev }) = store.apply(&put(Cond::Absent), at(0)) else {
            panic!()
        };
        assert_eq!(
            store.apply(&put(Cond::Absent), at(0)),
            Outcome::Refused(Refusal::Condition)
        );
        assert!(matches!(
            store.apply(&put(Cond::Rev(rev)), at(0)),
            Outcome::Done(_)
        ));
        assert_eq!(
            store.apply(&put(Cond::Rev(rev)), at(0)),
            Outcome::Refused(Refusal::Condition)
        );
    }
}
