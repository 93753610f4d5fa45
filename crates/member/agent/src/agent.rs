//! The loop.

use std::{sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_config::{Dynamic, LocalConfig, SyncMode};
use howdah_dcs::{Store, View};
use howdah_ha::{
    Command, Dcs, LeaseState, Me, Memory, Plan, Postgres, Request, RunningAction, Snapshot, Unguarded,
    Upstream, decide,
};
use howdah_http::Client;
use howdah_member_api::ScheduledRestart;
use howdah_postgres::Server;
use howdah_types::{BootTime, Lsn, PgState, Role};
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    action::Failure,
    api::ApiSettings,
    configuration::Configuration,
    effects::Next,
    gather::Observer,
    guard_link::GuardLink,
    keeper::KeeperLink,
    member::Publisher,
    pending::Loaded,
    probe::Prober,
    publish::{ApiCommand, Published},
    repeated::Repeated,
    setup::ConfigFile,
    wake::Wake,
    watching::Watching,
};

/// Health checks with a lag speak of a position that is at most this old; `/patroni` looks when it is asked.
const SAMPLE_EVERY: Duration = Duration::from_secs(3);

/// The same in synchronous mode.
const SAMPLE_EVERY_SYNC: Duration = Duration::from_secs(1);

/// The guard answers every second.
const GUARD_SILENCE: Duration = Duration::from_secs(4);

/// Without a change that the watch has told, the store is read again after this long all the same.
const VIEW_LIFE: Duration = Duration::from_secs(60);

/// The same where positions have moved: replicas move their slots along with them.
const MOVED_LIFE: Duration = Duration::from_secs(20);

/// One read of the store within a decision.
pub(crate) const READ_PATIENCE: Duration = Duration::from_secs(3);

/// Where somebody waits for how a request ended.
pub(crate) type Answer = oneshot::Sender<Result<(), String>>;

/// The agent of one member: everything the loop owns.
pub(crate) struct Agent {
    pub(crate) config: Arc<LocalConfig>,
    pub(crate) file: ConfigFile,
    pub(crate) server: Server,
    /// The configuration in effect.
    pub(crate) dynamic: Arc<Dynamic>,
    pub(crate) configuration: Configuration,
    /// The configuration that the action under way starts PostgreSQL with.
    pub(crate) starting_with: Option<(Option<u64>, Arc<Dynamic>)>,
    pub(crate) keeper_paused: bool,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) watching: Watching,
    /// When the store was read last.
    pub(crate) read_at: BootTime,
    /// Something has happened that asks for a decision.
    pub(crate) due: bool,
    /// The keeper is to ask the store at once whether the lease is ours, and to tell the guard.
    pub(crate) verify_lease: bool,
    /// The last decision, whose reasons are shown until the next one.
    pub(crate) last_plan: Plan,
    /// What PostgreSQL looked like at the last decision, but for positions.
    pub(crate) picture: Option<Postgres>,
    pub(crate) keeper: KeeperLink,
    pub(crate) guard: GuardLink,
    pub(crate) wake: Wake,
    pub(crate) prober: Prober,
    pub(crate) peer_client: Client,
    pub(crate) published: Published,
    pub(crate) api_settings: ApiSettings,
    pub(crate) api: mpsc::Receiver<ApiCommand>,
    pub(crate) observer: Observer,
    pub(crate) memory: Memory,
    pub(crate) running: Option<RunningAction>,
    pub(crate) action_task: Option<JoinHandle<()>>,
    pub(crate) action_done: mpsc::Sender<Result<(), Failure>>,
    pub(crate) action_results: mpsc::Receiver<Result<(), Failure>>,
    pub(crate) stage: watch::Sender<Option<(PgState, Role)>>,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) sync_names: Option<String>,
    pub(crate) request: Option<(Request, Option<Answer>)>,
    /// A restart that waits for its time.
    pub(crate) scheduled: Option<ScheduledRestart>,
    /// What an earlier life had scheduled was looked up.
    pub(crate) recalled: bool,
    pub(crate) pending: Map<String, Value>,
    pub(crate) check_pending: bool,
    /// Lines of PostgreSQL's own files that it could not read.
    pub(crate) file_errors: Vec<String>,
    /// When the server had last read its files, before it was told to read them again.
    pub(crate) loaded: Loaded,
    pub(crate) publisher: Publisher,
    pub(crate) store_down_since: Option<BootTime>,
    pub(crate) last_view: Option<Arc<View>>,
    pub(crate) seen_at: i64,
    pub(crate) store_trouble: Repeated,
    pub(crate) guard_trouble: Repeated,
    pub(crate) sync_trouble: Repeated,
    pub(crate) slot_trouble: Repeated,
    pub(crate) next_proof: BootTime,
    pub(crate) last_sentence: String,
    /// When PostgreSQL is looked at next, if no decision does so before.
    pub(crate) next_look: BootTime,
    pub(crate) last_role: Role,
    pub(crate) callback: Option<JoinHandle<()>>,
    pub(crate) exit: Option<u8>,
    pub(crate) log_lost: fn() -> u64,
}

