use std::{sync::Arc, time::Duration};

use howdah_dcs::{
    Answer, Cond, Key, KeyOp, KeyTree, LeaderSeen, LeaseDone, LeaseId, LeaseOp, Outcome, RawKey, Refusal,
    Store, StoreError, Term, View, Watcher,
};
use howdah_http::{Method, timeout_at};
use howdah_types::{BootTime, MemberName, Scope};
use parking_lot::Mutex as ShortLock;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    agent::{Agent, Answered, Failure, Line},
    service::{Registration, ServiceOptions, registration, service_id},
    watch::ConsulWatcher,
    wire::{Txn, duration, encoded, errors, go_duration, key_of, leader_of, lease_of, raw_key, written},
};

/// Consul's longest lock delay.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// How often a write that another one has overtaken is tried again.
const TRIES: u32 = 4;

/// What all stores of one process share.
#[derive(Clone)]
pub struct ConsulHub {
    agent: Agent,
    tree: KeyTree,
    scope: Scope,
    me: Option<MemberName>,
    service: Option<ServiceOptions>,
    shared: Arc<ShortLock<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// The session that is the lease, and its TTL.
    session: Option<(LeaseId, String, Duration)>,
    registered: Option<Registration>,
}

impl ConsulHub {
    /// The cluster's keys in Consul, as the member `me` sees them; `service`: it is registered as a service.
    #[must_use]
    pub fn new(
        agent: Agent,
        tree: KeyTree,
        scope: Scope,
        me: Option<MemberName>,
        service: Option<ServiceOptions>,
    ) -> Self {
        ConsulHub {
            agent,
            tree,
            scope,
            me,
            service,
            shared: Arc::default(),
        }
    }

    /// A store with a connection of its own.
    #[must_use]
    pub fn store(&self) -> ConsulStore {
        ConsulStore {
            hub: self.clone(),
            line: Mutex::new(Line::new(self.agent.clone())),
        }
    }

    /// The session of a lease, if it is ours.
    fn session(&self, lease: LeaseId) -> Option<(String, Duration)> {
        let shared = self.shared.lock();
        let (_, session, ttl) = shared.session.as_ref().filter(|(known, ..)| *known == lease)?;
        Some((session.clone(), *ttl))
    }
}

/// One cluster's keys in one Consul.
pub struct ConsulStore {
    hub: ConsulHub,
    /// One request at a time; the keeper has a store of its own. tokio's lock, because it is held while the answer is awaited.
    line: Mutex<Line>,
}

/// A transaction that was not carried out.
enum Stopped {
    /// The session does not exist.
    NoSession,
    /// A step's condition did not hold.
    Condition,
}

