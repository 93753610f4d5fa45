//! What our PostgreSQL looks like, in the form that decisions take.

use std::time::Duration;

use howdah_clock::now;
use howdah_ha::{Postgres, Running, Slot, Stopped, WalSender};
use howdah_postgres::{Sample, Server, Session};
use howdah_types::{BootTime, Lsn, SystemId};

use crate::action::Incomplete;

/// A query for a sample that takes longer counts as "does not answer".
const SAMPLE_PATIENCE: Duration = Duration::from_secs(3);

/// Looks at the local PostgreSQL; keeps one connection and what the last look saw.
#[derive(Default)]
pub(crate) struct Observer {
    session: Option<Session>,
    starting_since: Option<BootTime>,
    system_id: Option<SystemId>,
    /// The last sample of a server that answers.
    pub(crate) sample: Option<Sample>,
    /// A directory that cannot be read is not a missing one.
    pub(crate) unreadable: Option<String>,
}

impl Observer {
    /// The system identifier, once a data directory was seen.
    pub(crate) fn system_id(&self) -> Option<SystemId> {
        self.system_id
    }

    /// The connection, while the server answers.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Looks.
    pub(crate) async fn look(&mut self, server: &Server) -> Postgres {
        self.unreadable = None;
        match server.dir.is_missing() {
            Ok(false) if !Incomplete::of(server).is_marked() => {}
            Ok(_) => {
                self.forget();
                self.system_id = None;
                return Postgres::Missing;
            }
            Err(error) => {
                self.unreadable = Some(error.to_string());
                return Postgres::Unreadable;
            }
        }
        let control = match server.dir.control() {
            Ok(control) => control,
            Err(error) => {
                self.unreadable = Some(error.to_string());
                return Postgres::Unreadable;
            }
        };
        self.system_id = Some(control.system_id);
        let Some(postmaster) = server.dir.postmaster() else {
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
        if postmaster.accepts
            && let Some(sample) = self.take_sample(server).await
        {
            self.starting_since = None;
            let running = running(control.system_id, &sample);
            self.sample = Some(sample);
            return Postgres::Running(running);
        }
        self.sample = None;
        Postgres::Starting {
            since: *self.starting_since.get_or_insert_with(now),
        }
    }

    async fn take_sample(&mut self, server: &Server) -> Option<Sample> {
        let deadline = now() + SAMPLE_PATIENCE;
        if self.session.as_ref().is_none_or(Session::is_closed) {
            self.session = match server.connect(deadline).await {
                Ok(session) => Some(session),
                Err(error) => {
                    tracing::debug!(%error, "the local server does not take our connection");
                    None
                }
            };
        }
        match Sample::take(self.session.as_ref()?, deadline).await {
            Ok(sample) => Some(sample),
            Err(error) => {
                tracing::debug!(%error, "the local server does not answer");
                self.session = None;
                None
            }
        }
    }

    fn forget(&mut self) {
        self.session = None;
        self.sample = None;
        self.starting_since = None;
    }
}

fn running(system_id: SystemId, sample: &Sample) -> Running {
    Running {
        system_id,
        in_recovery: sample.in_recovery,
        timeline: sample.timeline,
        checkpoint_timeline: sample.checkpoint_timeline,
        lsn: sample.lsn(),
        streaming: sample.is_streaming(),
        upstream: sample.upstream(),
        sync_names: sample.sync_names.clone(),
        walsenders: sample
            .senders
            .iter()
            .map(|sender| WalSender {
                name: sender.application_name.clone(),
                streaming: sender.state == "streaming",
                sync: matches!(sender.sync_state.as_str(), "sync" | "quorum"),
                lsn: Lsn(sender.flush.unwrap_or(0)),
            })
            .collect(),
        slots: sample
            .slots
            .iter()
            .map(|slot| Slot {
                name: slot.slot_name.clone(),
                active: slot.active,
                restart_lsn: slot.restart.map(Lsn),
            })
            .collect(),
    }
}
