//! The loop.

use std::{sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_config::SyncMode;
use howdah_dcs::View;
use howdah_ha::{Command, Dcs, LeaseState, Me, Plan, Postgres, Snapshot, Unguarded, decide};
use howdah_http::Client;
use howdah_postgres::Server;
use howdah_types::{BootTime, Lsn};
use tokio::sync::mpsc;

use crate::{
    api::ApiSettings, certificates::Certificates, cluster::ClusterState, configuration::Configuration,
    failsafe::Asking, gather::Observer, guard_link::GuardLink, keeper::KeeperLink,
    known_members::KnownMembers, logical_slots::LogicalSlots, member, patience::READ_PATIENCE,
    pending::Pending, probe::Prober, publish::ApiCommand, repeated::Repeated, replication::Replication,
    request::Asked, schedule::Schedule, voice::Voice, wake::Wake, work::Work,
};

/// Health checks with a lag speak of a position that is at most this old; `/patroni` looks when it is asked.
const SAMPLE_EVERY: Duration = Duration::from_secs(3);

/// The same in synchronous mode.
const SAMPLE_EVERY_SYNC: Duration = Duration::from_secs(1);

/// The guard answers every second.
const GUARD_SILENCE: Duration = Duration::from_secs(4);

/// At the agent's end, callbacks have this long.
const CALLBACK_PATIENCE: Duration = Duration::from_secs(10);

/// Whether the rest of a plan may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It may.
    Go,
    /// What the plan rests on does not hold.
    Stop,
}

/// The agent of one member: everything the loop owns.
pub(crate) struct Agent {
    /// The configuration, from the file and from the store.
    pub(crate) settings: Configuration,
    pub(crate) server: Server,
    /// What the store says.
    pub(crate) cluster: ClusterState,
    /// What a look at PostgreSQL says.
    pub(crate) observer: Observer,
    /// What PostgreSQL looked like at the last decision, but for positions.
    pub(crate) picture: Option<Postgres>,
    /// When PostgreSQL is looked at next, if no decision does so before.
    pub(crate) next_look: BootTime,
    pub(crate) prober: Prober,
    pub(crate) peer_client: Client,
    pub(crate) known_members: KnownMembers,
    /// The last decision without its effects: its reasons are shown until the next one, which begins with its memory.
    pub(crate) plan: Plan,
    /// Something has happened that asks for a decision.
    pub(crate) due: bool,
    /// The keeper is to ask the store at once whether the lease is ours, and to tell the guard.
    pub(crate) verify_lease: bool,
    pub(crate) keeper: KeeperLink,
    /// The keeper was told that the cluster is paused.
    pub(crate) keeper_paused: bool,
    pub(crate) guard: GuardLink,
    pub(crate) guard_trouble: Repeated,
    /// What the guard was told of the machine's watchdog device.
    pub(crate) watchdog: crate::watchdog::Told,
    pub(crate) work: Work,
    pub(crate) replication: Replication,
    pub(crate) logical_slots: LogicalSlots,
    pub(crate) asked: Asked,
    pub(crate) schedule: Schedule,
    pub(crate) pending: Pending,
    pub(crate) voice: Voice,
    pub(crate) wake: Wake,
    pub(crate) api: mpsc::Receiver<ApiCommand>,
    pub(crate) api_settings: ApiSettings,
    pub(crate) certificates: Certificates,
    pub(crate) exit: Option<u8>,
}

/// What wakes the loop from outside the process.
pub(crate) struct Signals {
    pub(crate) terminate: tokio::signal::unix::Signal,
    pub(crate) interrupt: tokio::signal::unix::Signal,
    pub(crate) hangup: tokio::signal::unix::Signal,
}

impl Agent {
    /// Runs until a signal or a request ends it; returns the exit code. Callbacks that still run may end before it does.
    pub(crate) async fn run(mut self, signals: Signals) -> u8 {
        let code = self.run_until_end(signals).await;
        let keeper = &self.keeper;
        let deadline = now() + CALLBACK_PATIENCE;
        self.voice.callbacks.finish(deadline, || keeper.beat()).await;
        code
    }

