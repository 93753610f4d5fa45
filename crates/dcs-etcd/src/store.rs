use std::{sync::Arc, time::Duration};

use howdah_dcs::{
    Answer, Done, Key, KeyTree, LeaderKey, LeaderSeen, LeaseId, Op, Outcome, Refusal, Store, StoreError,
    Term, View, Watcher,
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

    async fn run(&self, op: &Op, deadline: BootTime) -> Result<Outcome, Failure> {
        match op {
            Op::Grant { ttl } => {
                let seconds = ttl.as_secs().to_string();
                let answer = self
                    .post("/lease/grant", &json!({ "TTL": seconds }), deadline)
                    .await?;
                let lease = LeaseId(wire::integer(&answer["ID"]));
                let ttl = Duration::from_secs(wire::integer(&answer["TTL"]));
                Ok(Outcome::Done(Done::Lease { lease, ttl }))
            }
            Op::KeepAlive { lease } => self.renew(*lease, false, deadline).await,
            Op::Renew { lease, read } => self.renew(*lease, *read, deadline).await,
            Op::Revoke { lease } => {
                let body = json!({ "ID": wire::lease_text(*lease) });
                self.post("/lease/revoke", &body, deadline).await?;
                Ok(Outcome::Done(Done::Written { rev: 0 }))
            }
            _ => self.transact(op, deadline).await,
        }
    }

    /// Extends the lease, and reads the leader key at the same time.
    async fn renew(&self, lease: LeaseId, read: bool, deadline: BootTime) -> Result<Outcome, Failure> {
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
        Ok(Outcome::Done(Done::Renewed { ttl, leader }))
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

    async fn transact(&self, op: &Op, deadline: BootTime) -> Result<Outcome, Failure> {
        let path = match op {
            Op::PutMember { me, .. } => self.tree.member(me),
            Op::Put { key, .. } | Op::Delete { key, .. } => self.tree.path(*key),
            Op::Claim { .. } => self.tree.path(Key::Initialize),
            _ => String::new(),
        };
        let Some(body) = wire::transaction(op, &self.tree.leader(), &path) else {
            return Err(Failure::NotSent("not a transaction".into()));
        };
        let answer = self.post("/kv/txn", &body, deadline).await?;
        let rev = wire::integer(&answer["header"]["revision"]);
        let succeeded = answer["succeeded"].as_bool().unwrap_or(false);
        Ok(match (op, succeeded) {
            (Op::Acquire { .. }, true) => Outcome::Done(Done::Acquired { term: Term(rev) }),
            (Op::Acquire { .. }, false) => {
                let range = &answer["responses"][0]["response_range"];
                match wire::leader_key(range) {
                    Some(leader) => Outcome::Refused(Refusal::HasLeader(leader)),
                    None => Outcome::Refused(Refusal::Condition),
                }
            }
            (Op::Claim { lease }, false) => {
                let found = wire::raw_key(&answer["responses"][0]["response_range"]["kvs"][0]);
                let ours = found.value.is_empty() && found.lease == Some(*lease);
                if ours {
                    Outcome::Done(Done::Written { rev })
                } else {
                    Outcome::Refused(Refusal::Condition)
                }
            }
            (_, true) => Outcome::Done(Done::Written { rev }),
            (_, false) => Outcome::Refused(Refusal::Condition),
        })
    }
}

impl Store for EtcdStore {
    fn execute<'a>(&'a self, op: &'a Op, deadline: BootTime) -> Answer<'a, Outcome> {
        Box::pin(async move {
            match self.run(op, deadline).await {
                Ok(outcome) => outcome,
                Err(Failure::NotSent(reason)) => Outcome::Failed(reason),
                Err(Failure::Unknown(reason)) => Outcome::Unknown(reason),
                Err(Failure::Error {
                    code: NOT_FOUND,
                    message,
                }) if message.contains("lease") => Outcome::Refused(Refusal::NoLease),
                Err(Failure::Error { message, .. }) => Outcome::Failed(message),
            }
        })
    }

    fn read(&self, deadline: BootTime) -> Answer<'_, Result<View, StoreError>> {
        Box::pin(async move {
            let prefix = self.tree.prefix();
            let body = json!({ "key": wire::b64(prefix), "range_end": wire::range_end(prefix) });
            let answer = self
                .post("/kv/range", &body, deadline)
                .await
                .map_err(store_error)?;
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

pub(crate) fn store_error(failure: Failure) -> StoreError {
    match failure {
        Failure::NotSent(reason) | Failure::Unknown(reason) => StoreError::Unreachable(reason),
        Failure::Error {
            code: 7 | 16,
            message,
        } => StoreError::Auth(message),
        Failure::Error { message, .. } => StoreError::Protocol(message),
    }
}
