//! A restart of PostgreSQL at a given time.

use howdah_dcs::View;
use howdah_ha::Request;
use howdah_member_api::{Due, ScheduledRestart};

use crate::{agent::Agent, schedule::Schedule};

impl Agent {
    /// Takes over what an earlier life of this agent has noted in the record of this member.
    pub(crate) fn recall_schedule(&mut self, view: &View) {
        if matches!(self.schedule, Schedule::Unread) {
            let record = view.members.get(&self.settings.local.name);
            self.schedule = Schedule::Known(
                record
                    .and_then(|member| member.scheduled_restart.as_ref())
                    .and_then(ScheduledRestart::from_record),
            );
        }
    }

    /// Notes a restart; false if another one waits already.
    pub(crate) fn schedule(&mut self, restart: ScheduledRestart) -> bool {
        if self.schedule.restart().is_some() {
            return false;
        }
        tracing::info!(plan = %restart.document(), "A restart is scheduled.");
        self.schedule = Schedule::Known(Some(restart));
        true
    }

    /// Asks for the restart when its time has come. Maintenance mode holds it back.
    pub(crate) fn ask_for_scheduled_restart(&mut self) {
        let paused = self.settings.dynamic.pause;
        let Some(plan) = self.schedule.restart().filter(|_| !paused) else {
            return;
        };
        let started = self.observer.sample.as_ref().map(|sample| &*sample.started_at);
        let loop_wait = self.settings.dynamic.timers.loop_wait;
        let due = plan.due(jiff::Timestamp::now(), loop_wait, started);
        let facts = self.voice.published.facts();
        let unmet = facts.and_then(|facts| plan.request().unmet(&facts));
        let busy = self.work.running().is_some() || self.asked.current().is_some();
        match (due, unmet) {
            (Due::Later, _) => return,
            (Due::Missed, _) => tracing::warn!("The scheduled restart is too old: it is dropped."),
            (Due::Void, _) => {
                tracing::info!("PostgreSQL was restarted since a restart was scheduled: it is dropped.");
            }
            (Due::Now, Some(why)) => tracing::info!("The scheduled restart is dropped: {why}."),
            (Due::Now, None) if busy => return,
            (Due::Now, None) => {
                tracing::info!("The time of the scheduled restart has come.");
                self.asked
                    .replace(Request::Restart, "a scheduled restart has come first");
            }
        }
        self.schedule.forget();
    }
}
