use howdah_ha::{Action, Effect, Plan, Reason, Request};
use tokio::sync::oneshot;

/// Where a caller waits for the outcome of a request.
pub(crate) type Answer = oneshot::Sender<Result<(), String>>;

/// The request to this member that is not answered yet: one at a time.
#[derive(Default)]
pub(crate) struct Asked {
    waiting: Option<(Request, Option<Answer>)>,
    /// Who is told the outcome once what the API shows has it too.
    outcome: Option<(Answer, Result<(), String>)>,
}

impl Asked {
    pub(crate) fn current(&self) -> Option<&Request> {
        self.waiting.as_ref().map(|(request, _)| request)
    }

    /// Takes a request that a caller waits for; refused while another one waits.
    pub(crate) fn take(&mut self, request: Request, answer: Answer) -> bool {
        if self.waiting.is_some() {
            let _ = answer.send(Err("another request is waiting".to_owned()));
            return false;
        }
        self.waiting = Some((request, Some(answer)));
        true
    }

    /// A request of the agent's own, in the place of what waits, which is answered with `why`.
    pub(crate) fn replace(&mut self, request: Request, why: &str) {
        self.published();
        self.end(Err(why.to_owned()));
        self.waiting = Some((request, None));
    }

    fn end(&mut self, result: Result<(), String>) {
        if let Some((_, Some(answer))) = self.waiting.take() {
            let _ = answer.send(result);
        }
    }

    /// What the API shows is of after the last action: whoever waited for that one is told.
    pub(crate) fn published(&mut self) {
        if let Some((answer, result)) = self.outcome.take() {
            let _ = answer.send(result);
        }
    }

    /// A request that the decision has refused is answered; one for a copy is, when the copy has begun.
    pub(crate) fn decided(&mut self, plan: &Plan) {
        let refused = plan.reasons.iter().find_map(|reason| match reason {
            Reason::RequestRefused { why } => Some(*why),
            _ => None,
        });
        if let Some(why) = refused {
            self.end(Err(why.to_owned()));
        }
        let copies = |effect: &Effect| matches!(effect, Effect::Begin(Action::Reinitialize { .. }));
        if matches!(self.current(), Some(Request::Reinitialize { .. })) && plan.effects.iter().any(copies) {
            self.end(Ok(()));
        }
    }

    /// An action has ended: the request that it has served is answered with the next [`Asked::published`]. Before, health checks
    /// would still see the server that was restarted.
    pub(crate) fn served(&mut self, action: &Action, result: Result<(), String>) {
        let fits = match self.current() {
            Some(Request::Restart) => action.starts_postgres(),
            Some(Request::Reinitialize { .. }) => matches!(action, Action::Reinitialize { .. }),
            Some(Request::Shutdown) | None => false,
        };
        if fits && let Some((_, Some(answer))) = self.waiting.take() {
            self.outcome = Some((answer, result));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn asked(request: Request) -> (Asked, oneshot::Receiver<Result<(), String>>) {
        let (answer, answered) = oneshot::channel();
        let mut asked = Asked::default();
        assert!(asked.take(request, answer));
        (asked, answered)
    }

    #[test]
    fn a_second_request_is_refused_and_the_first_goes_on() {
        let (mut first, mut answered) = asked(Request::Restart);
        let (answer, mut refused) = oneshot::channel();
        assert!(!first.take(Request::Restart, answer));
        assert!(refused.try_recv().unwrap().is_err());
        assert!(answered.try_recv().is_err());
        first.served(&Action::StartReplica { follow: None }, Ok(()));
        assert!(answered.try_recv().is_err(), "not before it can be seen");
        first.published();
        assert_eq!(answered.try_recv().unwrap(), Ok(()));
    }

    #[test]
    fn the_end_of_another_action_is_no_answer() {
        let (mut asked, mut answered) = asked(Request::Restart);
        asked.served(&Action::Checkpoint, Ok(()));
        assert!(answered.try_recv().is_err() && asked.current().is_some());
    }

    #[test]
    fn a_shutdown_answers_who_waits() {
        let (mut asked, mut answered) = asked(Request::Restart);
        asked.replace(Request::Shutdown, "the agent is ending");
        assert_eq!(
            answered.try_recv().unwrap(),
            Err("the agent is ending".to_owned())
        );
        assert_eq!(asked.current(), Some(&Request::Shutdown));
    }
}
