//! What our PostgreSQL looks like, in the form that decisions take.

use std::time::Duration;

use howdah_clock::now;
use howdah_config::SlotKind;
use howdah_ha::{CommitLevel, Postgres, Running, Slot, Stopped, WalSender};
use howdah_postgres::{PgError, Sample, Server, Session};
use howdah_types::{BootTime, Lsn, Origins, SystemId, Timeline};

use crate::{blocking::blocking, note::Note};

/// A query for a sample that takes longer counts as "does not answer".
const SAMPLE_PATIENCE: Duration = Duration::from_secs(3);

/// How often a new connection is tried beside the one that we have: a postmaster that hangs lets old sessions work.
const CONNECT_EVERY: Duration = Duration::from_secs(10);

/// Which promotions began the timelines of the data, and for what this was read.
struct Learnt {
    /// A server that was started again may have other data.
    postmaster: u32,
    /// The timeline whose WAL was read, with those before it.
    read: Option<Timeline>,
    origins: Origins,
}

/// Looks at the local PostgreSQL; keeps one connection and what the last look saw.
#[derive(Default)]
pub(crate) struct Observer {
    session: Option<Session>,
    starting_since: Option<BootTime>,
    /// The last connection was refused because the server recovers.
    recovers: bool,
    /// Since when a server that takes connections does not answer.
    silent_since: Option<BootTime>,
    /// When a new connection was made last.
    connected_at: BootTime,
    system_id: Option<SystemId>,
    /// The postmaster that the last look found.
    postmaster: Option<u32>,
    /// Which promotions began the timelines of the data.
    origins: Option<Learnt>,
    /// The postmaster whose replica has replayed all that it had.
    at_end: Option<u32>,
    /// The last sample of a server that answers.
    pub(crate) sample: Option<Sample>,
}

impl Observer {
    /// The system identifier, once a data directory was seen.
    pub(crate) fn system_id(&self) -> Option<SystemId> {
        self.system_id
    }

    /// The postmaster that the last look found.
    pub(crate) fn postmaster(&self) -> Option<u32> {
        self.postmaster
    }

    /// The connection, while the server answers.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// The last look found a server that does not answer; the next one takes seconds.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent_since.is_some()
    }

    /// Looks.
    pub(crate) async fn look(&mut self, server: &Server) -> Postgres {
        match server.dir.is_missing() {
            // Without version and control file nothing can be made of what is left.
            Ok(false) if !Note::half_copy(server).is_marked() && !server.dir.is_gutted() => {}
            Ok(_) => {
                self.forget();
                self.system_id = None;
                return Postgres::Missing;
            }
            Err(error) => {
                return Postgres::Unreadable {
                    why: error.to_string(),
                };
            }
        }
        let control = match server.dir.control() {
            Ok(control) => control,
            Err(error) => {
                return Postgres::Unreadable {
                    why: error.to_string(),
                };
            }
        };
        self.system_id = Some(control.system_id);
        let postmaster = server.dir.postmaster();
        self.postmaster = postmaster.as_ref().map(|postmaster| postmaster.pid);
        let Some(postmaster) = postmaster else {
            self.forget();
            return Postgres::Stopped(Stopped {
                system_id: control.system_id,
                state: control.state,
                timeline: control.timeline,
                checkpoint: control.checkpoint,
                standby: server.dir.is_standby(),
                damaged: Note::half_rewind(server).is_marked(),
                origins: stopped_origins(server).await,
            });
        };
        let began = now();
        if postmaster.accepts
            && let Some(sample) = self.take_sample(server).await
        {
            self.starting_since = None;
            self.silent_since = None;
            let origins = self.learn_origins(server, postmaster.pid, &sample).await;
            if sample.is_at_end {
                self.at_end = Some(postmaster.pid);
            }
            let mut running = running(control.system_id, &sample, origins);
            running.is_at_end = self.is_at_end();
            self.sample = Some(sample);
            return Postgres::Running(running);
        }
        self.sample = None;
        // After the crash of a backend postmaster.pid goes on saying that it is ready.
        if postmaster.accepts && !self.recovers {
            return Postgres::Silent {
                since: *self.silent_since.get_or_insert(began),
            };
        }
        self.silent_since = None;
        Postgres::Starting {
            since: *self.starting_since.get_or_insert(began),
        }
    }

    async fn take_sample(&mut self, server: &Server) -> Option<Sample> {
        self.recovers = false;
        let deadline = now() + SAMPLE_PATIENCE;
        let mut fresh = self.session.as_ref().is_none_or(Session::is_closed);
        let is_primary = self.sample.as_ref().is_none_or(|sample| !sample.in_recovery);
        let due = is_primary && now() >= self.connected_at + CONNECT_EVERY;
        if fresh || due || self.silent_since.is_some() {
            match server.connect(deadline).await {
                Ok(session) => {
                    self.connected_at = now();
                    self.session = Some(session);
                }
                // It answers, and says why not: out of connections, most likely. What we have may still work.
                Err(error) if error.is_answer() && !fresh => self.connected_at = now(),
                Err(error) => {
                    self.recovers = matches!(error, PgError::NotYet(_));
                    tracing::debug!(%error, "the local server does not take our connection");
                    self.session = None;
                }
            }
            fresh = true;
        }
        match Sample::take(self.session.as_ref()?, &server.dir, deadline).await {
            Ok(sample) => Some(sample),
            Err(error) => {
                tracing::debug!(%error, fresh, "the local server does not answer");
                self.session = None;
                None
            }
        }
    }

    /// Which promotions began the timelines of the running server. The newest may not have arrived: it is read until it has.
    async fn learn_origins(&mut self, server: &Server, pid: u32, sample: &Sample) -> Origins {
        let mut learnt = match self.origins.take() {
            Some(learnt) if learnt.postmaster == pid => learnt,
            _ => Learnt {
                postmaster: pid,
                read: None,
                origins: server.origins(),
            },
        };
        let timeline = sample.timeline;
        let newest_is_missing = timeline > Timeline(1) && !learnt.origins.contains_key(&timeline);
        if learnt.read != Some(timeline) || newest_is_missing {
            match learn(server, learnt.origins.clone(), move |server| {
                server.read_origins(timeline)
            })
            .await
            {
                Ok(origins) => {
                    learnt.origins = origins;
                    learnt.read = Some(timeline);
                }
                Err(error) => tracing::warn!("The origins of timelines were not read: {error:#}."),
            }
        }
        let origins = learnt.origins.clone();
        self.origins = Some(learnt);
        origins
    }

    /// Which promotions began the timelines of the data, as the last look at a running server has it.
    pub(crate) fn origins(&self) -> Origins {
        let learnt = self.origins.as_ref();
        learnt.map(|learnt| learnt.origins.clone()).unwrap_or_default()
    }

    /// Whether the position of the running server is where its WAL ends.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at_end.is_some() && self.at_end == self.postmaster
    }

    fn forget(&mut self) {
        self.postmaster = None;
        self.session = None;
        self.sample = None;
        self.starting_since = None;
        self.silent_since = None;
    }
}

