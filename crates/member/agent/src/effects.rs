//! Carrying out a plan's effects, in order. The first that does not succeed ends the plan.

use std::{sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_config::{Dynamic, SyncMode};
use howdah_dcs::{Cond, Document, HistoryEntry, KeyOp, Outcome, View};
use howdah_ha::{
    Action, Effect, Feeding, Here, Means, NotBegun, SlotChange, Step, may_begin, may_go_on, needs_feedback,
};
use howdah_postgres::{Recovery, advance_slot, create_slot, drop_slot, write_wal};
use howdah_types::Timeline;

use crate::{
    action::{self, Failure},
    agent::{Agent, Next},
    blocking::writing,
    outside::{Outside, source},
    patience::WRITE_PATIENCE,
};

/// A commit that neither waits nor ends for this long is held up by a disk, and shows nothing.
const PROOF_PATIENCE: Duration = Duration::from_secs(1);

/// After a proof that showed nothing: its session may still hang in PostgreSQL.
const PROOF_PAUSE: Duration = Duration::from_secs(5);

/// After a refused write the store is read again and decided again, a little later.
const REFUSED_AGAIN: Duration = Duration::from_millis(100);

/// After an action that failed the next one waits.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(3);

impl Agent {
    pub(crate) async fn carry_out(&mut self, effect: Effect, view: &Arc<View>) -> Next {
        let means = Means {
            lease: self.keeper.status().lease,
            config: self.settings.raw.as_ref(),
            config_rev: view.config.rev,
        };
        if matches!(effect, Effect::RestoreConfig) && means.config.is_some() && view.config.rev > 0 {
            tracing::warn!("The stored configuration is no JSON object: the last good one is written back.");
        }
        match effect.step(&means) {
            Step::Keeper(command) => {
                self.keeper.command(command).await;
                Next::Go
            }
            Step::Write { op, required } => self.write(op, required).await,
            Step::Here(here) => self.carry_out_here(here, view).await,
            Step::Begin(action) => {
                self.begin(action, view);
                Next::Stop
            }
            Step::End(reason) => {
                tracing::error!("{reason}.");
                self.end(1);
                Next::Stop
            }
            Step::Skip => Next::Go,
            Step::Halt => Next::Stop,
        }
    }

    async fn carry_out_here(&mut self, here: Here, view: &Arc<View>) -> Next {
        match here {
            Here::Probe(names) => {
                let memory = &self.plan.memory;
                let last = memory.last_leader.as_ref().map(|leader| &leader.name);
                self.prober.ask(&names, view, &memory.known, last);
                Next::Go
            }
            Here::Follow(upstream) => {
                self.replication.upstream = upstream;
                self.rewrite_conf().await
            }
            Here::SetSyncNames(names) => {
                let off = self.settings.dynamic.synchronous_mode == SyncMode::Off && names.is_empty();
                self.replication.sync_names = (!off).then_some(names);
                self.rewrite_conf().await
            }
            Here::ProveCommitsWait => self.prove_commits_wait().await,
            Here::NudgeStandby => {
                // Without it commits wait for some seconds longer.
                if let Some(session) = self.observer.session()
                    && let Err(error) = write_wal(session, now() + PROOF_PATIENCE).await
                {
                    tracing::debug!(%error, "the new standby was not nudged");
                }
                Next::Go
            }
            Here::Slots(changes) => self.change_slots(changes).await,
            Here::WriteHistory => self.write_history(view).await,
            Here::Adopt(server) => {
                if self.adopt_server(server.pid, server.may_write).await {
                    Next::Go
                } else {
                    Next::Stop
                }
            }
        }
    }

    async fn write(&mut self, op: KeyOp, required: bool) -> Next {
        let outcome = self.cluster.write(&op, now() + WRITE_PATIENCE).await;
        if matches!(outcome, Outcome::Refused(_)) {
            // What the plan rests on is not what the store has.
            self.plan.next_wake = self.plan.next_wake.min(now() + REFUSED_AGAIN);
        }
        if may_go_on(required, &outcome) {
            Next::Go
        } else {
            Next::Stop
        }
    }

    /// Writes the configuration files and lets a running server read them.
    pub(crate) async fn rewrite_conf(&mut self) -> Next {
        let action = self.work.running().map(|running| &running.action);
        if matches!(action, Some(Action::Bootstrap)) {
            // The files are the bootstrap's until it has ended: recovery may need what stands in them.
            return Next::Go;
        }
        let upstream = self
            .replication
            .upstream
            .as_ref()
            .filter(|_| !self.settings.local.tags.nostream())
            .map(source);
        let (server, dynamic) = (self.server.clone(), Arc::clone(&self.settings.dynamic));
        let sync_names = self.wanted_sync_names();
        let feedback = self.wants_feedback();
        let written =
            writing(move || server.write_conf(&dynamic, upstream, sync_names, feedback, Recovery::Replica));
        match written.await.and_then(|written| written.map_err(Into::into)) {
            Ok(()) => {
                self.server.reload();
                let hooks = &self.settings.dynamic.hooks;
                self.voice.callbacks.reloaded(hooks, &self.settings.local.scope);
                Next::Go
            }
            Err(error) => {
                tracing::error!("The configuration was not written: {error:#}.");
                Next::Stop
            }
        }
    }

    pub(crate) fn wanted_sync_names(&self) -> Option<String> {
        self.replication.wanted_sync_names(
            self.settings.dynamic.synchronous_mode,
            self.cluster.view.as_deref(),
            &self.settings.local.name,
        )
    }

    fn wants_feedback(&self) -> bool {
        let Some(view) = &self.cluster.view else {
            return false;
        };
        needs_feedback(&Feeding {
            config: &self.settings.dynamic,
            me: &self.settings.local.name,
            tags: &self.settings.local.tags,
            view,
        })
    }

    async fn prove_commits_wait(&mut self) -> Next {
        let Some(session) = self.observer.session() else {
            return Next::Stop;
        };
        if now() < self.replication.next_proof {
            return Next::Stop;
        }
        match self.server.commits_wait(session, now() + PROOF_PATIENCE).await {
            Ok(true) => {
                self.plan.memory.commits_wait = true;
                self.replication.sync_trouble.over();
                self.wake.wake();
                Next::Go
            }
            Ok(false) => {
                if let Some(times) = self.replication.sync_trouble.happened() {
                    tracing::info!(
                        times,
                        "Commits do not wait for a standby yet: the checkpointer has not read the setting."
                    );
                }
                Next::Stop
            }
            Err(error) => {
                self.replication.next_proof = now() + PROOF_PAUSE;
                if let Some(times) = self.replication.sync_trouble.happened() {
                    tracing::warn!(times, "Whether commits wait for a standby was not seen: {error}.");
                }
                Next::Stop
            }
        }
    }

    async fn change_slots(&mut self, changes: Vec<SlotChange>) -> Next {
        let Some(session) = self.observer.session() else {
            return Next::Stop;
        };
        let deadline = now() + WRITE_PATIENCE;
        let mut failed = false;
        let (logical, physical): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| {
            matches!(
                change,
                SlotChange::CreateLogical { .. } | SlotChange::AdvanceLogical { .. }
            )
        });
        self.logical_slots.change(&self.server, logical, &self.wake);
        for change in physical {
            let (result, what) = match &change {
                SlotChange::CreateLogical { .. } | SlotChange::AdvanceLogical { .. } => continue,
                SlotChange::Create(name) => (create_slot(session, name, deadline).await, "created"),
                SlotChange::Drop(name) => (drop_slot(session, name, deadline).await, "dropped"),
                SlotChange::Advance(name, to) => (advance_slot(session, name, *to, deadline).await, "moved"),
            };
            match result {
                Ok(()) => tracing::debug!(?change, "slot {what}"),
                Err(error) => {
                    if let Some(times) = self.replication.slot_trouble.happened() {
                        tracing::warn!(?change, %error, times, "A replication slot was not {what}.");
                    }
                    failed = true;
                }
            }
        }
        if !failed {
            self.replication.slot_trouble.over();
        }
        Next::Go
    }

    /// Puts the rows of the local history file into the store. When and by whom a timeline was begun is taken over
    /// from what is stored there.
    async fn write_history(&mut self, view: &View) -> Next {
        let Some(timeline) = self.observer.sample.as_ref().map(|sample| sample.timeline) else {
            return Next::Go;
        };
        let (lines, modified) = self.server.history(timeline);
        if lines.is_empty() && timeline > Timeline(1) {
            return Next::Go;
        }
        let written = modified.and_then(|time| jiff::Timestamp::try_from(time).ok());
        let stored = view.history.clone().unwrap_or_default();
        let count = lines.len();
        let mut rows: Vec<HistoryEntry> = lines
            .into_iter()
            .enumerate()
            .map(|(i, line)| {
                let known = stored
                    .iter()
                    .find(|row| row.timeline == line.timeline && row.lsn == line.switch);
                let newest = i + 1 == count;
                let timestamp = known.and_then(|row| row.timestamp.clone()).or_else(|| {
                    written
                        .filter(|_| newest)
                        .map(|time| time.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string())
                });
                let new_leader = known
                    .and_then(|row| row.new_leader.clone())
                    .or_else(|| newest.then(|| self.settings.local.name.to_string()));
                HistoryEntry {
                    timeline: line.timeline,
                    lsn: line.switch,
                    reason: line.reason,
                    timestamp,
                    new_leader,
                }
            })
            .collect();
        let limit = self.settings.dynamic.max_timelines_history;
        if limit > 0 && rows.len() > limit {
            rows.drain(..rows.len() - limit);
        }
        let op = KeyOp::Put {
            document: Document::history(&rows),
            cond: Cond::Always,
        };
        self.write(op, true).await
    }

    /// Begins a long action, if it may still happen.
    fn begin(&mut self, action: Action, view: &Arc<View>) {
        let runs = self.work.running().map(|running| &running.action);
        match may_begin(&action, runs, self.keeper.status().state, now()) {
            Ok(()) => {}
            Err(NotBegun::Busy) => return,
            Err(NotBegun::Stale(stale)) => {
                let action = action.name();
                tracing::info!(action, ?stale, "Not begun: the decision is stale.");
                return;
            }
        }
        tracing::info!("Beginning: {}.", action.name());
        if matches!(action, Action::Promote { .. }) {
            self.logical_slots.before_promotion();
        }
        self.voice.callbacks.begins(&action);
        if let Action::StartReplica { follow } | Action::Restart { follow, .. } = &action {
            self.replication.upstream = follow.clone();
        }
        if let Action::Clone { follow, .. }
        | Action::Reinitialize { follow, .. }
        | Action::CopySlots { follow, .. }
        | Action::Rejoin { leader: follow, .. } = &action
        {
            self.replication.upstream = Some(follow.clone());
        }
        let with = self.to_start_with(view);
        let starting_with = (action.launches_postgres() || action.starts_postgres()).then(|| with.clone());
        let outside = self.outside(view, with.1);
        let (name, wake) = (action.name(), self.wake.clone());
        let work = action::run(action.clone(), outside);
        let logged = async move {
            let result = work.await;
            if let Err(Failure::Retry(error)) = &result {
                tracing::warn!("{name} did not succeed: {error:#}.");
            }
            result
        };
        self.work
            .begin(action, starting_with, logged, move || wake.wake());
    }

    fn outside(&self, view: &Arc<View>, dynamic: Arc<Dynamic>) -> Outside {
        Outside {
            server: self.server.clone(),
            dynamic,
            guard: self.guard.clone(),
            keeper: self.keeper.clone(),
            store: Arc::clone(&self.cluster.store),
            view: Arc::clone(view),
            peers: self.peer_client.clone(),
            config: Arc::clone(&self.settings.local),
            sync_names: self.wanted_sync_names(),
            feedback: self.wants_feedback(),
            stage: self.work.stage.clone(),
        }
    }
}
