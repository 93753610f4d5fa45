//! A restart of PostgreSQL that somebody asked for at a later time.

use howdah_dcs::View;
use howdah_ha::Request;
use howdah_member_api::{Due, ScheduledRestart};

use crate::agent::Agent;

impl Agent {
    /// What an earlier life of this agent has noted in our record.
    pub(crate) fn recall_schedule(&mut self, view: &View) {
        if self.recalled {
            return;
        }
        self.recalled = true;
        let record = view.members.get(&self.config.name);
        self.scheduled = record
            .and_then(|member| member.scheduled_restart.as_ref())
            .and_then(ScheduledRestart::from_record);
    }

    /// Notes a restart; false if another one waits already.
    pub(crate) fn schedule(&mut self, restart: ScheduledRestart) -> bool {
        if self.scheduled.is_some() {
            return false;
        }
        tracing::info!(plan = %restart.document(), "A restart is scheduled.");
        self.scheduled = Some(restart);
        true
    }

    /// Asks for the restart when its time has come. Maintenance mode holds it back.
    pub(crate) fn mind_schedule(&mut self) {
        let Some(plan) = self.scheduled.as_ref().filter(|_| !self.dynamic.pause) else {
            return;
        };
        let started = self.observer.sample.as_ref().map(|sample| &*sample.started_at);
        let due = plan.due(jiff::Timestamp::now(), self.dynamic.timers.loop_wait, started);
        let unmet = self
            .published
            .facts()
            .and_then(|facts| plan.request().unmet(&facts));
        match (due, unmet) {
            (Due::Later, _) => return,
            (Due::Missed, _) => tracing::warn!("The scheduled restart is too old: it is dropped."),
            (Due::Void, _) => {
                tracing::info!("PostgreSQL was restarted since a restart was scheduled: it is dropped.");
            }
            (Due::Now, Some(why)) => tracing::info!("The scheduled restart is dropped: {why}."),
            (Due::Now, None) if self.running.is_some() || self.request.is_some() => return,
            (Due::Now, None) => {
                tracing::info!("The time of the scheduled restart has come.");
                self.request = Some((Request::Restart, None));
            }
        }
        self.scheduled = None;
    }
}
