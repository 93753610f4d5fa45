use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use howdah_clock::now;
use howdah_dcs::StoreError;
use howdah_http::{ByteStream, dial, sleep_until, timeout_at};
use howdah_types::BootTime;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    Ensemble,
    wire::{AUTH, Code, LONGEST, Malformed, PING, Reader, Request, Writer, XID_AUTH, XID_EVENT, XID_PING},
};

/// Requests that wait to be written.
const WAITING: usize = 64;

/// Changes that are not read yet.
const EVENTS: usize = 1024;

/// How a call failed; what matters is whether the ensemble may have acted on it.
#[derive(Clone, Debug, Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    NotSent(String),
    #[error("{0}")]
    Unknown(String),
    #[error(transparent)]
    Refused(#[from] Code),
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(why) | CallError::Unknown(why) => StoreError::Unreachable(why),
            CallError::Refused(code @ (Code::NoAuth | Code::AuthFailed)) => {
                StoreError::Auth(code.to_string())
            }
            CallError::Refused(code) => StoreError::Protocol(code.to_string()),
        }
    }
}

impl From<Malformed> for CallError {
    fn from(malformed: Malformed) -> Self {
        CallError::Unknown(malformed.to_string())
    }
}

/// A change that a watch tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) path: String,
    pub(crate) deleted: bool,
}

/// What a session is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: i64,
    pub(crate) password: Vec<u8>,
    /// The length that the server has given it.
    pub(crate) timeout: Duration,
    /// The newest of the ensemble's revisions (zxid) that it has seen: a server that is behind refuses it.
    pub(crate) seen: i64,
}

impl Identity {
    /// None yet: the server makes one of about this length.
    pub(crate) fn new(timeout: Duration) -> Self {
        Identity {
            id: 0,
            password: vec![0; 16],
            timeout,
            seen: 0,
        }
    }
}

type Called = oneshot::Sender<Result<Vec<u8>, CallError>>;

/// One connection of one session. A task writes, reads, and pings while nothing else is said; it ends with this.
pub(crate) struct Connection {
    calls: mpsc::Sender<(Request, Called)>,
    pub(crate) events: mpsc::Receiver<Event>,
    seen: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What other tasks call through.
#[derive(Clone)]
pub(crate) struct Caller(mpsc::Sender<(Request, Called)>);

impl Connection {
    /// Connects to one server and begins the session, or goes on with it. [`Code::SessionExpired`]: it has ended.
    pub(crate) async fn open(
        ensemble: &Ensemble,
        server: usize,
        identity: &Identity,
        deadline: BootTime,
    ) -> Result<(Self, Identity), CallError> {
        let opened = timeout_at(deadline, begin(ensemble, server, identity)).await;
        let (stream, identity) = opened.map_err(|_| not_sent("no connection in time"))??;
        let (calls, asked) = mpsc::channel(WAITING);
        let (told, events) = mpsc::channel(EVENTS);
        let seen = Arc::new(AtomicI64::new(identity.seen));
        let driver = Driver {
            seen: Arc::clone(&seen),
            stream,
            asked,
            told,
            waiting: BTreeMap::new(),
            next: 0,
            patience: identity.timeout / 3,
            heard: now(),
            pinged: None,
        };
        let task = tokio::spawn(driver.run());
        let connection = Connection {
            calls,
            events,
            seen,
            task,
        };
        Ok((connection, identity))
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller(self.calls.clone())
    }

    /// The newest of the ensemble's revisions that an answer has told.
    pub(crate) fn seen(&self) -> i64 {
        self.seen.load(Ordering::Relaxed)
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.calls.is_closed()
    }

    pub(crate) async fn call(&self, request: Request, deadline: BootTime) -> Result<Vec<u8>, CallError> {
        call(&self.calls, request, deadline).await
    }
}

impl Caller {
    pub(crate) async fn call(&self, request: Request, deadline: BootTime) -> Result<Vec<u8>, CallError> {
        call(&self.0, request, deadline).await
    }
}

async fn call(
    calls: &mpsc::Sender<(Request, Called)>,
    request: Request,
    deadline: BootTime,
) -> Result<Vec<u8>, CallError> {
    let (called, answer) = oneshot::channel();
    match timeout_at(deadline, calls.reserve()).await {
        Ok(Ok(room)) => room.send((request, called)),
        Ok(Err(_)) => return Err(not_sent("the connection has ended")),
        Err(_) => return Err(not_sent("other requests are still under way")),
    }
    match timeout_at(deadline, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(CallError::Unknown("the connection broke".into())),
        Err(_) => Err(CallError::Unknown("no answer in time".into())),
    }
}

fn not_sent(why: &str) -> CallError {
    CallError::NotSent(why.to_owned())
}

/// Connects, presents credentials, and agrees on a session.
async fn begin(
    ensemble: &Ensemble,
    server: usize,
    identity: &Identity,
) -> Result<(Box<dyn ByteStream>, Identity), CallError> {
    let Some((host, port)) = ensemble.servers.get(server) else {
        return Err(not_sent("no server is configured"));
    };
    let at = |error: &dyn std::fmt::Display| CallError::NotSent(format!("{host}:{port}: {error}"));
    let mut stream = dial(host, *port, ensemble.tls.as_ref())
        .await
        .map_err(|error| at(&error))?;
    let timeout = i32::try_from(identity.timeout.as_millis()).unwrap_or(i32::MAX);
    let hello = Writer::default()
        .int(0)
        .long(identity.seen)
        .int(timeout)
        .long(identity.id)
        .bytes(&identity.password)
        .flag(false)
        .framed();
    stream.write_all(&hello).await.map_err(|error| at(&error))?;
    let answer = read_message(&mut stream).await.map_err(|error| at(&error))?;
    let mut reader = Reader::new(&answer);
    let _version = reader.int()?;
    let timeout = u64::try_from(reader.int()?).unwrap_or(0);
    let id = reader.long()?;
    let password = reader.bytes()?.to_vec();
    if timeout == 0 || id == 0 {
        return Err(Code::SessionExpired.into());
    }
    for (scheme, credential) in ensemble.auth.iter() {
        let auth = Request {
            kind: AUTH,
            body: Writer::default().int(0).text(scheme).text(credential),
        };
        stream
            .write_all(&auth.framed(XID_AUTH))
            .await
            .map_err(|error| at(&error))?;
    }
    let identity = Identity {
        id,
        password,
        timeout: Duration::from_millis(timeout),
        seen: identity.seen,
    };
    Ok((stream, identity))
}

async fn read_message(stream: &mut Box<dyn ByteStream>) -> std::io::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_i32().await?).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(std::io::Error::other(Malformed));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

