use std::{fmt, sync::Arc, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_dcs::{KeyOp, Store, Term, View};
use howdah_guard::{GuardError, Reply, Request, StartMode, StopMode, WhyRefused};
use howdah_ha::{Command, LeaseState, Upstream};
use howdah_http::Client;
use howdah_postgres::{PgError, Recovery, Server, Session, Source, run_script};
use howdah_types::BootTime;
use tokio::sync::watch;

use crate::{
    blocking::writing,
    guard_link::GuardLink,
    keeper::{KeeperLink, KeeperStatus},
};

/// Why an action has failed: its PostgreSQL did not come up. Other reasons, such as a leader that does not answer, say nothing
/// of this member's PostgreSQL.
#[derive(Debug)]
pub(crate) struct NotStarted;

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgreSQL was not started")
    }
}

/// What an action may use of the outside world. Cheap to clone; each action gets its own.
#[derive(Clone)]
pub(crate) struct Outside {
    pub(crate) server: Server,
    pub(crate) dynamic: Arc<howdah_config::Dynamic>,
    pub(crate) guard: GuardLink,
    pub(crate) keeper: KeeperLink,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) view: Arc<View>,
    pub(crate) peers: Client,
    pub(crate) config: Arc<howdah_config::LocalConfig>,
    /// `synchronous_standby_names` as the last decision wants it.
    pub(crate) sync_names: Option<String>,
    /// The upstream must hear which rows of the catalogue are still needed.
    pub(crate) feedback: bool,
    /// What the action is doing, for the member record.
    pub(crate) stage: watch::Sender<Option<(howdah_types::PgState, howdah_types::Role)>>,
}

/// The guard answers at once or is frozen.
const GUARD_PATIENCE: Duration = Duration::from_secs(2);

/// How long an immediate stop, and then a kill, may take.
const HARDER_STOP: Duration = Duration::from_secs(10);

/// An answer of the store that an action waits for.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

impl Outside {
    /// A request to the guard.
    pub(crate) async fn ask_guard(&self, request: Request) -> Result<Reply, GuardError> {
        self.guard.ask(request, Vec::new(), now() + GUARD_PATIENCE).await
    }

    /// Gives the lease back; PostgreSQL has ended.
    pub(crate) async fn release(&self) -> anyhow::Result<()> {
        self.keeper.command(Command::Release).await;
        let released = self
            .keeper
            .wait_for(
                |status| status.state == LeaseState::None,
                now() + Duration::from_secs(10),
            )
            .await;
        anyhow::ensure!(released, "the lease was not given back");
        Ok(())
    }

    /// Writes the configuration for following `upstream` and lets the guard start PostgreSQL. Returns how often PostgreSQL had
    /// ended before it was started.
    pub(crate) async fn start(&self, mode: StartMode, upstream: Option<&Upstream>) -> anyhow::Result<u64> {
        let started = self.try_start(mode, upstream, Recovery::Replica).await;
        started.context(NotStarted)
    }

    /// Starts a new cluster from a restored backup. Returns how often PostgreSQL had ended before.
    pub(crate) async fn start_restored(
        &self,
        not_after: BootTime,
        recovery: Recovery,
    ) -> anyhow::Result<u64> {
        let mode = StartMode::Bootstrap { not_after };
        self.try_start(mode, None, recovery).await.context(NotStarted)
    }

    async fn try_start(
        &self,
        mode: StartMode,
        upstream: Option<&Upstream>,
        recovery: Recovery,
    ) -> anyhow::Result<u64> {
        // WAL of the backup's primary is replayed: what must not be smaller than there is raised as for a replica.
        let replays = mode == StartMode::Replica || recovery != Recovery::Replica;
        let as_replica = mode == StartMode::Replica;
        let upstream = upstream.filter(|_| !self.config.tags.nostream()).map(source);
        let (server, dynamic, sync_names) =
            (self.server.clone(), self.dynamic.clone(), self.sync_names.clone());
        let feedback = self.feedback;
        writing(move || {
            server.dir.create()?;
            server.dir.remove_stale_pid_file()?;
            server.set_recovery(&recovery)?;
            server.set_standby(as_replica)?;
            server.write_conf(&dynamic, upstream, sync_names, feedback, recovery)
        })
        .await??;
        let mut tail = Vec::new();
        let line = self.server.command_line(&self.dynamic, replays).await?;
        for text in std::iter::once(self.server.dir.path().display().to_string()).chain(line) {
            tail.extend_from_slice(text.as_bytes());
            tail.push(0);
        }
        let deadline = now() + GUARD_PATIENCE;
        let (_, ended) = self
            .guard
            .ask_counted(Request::Start(mode), tail, deadline)
            .await?;
        Ok(ended)
    }

