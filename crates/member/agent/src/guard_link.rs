use std::{collections::BTreeMap, io::ErrorKind, os::fd::AsFd, sync::Arc};

use howdah_clock::now;
use howdah_guard::{GuardClient, GuardError, Handover, Reply, Request, StartMode, WhyRefused};
use howdah_http::timeout_at;
use howdah_types::BootTime;
use tokio::{
    io::Interest,
    net::UnixDatagram,
    sync::{mpsc, oneshot, watch},
};

use crate::wake::Wake;

/// Requests that wait to be sent; the loop and one action ask, each one thing at a time.
const WAITING: usize = 8;

/// Where a reply goes, with how often PostgreSQL had ended by then.
type Waiting = oneshot::Sender<Result<(Reply, u64), GuardError>>;

type Ask = (Request, Vec<u8>, Waiting);

/// What the guard has last shown of itself and of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuardSeen {
    /// When it said anything last.
    pub(crate) heard: BootTime,
    /// The postmaster that it has; 0 if there is none.
    pub(crate) pid: u32,
    /// It has started that one as primary, or promoted it, or was told that it writes.
    pub(crate) writes: bool,
    /// When it could not use the watchdog device, which is required.
    pub(crate) no_watchdog: Option<BootTime>,
}

impl GuardSeen {
    /// It has a PostgreSQL that runs.
    pub(crate) fn server_runs(&self) -> bool {
        self.pid != 0
    }
}

/// How PostgreSQL ended, and how often so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) times: u64,
    pub(crate) status: i32,
    pub(crate) fenced: bool,
}

/// Requests and replies over the guard's socket; owned by one task, so that a reply finds who asked.
#[derive(Clone)]
pub(crate) struct GuardLink {
    asks: mpsc::Sender<Ask>,
    ended: watch::Receiver<Ended>,
    seen: watch::Receiver<GuardSeen>,
    gone: watch::Receiver<bool>,
}

impl GuardLink {
    /// Begins to read. `wake` is called when PostgreSQL ends or the guard goes.
    pub(crate) fn start(client: Arc<GuardClient>, wake: Wake) -> std::io::Result<Self> {
        let (asks, asked) = mpsc::channel(WAITING);
        let (ended_tx, ended) = watch::channel(Ended::default());
        let (gone_tx, gone) = watch::channel(false);
        let (seen_tx, seen) = watch::channel(GuardSeen {
            heard: now(),
            pid: 0,
            writes: false,
            no_watchdog: None,
        });
        // A sequential-packet socket behaves as a datagram one here; tokio has no type of its own for it.
        let socket = std::os::unix::net::UnixDatagram::from(client.as_fd().try_clone_to_owned()?);
        socket.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(socket)?;
        tokio::spawn(async move {
            serve(
                &client,
                &socket,
                asked,
                &Told {
                    ended: ended_tx,
                    seen: seen_tx,
                },
                &wake,
            )
            .await;
            let _ = gone_tx.send(true);
            wake.wake();
        });
        Ok(GuardLink {
            asks,
            ended,
            seen,
            gone,
        })
    }

    /// Asks and waits for the reply.
    pub(crate) async fn ask(
        &self,
        request: Request,
        tail: Vec<u8>,
        deadline: BootTime,
    ) -> Result<Reply, GuardError> {
        Ok(self.ask_counted(request, tail, deadline).await?.0)
    }

    /// Asks and waits for the reply; and how often PostgreSQL had ended when the guard gave it. Exits that are reported
    /// later belong to what the reply is about; earlier ones do not.
    pub(crate) async fn ask_counted(
        &self,
        request: Request,
        tail: Vec<u8>,
        deadline: BootTime,
    ) -> Result<(Reply, u64), GuardError> {
        let (answer, reply) = oneshot::channel();
        if self.asks.send((request, tail, answer)).await.is_err() {
            return Err(GuardError::Gone);
        }
        match timeout_at(deadline, reply).await {
            Ok(Ok(Ok((Reply::Refused(why), _)))) => Err(GuardError::Refused(why)),
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(GuardError::Gone),
            Err(_) => Err(GuardError::Busy),
        }
    }

    /// What the guard knows, at the start of an agent's life.
    pub(crate) async fn hello(&self, deadline: BootTime) -> Result<Handover, GuardError> {
        match self.ask(Request::Hello, Vec::new(), deadline).await? {
            Reply::State(state) => Ok(state),
            _ => Err(GuardError::Refused(WhyRefused::Malformed)),
        }
    }

