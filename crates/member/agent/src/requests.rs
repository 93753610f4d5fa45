//! Long actions that end, and requests of the API.

use std::time::Duration;

use howdah_clock::now;
use howdah_guard::{GuardError, WhyRefused};
use howdah_ha::{Action, Plan, Request};
use tokio::sync::oneshot;

use crate::{action::Failure, agent::Agent, effects::RETRY_PAUSE, outside::NotStarted, publish::ApiCommand};

/// After a refusal by the guard, which knows more of the lease a moment later.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);

impl Agent {
    pub(crate) fn action_ended(&mut self, result: Result<(), Failure>) {
        let Some(ended) = self.running.take() else { return };
        self.action_task = None;
        // It may have written.
        self.watching.disturb();
        self.stage.send_replace(None);
        tracing::debug!(action = ended.action.name(), took = ?now().since(ended.since), "action ended");
        let shutdown = matches!(ended.action, Action::Shutdown { .. });
        let name = ended.action.name();
        self.memory.retry_at.remove(name);
        let started_with = self.starting_with.take();
        let launches = ended.action.launches_postgres();
        match result {
            Ok(()) | Err(Failure::NotServing(_)) => {
                if let Some(mut with) = started_with.filter(|_| launches) {
                    // A bootstrap has stored it in between.
                    if with.0.is_none() && *with.1 == *self.dynamic {
                        with.0 = self.configuration.rev;
                    }
                    if with.0 == self.configuration.rev
                        && let Some(raw) = &self.configuration.raw
                    {
                        self.server.keep_started_configuration(raw);
                    }
                    self.configuration.worked = Some(with);
                }
                let answer = match result {
                    Err(Failure::NotServing(why)) => Err(why),
                    _ => Ok(()),
                };
                self.answer_waiting(answer, &ended.action);
                if shutdown {
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
                        WhyRefused::NotArmed | WhyRefused::TooLate | WhyRefused::Fencing
                    ))
                );
                if refused {
                    // No fault of PostgreSQL's: the guard hears of the lease at once, and is asked again.
                    self.verify_lease = true;
                    self.memory.retry_at.insert(name, now() + REFUSED_PAUSE);
                } else if launches && not_started && self.fall_back(rev, &format!("{error:#}")) {
                    // With another configuration it is another try, made at once.
                } else {
                    self.memory.start_failed |= starts;
                    self.memory.retry_at.insert(name, now() + RETRY_PAUSE);
                }
                self.answer_waiting(Err(format!("{error:#}")), &ended.action);
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

    pub(crate) fn answer_waiting(&mut self, result: Result<(), String>, action: &Action) {
        let fits = match &self.request {
            Some((Request::Restart, _)) => action.starts_postgres(),
            Some((Request::Reinitialize { .. }, _)) => matches!(action, Action::Reinitialize { .. }),
            Some((Request::Shutdown, _)) | None => false,
        };
        if fits && let Some((_, Some(answer))) = self.request.take() {
            let _ = answer.send(result);
        }
    }

    /// A request that the decision has refused, or begun, is answered and forgotten.
    pub(crate) fn answer_request(&mut self, plan: &Plan) {
        use howdah_ha::{Effect, Reason};
        let refused = plan.reasons.iter().find_map(|reason| match reason {
            Reason::RequestRefused { why } => Some(*why),
            _ => None,
        });
        if let Some(why) = refused
            && let Some((_, Some(answer))) = self.request.take()
        {
            let _ = answer.send(Err(why.to_owned()));
        }
        let begun = plan
            .effects
            .iter()
            .any(|e| matches!(e, Effect::Begin(Action::Reinitialize { .. })));
        if begun
            && let Some((Request::Reinitialize { .. }, answer)) = self.request.take()
            && let Some(answer) = answer
        {
            let _ = answer.send(Ok(()));
        }
    }

    pub(crate) async fn api_command(&mut self, command: ApiCommand) {
        match command {
            ApiCommand::Restart(answer) => self.ask(Request::Restart, answer),
            ApiCommand::Schedule(restart, noted) => {
                let _ = noted.send(self.schedule(restart));
            }
            ApiCommand::Flush(forgotten) => {
                let _ = forgotten.send(self.scheduled.take().is_some());
            }
            ApiCommand::Reinitialize {
                from_leader,
                force,
                done,
            } => {
                if force {
                    self.drop_action();
                }
                self.memory.retry_at.clear();
                self.ask(Request::Reinitialize { from_leader }, done);
            }
            ApiCommand::Reload => self.reload().await,
            ApiCommand::Refresh(done) => {
                // A look at a server that does not answer takes seconds, and shows what is known.
                if !self.observer.is_silent() {
                    let postgres = self.observer.look(&self.server).await;
                    let view = self.last_view.clone();
                    let snapshot = self.snapshot(view.as_deref(), postgres);
                    self.publish(view.as_deref(), &snapshot);
                }
                let _ = done.send(());
            }
        }
    }

    pub(crate) fn ask(&mut self, request: Request, answer: oneshot::Sender<Result<(), String>>) {
        if let Some(running) = &self.running {
            let _ = answer.send(Err(format!("{} already in progress", running.action.name())));
        } else if self.request.is_some() {
            let _ = answer.send(Err("another request is waiting".to_owned()));
        } else {
            self.request = Some((request, Some(answer)));
            self.due = true;
        }
    }

    /// Ends the action that runs, where it stands.
    pub(crate) fn drop_action(&mut self) {
        if let Some(task) = self.action_task.take() {
            task.abort();
        }
        self.running = None;
        self.stage.send_replace(None);
    }
}
