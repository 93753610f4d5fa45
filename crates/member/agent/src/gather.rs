//! What our PostgreSQL looks like, in the form that decisions take.

use std::time::Duration;

use howdah_clock::now;
use howdah_ha::{CommitLevel, Postgres, Running, Slot, Stopped, WalSender};
use howdah_postgres::{PgError, Sample, Server, Session};
use howdah_types::{BootTime, Lsn, Origins, SystemId};

use crate::{action::Incomplete, blocking::blocking};

/// The newest timelines are told apart by their origins; older ones matter no more.
const ORIGINS: usize = 8;

/// A query for a sample that takes longer counts as "does not answer".
const SAMPLE_PATIENCE: Duration = Duration::from_secs(3);

/// How often a new connection is tried beside the one that we have: a postmaster that hangs lets old sessions work.
const CONNECT_EVERY: Duration = Duration::from_secs(10);

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
    /// Which promotions began the timelines of the data, as this postmaster has it.
    origins: Option<(u32, Origins)>,
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
            Ok(false) if !Incomplete::of(server).is_marked() && !server.dir.is_gutted() => {}
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
                damaged: Incomplete::rewind_of(server).is_marked(),
            });
        };
        let began = now();
        if postmaster.accepts
            && let Some(sample) = self.take_sample(server).await
        {
            self.starting_since = None;
            self.silent_since = None;
            let origins = self.learn_origins(server, postmaster.pid, &sample).await;
            let running = running(control.system_id, &sample, origins);
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

    /// Which promotions began the timelines of the running server. A server that was started again may have other data.
    async fn learn_origins(&mut self, server: &Server, pid: u32, sample: &Sample) -> Origins {
        let mut origins = match self.origins.take() {
            Some((known, origins)) if known == pid => origins,
            _ => server.origins(),
        };
        if !origins.contains_key(&sample.timeline)
            && let Some(origin) = server.origin_of(sample.timeline, sample.lsn())
        {
            origins.insert(sample.timeline, origin);
            while origins.len() > ORIGINS {
                origins.pop_first();
            }
            let (server, kept) = (server.clone(), origins.clone());
            if let Err(error) = blocking("keeping origins", move || server.keep_origins(&kept)).await {
                tracing::warn!("The origins of timelines were not kept: {error:#}.");
            }
        }
        self.origins = Some((pid, origins.clone()));
        origins
    }

    /// Which promotions began the timelines of the data, as the last look at a running server has it.
    pub(crate) fn origins(&self) -> Origins {
        self.origins
            .as_ref()
            .map(|(_, origins)| origins.clone())
            .unwrap_or_default()
    }

    fn forget(&mut self) {
        self.postmaster = None;
        self.session = None;
        self.sample = None;
        self.starting_since = None;
        self.silent_since = None;
    }
}

fn running(system_id: SystemId, sample: &Sample, origins: Origins) -> Running {
    Running {
        system_id,
        in_recovery: sample.in_recovery,
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
                confirms: sender.sync_priority > 0,
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
                active: slot.active,
                restart_lsn: slot.restart.map(Lsn),
                logical: slot.logical,
            })
            .collect(),
    }
}
