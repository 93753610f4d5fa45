//! Long actions that end, and requests of the API.

use std::time::Duration;

use howdah_clock::now;
use howdah_guard::{GuardError, WhyRefused};
use howdah_ha::{Action, Copied, Request};

use crate::{
    action::Failure, agent::Agent, callbacks::Look, effects::RETRY_PAUSE, outside::NotStarted,
    publish::ApiCommand, request::Answer, work::Ended,
};

/// After a refusal by the guard, which knows more of the lease a moment later.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);

impl Agent {
    pub(crate) fn action_ended(&mut self, ended: Ended) {
        let Ended {
            running: ended,
            starting_with: started_with,
            result,
        } = ended;
        // It may have written.
        self.cluster.watching.disturb();
        tracing::debug!(action = ended.action.name(), took = ?now().since(ended.since), "action ended");
        let shutdown = matches!(ended.action, Action::Shutdown { .. });
        let name = ended.action.name();
        self.plan.memory.retry_at.remove(name);
        let launches = ended.action.launches_postgres();
        match result {
            Ok(()) | Err(Failure::NotServing(_)) => {
                if let Some(mut with) = started_with.filter(|_| launches) {
                    // A bootstrap has stored it in between.
                    if with.0.is_none() && *with.1 == *self.settings.dynamic {
                        with.0 = self.settings.rev;
                    }
                    if with.0 == self.settings.rev
                        && let Some(raw) = &self.settings.raw
                    {
                        self.server.keep_started_configuration(raw);
                    }
                    self.settings.worked = Some(with);
                }
                let answer = match result {
                    Err(Failure::NotServing(why)) => Err(why),
                    _ => Ok(()),
                };
                self.asked.served(&ended.action, answer);
                if let Action::CopySlots { names, .. } = &ended.action {
                    let copies = &mut self.plan.memory.slot_copies;
                    for name in names {
                        let copied = Copied::another(copies.get(name), now());
                        copies.insert(name.clone(), copied);
                    }
                }
                if shutdown {
                    let ended = Look::Ended { fenced: false };
                    let hooks = &self.settings.dynamic.hooks;
                    self.voice
                        .callbacks
                        .look(ended, hooks, &self.settings.local.scope);
                    self.end(0);
                }
            }
            Err(Failure::Retry(error)) => {
                let rev = started_with.as_ref().and_then(|(rev, _)| *rev);
                // What failed before that, such as a connection to the leader, says nothing of our PostgreSQL.
                let not_started = error.downcast_ref::<NotStarted>().is_some();
                let starts = ended.action.starts_postgres() && (!launches || not_started);
                let refused = matches!(
                    error.downcast_ref(),
                    Some(GuardError::Refused(
                        WhyRefused::NotArmed
                            | WhyRefused::TooLate
                            | WhyRefused::Fencing
                            | WhyRefused::NoWatchdog
                    ))
                );
                if refused {
                    // No fault of PostgreSQL's: the guard hears of the lease at once, and is asked again.
                    self.verify_lease = true;
                    self.plan.memory.retry_at.insert(name, now() + REFUSED_PAUSE);
                } else if launches && not_started && self.fall_back(rev, &format!("{error:#}")) {
                    // With another configuration it is another try, made at once.
                } else {
                    self.plan.memory.start_failed |= starts;
                    self.plan.memory.retry_at.insert(name, now() + RETRY_PAUSE);
                }
                self.asked.served(&ended.action, Err(format!("{error:#}")));
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

    pub(crate) async fn api_command(&mut self, command: ApiCommand) {
        match command {
            ApiCommand::Restart(answer) => self.ask(Request::Restart, answer),
            ApiCommand::Schedule(restart, noted) => {
                let _ = noted.send(self.schedule(restart));
            }
            ApiCommand::Flush(forgotten) => {
                let _ = forgotten.send(self.schedule.forget());
            }
            ApiCommand::Reinitialize {
                from_leader,
                force,
                done,
            } => {
                if force {
                    self.work.abandon();
                }
                self.plan.memory.retry_at.clear();
                self.ask(Request::Reinitialize { from_leader }, done);
            }
            ApiCommand::Reload => self.reload().await,
            ApiCommand::Refresh(done) => {
                // A look at a server that does not answer takes seconds, and shows what is known.
                if !self.observer.is_silent() {
                    let postgres = self.observer.look(&self.server).await;
                    let view = self.cluster.view.clone();
                    let snapshot = self.snapshot(view.as_ref(), postgres);
                    self.publish(view.as_deref(), &snapshot);
                }
                let _ = done.send(());
            }
        }
    }

    pub(crate) fn ask(&mut self, request: Request, answer: Answer) {
        if let Some(running) = self.work.running() {
            let _ = answer.send(Err(format!("{} already in progress", running.action.name())));
        } else {
            self.due |= self.asked.take(request, answer);
        }
    }
}