/// Which promotions began the timelines of a stopped server. They are read before it starts: a receiver may write over them.
async fn stopped_origins(server: &Server) -> Origins {
    let known = server.origins();
    let learnt = learn(server, known.clone(), Server::read_all_origins).await;
    learnt.unwrap_or_else(|error| {
        tracing::warn!("The origins of timelines were not read: {error:#}.");
        known
    })
}

/// Adds what `read` finds to what is known, and keeps it. What is known was read when its WAL had just come, and stays.
async fn learn(
    server: &Server,
    known: Origins,
    read: impl FnOnce(&Server) -> Origins + Send + 'static,
) -> anyhow::Result<Origins> {
    let server = server.clone();
    blocking("reading the origins of timelines", move || {
        let mut origins = read(&server);
        origins.extend(known.clone());
        if origins != known {
            server.keep_origins(&mut origins);
        }
        origins
    })
    .await
}

fn running(system_id: SystemId, sample: &Sample, origins: Origins) -> Running {
    Running {
        system_id,
        in_recovery: sample.in_recovery,
        is_at_end: sample.is_at_end,
        timeline: sample.timeline,
        checkpoint_timeline: sample.checkpoint_timeline,
        origins,
        lsn: sample.lsn(),
        streaming: sample.is_streaming(),
        upstream: sample.upstream(),
        sync_names: sample.sync_names.clone(),
        commit_level: match sample.sync_commit.as_str() {
            "remote_apply" => CommitLevel::Apply,
            "remote_write" => CommitLevel::Write,
            _ => CommitLevel::Flush,
        },
        walsenders: sample
            .senders
            .iter()
            .map(|sender| WalSender {
                name: sender.application_name.clone(),
                streaming: sender.state == "streaming",
                priority: u32::try_from(sender.sync_priority).unwrap_or(0),
                sync: matches!(sender.sync_state.as_str(), "sync" | "quorum"),
                written: Lsn(sender.write.unwrap_or(0)),
                lsn: Lsn(sender.flush.unwrap_or(0)),
                replayed: Lsn(sender.replay.unwrap_or(0)),
            })
            .collect(),
        slots: sample
            .slots
            .iter()
            .map(|slot| Slot {
                name: slot.slot_name.clone(),
                kind: match (&slot.database, &slot.plugin) {
                    (Some(database), Some(plugin)) => SlotKind::Logical {
                        database: database.clone(),
                        plugin: plugin.clone(),
                    },
                    _ => SlotKind::Physical,
                },
                active: slot.active,
                restart_lsn: slot.restart.map(Lsn),
                confirmed_lsn: slot.confirmed.map(Lsn),
                catalog_xmin: slot.catalog_xmin,
                has_xmin: slot.has_xmin,
                lost: slot.lost,
                failover: slot.failover,
                synced: slot.synced,
            })
            .collect(),
        replayed: sample.replayed,
        syncs_slots: sample.syncs_slots,
        feedback: sample.feedback,
    }
}
