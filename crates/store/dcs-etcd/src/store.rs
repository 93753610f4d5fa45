use std::{sync::Arc, time::Duration};

use howdah_dcs::{
    Answer, Key, KeyOp, KeyTree, LeaderKey, LeaderSeen, LeaseDone, LeaseId, LeaseOp, Outcome, Refusal, Store,
    StoreError, Term, View, Watcher,
};
use howdah_types::BootTime;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    Endpoints,
    transport::{Failure, NOT_FOUND, Transport},
    watch::EtcdWatcher,
    wire,
};

/// One cluster's keys in one etcd.
pub struct EtcdStore {
    tree: KeyTree,
    endpoints: Endpoints,
    /// One connection, so one request at a time; the keeper has a store of its own. tokio's lock, because it is held
    /// while the answer is awaited.
    transport: Arc<Mutex<Transport>>,
    /// A second one, for a read that goes along with a renewal: one after the other they take twice as long, which a slow
    /// store does not leave.
    beside: Mutex<Transport>,
}

impl EtcdStore {
    /// A store that connects when it is first used.
    #[must_use]
    pub fn new(tree: KeyTree, endpoints: Endpoints) -> Self {
        let transport = Arc::new(Mutex::new(Transport::new(endpoints.clone())));
        EtcdStore {
            tree,
            beside: Mutex::new(Transport::new(endpoints.clone())),
            endpoints,
            transport,
        }
    }

    async fn post(&self, path: &str, body: &Value, deadline: BootTime) -> Result<Value, Failure> {
        let mut transport = match howdah_http::timeout_at(deadline, self.transport.lock()).await {
            Ok(transport) => transport,
            Err(_) => return Err(Failure::NotSent("another request is still under way".into())),
        };
        transport.post(path, body, deadline).await
    }

    async fn run_lease(&self, op: &LeaseOp, deadline: BootTime) -> Result<Outcome<LeaseDone>, Failure> {
        match op {
            LeaseOp::Grant { ttl } => {
                let seconds = ttl.as_secs().to_string();
                let answer = self
                    .post("/lease/grant", &json!({ "TTL": seconds }), deadline)
                    .await?;
                let lease = LeaseId(wire::integer(&answer["ID"]));
                let ttl = Duration::from_secs(wire::integer(&answer["TTL"]));
                Ok(Outcome::Done(LeaseDone::Granted { lease, ttl }))
            }
            LeaseOp::KeepAlive { lease } => self.renew(*lease, false, deadline).await,
            LeaseOp::Renew { lease, read } => self.renew(*lease, *read, deadline).await,
            LeaseOp::Revoke { lease } => {
                let body = json!({ "ID": wire::lease_text(*lease) });
                self.post("/lease/revoke", &body, deadline).await?;
                Ok(Outcome::Done(LeaseDone::Ended))
            }
            LeaseOp::Acquire { me, lease } => {
                let body = wire::acquire(&self.tree.leader(), me, *lease);
                let answer = self.transact(&body, deadline).await?;
                if answer.succeeded {
                    return Ok(Outcome::Done(LeaseDone::Acquired {
                        term: Term(answer.rev),
                    }));
                }
                Ok(Outcome::Refused(match wire::leader_key(&answer.range) {
                    Some(leader) => Refusal::HasLeader(leader),
                    None => Refusal::Condition,
                }))
            }
            LeaseOp::Release { lease } => {
                let body = wire::release(&self.tree.leader(), *lease);
                let answer = self.transact(&body, deadline).await?;
                Ok(if answer.succeeded {
                    Outcome::Done(LeaseDone::Ended)
                } else {
                    Outcome::Refused(Refusal::Condition)
                })
            }
        }
    }

    async fn run_write(&self, op: &KeyOp, deadline: BootTime) -> Result<Outcome<u64>, Failure> {
        let body = match op {
            KeyOp::PutMember { me, lease, record } => wire::put_member(&self.tree.member(me), record, *lease),
            KeyOp::Claim { lease } => wire::claim(&self.tree.path(Key::Initialize), *lease),
            KeyOp::Put { document, cond } => {
                wire::put_key(&self.tree.path(document.key()), document.text(), *cond)
            }
            KeyOp::Delete { key, cond } => wire::delete_key(&self.tree.path(*key), *cond),
        };
        let answer = self.transact(&body, deadline).await?;
        let is_done = answer.succeeded
            || match op {
                KeyOp::Claim { lease } => {
                    let found = wire::raw_key(&answer.range["kvs"][0]);
                    found.value.is_empty() && found.lease == Some(*lease)
                }
                KeyOp::PutMember { .. } | KeyOp::Put { .. } | KeyOp::Delete { .. } => false,
            };
        Ok(if is_done {
            Outcome::Done(answer.rev)
        } else {
            Outcome::Refused(Refusal::Condition)
        })
    }

