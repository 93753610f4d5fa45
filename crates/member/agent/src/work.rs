use std::{future::Future, sync::Arc};

use howdah_clock::now;
use howdah_config::Dynamic;
use howdah_ha::{Action, RunningAction};
use howdah_types::{PgState, Role};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::action::Failure;

/// A configuration that PostgreSQL is started with, and its revision in the store.
pub(crate) type StartedWith = (Option<u64>, Arc<Dynamic>);

/// The long action under way: one at most.
pub(crate) struct Work {
    task: Option<Task>,
    /// Numbers the tasks, so that a result belongs to the task that has sent it.
    last: u64,
    done: mpsc::Sender<(u64, Result<(), Failure>)>,
    results: mpsc::Receiver<(u64, Result<(), Failure>)>,
    /// What the action says of the server while the server itself does not answer.
    pub(crate) stage: watch::Sender<Option<(PgState, Role)>>,
}

struct Task {
    number: u64,
    running: RunningAction,
    starting_with: Option<StartedWith>,
    handle: JoinHandle<()>,
}

/// An action that has ended by itself.
pub(crate) struct Ended {
    pub(crate) running: RunningAction,
    /// The configuration that PostgreSQL was to start with, of actions that start it.
    pub(crate) starting_with: Option<StartedWith>,
    pub(crate) result: Result<(), Failure>,
}

impl Default for Work {
    fn default() -> Self {
        let (done, results) = mpsc::channel(2);
        Work {
            task: None,
            last: 0,
            done,
            results,
            stage: watch::channel(None).0,
        }
    }
}

impl Work {
    pub(crate) fn running(&self) -> Option<&RunningAction> {
        self.task.as_ref().map(|task| &task.running)
    }

    /// Begins an action; one that runs is ended where it stands. `then` is called when its result can be taken.
    pub(crate) fn begin(
        &mut self,
        action: Action,
        starting_with: Option<StartedWith>,
        work: impl Future<Output = Result<(), Failure>> + Send + 'static,
        then: impl FnOnce() + Send + 'static,
    ) {
        self.abandon();
        self.last += 1;
        let (number, done) = (self.last, self.done.clone());
        self.task = Some(Task {
            number,
            running: RunningAction { action, since: now() },
            starting_with,
            handle: tokio::spawn(async move {
                let result = work.await;
                let _ = done.send((number, result)).await;
                then();
            }),
        });
    }

    /// Ends the action that runs, where it stands.
    pub(crate) fn abandon(&mut self) {
        if let Some(task) = self.task.take() {
            task.handle.abort();
        }
        self.stage.send_replace(None);
    }

    /// Waits for the action under way to end.
    pub(crate) async fn ended(&mut self) -> Ended {
        loop {
            // The sender is ours: the channel does not close.
            if let Some(ended) = self.results.recv().await.and_then(|result| self.end(result)) {
                return ended;
            }
        }
    }

    /// The action that has ended already, if any.
    pub(crate) fn ended_already(&mut self) -> Option<Ended> {
        while let Ok(result) = self.results.try_recv() {
            if let Some(ended) = self.end(result) {
                return Some(ended);
            }
        }
        None
    }

    /// A result of an abandoned action counts for nothing.
    fn end(&mut self, (number, result): (u64, Result<(), Failure>)) -> Option<Ended> {
        let task = self.task.take_if(|task| task.number == number)?;
        self.stage.send_replace(None);
        Some(Ended {
            running: task.running,
            starting_with: task.starting_with,
            result,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[tokio::test]
    async fn a_result_belongs_to_the_action_that_has_sent_it() {
        let mut work = Work::default();
        work.begin(Action::Checkpoint, None, async { Ok(()) }, || ());
        // Its result is there, and was not looked at.
        while work.results.is_empty() {
            tokio::task::yield_now().await;
        }
        work.begin(Action::GiveUp, None, std::future::pending(), || ());
        assert!(work.ended_already().is_none());
        assert_eq!(work.running().unwrap().action, Action::GiveUp);
    }

    #[tokio::test]
    async fn an_abandoned_action_is_neither_running_nor_staged() {
        let mut work = Work::default();
        work.begin(Action::Checkpoint, None, std::future::pending(), || ());
        work.stage.send_replace(Some((PgState::Stopping, Role::Primary)));
        work.abandon();
        assert!(work.running().is_none() && work.stage.borrow().is_none());
    }
}
