//! What the agent says of itself: its record in the store, the state that the REST API shows, and the log.

use howdah_clock::now;
use howdah_dcs::{KeyOp, Outcome, View};
use howdah_ha::{Action, LeaseState, Postgres, Snapshot};
use howdah_member_api::{MemberFacts, Position, ScheduledRestart};
use howdah_pgconf::DbState;
use howdah_types::{BootTime, PgState, Role, Tags};

use crate::{
    agent::Agent,
    callbacks::Look,
    member::{self},
    patience::READ_PATIENCE,
    publish::replication_row,
};

impl Agent {
    /// Our tags, and `nofailover` while we must not lead.
    pub(crate) fn tags(&self) -> Tags {
        self.settings.local.tags.clone()
    }

    /// What others see of them: no member need wait for one that could not serve as leader a moment ago.
    fn shown_tags(&self) -> Tags {
        let unfit = self.plan.memory.unfit_until.is_some_and(|until| now() < until);
        with_nofailover(&self.tags(), unfit)
    }

    /// Writes our record, when it is due.
    pub(crate) async fn write_record(&mut self, view: Option<&View>, snapshot: Option<&Snapshot>) {
        let (Some(view), Some(lease)) = (view, self.keeper.status().lease) else {
            return;
        };
        if !view.members.contains_key(&self.settings.local.name) {
            self.voice.publisher.forget();
        }
        let (state, role) = self.state_and_role(snapshot);
        let record = member::record(
            &self.settings.local,
            &self.shown_tags(),
            &member::Now {
                state,
                role,
                sample: self.observer.sample.as_ref(),
                pending_restart: &self.pending.parameters,
                scheduled_restart: self.schedule.restart().map(ScheduledRestart::record),
                pause: self.settings.dynamic.pause,
                leads: view.led_by(lease),
                config: self.settings.rev.filter(|_| !self.pending.check),
                unstartable: self.settings.unstartable.as_ref().map(|(rev, _)| *rev),
                notes: self
                    .left_out()
                    .into_iter()
                    .chain(self.shared_slot(view))
                    .collect(),
                origins: self.observer.origins(),
                settled: self.keeper.status().settled,
                granted: self.keeper.status().granted,
                archive: self
                    .voice
                    .published
                    .archive
                    .last()
                    .map(|report| member::archive_mark(&report)),
            },
        );
        if !self
            .voice
            .publisher
            .due(&record, lease, now(), self.settings.dynamic.timers.loop_wait)
        {
            return;
        }
        let op = KeyOp::PutMember {
            me: self.settings.local.name.clone(),
            lease,
            record: record.to_json(),
        };
        match self.cluster.store.write(&op, now() + READ_PATIENCE).await {
            Outcome::Done(_) => self.voice.publisher.written(record, lease, now()),
            other => {
                self.voice.publisher.forget();
                // Where the lease has a connection of its own, the record goes by it: the keeper makes another one.
                self.verify_lease |= matches!(other, Outcome::Failed(_));
                tracing::debug!(?other, "our record was not written");
            }
        }
    }

    /// Another member whose name makes the same replication slot: only one of the two can stream through it.
    fn shared_slot(&self, view: &View) -> Option<String> {
        let (me, slot) = (&self.settings.local.name, self.settings.local.name.slot_name());
        let other = view
            .members
            .keys()
            .find(|name| *name != me && name.slot_name() == slot)?;
        Some(format!(
            "members {me} and {other} have the same replication slot '{slot}': one of them cannot stream, give it another name"
        ))
    }