    /// Extends the lease, and reads the leader key at the same time.
    async fn renew(
        &self,
        lease: LeaseId,
        read: bool,
        deadline: BootTime,
    ) -> Result<Outcome<LeaseDone>, Failure> {
        let body = json!({ "ID": wire::lease_text(lease) });
        let extended = self.post("/lease/keepalive", &body, deadline);
        let (answer, leader) = if read {
            let (answer, leader) = tokio::join!(extended, self.read_leader(deadline));
            (answer?, LeaderSeen::Read(leader?))
        } else {
            (extended.await?, LeaderSeen::NotRead)
        };
        let ttl = Duration::from_secs(wire::integer(&answer["result"]["TTL"]));
        if ttl.is_zero() {
            return Ok(Outcome::Refused(Refusal::NoLease));
        }
        Ok(Outcome::Done(LeaseDone::Renewed { ttl, leader }))
    }

    async fn read_leader(&self, deadline: BootTime) -> Result<Option<LeaderKey>, Failure> {
        let body = json!({ "key": wire::b64(&self.tree.leader()) });
        let mut transport = match howdah_http::timeout_at(deadline, self.beside.lock()).await {
            Ok(transport) => transport,
            Err(_) => return Err(Failure::NotSent("another request is still under way".into())),
        };
        let range = transport.post("/kv/range", &body, deadline).await?;
        Ok(wire::leader_key(&range))
    }

    async fn transact(&self, body: &Value, deadline: BootTime) -> Result<Transacted, Failure> {
        let answer = self.post("/kv/txn", body, deadline).await?;
        Ok(Transacted {
            succeeded: answer["succeeded"].as_bool().unwrap_or(false),
            rev: wire::integer(&answer["header"]["revision"]),
            range: answer["responses"][0]["response_range"].clone(),
        })
    }
}

/// The answer to a transaction.
struct Transacted {
    /// The condition held.
    succeeded: bool,
    /// The store's revision afterwards.
    rev: u64,
    /// What it read when the condition did not hold.
    range: Value,
}

fn outcome<T>(result: Result<Outcome<T>, Failure>) -> Outcome<T> {
    match result {
        Ok(outcome) => outcome,
        Err(Failure::NotSent(reason)) => Outcome::Failed(reason),
        Err(Failure::Unknown(reason)) => Outcome::Unknown(reason),
        Err(Failure::Error {
            code: NOT_FOUND,
            message,
        }) if message.contains("lease") => Outcome::Refused(Refusal::NoLease),
        Err(Failure::Error { message, .. }) => Outcome::Failed(message),
    }
}

impl Store for EtcdStore {
    fn lease<'a>(&'a self, op: &'a LeaseOp, deadline: BootTime) -> Answer<'a, Outcome<LeaseDone>> {
        Box::pin(async move { outcome(self.run_lease(op, deadline).await) })
    }

    fn write<'a>(&'a self, op: &'a KeyOp, deadline: BootTime) -> Answer<'a, Outcome<u64>> {
        Box::pin(async move { outcome(self.run_write(op, deadline).await) })
    }

    fn read(&self, deadline: BootTime) -> Answer<'_, Result<View, StoreError>> {
        Box::pin(async move {
            let prefix = self.tree.prefix();
            let body = json!({ "key": wire::b64(prefix), "range_end": wire::range_end(prefix) });
            let answer = self
                .post("/kv/range", &body, deadline)
                .await
                .map_err(StoreError::from)?;
            let rev = wire::integer(&answer["header"]["revision"]);
            if rev == 0 {
                return Err(StoreError::Protocol(format!(
                    "a range answer without a revision: {answer}"
                )));
            }
            let keys = answer["kvs"].as_array().into_iter().flatten().map(wire::raw_key);
            Ok(View::from_keys(&self.tree, rev, keys))
        })
    }

    fn watch(&self) -> Box<dyn Watcher> {
        Box::new(EtcdWatcher::new(self.tree.clone(), self.endpoints.clone()))
    }
}
