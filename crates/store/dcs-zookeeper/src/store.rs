use std::{sync::Arc, time::Duration};

use howdah_dcs::{
    Answer, Cond, Key, KeyOp, KeyTree, LeaderKey, LeaderSeen, LeaseDone, LeaseId, LeaseOp, Outcome, RawKey,
    Refusal, Store, StoreError, Term, View, Watcher,
};
use howdah_http::timeout_at;
use howdah_types::{BootTime, MemberName};
use parking_lot::Mutex as ShortLock;
use tokio::sync::Mutex;

use crate::{
    Ensemble,
    connection::{CallError, Caller},
    session::Session,
    watch::ZooWatcher,
    wire::{Code, Node, Reader, Request, read_all, read_multi, read_touch},
};

/// The session of a connection that only reads and writes shared nodes; it ends this long after it.
const SESSION: Duration = Duration::from_secs(15);

/// How often a write that another one has overtaken is tried again.
const TRIES: u32 = 4;

/// The session that is the lease, and its connection while there is one.
type Bound = (LeaseId, Option<Caller>);

/// What all stores of one process share: the session that is the lease, to bind the member's own nodes to it.
#[derive(Clone)]
pub struct ZooHub {
    ensemble: Ensemble,
    tree: KeyTree,
    lease: Arc<ShortLock<Option<Bound>>>,
    /// The length of a lease that an earlier agent has left, which the store does not tell.
    left: Option<Duration>,
}

impl ZooHub {
    /// The cluster's nodes in one ensemble.
    #[must_use]
    pub fn new(tree: KeyTree, ensemble: Ensemble) -> Self {
        ZooHub {
            ensemble,
            tree,
            lease: Arc::default(),
            left: None,
        }
    }

    /// The lease that an earlier agent has left was granted with this length. ZooKeeper takes another one from who goes on with a
    /// session, and forgets that when another server leads the ensemble.
    #[must_use]
    pub fn with_leases_of(mut self, length: Option<Duration>) -> Self {
        self.left = length;
        self
    }

    /// A store with a connection of its own, which it makes when it is first used.
    #[must_use]
    pub fn store(&self) -> ZooStore {
        ZooStore {
            hub: self.clone(),
            lease: Mutex::default(),
            shared: Mutex::default(),
        }
    }
}

/// One cluster's nodes in one ensemble.
pub struct ZooStore {
    hub: ZooHub,
    /// The session that is the lease; the keeper's store has it. tokio's locks, because they are held while an answer is
    /// awaited.
    lease: Mutex<Option<Session>>,
    /// What reads, and writes nodes that are bound to no session.
    shared: Mutex<Option<Session>>,
}

/// Nodes of the cluster below its own, in the order of [`View`]; members are listed.
const NODES: [&str; 9] = [
    "initialize",
    "config",
    "leader",
    "status",
    "optime/leader",
    "failover",
    "sync",
    "history",
    "failsafe",
];

impl ZooStore {
    async fn run_lease(&self, op: &LeaseOp, deadline: BootTime) -> Result<Outcome<LeaseDone>, CallError> {
        let Ok(mut held) = timeout_at(deadline, self.lease.lock()).await else {
            return Err(CallError::NotSent("another request is still under way".into()));
        };
        let ensemble = &self.hub.ensemble;
        let lease = match op {
            LeaseOp::Grant { ttl } => {
                *held = None;
                let session = Session::begin(ensemble, *ttl, deadline).await?;
                let (lease, ttl) = (session.lease(), session.length());
                *held = Some(session);
                self.show(&held);
                return Ok(Outcome::Done(LeaseDone::Granted { lease, ttl }));
            }
            LeaseOp::KeepAlive { lease }
            | LeaseOp::Renew { lease, .. }
            | LeaseOp::Revoke { lease }
            | LeaseOp::Acquire { lease, .. }
            | LeaseOp::Release { lease } => *lease,
        };
        if held.as_ref().is_none_or(|session| session.lease() != lease) {
            // The agent before this one had it, and the guard has kept its number.
            let Some(length) = self.hub.left else {
                return Ok(Outcome::Refused(Refusal::NoLease));
            };
            *held = Some(Session::known(lease, length));
        }
        let Some(session) = held.as_mut() else {
            return Ok(Outcome::Refused(Refusal::NoLease));
        };
        let done = self.with_session(op, session, deadline).await;
        let ended = matches!(done, Err(CallError::Refused(Code::SessionExpired)));
        if matches!(op, LeaseOp::Revoke { .. }) || ended {
            if let Some(session) = held.take()
                && !ended
            {
                session.close(ensemble, deadline).await?;
            }
            self.show(&held);
            return Ok(if ended {
                Outcome::Refused(Refusal::NoLease)
            } else {
                Outcome::Done(LeaseDone::Ended)
            });
        }
        self.show(&held);
        done
    }