    /// Waits until the server that was just started takes connections; fails when it has ended.
    pub(crate) async fn wait_ready(&self, ended_before: u64, deadline: BootTime) -> anyhow::Result<()> {
        let result = tokio::select! {
            ready = self.server.wait_ready(deadline) => ready.map_err(anyhow::Error::from),
            ended = self.guard.wait_ended(ended_before, deadline) => {
                if ended {
                    Err(anyhow::anyhow!("PostgreSQL ended while it started: its log says why"))
                } else {
                    Err(PgError::Timeout("starting PostgreSQL").into())
                }
            }
        };
        result.context(NotStarted)
    }

    /// Runs the user's `before_stop`, whatever becomes of it, while PostgreSQL still serves: it is waited for as long as
    /// PostgreSQL runs and, where it was held, the lease is held, and no longer than an orderly stop may take.
    pub(crate) async fn before_stop(&self) {
        let script = self.dynamic.hooks.before_stop.as_ref();
        let Some(script) = script.filter(|_| self.guard.seen().server_runs()) else {
            return;
        };
        tracing::info!("Running before_stop.");
        let deadline = now() + self.dynamic.pg_ctl_timeout;
        let ended = self.guard.ended().times;
        let leads = matches!(self.keeper.status().state, LeaseState::Held { .. });
        let lost = async {
            if leads {
                let held = |status: &KeeperStatus| matches!(status.state, LeaseState::Held { .. });
                self.keeper.wait_for(|status| !held(status), deadline).await;
            } else {
                howdah_http::sleep_until(deadline).await;
            }
        };
        tokio::select! {
            biased;
            result = run_script(script, &[], None) => {
                if let Err(error) = result {
                    tracing::warn!("before_stop: {error}; PostgreSQL is stopped all the same.");
                }
            }
            _ = self.guard.wait_ended(ended, deadline) => tracing::warn!("before_stop is ended: PostgreSQL has, or its time is over."),
            () = lost => tracing::warn!("before_stop is ended: the lease is lost, or its time is over."),
        }
    }

    /// Stops PostgreSQL and waits. A fast stop that takes longer than `patience` becomes an immediate one, and what does
    /// not react to that is killed.
    pub(crate) async fn stop(&self, mode: StopMode, patience: Duration) -> anyhow::Result<()> {
        if mode == StopMode::Fast {
            self.before_stop().await;
        }
        let before = self.guard.ended().times;
        let mut patience = patience;
        for mode in [mode, StopMode::Immediate, StopMode::Kill] {
            match self.ask_guard(Request::Stop(mode)).await {
                Err(GuardError::Refused(WhyRefused::NotRunning)) => {
                    let unknown = self.server.dir.postmaster();
                    anyhow::ensure!(
                        unknown.is_none(),
                        "the guard knows nothing of the PostgreSQL that runs"
                    );
                    return Ok(());
                }
                // A guard of an earlier version knows no kill.
                Err(GuardError::Refused(WhyRefused::Malformed)) => {
                    self.ask_guard(Request::Stop(StopMode::Immediate)).await?;
                }
                other => {
                    other?;
                }
            }
            if self.guard.wait_ended(before, now() + patience).await {
                return Ok(());
            }
            tracing::warn!(?mode, "PostgreSQL does not stop.");
            patience = HARDER_STOP;
        }
        anyhow::bail!("PostgreSQL does not stop")
    }

    /// A connection to the local server.
    pub(crate) async fn connect(&self) -> Result<Session, PgError> {
        self.server.connect(now() + Duration::from_secs(3)).await
    }

    /// One write to the store; anything but success is an error.
    pub(crate) async fn write(&self, op: &KeyOp) -> anyhow::Result<()> {
        let outcome = self.store.write(op, now() + STORE_PATIENCE).await;
        let written = outcome.done().map(|_| ());
        written.map_err(|why| anyhow::anyhow!("the store did not write: {why}"))
    }

    /// Whether a member may lead: in synchronous mode only who has every acknowledged commit.
    pub(crate) fn may_take_over(&self, name: &howdah_types::MemberName) -> bool {
        let sync = self.view.sync.value.as_ref();
        let sync = sync.filter(|_| self.dynamic.synchronous_mode != howdah_config::SyncMode::Off);
        sync.is_none_or(|sync| sync.includes(name.as_str()))
    }

    /// The right to be primary under `term`, as it stands now; it may have been renewed since the decision.
    pub(crate) fn authority(&self, term: Term) -> anyhow::Result<BootTime> {
        match self.keeper.status().state.held(now()) {
            Some((held, until)) if held == term => Ok(until),
            _ => anyhow::bail!("the lease of term {} is not held any more", term.0),
        }
    }
}

pub(crate) fn source(upstream: &Upstream) -> Source {
    Source {
        host: upstream.host.clone(),
        port: upstream.port,
        remote: upstream.remote,
    }
}