/// What wakes the loop from outside the process.
pub(crate) struct Signals {
    pub(crate) terminate: tokio::signal::unix::Signal,
    pub(crate) interrupt: tokio::signal::unix::Signal,
    pub(crate) hangup: tokio::signal::unix::Signal,
}

impl Agent {
    /// Runs until it is told to end; returns the exit code.
    pub(crate) async fn run(mut self, mut signals: Signals) -> u8 {
        let mut lease = self.keeper.status();
        loop {
            self.keeper.beat();
            if self.guard.is_gone() {
                self.guard_died().await;
                return 1;
            }
            // Also what an action that has just ended decided: after that nothing is begun any more.
            if let Some(code) = self.exit {
                return code;
            }
            if self.due || now() >= self.last_plan.next_wake {
                self.due = false;
                self.turn().await;
            } else if now() >= self.next_look {
                self.glance().await;
            }
            if let Some(code) = self.exit {
                return code;
            }
            let wake_at = if self.due {
                now()
            } else {
                self.last_plan.next_wake.min(self.next_look)
            };
            tokio::select! {
                biased;
                _ = signals.terminate.recv() => self.terminate(),
                _ = signals.interrupt.recv() => self.terminate(),
                _ = signals.hangup.recv() => self.reload().await,
                Some(result) = self.action_results.recv() => self.action_ended(result),
                changed = self.keeper.changed() => {
                    if changed.is_err() {
                        return 1;
                    }
                    // That it was renewed asks for no decision.
                    let known = std::mem::replace(&mut lease, self.keeper.status());
                    self.due |= !lease.is_renewed(known);
                }
                Some(command) = self.api.recv() => self.api_command(command).await,
                () = self.wake.woken() => self.due = true,
                () = howdah_http::sleep_until(wake_at) => {}
            }
            while let Ok(result) = self.action_results.try_recv() {
                self.action_ended(result);
            }
        }
    }

    /// How often PostgreSQL is looked at while nothing happens. The primary of a synchronous cluster more often: commits
    /// wait for a standby that is gone.
    fn look_every(&self) -> Duration {
        if self.dynamic.synchronous_mode == SyncMode::Off {
            SAMPLE_EVERY
        } else {
            SAMPLE_EVERY_SYNC
        }
    }