    /// Lets the other stores bind nodes to the session.
    fn show(&self, held: &Option<Session>) {
        *self.hub.lease.lock() = held.as_ref().map(|session| (session.lease(), session.caller()));
    }

    async fn with_session(
        &self,
        op: &LeaseOp,
        session: &mut Session,
        deadline: BootTime,
    ) -> Result<Outcome<LeaseDone>, CallError> {
        let (ensemble, path) = (&self.hub.ensemble, self.hub.tree.leader());
        let done = match op {
            LeaseOp::Grant { .. } | LeaseOp::Revoke { .. } => LeaseDone::Ended,
            LeaseOp::KeepAlive { .. } => LeaseDone::Renewed {
                ttl: session.renew(ensemble, &path, deadline).await?,
                leader: LeaderSeen::NotRead,
            },
            LeaseOp::Renew { read, .. } => {
                let ttl = session.renew(ensemble, &path, deadline).await?;
                // Read over the same connection after a write, it is not older than that.
                let leader = if *read {
                    let node = optional(session.call(ensemble, Request::get(&path), deadline).await)?;
                    LeaderSeen::Read(node.and_then(leader_of))
                } else {
                    LeaderSeen::NotRead
                };
                LeaseDone::Renewed { ttl, leader }
            }
            LeaseOp::Acquire { me, .. } => return self.acquire(session, me, &path, deadline).await,
            LeaseOp::Release { lease } => {
                let node = optional(session.call(ensemble, Request::get(&path), deadline).await)?;
                let Some(node) = node.filter(|node| node.stat.owner == Some(*lease)) else {
                    return Ok(Outcome::Refused(Refusal::Condition));
                };
                match session
                    .call(ensemble, Request::delete(&path, node.stat.version), deadline)
                    .await
                {
                    Ok(_) => LeaseDone::Ended,
                    Err(CallError::Refused(Code::NoNode | Code::BadVersion)) => {
                        return Ok(Outcome::Refused(Refusal::Condition));
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        Ok(Outcome::Done(done))
    }

    async fn acquire(
        &self,
        session: &mut Session,
        me: &MemberName,
        path: &str,
        deadline: BootTime,
    ) -> Result<Outcome<LeaseDone>, CallError> {
        let ensemble = &self.hub.ensemble;
        let create = || Request::create(path, me.as_str(), true, &ensemble.acls);
        let mut created = session.call(ensemble, create(), deadline).await;
        if matches!(created, Err(CallError::Refused(Code::NoNode))) {
            self.make_parents(path, deadline).await?;
            created = session.call(ensemble, create(), deadline).await;
        }
        match created {
            Ok(body) => {
                let mut reader = Reader::new(&body);
                let _path = reader.text()?;
                Ok(Outcome::Done(LeaseDone::Acquired {
                    term: Term(reader.stat()?.created),
                }))
            }
            Err(CallError::Refused(Code::NodeExists)) => {
                let node = optional(session.call(ensemble, Request::get(path), deadline).await)?;
                Ok(Outcome::Refused(match node.and_then(leader_of) {
                    Some(leader) => Refusal::HasLeader(leader),
                    None => Refusal::Condition,
                }))
            }
            Err(error) => Err(error),
        }
    }

    /// A request over the connection that is bound to nothing.
    async fn call(&self, request: Request, deadline: BootTime) -> Result<Vec<u8>, CallError> {
        let Ok(mut shared) = timeout_at(deadline, self.shared.lock()).await else {
            return Err(CallError::NotSent("another request is still under way".into()));
        };
        let ensemble = &self.hub.ensemble;
        let session = match shared.as_mut() {
            Some(session) => session,
            None => shared.insert(Session::begin(ensemble, SESSION, deadline).await?),
        };
        let answer = session.call(ensemble, request.clone(), deadline).await;
        if !matches!(answer, Err(CallError::Refused(Code::SessionExpired))) {
            return answer;
        }
        // It was not used for a while. Nothing was bound to it, and the request was refused.
        let session = shared.insert(Session::begin(ensemble, SESSION, deadline).await?);
        session.call(ensemble, request, deadline).await
    }

    /// Lets our server have everything that the ensemble had decided when this began. (Its own request for that, `sync`, is
    /// answered at once by a leader that the others have left.)
    async fn touch(&self, path: &str, deadline: BootTime) -> Result<(), CallError> {
        let body = self.call(Request::touch(path), deadline).await?;
        Ok(read_touch(&body)??)
    }

    /// The node; `None` if it does not exist.
    async fn get(&self, path: &str, deadline: BootTime) -> Result<Option<Node>, CallError> {
        optional(self.call(Request::get(path), deadline).await)
    }

    /// Makes the nodes that one needs above it.
    async fn make_parents(&self, path: &str, deadline: BootTime) -> Result<(), CallError> {
        for (end, _) in path.match_indices('/').skip(1) {
            let parent = path.get(..end).unwrap_or_default();
            let create = Request::create(parent, "", false, &self.hub.ensemble.acls);
            match self.call(create, deadline).await {
                Ok(_) | Err(CallError::Refused(Code::NodeExists)) => {}
                // A directory of others, in which we may make nothing and need not.
                Err(CallError::Refused(Code::NoAuth))
                    if self.call(Request::exists(parent), deadline).await.is_ok() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn run_write(&self, op: &KeyOp, deadline: BootTime) -> Result<Outcome<u64>, CallError> {
        let tree = &self.hub.tree;
        match op {
            KeyOp::PutMember { me, lease, record } => {
                self.put_bound(&tree.member(me), *lease, record, deadline).await
            }
            KeyOp::Claim { lease } => self.claim(*lease, deadline).await,
            KeyOp::Put { document, cond } => {
                self.put(&tree.path(document.key()), document.text(), *cond, deadline)
                    .await
            }
            KeyOp::Delete { key, cond } => self.delete(&tree.path(*key), *cond, deadline).await,
        }
    }

    fn bound(&self, lease: LeaseId) -> Result<Option<Caller>, CallError> {
        match &*self.hub.lease.lock() {
            Some((known, caller)) if *known == lease => match caller {
                Some(caller) => Ok(Some(caller.clone())),
                None => Err(CallError::NotSent(
                    "the session has no connection just now".into(),
                )),
            },
            _ => Ok(None),
        }
    }

    /// Writes a node that is bound to the lease; one that is bound to another session is replaced.
    async fn put_bound(
        &self,
        path: &str,
        lease: LeaseId,
        value: &str,
        deadline: BootTime,
    ) -> Result<Outcome<u64>, CallError> {
        let Some(caller) = self.bound(lease)? else {
            return Ok(Outcome::Refused(Refusal::NoLease));
        };
        let acls = &self.hub.ensemble.acls;
        for _ in 0..TRIES {
            let node = optional(caller.call(Request::get(path), deadline).await)?;
            let write = match &node {
                None => Write::Create(Request::create(path, value, true, acls)),
                Some(node) if node.stat.owner == Some(lease) => {
                    Write::Set(Request::set(path, value, node.stat.version))
                }
                Some(node) => Write::Replace(Request::replace(path, node.stat.version, value, true, acls)),
            };
            match write.written(caller.call(write.request(), deadline).await) {
                Ok(revision) => return Ok(Outcome::Done(revision.unwrap_or(UNKNOWN_REVISION))),
                Err(CallError::Refused(Code::NoNode)) if node.is_none() => {
                    self.make_parents(path, deadline).await?;
                }
                Err(CallError::Refused(Code::NoNode | Code::BadVersion | Code::NodeExists)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Outcome::Refused(Refusal::Condition))
    }

    async fn claim(&self, lease: LeaseId, deadline: BootTime) -> Result<Outcome<u64>, CallError> {
        let Some(caller) = self.bound(lease)? else {
            return Ok(Outcome::Refused(Refusal::NoLease));
        };
        let path = self.hub.tree.path(Key::Initialize);
        let create = || Request::create(&path, "", true, &self.hub.ensemble.acls);
        let mut created = caller.call(create(), deadline).await;
        if matches!(created, Err(CallError::Refused(Code::NoNode))) {
            self.make_parents(&path, deadline).await?;
            created = caller.call(create(), deadline).await;
        }
        match created {
            Ok(_) | Err(CallError::Refused(Code::NodeExists)) => {}
            Err(error) => return Err(error),
        }
        let node = optional(caller.call(Request::get(&path), deadline).await)?;
        Ok(match node {
            Some(node) if node.value.is_empty() && node.stat.owner == Some(lease) => {
                Outcome::Done(node.stat.modified)
            }
            Some(_) | None => Outcome::Refused(Refusal::Condition),
        })
    }

    /// Writes a node that all members share and that is bound to none.
    async fn put(
        &self,
        path: &str,
        value: &str,
        cond: Cond,
        deadline: BootTime,
    ) -> Result<Outcome<u64>, CallError> {
        let acls = &self.hub.ensemble.acls;
        for _ in 0..TRIES {
            let node = self.get(path, deadline).await?;
            if !holds(cond, node.as_ref()) {
                return Ok(Outcome::Refused(Refusal::Condition));
            }
            let write = match &node {
                None => Write::Create(Request::create(path, value, false, acls)),
                // `initialize` as it was claimed.
                Some(node) if node.stat.owner.is_some() => {
                    Write::Replace(Request::replace(path, node.stat.version, value, false, acls))
                }
                Some(node) => Write::Set(Request::set(path, value, node.stat.version)),
            };
            match write.written(self.call(write.request(), deadline).await) {
                Ok(Some(revision)) => return Ok(Outcome::Done(revision)),
                Ok(None) => {
                    let written = self.get(path, deadline).await.ok().flatten();
                    let ours = written.filter(|written| written.value == value);
                    let revision = ours.map_or(UNKNOWN_REVISION, |written| written.stat.modified);
                    return Ok(Outcome::Done(revision));
                }
                Err(CallError::Refused(Code::NoNode)) if node.is_none() => {
                    self.make_parents(path, deadline).await?;
                }
                Err(CallError::Refused(Code::NoNode | Code::BadVersion | Code::NodeExists)) => {
                    if cond != Cond::Always {
                        return Ok(Outcome::Refused(Refusal::Condition));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Outcome::Refused(Refusal::Condition))
    }

    async fn delete(&self, path: &str, cond: Cond, deadline: BootTime) -> Result<Outcome<u64>, CallError> {
        for _ in 0..TRIES {
            let node = self.get(path, deadline).await?;
            if !holds(cond, node.as_ref()) {
                return Ok(Outcome::Refused(Refusal::Condition));
            }
            let Some(node) = node else {
                return Ok(Outcome::Done(0));
            };
            match self
                .call(Request::delete(path, node.stat.version), deadline)
                .await
            {
                Ok(_) => return Ok(Outcome::Done(0)),
                Err(CallError::Refused(Code::NoNode | Code::BadVersion)) => {
                    if cond != Cond::Always {
                        return Ok(Outcome::Refused(Refusal::Condition));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Outcome::Refused(Refusal::Condition))
    }

    /// Everything that the ensemble had decided when this began, at one moment; a member that comes after the list of them was
    /// read is in the next one.
    async fn read_all(&self, deadline: BootTime) -> Result<View, CallError> {
        let prefix = self.hub.tree.prefix();
        let root = prefix.trim_end_matches('/');
        self.touch(root, deadline).await?;
        let mut paths: Vec<String> = Vec::new();
        let members = format!("{prefix}members");
        match self.call(Request::children(&members), deadline).await {
            Ok(body) => {
                let names = Reader::new(&body).texts()?;
                paths.extend(names.into_iter().map(|name| format!("{members}/{name}")));
            }
            Err(CallError::Refused(Code::NoNode)) => {}
            Err(error) => return Err(error),
        }
        paths.extend(NODES.iter().map(|node| format!("{prefix}{node}")));
        let mut keys: Vec<RawKey> = Vec::new();
        let body = self
            .call(Request::get_all(paths.iter().map(String::as_str)), deadline)
            .await?;
        for (path, node) in paths.into_iter().zip(read_all(&body)??) {
            if let Some(node) = node {
                keys.push(node.into_key(path));
            }
        }
        let rev = keys.iter().map(|key| key.modified).max().unwrap_or(0);
        Ok(View::from_keys(&self.hub.tree, rev, keys))
    }
}

/// The leader, as its node says.
fn leader_of(node: Node) -> Option<LeaderKey> {
    Some(LeaderKey {
        name: MemberName::new(node.value).ok()?,
        lease: node.stat.owner,
        term: Term(node.stat.created),
    })
}

fn optional(answer: Result<Vec<u8>, CallError>) -> Result<Option<Node>, CallError> {
    match answer {
        Ok(body) => Ok(Some(Node::read(&body)?)),
        Err(CallError::Refused(Code::NoNode)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A write, and how its answer tells the node that it has written.
enum Write {
    Create(Request),
    Set(Request),
    Replace(Request),
}

impl Write {
    fn request(&self) -> Request {
        match self {
            Write::Create(request) | Write::Set(request) | Write::Replace(request) => request.clone(),
        }
    }

    /// The revision of what was written; `None` where the answer does not tell it.
    fn written(&self, answer: Result<Vec<u8>, CallError>) -> Result<Option<u64>, CallError> {
        let body = answer?;
        let mut reader = Reader::new(&body);
        let stat = match self {
            Write::Create(_) => {
                reader.text()?;
                reader.stat()?
            }
            Write::Set(_) => reader.stat()?,
            Write::Replace(_) => {
                read_multi(&body)??;
                return Ok(None);
            }
        };
        Ok(Some(stat.modified))
    }
}

/// It was written, and at which revision is not known: a condition on this one never holds.
const UNKNOWN_REVISION: u64 = u64::MAX;

fn holds(cond: Cond, node: Option<&Node>) -> bool {
    match cond {
        Cond::Always => true,
        Cond::Absent => node.is_none(),
        Cond::Rev(rev) => node.map_or(0, |node| node.stat.modified) == rev,
    }
}

fn outcome<T>(result: Result<Outcome<T>, CallError>) -> Outcome<T> {
    match result {
        Ok(outcome) => outcome,
        Err(CallError::NotSent(why)) => Outcome::Failed(why),
        Err(CallError::Unknown(why)) => Outcome::Unknown(why),
        Err(CallError::Refused(Code::SessionExpired)) => Outcome::Refused(Refusal::NoLease),
        // Of what is not known it is not known whether it has happened.
        Err(CallError::Refused(code @ Code::Other(_))) => Outcome::Unknown(code.to_string()),
        Err(CallError::Refused(code)) => Outcome::Failed(code.to_string()),
    }
}

impl Store for ZooStore {
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
        Box::new(ZooWatcher::new(self.hub.tree.clone(), self.hub.ensemble.clone()))
    }
}