    /// What of the dynamic configuration is not taken.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let programs = &self.server.programs;
        let unknown = self
            .settings
            .dynamic
            .parameters
            .keys()
            .filter(|name| !programs.knows(name));
        let major = programs.version.major();
        let told =
            unknown.map(|name| format!("parameter {name} is not known to PostgreSQL {major} and left out"));
        let files = self.pending.file_errors.iter().cloned();
        self.settings
            .notes()
            .into_iter()
            .chain(self.settings.dynamic.warnings.iter().cloned())
            .chain(told)
            .chain(files)
            .collect()
    }

    /// What we say of ourselves.
    pub(crate) fn state_and_role(&self, snapshot: Option<&Snapshot>) -> (PgState, Role) {
        let (state, role) = self.seen_state_and_role(snapshot);
        let idle = matches!(
            state,
            PgState::Stopped | PgState::Crashed | PgState::Starting | PgState::Restarting
        );
        if idle && self.plan.memory.start_failed && role != Role::Uninitialized {
            // Also while it is tried once more: no member should wait for it.
            return (PgState::StartFailed, role);
        }
        (state, role)
    }

    fn seen_state_and_role(&self, snapshot: Option<&Snapshot>) -> (PgState, Role) {
        let leads = snapshot.is_some_and(|s| s.lease.held(s.now).is_some());
        let seen = match snapshot.map(|s| &s.postgres) {
            Some(Postgres::Running(running)) => {
                let role = if running.in_recovery && leads && self.settings.dynamic.standby.is_some() {
                    Role::StandbyLeader
                } else if running.in_recovery {
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
            // It was running and does not answer: no caller should count on it.
            Some(Postgres::Silent { .. }) => (
                PgState::Unknown,
                if leads { Role::Primary } else { Role::Replica },
            ),
            // No member should wait for what cannot be started.
            Some(Postgres::Unreadable { .. }) if self.plan.memory.data_is_lost(now()) => {
                (PgState::StartFailed, Role::Demoted)
            }
            Some(Postgres::Unreadable { .. }) => (PgState::Unknown, Role::Demoted),
            Some(Postgres::Missing) | None => (PgState::Stopped, Role::Uninitialized),
        };
        let staged = *self.work.stage.borrow();
        match (self.work.running(), staged) {
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

    pub(crate) fn publish(&mut self, view: Option<&View>, snapshot: &Snapshot) {
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
        let me = self.settings.local.name.as_str();
        let quorum = self.settings.dynamic.synchronous_quorum;
        let sync = self
            .cluster
            .view
            .as_ref()
            .and_then(|view| view.sync.value.as_ref());
        let is_standby = sync.is_some_and(|sync| sync.is_standby(me));
        self.voice.published.publish(MemberFacts {
            name: self.settings.local.name.clone(),
            scope: self.settings.local.scope.clone(),
            role,
            state,
            leads_until: match snapshot.lease {
                LeaseState::Held { deadline, .. } if self.is_primary_or_paused(snapshot) => deadline,
                _ => BootTime(0),
            },
            tags: self.shown_tags(),
            position,
            postmaster_start_time: sample.map(|sample| sample.started_at.clone()),
            postmaster_start_epoch: sample.map_or(0.0, |sample| sample.started_epoch),
            server_version: sample.map(|sample| sample.version),
            replication_state: sample.and_then(|sample| sample.replication_state),
            replication: sample
                .map(|s| s.senders.iter().map(replication_row).collect())
                .unwrap_or_default(),
            system_id: self.observer.system_id().map(|id| id.to_string()),
            sync_standby: is_standby && !quorum,
            quorum_standby: is_standby && quorum,
            attached: sample.is_some_and(|sample| {
                sample.in_recovery && (sample.upstream().is_some() || sample.receiver.is_some())
            }),
            replaying: sample.is_some() && !self.observer.is_at_end(),
            watchdog_failed: self.watchdog_failed(),
            standby_cluster: self.settings.dynamic.standby.is_some(),
            pause: self.settings.dynamic.pause,
            cluster_unlocked: view.is_some_and(|view| view.leader.is_none()) && snapshot.promise.is_none(),
            failsafe_mode: self.settings.dynamic.failsafe_mode,
            failsafe_is_active: snapshot.failsafe.leads || snapshot.promise.is_some(),
            dcs_last_seen: self.cluster.seen_at,
            has_view: self.cluster.is_known(self.settings.dynamic.timers.ttl),
            leader_lsn: self.cluster.view.as_ref().and_then(|view| view.status.optime),
            pending_restart: self.pending.parameters.clone(),
            scheduled_restart: self.schedule.restart().map(ScheduledRestart::document),
            next_run: self.plan.next_wake.max(now()),
            ttl_nanos: u64::try_from(self.settings.dynamic.timers.ttl.as_nanos()).unwrap_or(u64::MAX),
            lag_limit: self.settings.dynamic.maximum_lag_on_failover,
            archive: self.voice.published.archive.last(),
            log_lost: (self.voice.log_lost)(),
            reasons: self
                .plan
                .reasons
                .iter()
                .filter_map(|reason| serde_json::to_value(reason).ok())
                .collect(),
        });
        self.tell_callbacks(role, snapshot);
    }

    fn tell_callbacks(&mut self, role: Role, snapshot: &Snapshot) {
        let action = self.work.running().map(|running| &running.action);
        if matches!(action, Some(Action::Bootstrap)) {
            return;
        }
        let look = match &snapshot.postgres {
            Postgres::Running(_) => match &self.observer.sample {
                Some(sample) => Look::Serves {
                    role,
                    started: &sample.started_at,
                    idle: action.is_none(),
                },
                None => return,
            },
            Postgres::Stopped(stopped) => Look::Ended {
                fenced: !stopped.standby && snapshot.lease.held(snapshot.now).is_none(),
            },
            Postgres::Missing => Look::Ended { fenced: false },
            Postgres::Starting { .. } | Postgres::Silent { .. } | Postgres::Unreadable { .. } => return,
        };
        let hooks = &self.settings.dynamic.hooks;
        self.voice.callbacks.look(look, hooks, &self.settings.local.scope);
    }

    /// `/primary` must be met only where writes are accepted: not between winning the lease and the promotion.
    pub(crate) fn is_primary_or_paused(&self, snapshot: &Snapshot) -> bool {
        match &snapshot.postgres {
            Postgres::Running(running) => !running.in_recovery || self.settings.dynamic.standby.is_some(),
            _ => false,
        }
    }
}

fn with_nofailover(tags: &Tags, add: bool) -> Tags {
    if !add {
        return tags.clone();
    }
    let mut tags = tags.published();
    tags.insert("nofailover".to_owned(), true.into());
    Tags::new(tags)
}