    /// One look at the world, one decision, its effects.
    pub(crate) async fn turn(&mut self) {
        if std::mem::take(&mut self.verify_lease) {
            self.keeper.command(Command::Verify).await;
        }
        let view = self.look_at_store().await;
        self.keeper.beat();
        if let Some(view) = &view {
            self.take_config(view).await;
            self.recall_schedule(view);
        }
        let postgres = self.look().await;
        self.keeper.beat();
        self.heed(&postgres).await;
        self.prober.collect();
        self.mind_schedule();
        let snapshot = self.snapshot(view.as_deref(), postgres);
        self.picture = Some(without_positions(&snapshot.postgres));
        let plan = decide(&snapshot);
        self.say_plan(&plan, &snapshot);
        self.memory = plan.memory.clone();
        self.last_plan = Plan {
            effects: Vec::new(),
            ..plan.clone()
        };
        self.publish(view.as_deref(), &snapshot);
        self.answer_request(&plan);
        let view_for_effects = view
            .clone()
            .or_else(|| self.last_view.clone())
            .unwrap_or_default();
        for effect in plan.effects {
            self.keeper.beat();
            if self.carry_out(effect, &view_for_effects).await == Next::Stop {
                break;
            }
        }
        self.touch(view.as_deref(), Some(&snapshot)).await;
        self.find_pending(&snapshot).await;
    }

    /// Looks at PostgreSQL. The next look between decisions comes later the longer this one took: at a server that does not
    /// answer only decisions look, which it would delay.
    async fn look(&mut self) -> Postgres {
        let began = now();
        let postgres = self.observer.look(&self.server).await;
        self.next_look = now() + self.look_every() + now().since(began) * 2;
        postgres
    }

    /// A look at PostgreSQL between decisions. What is not as it was asks for a decision.
    async fn glance(&mut self) {
        let postgres = self.look().await;
        self.heed(&postgres).await;
        self.mind_schedule();
        self.watch_guard();
        let changed = self.picture.as_ref() != Some(&without_positions(&postgres));
        let view = self.last_view.clone();
        let snapshot = self.snapshot(view.as_deref(), postgres);
        self.publish(view.as_deref(), &snapshot);
        self.due |= changed || snapshot.request.is_some() || self.check_pending;
    }

    /// The store as it is now: read, or as it was read last while the watch says that nothing has changed and nothing is in
    /// motion. `None`: it does not answer.
    async fn look_at_store(&mut self) -> Option<Arc<View>> {
        if self.last_view_serves() {
            return self.last_view.clone();
        }
        self.watching.about_to_read();
        self.read_at = now();
        match self.store.read(now() + READ_PATIENCE).await {
            Ok(view) => {
                self.store_down_since = None;
                self.seen_at = jiff::Timestamp::now().as_second();
                if let Some(lasted) = self.store_trouble.over() {
                    tracing::info!("The store answers again, after {:.1} s.", lasted.as_secs_f64());
                }
                let view = Arc::new(view);
                self.last_view = Some(Arc::clone(&view));
                self.published.show(Arc::clone(&view));
                Some(view)
            }
            Err(error) => {
                if let Some(times) = self.store_trouble.happened() {
                    tracing::warn!(times, "The store cannot be read: {error}.");
                }
                self.store_down_since.get_or_insert_with(now);
                None
            }
        }
    }

    /// Only where nothing can follow from a newer one: we lead and the view says so, or another member does; and PostgreSQL
    /// runs, and nobody has asked for anything.
    fn last_view_serves(&self) -> bool {
        let Some(view) = self.last_view.as_ref().filter(|_| self.watching.is_quiet()) else {
            return false;
        };
        let leader = view.leader.as_ref();
        let steady = match self.keeper.status().state {
            LeaseState::Held { term, .. } => leader.is_some_and(|leader| leader.term == term),
            LeaseState::None => leader.is_some_and(|leader| leader.name != self.config.name),
            LeaseState::Unsure => false,
        };
        let life = if self.watching.positions_moved() {
            MOVED_LIFE
        } else {
            VIEW_LIFE
        };
        steady
            && now() < self.read_at + life
            // A watch over a connection to a store that has frozen says nothing for ever; renewals are answered, or not.
            && self.keeper.status().store_answers
            && self.store_down_since.is_none()
            && view.failover.value.is_none()
            && view.members.contains_key(&self.config.name)
            && self.running.is_none()
            && self.request.is_none()
            && matches!(self.picture, Some(Postgres::Running(_)))
    }