    /// How often and how PostgreSQL has ended.
    pub(crate) fn ended(&self) -> Ended {
        *self.ended.borrow()
    }

    /// Waits until PostgreSQL has ended more often than `times`.
    pub(crate) async fn wait_ended(&self, times: u64, deadline: BootTime) -> bool {
        let mut ended = self.ended.clone();
        let result = timeout_at(deadline, ended.wait_for(|ended| ended.times > times)).await;
        matches!(result, Ok(Ok(_)))
    }

    /// What it has shown last.
    pub(crate) fn seen(&self) -> GuardSeen {
        *self.seen.borrow()
    }

    /// The guard has died.
    pub(crate) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }
}

/// Where what the guard says goes.
struct Told {
    ended: watch::Sender<Ended>,
    seen: watch::Sender<GuardSeen>,
}

impl Told {
    /// `asked`: what the reply answers.
    fn note(&self, reply: &Reply, asked: Option<Request>) {
        self.seen.send_modify(|seen| {
            seen.heard = now();
            match (reply, asked) {
                (Reply::State(state), _) => (seen.pid, seen.writes) = (state.pid, state.may_write),
                (Reply::Ok { pid }, Some(Request::Start(mode))) => {
                    (seen.pid, seen.writes) = (*pid, mode != StartMode::Replica);
                }
                (Reply::Ok { .. }, Some(Request::Promote { .. })) => seen.writes = true,
                (Reply::Ok { .. }, Some(Request::Adopt { pid, may_write, .. })) => {
                    (seen.pid, seen.writes) = (pid, seen.writes && seen.pid == pid || may_write);
                }
                (Reply::PostgresEnded { .. }, _) => (seen.pid, seen.writes) = (0, false),
                (Reply::Refused(WhyRefused::NoWatchdog), _) => seen.no_watchdog = Some(now()),
                (Reply::Ok { .. } | Reply::Refused(_), _) => {}
            }
        });
        if let Reply::PostgresEnded { status, fenced } = *reply {
            self.ended.send_modify(|e| {
                *e = Ended {
                    times: e.times + 1,
                    status,
                    fenced,
                };
            });
        }
    }
}

async fn serve(
    client: &GuardClient,
    socket: &UnixDatagram,
    mut asked: mpsc::Receiver<Ask>,
    told: &Told,
    wake: &Wake,
) {
    let mut waiting: BTreeMap<u32, (Request, Waiting)> = BTreeMap::new();
    loop {
        tokio::select! {
            ask = asked.recv() => {
                let Some((request, tail, answer)) = ask else { return };
                match client.send(request, &tail) {
                    Ok(id) => {
                        waiting.retain(|_, (_, answer)| !answer.is_closed());
                        waiting.insert(id, (request, answer));
                    }
                    Err(GuardError::Gone) => return,
                    Err(error) => {
                        let _ = answer.send(Err(error));
                    }
                }
            }
            ready = socket.readable() => {
                if ready.is_err() {
                    return;
                }
                loop {
                    let received = socket.try_io(Interest::READABLE, || match client.receive() {
                        Ok(None) => Err(ErrorKind::WouldBlock.into()),
                        other => Ok(other),
                    });
                    match received.unwrap_or(Ok(None)) {
                        Ok(Some(message)) => {
                            let waiting = waiting.remove(&message.id);
                            told.note(&message.body, waiting.as_ref().map(|(request, _)| *request));
                            match (message.body, waiting.map(|(_, answer)| answer)) {
                                (Reply::PostgresEnded { .. }, _) => wake.wake(),
                                (reply, Some(answer)) => {
                                    let times = told.ended.borrow().times;
                                    let _ = answer.send(Ok((reply, times)));
                                }
                                (Reply::Refused(why), None) => {
                                    tracing::warn!(?why, "The guard refused a lease call.");
                                }
                                (Reply::Ok { .. } | Reply::State(_), None) => {}
                            }
                        }
                        Ok(None) => break,
                        Err(GuardError::Gone) => return,
                        Err(error) => {
                            tracing::error!(%error, at = %now(), "Reading from the guard failed.");
                            return;
                        }
                    }
                }
            }
        }
    }
}
