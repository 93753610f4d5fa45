//! The loop.

use std::{sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_config::{Dynamic, LocalConfig, SyncMode, dynamic_from};
use howdah_dcs::{Op, Outcome, Store, View};
use howdah_guard::{
    Handover, Request as GuardRequest,
    tree::{DirId, ProcessTable},
};
use howdah_ha::{
    Action, Command, Dcs, LeaseState, Me, Memory, Plan, Postgres, Request, RunningAction, Snapshot, Upstream,
    decide,
};
use howdah_http::Client;
use howdah_pgconf::DbState;
use howdah_postgres::Server;
use howdah_rest::{MemberFacts, Position};
use howdah_types::{BootTime, PgState, Role, Tags};
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    action::Failure,
    effects::{Next, RETRY_PAUSE},
    gather::Observer,
    guard_link::GuardLink,
    keeper::KeeperLink,
    member::{self, Publisher},
    pending::Loaded,
    probe::Prober,
    publish::{ApiCommand, Published, replication_row},
    setup::ConfigFile,
    wake::Wake,
};

/// Health checks with a lag, and `/patroni`, speak of a position that is at most this old.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

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

    /// Without a guard nobody keeps the time: PostgreSQL ends now (the kernel has told the postmaster to quit; this
    /// is for what is left), and only then may somebody else lead.
    async fn guard_died(&self) {
        tracing::error!("The guard has died: ending PostgreSQL and this agent.");
        let me = Some(std::process::id());
        let path = std::ffi::CString::new(self.server.dir.path().as_os_str().as_encoded_bytes()).ok();
        let data = path.and_then(|path| DirId::of(&path).ok());
        let Ok(mut processes) = ProcessTable::new() else {
            return;
        };
        let deadline = now() + Duration::from_secs(10);
        loop {
            let postmaster = self.server.dir.postmaster().map(|postmaster| postmaster.pid);
            if processes.kill_postgres(postmaster, data, me) == 0 {
                break;
            }
            if now() >= deadline {
                tracing::error!("PostgreSQL cannot be killed; the lease is left to run out.");
                return;
            }
            howdah_http::sleep_until(now() + Duration::from_millis(5)).await;
        }
        self.keeper.command(Command::Release).await;
        self.keeper
            .wait_for(
                |status| status.state == LeaseState::None,
                now() + Duration::from_secs(3),
            )
            .await;
    }

    /// One look at the world, one decision, its effects. Returns when the next one is due.
    async fn turn(&mut self) -> BootTime {
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
        }
        let postgres = self.observer.look(&self.server).await;
        self.heed(&postgres).await;
        self.prober.collect();
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

    fn snapshot(&self, view: Option<&View>, postgres: Postgres) -> Snapshot {
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
    async fn take_config(&mut self, view: &View) {
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

    /// Our tags, and `nofailover` while the cluster's configuration is not understood.
    pub(crate) fn tags(&self) -> Tags {
        if !self.config_is_strange {
            return self.config.tags.clone();
        }
        let mut tags = self.config.tags.published();
        tags.insert("nofailover".to_owned(), true.into());
        Tags::new(tags)
    }

    /// What follows from a look at PostgreSQL before anything is decided.
    async fn heed(&mut self, postgres: &Postgres) {
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

    async fn apply(&mut self, dynamic: Dynamic, view: &View) {
        for warning in dynamic
            .warnings
            .iter()
            .filter(|warning| !self.dynamic.warnings.contains(warning))
        {
            tracing::warn!("Configuration: {warning}.");
        }
        let all_ours = view.members.values().all(|member| member.howdah.is_some());
        let ttl = dynamic
            .timers
            .short_ttl
            .filter(|_| all_ours)
            .unwrap_or(dynamic.timers.ttl);
        self.keeper.command(Command::Ttl(ttl)).await;
        self.dynamic = Arc::new(dynamic);
        if self.observer.sample.is_some() {
            self.loaded.expect();
            self.rewrite_conf();
            self.check_pending = true;
        }
    }

    /// Writes our record, when it is due.
    async fn touch(&mut self, view: Option<&View>, snapshot: Option<&Snapshot>) {
        let (Some(view), Some(lease)) = (view, self.keeper.status().lease) else {
            return;
        };
        if !view.members.contains_key(&self.config.name) {
            self.publisher.forget();
        }
        let (state, role) = self.state_and_role(snapshot);
        let record = member::record(
            &self.config,
            &self.tags(),
            &member::Now {
                state,
                role,
                sample: self.observer.sample.as_ref(),
                pending_restart: &self.pending,
                pause: self.dynamic.pause,
                leads: view.led_by(lease),
                config: self.config_rev.filter(|_| !self.check_pending),
                notes: self.left_out(),
            },
        );
        if !self
            .publisher
            .due(&record, lease, now(), self.dynamic.timers.loop_wait)
        {
            return;
        }
        let op = Op::PutMember {
            me: self.config.name.clone(),
            lease,
            value: serde_json::to_string(&record).unwrap_or_default(),
        };
        match self.store.execute(&op, now() + READ_PATIENCE).await {
            Outcome::Done(_) => self.publisher.written(record, lease, now()),
            other => {
                self.publisher.forget();
                tracing::debug!(?other, "our record was not written");
            }
        }
    }

    /// What of the dynamic configuration is not taken.
    fn left_out(&self) -> Vec<String> {
        let programs = &self.server.programs;
        let unknown = self
            .dynamic
            .parameters
            .keys()
            .filter(|name| !programs.knows(name));
        let major = programs.version.major();
        let told =
            unknown.map(|name| format!("parameter {name} is not known to PostgreSQL {major} and left out"));
        self.dynamic.warnings.iter().cloned().chain(told).collect()
    }

    /// What we say of ourselves.
    fn state_and_role(&self, snapshot: Option<&Snapshot>) -> (PgState, Role) {
        let leads = snapshot.is_some_and(|s| s.lease.held(s.now).is_some());
        let seen = match snapshot.map(|s| &s.postgres) {
            Some(Postgres::Running(running)) => {
                let role = if running.in_recovery {
                    Role::Replica
                } else {
                    Role::Primary
                };
                (PgState::Running, role)
            }
            Some(Postgres::Starting { .. }) => (
                PgState::Starting,
                if leads { Role::Primary } else { Role::Replica },
            ),
            Some(Postgres::Stopped(stopped)) => {
                let crashed = !matches!(stopped.state, DbState::ShutDown | DbState::ShutDownInRecovery);
                let role = if stopped.standby {
                    Role::Replica
                } else {
                    Role::Demoted
                };
                (
                    if crashed {
                        PgState::Crashed
                    } else {
                        PgState::Stopped
                    },
                    role,
                )
            }
            Some(Postgres::Unreadable) => (PgState::Unknown, Role::Demoted),
            Some(Postgres::Missing) | None => (PgState::Stopped, Role::Uninitialized),
        };
        let staged = *self.stage.borrow();
        match (&self.running, staged) {
            // The action says what is going on while the server does not answer, or answers still as what it was.
            (Some(_), Some((state, role))) if seen.0 != PgState::Running || role == Role::Promoted => {
                (state, role)
            }
            (Some(running), Some((state, role)))
                if matches!(running.action, Action::HandOver { .. } | Action::Shutdown { .. }) =>
            {
                (state, role)
            }
            _ => seen,
        }
    }

    fn publish(&mut self, view: Option<&View>, snapshot: &Snapshot, plan: &Plan) {
        let (state, role) = self.state_and_role(Some(snapshot));
        let sample = self
            .observer
            .sample
            .as_ref()
            .filter(|_| state == PgState::Running);
        let position = sample.map(|sample| {
            if sample.in_recovery {
                Position::Replica {
                    received: sample.received,
                    replayed: sample.replayed,
                    replayed_at: sample.replayed_at.clone(),
                    replayed_epoch: sample.replayed_epoch,
                    paused: sample.replay_paused,
                    timeline: sample.timeline,
                    latest_end: sample
                        .receiver
                        .as_ref()
                        .and_then(|r| r.latest_end)
                        .map(howdah_types::Lsn),
                }
            } else {
                Position::Primary {
                    location: sample.flushed,
                    timeline: sample.timeline,
                }
            }
        });
        let me = self.config.name.as_str();
        let sync = self.last_view.as_ref().and_then(|view| view.sync.value.clone());
        self.published.publish(MemberFacts {
            name: self.config.name.clone(),
            scope: self.config.scope.clone(),
            role,
            state,
            leads_until: match snapshot.lease {
                LeaseState::Held { deadline, .. } if self.is_primary_or_paused(snapshot) => deadline,
                _ => BootTime(0),
            },
            tags: self.tags(),
            position,
            postmaster_start_time: sample.map(|sample| sample.started_at.clone()),
            postmaster_start_epoch: sample.map_or(0.0, |sample| sample.started_epoch),
            server_version: sample.map(|sample| sample.version),
            replication_state: sample.and_then(|sample| sample.replication_state),
            replication: sample
                .map(|s| s.senders.iter().map(replication_row).collect())
                .unwrap_or_default(),
            system_id: self.observer.system_id().map(|id| id.to_string()),
            sync_standby: sync.is_some_and(|sync| sync.standbys().any(|name| name.eq_ignore_ascii_case(me))),
            pause: self.dynamic.pause,
            cluster_unlocked: view.is_some_and(|view| view.leader.is_none()),
            dcs_last_seen: self.seen_at,
            has_view: self.last_view.is_some()
                && self
                    .store_down_since
                    .is_none_or(|since| now().since(since) < self.dynamic.timers.ttl),
            leader_lsn: self.last_view.as_ref().and_then(|view| view.status.optime),
            pending_restart: self.pending.clone(),
            next_run: plan.next_wake,
            ttl_nanos: u64::try_from(self.dynamic.timers.ttl.as_nanos()).unwrap_or(u64::MAX),
            lag_limit: self.dynamic.maximum_lag_on_failover,
            log_lost: (self.log_lost)(),
            reasons: plan
                .reasons
                .iter()
                .filter_map(|reason| serde_json::to_value(reason).ok())
                .collect(),
        });
        self.role_change(role);
    }

    /// `/primary` must be met only where writes are accepted: not between winning the lease and the promotion.
    fn is_primary_or_paused(&self, snapshot: &Snapshot) -> bool {
        match &snapshot.postgres {
            Postgres::Running(running) => !running.in_recovery,
            _ => false,
        }
    }

    /// Calls the user's script. A newer call ends one that still runs.
    fn role_change(&mut self, role: Role) {
        let settled = matches!(role, Role::Primary | Role::Replica | Role::StandbyLeader);
        if !settled || role == self.last_role {
            return;
        }
        let first = self.last_role == Role::Uninitialized;
        self.last_role = role;
        let Some(script) = self.config.postgresql.on_role_change.clone().filter(|_| !first) else {
            return;
        };
        let scope = self.config.scope.to_string();
        if let Some(old) = self.callback.take() {
            old.abort();
        }
        self.callback = Some(tokio::spawn(async move {
            let args = ["on_role_change", role.as_str(), scope.as_str()];
            if let Err(error) = howdah_postgres::run_script(&script, &args, None).await {
                tracing::warn!("on_role_change: {error}.");
            }
        }));
    }

    fn say_plan(&mut self, plan: &Plan, snapshot: &Snapshot) {
        let Some(headline) = plan.reasons.first() else {
            return;
        };
        let mut sentence = headline.to_string();
        for reason in plan.reasons.iter().skip(1) {
            sentence.push_str("; ");
            sentence.push_str(&reason.to_string());
        }
        if matches!(snapshot.dcs, Dcs::Fresh(_)) || !self.last_sentence.is_empty() {
            self.say(sentence);
        }
    }

    /// Logs a sentence when it is not the same as before.
    fn say(&mut self, sentence: String) {
        if sentence != self.last_sentence {
            tracing::info!("{sentence}");
            self.last_sentence = sentence;
        }
    }

    fn action_ended(&mut self, result: Result<(), Failure>) {
        let Some(ended) = self.running.take() else { return };
        self.action_task = None;
        self.stage.send_replace(None);
        tracing::debug!(action = ended.action.name(), took = ?now().since(ended.since), "action ended");
        let shutdown = matches!(ended.action, Action::Shutdown { .. });
        self.memory.retry_at = None;
        match result {
            Ok(()) => {
                self.answer_waiting(Ok(()), &ended.action);
                if shutdown {
                    self.end(0);
                }
            }
            Err(Failure::Retry(error)) => {
                self.memory.retry_at = Some(now() + RETRY_PAUSE);
                self.answer_waiting(Err(format!("{error:#}")), &ended.action);
                if shutdown {
                    // What is left is the guard's: it stops PostgreSQL when we are gone.
                    self.end(1);
                }
            }
            Err(Failure::Fatal(error)) => {
                tracing::error!("{error:#}.");
                self.end(1);
            }
        }
        self.wake.wake();
    }

    fn answer_waiting(&mut self, result: Result<(), String>, action: &Action) {
        let fits = matches!(
            (&self.request, action),
            (Some((Request::Restart, _)), Action::Restart { .. })
                | (
                    Some((Request::Reinitialize { .. }, _)),
                    Action::Reinitialize { .. }
                )
        );
        if fits && let Some((_, Some(answer))) = self.request.take() {
            let _ = answer.send(result);
        }
    }

    /// A request that the decision has refused, or begun, is answered and forgotten.
    fn answer_request(&mut self, plan: &Plan) {
        use howdah_ha::{Effect, Reason};
        let refused = plan.reasons.iter().find_map(|reason| match reason {
            Reason::RequestRefused { why } => Some(*why),
            _ => None,
        });
        if let Some(why) = refused
            && let Some((_, Some(answer))) = self.request.take()
        {
            let _ = answer.send(Err(why.to_owned()));
        }
        let begun = plan
            .effects
            .iter()
            .any(|e| matches!(e, Effect::Begin(Action::Reinitialize { .. })));
        if begun
            && let Some((Request::Reinitialize { .. }, answer)) = self.request.take()
            && let Some(answer) = answer
        {
            let _ = answer.send(Ok(()));
        }
    }

    async fn api_command(&mut self, command: ApiCommand) {
        match command {
            ApiCommand::Restart(answer) => self.ask(Request::Restart, answer),
            ApiCommand::Reinitialize {
                from_leader,
                force,
                done,
            } => {
                if force {
                    self.drop_action();
                }
                self.memory.retry_at = None;
                self.ask(Request::Reinitialize { from_leader }, done);
            }
            ApiCommand::Reload => self.reload(),
            ApiCommand::Refresh(done) => {
                let postgres = self.observer.look(&self.server).await;
                let view = self.last_view.clone();
                let snapshot = self.snapshot(view.as_deref(), postgres);
                let plan = Plan {
                    next_wake: now(),
                    ..Plan::default()
                };
                self.publish(view.as_deref(), &snapshot, &plan);
                let _ = done.send(());
            }
        }
    }

    fn ask(&mut self, request: Request, answer: oneshot::Sender<Result<(), String>>) {
        if let Some(running) = &self.running {
            let _ = answer.send(Err(format!("{} already in progress", running.action.name())));
        } else if self.request.is_some() {
            let _ = answer.send(Err("another request is waiting".to_owned()));
        } else {
            self.request = Some((request, Some(answer)));
        }
    }

    /// Ends the action that runs, where it stands.
    pub(crate) fn drop_action(&mut self) {
        if let Some(task) = self.action_task.take() {
            task.abort();
        }
        self.running = None;
        self.stage.send_replace(None);
    }

    /// SIGTERM. A second one while the first is served changes nothing here: the guard has its own limit.
    fn terminate(&mut self) {
        tracing::info!("Told to end.");
        if let Some((_, Some(answer))) = self.request.take() {
            let _ = answer.send(Err("the agent is ending".to_owned()));
        }
        // What has no effect on others can be dropped; a promotion or a handover is waited for.
        let may_drop = self.running.as_ref().is_some_and(|running| {
            matches!(
                running.action,
                Action::Clone { .. }
                    | Action::Rejoin { .. }
                    | Action::Checkpoint
                    | Action::Reinitialize { .. }
            )
        });
        if may_drop {
            self.drop_action();
        }
        self.request = Some((Request::Shutdown, None));
    }

    /// SIGHUP: reads the configuration file again; one that is wrong changes nothing.
    pub(crate) fn reload(&mut self) {
        match self.file.read() {
            Ok((config, warning)) => {
                if let Some(warning) = warning {
                    tracing::warn!("Configuration: {warning}.");
                }
                let fixed = (&config.name, &config.scope, &config.postgresql.data_dir);
                if fixed
                    != (
                        &self.config.name,
                        &self.config.scope,
                        &self.config.postgresql.data_dir,
                    )
                {
                    tracing::error!(
                        "name, scope and data_dir do not change while the agent runs: restart it."
                    );
                    return;
                }
                self.server.local = config.postgresql.clone();
                self.config = Arc::new(config);
                self.config_rev = None;
                self.publisher.forget();
                self.rewrite_conf();
                tracing::info!("The configuration was read again.");
            }
            Err(error) => tracing::error!("The configuration is not taken: {error}."),
        }
    }

    pub(crate) fn end(&mut self, code: u8) {
        self.exit = Some(code);
    }

    /// Tells the guard of a PostgreSQL that was running before both of us.
    pub(crate) async fn adopt(&mut self, handover: &Handover) {
        let Some(postmaster) = self.server.dir.postmaster() else {
            return;
        };
        if handover.pid == postmaster.pid {
            return;
        }
        let postgres = self.observer.look(&self.server).await;
        let may_write = !matches!(&postgres, Postgres::Running(running) if running.in_recovery);
        tracing::info!(
            pid = postmaster.pid,
            may_write,
            "PostgreSQL runs already; taking it over."
        );
        let mut tail = self.server.dir.path().display().to_string().into_bytes();
        tail.push(0);
        // A primary that gets no lease in the length of one is ended, unless the cluster is paused.
        let patience = if self.dynamic.pause {
            Duration::MAX
        } else {
            self.dynamic.timers.ttl
        };
        let request = GuardRequest::Adopt {
            pid: postmaster.pid,
            may_write,
            not_after: now() + patience,
        };
        if let Err(error) = self.guard.ask(request, tail, now() + READ_PATIENCE).await {
            tracing::error!(%error, "The guard does not take the running PostgreSQL over.");
        }
    }
}