    async fn run_until_end(&mut self, mut signals: Signals) -> u8 {
        let mut lease = self.keeper.status();
        loop {
            self.keeper.beat();
            self.take_certificates().await;
            if self.guard.is_gone() {
                self.guard_died().await;
                return 1;
            }
            // Also what an action that has just ended decided: after that nothing is begun any more.
            if let Some(code) = self.exit {
                return code;
            }
            if self.due || now() >= self.plan.next_wake {
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
                self.plan.next_wake.min(self.next_look)
            };
            tokio::select! {
                biased;
                _ = signals.terminate.recv() => self.terminate(),
                _ = signals.interrupt.recv() => self.terminate(),
                _ = signals.hangup.recv() => self.reload().await,
                ended = self.work.ended() => self.action_ended(ended),
                changed = self.keeper.changed() => {
                    if changed.is_err() {
                        return 1;
                    }
                    // That it was renewed asks for no decision.
                    let known = std::mem::replace(&mut lease, self.keeper.status());
                    self.due |= !lease.is_renewed(&known);
                }
                Some(command) = self.api.recv() => self.api_command(command).await,
                () = self.wake.woken() => self.due = true,
                () = howdah_http::sleep_until(wake_at) => {}
            }
            while let Some(ended) = self.work.ended_already() {
                self.action_ended(ended);
            }
        }
    }

    /// How often PostgreSQL is looked at while nothing happens. The primary of a synchronous cluster more often: commits
    /// wait for a standby that is gone.
    fn look_every(&self) -> Duration {
        if self.settings.dynamic.synchronous_mode == SyncMode::Off {
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
            self.tell_watchdog().await;
            self.recall_schedule(view);
        }
        let postgres = self.look().await;
        self.keeper.beat();
        self.note_server(&postgres).await;
        self.prober.collect();
        self.ask_for_scheduled_restart();
        let snapshot = self.snapshot(view.as_ref(), postgres);
        self.picture = Some(without_positions(&snapshot.postgres));
        let plan = decide(&snapshot);
        self.known_members.keep(&self.server, &plan.memory.known).await;
        self.prepare_to_ask();
        self.voice.say(&plan, &snapshot);
        self.plan = Plan {
            effects: Vec::new(),
            ..plan.clone()
        };
        self.publish(view.as_deref(), &snapshot);
        self.asked.published();
        self.asked.decided(&plan);
        let view_for_effects = view
            .clone()
            .or_else(|| self.cluster.view.clone())
            .unwrap_or_default();
        for effect in plan.effects {
            self.keeper.beat();
            if self.carry_out(effect, &view_for_effects).await == Next::Stop {
                break;
            }
        }
        self.write_record(view.as_deref(), Some(&snapshot)).await;
        self.find_pending(&snapshot).await;
        if let Some(view) = view {
            let postmaster = self.observer.postmaster();
            self.logical_slots
                .watch(&self.server, &snapshot, &view, postmaster, &self.wake);
        }
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
        self.note_server(&postgres).await;
        self.ask_for_scheduled_restart();
        self.watch_guard();
        let changed = self.picture.as_ref() != Some(&without_positions(&postgres));
        let view = self.cluster.view.clone();
        let snapshot = self.snapshot(view.as_ref(), postgres);
        self.publish(view.as_deref(), &snapshot);
        self.asked.published();
        self.due |= changed || snapshot.request.is_some() || self.pending.check;
    }

    /// The store as it is now: read, or as it was read last while the watch reports no change and nothing is in motion.
    /// `None`: it does not answer.
    async fn look_at_store(&mut self) -> Option<Arc<View>> {
        if self.last_view_serves() {
            return self.cluster.view.clone();
        }
        let view = self.cluster.read(now() + READ_PATIENCE).await?;
        self.voice.published.show(Arc::clone(&view));
        Some(view)
    }

