//! Carrying out a plan's effects, in order. The first that does not succeed ends the plan.

use std::{sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_config::SyncMode;
use howdah_dcs::{Cond, Document, HistoryEntry, KeyOp, Outcome, View};
use howdah_ha::{Action, Command, Effect, NOBODY, RunningAction, SlotChange, gate, quote_sync_name};
use howdah_postgres::{advance_slot, create_slot, drop_slot, write_wal};
use howdah_types::Timeline;

use crate::{
    action::{self, Failure},
    agent::Agent,
    blocking::writing,
    outside::{Outside, source},
};

/// One write to the store within a plan.
const WRITE_PATIENCE: Duration = Duration::from_secs(3);

/// A commit that neither waits nor ends for this long is held up by a disk, and shows nothing.
const PROOF_PATIENCE: Duration = Duration::from_secs(1);

/// After a proof that showed nothing: its session may still hang in PostgreSQL.
const PROOF_PAUSE: Duration = Duration::from_secs(5);

/// After a refused write the store is read again and decided again, a little later.
const REFUSED_AGAIN: Duration = Duration::from_millis(100);

/// After an action that failed the next one waits.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(3);

/// Whether the rest of the plan may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It may.
    Go,
    /// What the plan rests on does not hold.
    Stop,
}

impl Agent {
    pub(crate) async fn carry_out(&mut self, effect: Effect, view: &Arc<View>) -> Next {
        match effect {
            Effect::Acquire { not_after } => {
                self.keeper.command(Command::Acquire { not_after }).await;
                Next::Go
            }
            Effect::Release => {
                self.keeper.command(Command::Release).await;
                Next::Go
            }
            Effect::VerifyLease => {
                self.keeper.command(Command::Verify).await;
                Next::Go
            }
            Effect::Put { document, cond } => self.write(KeyOp::Put { document, cond }).await,
            Effect::Delete { key, cond } => self.write(KeyOp::Delete { key, cond }).await,
            Effect::ProbePeers(names) => {
                let last = self.memory.last_leader.as_ref().map(|leader| leader.name.clone());
                self.prober.ask(&names, view, &self.memory.known, last.as_ref());
                Next::Go
            }
            Effect::Follow(upstream) => {
                self.upstream = upstream;
                self.rewrite_conf().await
            }
            Effect::SetSyncNames(names) => {
                let off = self.dynamic.synchronous_mode == SyncMode::Off && names.is_empty();
                self.sync_names = (!off).then_some(names);
                self.rewrite_conf().await
            }
            Effect::ProveCommitsWait => self.prove_commits_wait().await,
            Effect::NudgeStandby => {
                // Without it commits wait for some seconds longer.
                if let Some(session) = self.observer.session()
                    && let Err(error) = write_wal(session, now() + PROOF_PATIENCE).await
                {
                    tracing::debug!(%error, "the new standby was not nudged");
                }
                Next::Go
            }
            Effect::Slots(changes) => self.change_slots(changes).await,
            Effect::WriteHistory => self.write_history(view).await,
            Effect::Claim => match self.keeper.status().lease {
                Some(lease) => self.write(KeyOp::Claim { lease }).await,
                None => Next::Stop,
            },
            Effect::RestoreConfig => match self.configuration.raw.clone() {
                Some(config) => {
                    if view.config.rev > 0 {
                        tracing::warn!(
                            "The stored configuration is no JSON object: the last good one is written back."
                        );
                    }
                    // Nothing else waits for that.
                    let _ = self
                        .write(KeyOp::Put {
                            document: Document::config(&config),
                            cond: Cond::Rev(view.config.rev),
                        })
                        .await;
                    Next::Go
                }
                None => Next::Go,
            },
            Effect::Adopt(server) => {
                if self.adopt_server(server.pid, server.may_write).await {
                    Next::Go
                } else {
                    Next::Stop
                }
            }
            Effect::Begin(action) => self.begin(action, view),
            Effect::Fatal(reason) => {
                tracing::error!("{reason}.");
                self.end(1);
                Next::Stop
            }
        }
    }

    async fn write(&mut self, op: KeyOp) -> Next {
        let outcome = self.store.write(&op, now() + WRITE_PATIENCE).await;
        self.watching.disturb();
        match outcome {
            Outcome::Done(_) => Next::Go,
            Outcome::Refused(_) => {
                // What the plan rests on is not what the store has.
                self.last_plan.next_wake = self.last_plan.next_wake.min(now() + REFUSED_AGAIN);
                Next::Stop
            }
            Outcome::Failed(reason) | Outcome::Unknown(reason) => {
                if let Some(times) = self.store_trouble.happened() {
                    tracing::warn!(reason, times, "A write to the store did not succeed.");
                }
                Next::Stop
            }
        }
    }

    /// Writes the configuration files and lets a running server read them.
    pub(crate) async fn rewrite_conf(&mut self) -> Next {
        let upstream = self
            .upstream
            .as_ref()
            .filter(|_| !self.config.tags.nostream())
            .map(source);
        let (server, dynamic) = (self.server.clone(), Arc::clone(&self.dynamic));
        let sync_names = self.wanted_sync_names();
        let written = writing(move || server.write_conf(&dynamic, upstream, sync_names));
        match written.await.and_then(|written| written.map_err(Into::into)) {
            Ok(()) => {
                self.server.reload();
                Next::Go
            }
            Err(error) => {
                tracing::error!("The configuration was not written: {error:#}.");
                Next::Stop
            }
        }
    }