struct Driver {
    seen: Arc<AtomicI64>,
    stream: Box<dyn ByteStream>,
    asked: mpsc::Receiver<(Request, Called)>,
    told: mpsc::Sender<Event>,
    waiting: BTreeMap<i32, Called>,
    next: i32,
    /// A ping is sent after this long without a word; a server that does not answer for as long is given up.
    patience: Duration,
    heard: BootTime,
    pinged: Option<BootTime>,
}

/// Why a connection ends.
enum End {
    Closed,
    Broken(String),
}

impl Driver {
    async fn run(mut self) {
        let why = match self.serve().await {
            Ok(End::Closed) => return,
            Ok(End::Broken(why)) => why,
            Err(error) => error.to_string(),
        };
        for called in std::mem::take(&mut self.waiting).into_values() {
            let _ = called.send(Err(CallError::Unknown(format!("the connection broke: {why}"))));
        }
    }

    async fn serve(&mut self) -> std::io::Result<End> {
        let mut buffer = Vec::new();
        loop {
            let silent = self.pinged.unwrap_or(self.heard) + self.patience;
            tokio::select! {
                asked = self.asked.recv() => {
                    let Some((request, called)) = asked else { return Ok(End::Closed) };
                    self.next = self.next.checked_add(1).unwrap_or(1);
                    self.waiting.insert(self.next, called);
                    let bytes = request.framed(self.next);
                    if !self.write(&bytes).await? {
                        return Ok(End::Broken("the server reads nothing".into()));
                    }
                    // Its answer is a sign of life that is waited for.
                    self.pinged.get_or_insert(now());
                }
                read = self.stream.read_buf(&mut buffer) => {
                    if read? == 0 {
                        return Ok(End::Broken("the server closed it".into()));
                    }
                    (self.heard, self.pinged) = (now(), None);
                    if let Some(end) = self.take(&mut buffer) {
                        return Ok(end);
                    }
                    if !self.waiting.is_empty() {
                        self.pinged = Some(self.heard);
                    }
                }
                () = sleep_until(silent) => {
                    if self.pinged.is_some() {
                        return Ok(End::Broken("the server is silent".into()));
                    }
                    let ping = Writer::default().int(XID_PING).int(PING).framed();
                    if !self.write(&ping).await? {
                        return Ok(End::Broken("the server reads nothing".into()));
                    }
                    self.pinged = Some(now());
                }
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<bool> {
        let all = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let written = timeout_at(now() + self.patience, all).await;
        written.map_or(Ok(false), |written| written.map(|()| true))
    }

    /// Takes the whole messages from the buffer.
    fn take(&mut self, buffer: &mut Vec<u8>) -> Option<End> {
        while let Some((head, rest)) = buffer.split_first_chunk::<4>() {
            let length = usize::try_from(i32::from_be_bytes(*head)).unwrap_or(usize::MAX);
            if length > LONGEST {
                return Some(End::Broken(Malformed.to_string()));
            }
            let Some(message) = rest.get(..length) else { break };
            let ended = self.message(message);
            buffer.drain(..4 + length);
            match ended {
                Ok(None) => {}
                Ok(end) => return end,
                Err(malformed) => return Some(End::Broken(malformed.to_string())),
            }
        }
        None
    }

    fn message(&mut self, message: &[u8]) -> Result<Option<End>, Malformed> {
        let mut reader = Reader::new(message);
        let (xid, zxid, code) = (reader.int()?, reader.long()?, reader.int()?);
        if zxid > 0 {
            self.seen.fetch_max(zxid, Ordering::Relaxed);
        }
        match xid {
            XID_PING => {}
            XID_AUTH => {
                if let Err(code) = Code::of(code) {
                    return Ok(Some(End::Broken(code.to_string())));
                }
            }
            XID_EVENT => {
                const DELETED: i32 = 2;
                let (kind, _state, path) = (reader.int()?, reader.int()?, reader.text()?);
                let event = Event {
                    path,
                    deleted: kind == DELETED,
                };
                if self.told.try_send(event).is_err() {
                    // Who watches reads them, and begins again with a connection that ends.
                    return Ok(Some(End::Broken("more changes than are read".into())));
                }
            }
            xid => {
                let Some(called) = self.waiting.remove(&xid) else {
                    return Err(Malformed);
                };
                let body = message.get(16..).unwrap_or_default().to_vec();
                let answer = Code::of(code).map(|()| body).map_err(CallError::from);
                let ended = matches!(answer, Err(CallError::Refused(Code::SessionExpired)));
                let _ = called.send(answer);
                if ended {
                    return Ok(Some(End::Closed));
                }
            }
        }
        Ok(None)
    }
}