    pub(crate) fn snapshot(&self, view: Option<&View>, postgres: Postgres) -> Snapshot {
        Snapshot {
            now: now(),
            wall: jiff::Timestamp::now().as_second(),
            me: Me {
                name: self.config.name.clone(),
                tags: self.tags(),
                may_bootstrap: self.config.bootstrap.is_some(),
                lease: self.keeper.status().lease,
            },
            config: (*self.dynamic).clone(),
            dcs: match view {
                Some(view) => Dcs::Fresh(view.clone()),
                None => Dcs::Down {
                    since: self.store_down_since.unwrap_or_else(now),
                },
            },
            lease: self.keeper.status().state,
            server_runs: self.guard.seen().server_runs(),
            unguarded: self.unguarded(&postgres),
            postgres,
            action: self.running.clone(),
            peers: self.prober.peers.clone(),
            request: self.request.as_ref().map(|(request, _)| request.clone()),
            told_upstream: self
                .upstream
                .as_ref()
                .map(|upstream| (upstream.host.clone(), upstream.port)),
            memory: self.memory.clone(),
        }
    }

    /// What runs in the data directory without the guard's knowledge.
    fn unguarded(&self, postgres: &Postgres) -> Option<Unguarded> {
        let in_recovery = match postgres {
            Postgres::Running(running) => running.in_recovery,
            Postgres::Starting { .. } | Postgres::Silent { .. } => false,
            Postgres::Missing | Postgres::Unreadable { .. } | Postgres::Stopped(_) => return None,
        };
        let pid = self.observer.postmaster()?;
        let seen = self.guard.seen();
        let writes = matches!(postgres, Postgres::Running(_)) && !in_recovery;
        (pid != seen.pid || writes && !seen.writes).then_some(Unguarded {
            pid,
            may_write: !in_recovery,
        })
    }

    /// A guard that is frozen can neither start PostgreSQL nor fence it; the lease keeper does the latter then.
    fn watch_guard(&mut self) {
        let silent = now().since(self.guard.seen().heard);
        if silent < GUARD_SILENCE {
            if let Some(lasted) = self.guard_trouble.over() {
                tracing::info!("The guard answers again, after {:.1} s.", lasted.as_secs_f64());
            }
        } else if self.guard_trouble.happened().is_some() {
            tracing::error!(
                "The guard has not answered for {:.1} s: it is frozen.",
                silent.as_secs_f64()
            );
        }
    }

    /// What follows from a look at PostgreSQL before anything is decided.
    pub(crate) async fn heed(&mut self, postgres: &Postgres) {
        let Postgres::Running(running) = postgres else {
            return;
        };
        if self.dynamic.synchronous_mode != SyncMode::Off && self.sync_names.is_none() {
            // A new agent finds what the last one had set.
            self.sync_names = Some(running.sync_names.clone());
        }
        let paused = self.dynamic.pause && !running.in_recovery;
        if paused != self.keeper_paused {
            self.keeper_paused = paused;
            self.keeper.command(Command::Paused(paused)).await;
            if let Some(pid) = self.observer.postmaster().filter(|_| !self.dynamic.pause) {
                // What was started by hand meanwhile needs a lease from now on.
                self.adopt_server(pid, !running.in_recovery).await;
            }
        }
    }
}

/// What of a look asks for a decision when it is another one.
fn without_positions(postgres: &Postgres) -> Postgres {
    let mut postgres = postgres.clone();
    if let Postgres::Running(running) = &mut postgres {
        running.lsn = Lsn(0);
        for sender in &mut running.walsenders {
            (sender.written, sender.lsn, sender.replayed) = (Lsn(0), Lsn(0), Lsn(0));
        }
        for slot in &mut running.slots {
            slot.restart_lsn = slot.restart_lsn.map(|_| Lsn(0));
        }
    }
    postgres
}