    /// In synchronous mode the agent owns `synchronous_standby_names`, also right after its start.
    pub(crate) fn wanted_sync_names(&self) -> Option<String> {
        if self.dynamic.synchronous_mode == SyncMode::Off {
            return None;
        }
        self.sync_names
            .clone()
            .or_else(|| Some(self.published_sync_names()))
    }

    /// What the store says must be waited for: used until a running server, or a decision, has said it. Never empty: a
    /// server begins with commits that wait.
    fn published_sync_names(&self) -> String {
        let sync = self.last_view.as_ref().and_then(|view| view.sync.value.as_ref());
        let mine = sync.filter(|sync| sync.leader == self.config.name.as_str());
        match mine.and_then(|sync| sync.standbys().next()) {
            Some(standby) => quote_sync_name(standby),
            None => NOBODY.to_owned(),
        }
    }

    async fn prove_commits_wait(&mut self) -> Next {
        let Some(session) = self.observer.session() else {
            return Next::Stop;
        };
        if now() < self.next_proof {
            return Next::Stop;
        }
        match self.server.commits_wait(session, now() + PROOF_PATIENCE).await {
            Ok(true) => {
                self.memory.commits_wait = true;
                self.sync_trouble.over();
                self.wake.wake();
                Next::Go
            }
            Ok(false) => {
                if let Some(times) = self.sync_trouble.happened() {
                    tracing::info!(
                        times,
                        "Commits do not wait for a standby yet: the checkpointer has not read the setting."
                    );
                }
                Next::Stop
            }
            Err(error) => {
                self.next_proof = now() + PROOF_PAUSE;
                if let Some(times) = self.sync_trouble.happened() {
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
        for change in changes {
            let (result, what) = match &change {
                SlotChange::Create(name) => (create_slot(session, name, deadline).await, "created"),
                SlotChange::Drop(name) => (drop_slot(session, name, deadline).await, "dropped"),
                SlotChange::Advance(name, to) => (advance_slot(session, name, *to, deadline).await, "moved"),
            };
            match result {
                Ok(()) => tracing::debug!(?change, "slot {what}"),
                Err(error) => {
                    if let Some(times) = self.slot_trouble.happened() {
                        tracing::warn!(?change, %error, times, "A replication slot was not {what}.");
                    }
                    failed = true;
                }
            }
        }
        if !failed {
            self.slot_trouble.over();
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
                    .or_else(|| newest.then(|| self.config.name.to_string()));
                HistoryEntry {
                    timeline: line.timeline,
                    lsn: line.switch,
                    reason: line.reason,
                    timestamp,
                    new_leader,
                }
            })
            .collect();
        let limit = self.dynamic.max_timelines_history;
        if limit > 0 && rows.len() > limit {
            rows.drain(..rows.len() - limit);
        }
        self.write(KeyOp::Put {
            document: Document::history(&rows),
            cond: Cond::Always,
        })
        .await
    }

    /// Begins a long action, if it may still happen.
    fn begin(&mut self, action: Action, view: &Arc<View>) -> Next {
        if let Some(running) = &self.running {
            if running.action != Action::Checkpoint {
                return Next::Stop;
            }
            // A checkpoint goes on in the server; nobody needs to wait for it.
            self.drop_action();
        }
        let lease = self.keeper.status().state;
        if let Err(stale) = gate::admit(&action, lease, now()) {
            tracing::info!(
                action = action.name(),
                ?stale,
                "Not begun: the decision is stale."
            );
            return Next::Stop;
        }
        tracing::info!("Beginning: {}.", action.name());
        if let Action::StartReplica { follow } | Action::Restart { follow, .. } = &action {
            self.upstream = follow.clone();
        }
        if let Action::Clone { follow, .. }
        | Action::Reinitialize { follow, .. }
        | Action::Rejoin { leader: follow, .. } = &action
        {
            self.upstream = Some(follow.clone());
        }
        let outside = self.outside(view, action.launches_postgres() || action.starts_postgres());
        self.running = Some(RunningAction {
            action: action.clone(),
            since: now(),
        });
        let done = self.action_done.clone();
        let (name, wake) = (action.name(), self.wake.clone());
        self.action_task = Some(tokio::spawn(async move {
            let result = action::run(action, outside).await;
            if let Err(Failure::Retry(error)) = &result {
                tracing::warn!("{name} did not succeed: {error:#}.");
            }
            let _ = done.send(result).await;
            wake.wake();
        }));
        Next::Stop
    }

    fn outside(&mut self, view: &Arc<View>, starts: bool) -> Outside {
        let with = self.to_start_with(view);
        self.starting_with = starts.then(|| with.clone());
        Outside {
            server: self.server.clone(),
            dynamic: with.1,
            guard: self.guard.clone(),
            keeper: self.keeper.clone(),
            store: Arc::clone(&self.store),
            view: Arc::clone(view),
            peers: self.peer_client.clone(),
            config: Arc::clone(&self.config),
            sync_names: self.wanted_sync_names(),
            stage: self.stage.clone(),
        }
    }
}
