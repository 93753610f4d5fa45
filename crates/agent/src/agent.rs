//! The loop.

use std::{sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_config::{Dynamic, LocalConfig, SyncMode, dynamic_from};
use howdah_dcs::{Store, View};
use howdah_ha::{Command, Dcs, Me, Memory, Postgres, Request, RunningAction, Snapshot, Upstream, decide};
use howdah_http::Client;
use howdah_postgres::Server;
use howdah_rest::ScheduledRestart;
use howdah_types::{BootTime, PgState, Role};
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    action::Failure,
    api::ApiSettings,
    effects::Next,
    gather::Observer,
    guard_link::GuardLink,
    keeper::KeeperLink,
    member::Publisher,
    pending::Loaded,
    probe::Prober,
    publish::{ApiCommand, Published},
    setup::ConfigFile,
    wake::Wake,
};

/// Health checks with a lag, and `/patroni`, speak of a position that is at most this old.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// One read of the store within a decision.
pub(crate) const READ_PATIENCE: Duration = Duration::from_secs(3);

/// Where somebody waits for how a request ended.
pub(crate) type Answer = oneshot::Sender<Result<(), String>>;

/// The agent of one member: everything the loop owns.
pub(crate) struct Agent {
    pub(crate) config: Arc<LocalConfig>,
    pub(crate) file: ConfigFile,
    pub(crate) server: Server,
    pub(crate) dynamic: Arc<Dynamic>,
    pub(crate) config_rev: Option<u64>,
    /// The configuration as it is stored, to write it back into a store that was wiped.
    pub(crate) raw_config: Option<Map<String, Value>>,
    /// The stored configuration is not understood.
    pub(crate) config_is_strange: bool,
    pub(crate) keeper_paused: bool,
    pub(crate) store: Arc<dyn Store>,
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
    /// When the server had last read its files, before it was told to read them again.
    pub(crate) loaded: Loaded,
    pub(crate) publisher: Publisher,
    pub(crate) store_down_since: Option<BootTime>,
    pub(crate) last_view: Option<Arc<View>>,
    pub(crate) seen_at: i64,
    pub(crate) last_sentence: String,
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
            let next_wake = self.turn().await;
            if let Some(code) = self.exit {
                return code;
            }
            let wake_at = next_wake.min(now() + SAMPLE_EVERY);
            tokio::select! {
                biased;
                _ = signals.terminate.recv() => self.terminate(),
                _ = signals.interrupt.recv() => self.terminate(),
                _ = signals.hangup.recv() => self.reload(),
                Some(result) = self.action_results.recv() => self.action_ended(result),
                changed = self.keeper.changed() => if changed.is_err() { return 1 },
                Some(command) = self.api.recv() => self.api_command(command).await,
                () = self.wake.woken() => {}
                () = howdah_http::sleep_until(wake_at) => {}
            }
            while let Ok(result) = self.action_results.try_recv() {
                self.action_ended(result);
            }
        }
    }

    /// One look at the world, one decision, its effects. Returns when the next one is due.
    pub(crate) async fn turn(&mut self) -> BootTime {
        let read = self.store.read(now() + READ_PATIENCE).await;
        self.keeper.beat();
        let view = match read {
            Ok(view) => {
                self.store_down_since = None;
                self.seen_at = jiff::Timestamp::now().as_second();
                let view = Arc::new(view);
                self.last_view = Some(Arc::clone(&view));
                Some(view)
            }
            Err(error) => {
                if self.store_down_since.is_none() {
                    tracing::warn!("The store cannot be read: {error}.");
                }
                self.store_down_since.get_or_insert_with(now);
                None
            }
        };
        if let Some(view) = &view {
            self.take_config(view).await;
            self.recall_schedule(view);
        }
        let postgres = self.observer.look(&self.server).await;
        self.heed(&postgres).await;
        self.prober.collect();
        self.mind_schedule();
        let snapshot = self.snapshot(view.as_deref(), postgres);
        let plan = decide(&snapshot);
        self.say_plan(&plan, &snapshot);
        self.memory = plan.memory.clone();
        let next_wake = plan.next_wake;
        self.publish(view.as_deref(), &snapshot, &plan);
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
        next_wake
    }

    pub(crate) fn snapshot(&self, view: Option<&View>, postgres: Postgres) -> Snapshot {
        Snapshot {
            now: now(),
            wall: jiff::Timestamp::now().as_second(),
            me: Me {
                name: self.config.name.clone(),
                tags: self.tags(),
                may_bootstrap: self.config.bootstrap.is_some(),
            },
            config: (*self.dynamic).clone(),
            dcs: match view {
                Some(view) => Dcs::Fresh(view.clone()),
                None => Dcs::Down {
                    since: self.store_down_since.unwrap_or_else(now),
                },
            },
            lease: self.keeper.status().state,
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

    /// Takes a changed dynamic configuration into effect. One that is wrong changes nothing.
    pub(crate) async fn take_config(&mut self, view: &View) {
        let Some(config) = &view.config.value else { return };
        if self.config_rev == Some(view.config.rev) {
            return;
        }
        self.config_rev = Some(view.config.rev);
        self.config_is_strange = false;
        self.raw_config = Some(config.clone());
        match dynamic_from(config, &self.config.postgresql) {
            Ok(dynamic) => self.apply(dynamic, view).await,
            Err(error) => {
                // What is wanted is not known, so this member neither takes leadership nor counts for it.
                tracing::error!("The cluster's configuration is not taken: {error}.");
                self.config_is_strange = true;
            }
        }
    }

    /// What follows from a look at PostgreSQL before anything is decided.
    pub(crate) async fn heed(&mut self, postgres: &Postgres) {
        if let Some(why) = self.observer.unreadable.clone() {
            self.say(format!("the data directory cannot be read: {why}"));
        }
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
        }
    }

    pub(crate) async fn apply(&mut self, dynamic: Dynamic, view: &View) {
        for warning in dynamic
            .warnings
            .iter()
            .filter(|warning| !self.dynamic.warnings.contains(warning))
        {
            tracing::warn!("Configuration: {warning}.");
        }
        let all_ours = view.members.values().all(|member| member.howdah.is_some());
        self.keeper
            .command(Command::Ttl(dynamic.timers.lease(all_ours)))
            .await;
        self.dynamic = Arc::new(dynamic);
        if self.observer.sample.is_some() {
            self.loaded.expect();
            self.rewrite_conf();
            self.check_pending = true;
        }
    }
}