impl ConsulStore {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        deadline: BootTime,
    ) -> Result<Answered, Failure> {
        let Ok(mut line) = timeout_at(deadline, self.line.lock()).await else {
            return Err(Failure::NotSent("another request is still under way".into()));
        };
        line.ask(method, path, body, deadline).await
    }

    async fn transact(
        &self,
        txn: Txn,
        deadline: BootTime,
    ) -> Result<Result<Option<RawKey>, Stopped>, Failure> {
        let body = txn.into_body();
        let answer = match self.ask(Method::PUT, "/v1/txn", Some(&body), deadline).await {
            Ok(answer) => answer,
            Err(Failure::Refused { status: 500, text }) if text.contains("nvalid session") => {
                return Ok(Err(Stopped::NoSession));
            }
            Err(failure) => return Err(failure),
        };
        match answer.status {
            200 => Ok(Ok(written(&answer.body))),
            409 => {
                let why = errors(&answer.body);
                if why.contains("ermission denied") {
                    return Err(Failure::Refused {
                        status: 403,
                        text: why,
                    });
                }
                Ok(Err(if why.contains("nvalid session") {
                    Stopped::NoSession
                } else {
                    Stopped::Condition
                }))
            }
            status => Err(Failure::Refused {
                status,
                text: answer.body.to_string(),
            }),
        }
    }

    /// The key, as Consul's servers have it now.
    async fn get(&self, path: &str, deadline: BootTime) -> Result<Option<RawKey>, Failure> {
        let path = format!("/v1/kv/{}?consistent", encoded(key_of(path)));
        let answer = self.ask(Method::GET, &path, None, deadline).await?;
        is_consuls(&answer)?;
        Ok(answer
            .body
            .as_array()
            .and_then(|keys| keys.first())
            .and_then(raw_key))
    }

    async fn run_lease(&self, op: &LeaseOp, deadline: BootTime) -> Result<Outcome<LeaseDone>, Failure> {
        let leader = self.hub.tree.leader();
        let lease = match op {
            LeaseOp::Grant { ttl } => return self.grant(*ttl, deadline).await,
            LeaseOp::KeepAlive { lease }
            | LeaseOp::Renew { lease, .. }
            | LeaseOp::Revoke { lease }
            | LeaseOp::Acquire { lease, .. }
            | LeaseOp::Release { lease } => *lease,
        };
        let session = match self.hub.session(lease) {
            Some((session, _)) => session,
            None => match self.find_session(lease, deadline).await? {
                Some(session) => session,
                None => return Ok(Outcome::Refused(Refusal::NoLease)),
            },
        };
        match op {
            LeaseOp::Grant { ttl } => self.grant(*ttl, deadline).await,
            LeaseOp::KeepAlive { .. } => self.renew(lease, &session, false, deadline).await,
            LeaseOp::Renew { read, .. } => self.renew(lease, &session, *read, deadline).await,
            LeaseOp::Revoke { .. } => {
                // The lock delay would keep all from leading, and our next life from writing the member's key. It is for
                // sessions that end otherwise.
                let member = self.hub.me.as_ref().map(|me| self.hub.tree.member(me));
                for key in std::iter::once(leader).chain(member) {
                    let txn = Txn::new().locked_by(&key, &session).delete(&key);
                    let _ = self.transact(txn, deadline).await?;
                }
                let path = format!("/v1/session/destroy/{session}");
                self.ask(Method::PUT, &path, None, deadline).await?;
                self.hub.shared.lock().session = None;
                Ok(Outcome::Done(LeaseDone::Ended))
            }
            LeaseOp::Acquire { me, .. } => {
                let txn = Txn::new().absent(&leader).lock(&leader, me.as_str(), &session);
                match self.transact(txn, deadline).await? {
                    Ok(Some(key)) => Ok(Outcome::Done(LeaseDone::Acquired {
                        term: Term(key.created),
                    })),
                    Ok(None) => Err(Failure::Unknown("the answer names no key".into())),
                    Err(Stopped::NoSession) => Ok(Outcome::Refused(Refusal::NoLease)),
                    Err(Stopped::Condition) => {
                        let key = self.get(&leader, deadline).await?;
                        Ok(Outcome::Refused(match key.and_then(leader_of) {
                            Some(leader) => Refusal::HasLeader(leader),
                            None => Refusal::Condition,
                        }))
                    }
                }
            }
            LeaseOp::Release { .. } => {
                // Of this leadership, not of a later one of ours: the request may be carried out late.
                let Some(key) = self.get(&leader, deadline).await? else {
                    return Ok(Outcome::Refused(Refusal::Condition));
                };
                let txn = Txn::new()
                    .at(&leader, key.modified)
                    .locked_by(&leader, &session)
                    .delete(&leader);
                Ok(match self.transact(txn, deadline).await? {
                    Ok(_) => Outcome::Done(LeaseDone::Ended),
                    Err(_) => Outcome::Refused(Refusal::Condition),
                })
            }
        }
    }

    /// Begins a session with a TTL of a third of the length: Consul ends it up to one more TTL later, and lets no other session
    /// lock its keys for the lock delay, another third. That delay is what a leader relies on: a session also ends when its node
    /// leaves, as with a restart of Consul's agent, or by a hand. No health check of Consul's may end it.
    async fn grant(&self, length: Duration, deadline: BootTime) -> Result<Outcome<LeaseDone>, Failure> {
        let me = self.hub.me.as_ref().map_or("", MemberName::as_str);
        let mut ttl = length / 3;
        let mut tried = false;
        loop {
            let body = json!({
                "Name": format!("{}-{me}", self.hub.scope), "TTL": go_duration(ttl),
                "LockDelay": go_duration(ttl.min(LONGEST_DELAY)), "Behavior": "delete",
                "Checks": [], "NodeChecks": [],
            });
            match self
                .ask(Method::PUT, "/v1/session/create", Some(&body), deadline)
                .await
            {
                Ok(answer) => {
                    let session = answer.body["ID"].as_str().unwrap_or_default().to_owned();
                    let Some(lease) = lease_of(&session) else {
                        return Err(Failure::Unknown(format!(
                            "no session in the answer: {}",
                            answer.body
                        )));
                    };
                    self.hub.shared.lock().session = Some((lease, session, ttl));
                    let ttl = ttl.min(LONGEST_DELAY);
                    return Ok(Outcome::Done(LeaseDone::Granted { lease, ttl }));
                }
                Err(Failure::Refused { text, .. }) if text.contains("Invalid Session TTL") && !tried => {
                    tried = true;
                    // "must be between [10s=24h0m0s]": the servers' session_ttl_min.
                    let least = text
                        .split_once('[')
                        .and_then(|(_, bounds)| bounds.split_once('='));
                    let Some(least) = least.and_then(|(least, _)| duration(least)) else {
                        return Err(Failure::Refused { status: 500, text });
                    };
                    tracing::warn!(
                        "Consul's sessions have at least {} s (session_ttl_min): a dead leader costs up to three times that.",
                        least.as_secs_f64()
                    );
                    ttl = least;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// The session of an earlier life of this process, as the guard has kept the first half of its number.
    async fn find_session(&self, lease: LeaseId, deadline: BootTime) -> Result<Option<String>, Failure> {
        let answer = self
            .ask(Method::GET, "/v1/session/list?consistent", None, deadline)
            .await?;
        let sessions = answer.body.as_array().into_iter().flatten();
        for found in sessions {
            let id = found["ID"].as_str().unwrap_or_default();
            if lease_of(id) == Some(lease) {
                return Ok(Some(id.to_owned()));
            }
        }
        Ok(None)
    }

    async fn renew(
        &self,
        lease: LeaseId,
        session: &str,
        read: bool,
        deadline: BootTime,
    ) -> Result<Outcome<LeaseDone>, Failure> {
        let path = format!("/v1/session/renew/{session}");
        let answer = self.ask(Method::PUT, &path, None, deadline).await?;
        if answer.status == 404 {
            if !answer.text.contains("ession id") {
                return Err(Failure::Unknown(format!("404 {}", answer.text.trim())));
            }
            self.hub
                .shared
                .lock()
                .session
                .take_if(|(known, ..)| *known == lease);
            return Ok(Outcome::Refused(Refusal::NoLease));
        }
        let Some(ttl) = answer.body[0]["TTL"].as_str().and_then(duration) else {
            return Err(Failure::Unknown(format!("no TTL in the answer: {}", answer.body)));
        };
        self.hub.shared.lock().session = Some((lease, session.to_owned(), ttl));
        let delay = answer.body[0]["LockDelay"].as_u64().map(Duration::from_nanos);
        let ttl = ttl.min(delay.unwrap_or_default());
        let leader = if read {
            let key = self.get(&self.hub.tree.leader(), deadline).await?;
            LeaderSeen::Read(key.and_then(leader_of))
        } else {
            LeaderSeen::NotRead
        };
        Ok(Outcome::Done(LeaseDone::Renewed { ttl, leader }))
    }

    async fn run_write(&self, op: &KeyOp, deadline: BootTime) -> Result<Outcome<u64>, Failure> {
        let tree = &self.hub.tree;
        match op {
            KeyOp::PutMember { me, lease, record } => {
                let Some((session, ttl)) = self.hub.session(*lease) else {
                    return Ok(Outcome::Refused(Refusal::NoLease));
                };
                let written = self
                    .put_locked(&tree.member(me), &session, record, deadline)
                    .await?;
                if matches!(written, Outcome::Done(_)) {
                    self.register(me, record, ttl, deadline).await;
                }
                Ok(written)
            }
            KeyOp::Claim { lease } => {
                let Some((session, _)) = self.hub.session(*lease) else {
                    return Ok(Outcome::Refused(Refusal::NoLease));
                };
                let path = tree.path(Key::Initialize);
                let txn = Txn::new().absent(&path).lock(&path, "", &session);
                match self.transact(txn, deadline).await? {
                    Ok(key) => Ok(Outcome::Done(key.map_or(0, |key| key.modified))),
                    Err(Stopped::NoSession) => Ok(Outcome::Refused(Refusal::NoLease)),
                    Err(Stopped::Condition) => {
                        let key = self.get(&path, deadline).await?;
                        Ok(match key {
                            Some(key) if key.value.is_empty() && key.lease == Some(*lease) => {
                                Outcome::Done(key.modified)
                            }
                            Some(_) | None => Outcome::Refused(Refusal::Condition),
                        })
                    }
                }
            }
            KeyOp::Put { document, cond } => {
                self.put(&tree.path(document.key()), document.text(), *cond, deadline)
                    .await
            }
            KeyOp::Delete { key, cond } => {
                let path = tree.path(*key);
                let txn = match cond {
                    Cond::Always => Txn::new().delete(&path),
                    Cond::Absent | Cond::Rev(0) => Txn::new().absent(&path),
                    Cond::Rev(rev) => Txn::new().at(&path, *rev).delete(&path),
                };
                Ok(match self.transact(txn, deadline).await? {
                    Ok(_) => Outcome::Done(0),
                    Err(_) => Outcome::Refused(Refusal::Condition),
                })
            }
        }
    }

    /// Writes a key that the session locks; one that another session locks is replaced.
    async fn put_locked(
        &self,
        path: &str,
        session: &str,
        value: &str,
        deadline: BootTime,
    ) -> Result<Outcome<u64>, Failure> {
        for txn in [
            Txn::new().lock(path, value, session),
            Txn::new().delete(path).lock(path, value, session),
        ] {
            match self.transact(txn, deadline).await? {
                Ok(key) => return Ok(Outcome::Done(key.map_or(0, |key| key.modified))),
                Err(Stopped::NoSession) => return Ok(Outcome::Refused(Refusal::NoLease)),
                Err(Stopped::Condition) => {}
            }
        }
        Ok(Outcome::Refused(Refusal::Condition))
    }

    /// Writes a key that all members share and that no session locks.
    async fn put(
        &self,
        path: &str,
        value: &str,
        cond: Cond,
        deadline: BootTime,
    ) -> Result<Outcome<u64>, Failure> {
        for _ in 0..TRIES {
            let key = match cond {
                Cond::Absent | Cond::Rev(0) => None,
                Cond::Always | Cond::Rev(_) => self.get(path, deadline).await?,
            };
            if let Cond::Rev(rev) = cond
                && key.as_ref().map_or(0, |key| key.modified) != rev
            {
                return Ok(Outcome::Refused(Refusal::Condition));
            }
            let txn = match &key {
                None => Txn::new().absent(path).set(path, value),
                // `initialize` as it was claimed: what is set keeps its lock.
                Some(key) if key.lease.is_some() => {
                    Txn::new().at(path, key.modified).delete(path).set(path, value)
                }
                Some(key) => Txn::new().at(path, key.modified).set(path, value),
            };
            match self.transact(txn, deadline).await? {
                Ok(key) => return Ok(Outcome::Done(key.map_or(0, |key| key.modified))),
                Err(_) if cond == Cond::Always => {}
                Err(_) => break,
            }
        }
        Ok(Outcome::Refused(Refusal::Condition))
    }

    /// Tells Consul of the member as a service, when that has changed. What it is told there decides nothing.
    async fn register(&self, me: &MemberName, record: &str, ttl: Duration, deadline: BootTime) {
        let Some(options) = &self.hub.service else { return };
        let Some(wanted) = registration(options, &self.hub.scope, me, record, ttl) else {
            // Consul may drop a service whose check fails for long: it is registered again when the member serves again.
            self.hub.shared.lock().registered = None;
            return;
        };
        if self.hub.shared.lock().registered.as_ref() == Some(&wanted) {
            return;
        }
        let answer = match &wanted {
            Registration::Serves(service) => {
                self.ask(Method::PUT, "/v1/agent/service/register", Some(service), deadline)
                    .await
            }
            Registration::Gone => {
                let id = encoded(&service_id(&self.hub.scope, me)).replace('/', "%2F");
                let path = format!("/v1/agent/service/deregister/{id}");
                self.ask(Method::PUT, &path, None, deadline).await
            }
        };
        match answer {
            Ok(_) => self.hub.shared.lock().registered = Some(wanted),
            Err(failure) => tracing::warn!(%failure, "The service is not registered in Consul."),
        }
    }

    async fn read_all(&self, deadline: BootTime) -> Result<View, Failure> {
        let prefix = encoded(key_of(self.hub.tree.prefix()));
        let path = format!("/v1/kv/{prefix}?recurse=true&consistent");
        let answer = self.ask(Method::GET, &path, None, deadline).await?;
        is_consuls(&answer)?;
        if answer.filtered {
            return Err(Failure::Refused {
                status: 403,
                text: format!("the token may not read all keys below {prefix} (key_prefix)"),
            });
        }
        if answer.status == 404 {
            // A list leaves out what may not be read; one key says so.
            self.get(&self.hub.tree.path(Key::Initialize), deadline).await?;
        }
        let keys = answer.body.as_array().into_iter().flatten().filter_map(raw_key);
        Ok(View::from_keys(&self.hub.tree, answer.index, keys))
    }
}

/// An answer to a read of keys: a list with an index, or none with one. What another server says in Consul's place is no empty
/// cluster.
fn is_consuls(answer: &Answered) -> Result<(), Failure> {
    let is_list = answer.status == 404 || answer.status == 200 && answer.body.is_array();
    if answer.index > 0 && is_list {
        return Ok(());
    }
    Err(Failure::Unknown(format!(
        "{}: an answer that is not Consul's",
        answer.status
    )))
}

fn outcome<T>(result: Result<Outcome<T>, Failure>) -> Outcome<T> {
    match result {
        Ok(outcome) => outcome,
        Err(Failure::NotSent(why)) => Outcome::Failed(why),
        Err(Failure::Unknown(why)) => Outcome::Unknown(why),
        Err(refused @ Failure::Refused { .. }) => Outcome::Failed(refused.to_string()),
    }
}

impl Store for ConsulStore {
    fn lease<'a>(&'a self, op: &'a LeaseOp, deadline: BootTime) -> Answer<'a, Outcome<LeaseDone>> {
        Box::pin(async move { outcome(self.run_lease(op, deadline).await) })
    }

    fn write<'a>(&'a self, op: &'a KeyOp, deadline: BootTime) -> Answer<'a, Outcome<u64>> {
        Box::pin(async move { outcome(self.run_write(op, deadline).await) })
    }

    fn read(&self, deadline: BootTime) -> Answer<'_, Result<View, StoreError>> {
        Box::pin(async move { Ok(self.read_all(deadline).await?) })
    }

    fn watch(&self) -> Box<dyn Watcher> {
        Box::new(ConsulWatcher::new(self.hub.tree.clone(), self.hub.agent.clone()))
    }
}