    /// Only where nothing can follow from a newer one: we lead and the view says so, or another member does; and PostgreSQL
    /// runs, and there is no request.
    fn last_view_serves(&self) -> bool {
        let Some(view) = self.cluster.unchanged() else {
            return false;
        };
        let leader = view.leader.as_ref();
        let steady = match self.keeper.status().state {
            LeaseState::Held { term, .. } => leader.is_some_and(|leader| leader.term == term),
            LeaseState::None => leader.is_some_and(|leader| leader.name != self.settings.local.name),
            LeaseState::Unsure => false,
        };
        steady
            // A watch over a connection to a store that has frozen says nothing for ever; renewals are answered, or not.
            && self.keeper.status().store_answers
            && view.failover.value.is_none()
            && view.members.contains_key(&self.settings.local.name)
            && self.work.running().is_none()
            && self.asked.current().is_none()
            && matches!(self.picture, Some(Postgres::Running(_)))
    }

    pub(crate) fn snapshot(&self, view: Option<&Arc<View>>, postgres: Postgres) -> Snapshot {
        let keeper = self.keeper.status();
        Snapshot {
            now: now(),
            wall: jiff::Timestamp::now().as_second(),
            me: Me {
                name: self.settings.local.name.clone(),
                tags: self.tags(),
                may_bootstrap: self.settings.local.bootstrap.is_some(),
                lease: keeper.lease,
            },
            config: (*self.settings.dynamic).clone(),
            dcs: match view {
                Some(view) => Dcs::Fresh(Arc::clone(view)),
                None => Dcs::Down {
                    since: self.cluster.down_since().unwrap_or_else(now),
                },
            },
            lease: keeper.state,
            promise: keeper.promise,
            failsafe: keeper.failsafe,
            server_runs: self.guard.seen().server_runs(),
            watchdog_failed: self.watchdog_failed(),
            unguarded: self.unguarded(&postgres),
            postgres,
            action: self.work.running().cloned(),
            peers: self.prober.peers.clone(),
            request: self.asked.current().cloned(),
            told_upstream: self
                .replication
                .upstream
                .as_ref()
                .map(|upstream| (upstream.host.clone(), upstream.port)),
            memory: self.plan.memory.clone(),
        }
    }

    /// In failsafe mode: what the keeper says to other members when the store does not answer it.
    fn prepare_to_ask(&self) {
        let asking = self.settings.dynamic.failsafe_mode.then(|| {
            let slots = self
                .cluster
                .view
                .as_ref()
                .and_then(|view| view.status.slots.as_ref());
            Asking {
                client: self.peer_client.clone(),
                scope: self.settings.local.scope.clone(),
                about: member::introduction(&self.settings.local, slots),
            }
        });
        self.keeper.ask_with(asking);
    }

    /// Looks which parameters wait for a restart, after the server has read its files again.
    pub(crate) async fn find_pending(&mut self, snapshot: &Snapshot) {
        let Postgres::Running(_) = snapshot.postgres else {
            self.pending.clear();
            return;
        };
        if let Some(session) = self.observer.session().filter(|_| self.pending.check) {
            self.pending.find(session, &self.settings.dynamic).await;
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
    pub(crate) async fn note_server(&mut self, postgres: &Postgres) {
        let Postgres::Running(running) = postgres else {
            return;
        };
        if self.settings.dynamic.synchronous_mode != SyncMode::Off && self.replication.sync_names.is_none() {
            // A new agent finds what the last one had set.
            self.replication.sync_names = Some(running.sync_names.clone());
        }
        let paused = self.settings.dynamic.pause && !running.in_recovery;
        if paused != self.keeper_paused {
            self.keeper_paused = paused;
            self.keeper.command(Command::Paused(paused)).await;
            if let Some(pid) = self
                .observer
                .postmaster()
                .filter(|_| !self.settings.dynamic.pause)
            {
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
            slot.confirmed_lsn = slot.confirmed_lsn.map(|_| Lsn(0));
            slot.catalog_xmin = None;
        }
    }
    postgres
}
