use std::{sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_dcs::{LeaseId, Op, Outcome, Store};
use howdah_guard::{Arm, GuardClient, Request};
use howdah_ha::{Command, GuardCall, Keeper, KeeperInput, KeeperOutput, LeaseState};
use howdah_http::sleep_until;
use howdah_types::BootTime;
use tokio::sync::{mpsc, watch};

use crate::guard_link::GuardLink;

/// Commands that wait; the loop gives a handful in a decision.
const COMMANDS: usize = 16;

/// How often the guard hears that the agent lives.
const ALIVE: Duration = Duration::from_secs(1);

/// The guard says at once whether PostgreSQL may still write, or is frozen.
const DISARM: Duration = Duration::from_secs(2);

/// The loop awaits nothing for longer than this without a sign of life; beyond it the agent counts as hung.
const LOOP_LIMIT: Duration = Duration::from_secs(15);

/// What the keeper publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeeperStatus {
    /// Whether we lead.
    pub(crate) state: LeaseState,
    /// The lease of this life, for the member record.
    pub(crate) lease: Option<LeaseId>,
}

/// The loop's handle of the keeper's thread.
#[derive(Clone)]
pub(crate) struct KeeperLink {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<KeeperStatus>,
    heartbeat: watch::Sender<BootTime>,
}

impl KeeperLink {
    /// Starts the keeper on a thread of its own, so that nothing the loop does delays a renewal. `open` makes the
    /// keeper's own connection to the store, on that thread.
    pub(crate) fn start(
        keeper: Keeper,
        open: impl FnOnce() -> Box<dyn Store> + Send + 'static,
        guard: Arc<GuardClient>,
        link: GuardLink,
    ) -> anyhow::Result<Self> {
        let (commands, commanded) = mpsc::channel(COMMANDS);
        let (publish, status) = watch::channel(KeeperStatus::default());
        let (heartbeat, beats) = watch::channel(now());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    KeeperTask {
                        keeper,
                        store: open(),
                        guard,
                        link,
                        publish,
                        beats,
                    }
                    .run(commanded)
                    .await;
                });
            })?;
        Ok(KeeperLink {
            commands,
            status,
            heartbeat,
        })
    }

    /// Tells the keeper something. Waits only while sixteen commands wait before it.
    pub(crate) async fn command(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::error!("The lease keeper has ended.");
        }
    }

    /// What it published last.
    pub(crate) fn status(&self) -> KeeperStatus {
        *self.status.borrow()
    }

    /// Waits for the next change of what it publishes. An error: the keeper has ended.
    pub(crate) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.status.changed().await
    }

    /// Waits until `wanted` holds of what it publishes.
    pub(crate) async fn wait_for(
        &self,
        wanted: impl FnMut(&KeeperStatus) -> bool,
        deadline: BootTime,
    ) -> bool {
        let mut status = self.status.clone();
        matches!(
            howdah_http::timeout_at(deadline, status.wait_for(wanted)).await,
            Ok(Ok(_))
        )
    }

    /// The loop lives.
    pub(crate) fn beat(&self) {
        let _ = self.heartbeat.send_replace(now());
    }
}

struct KeeperTask {
    keeper: Keeper,
    store: Box<dyn Store>,
    guard: Arc<GuardClient>,
    link: GuardLink,
    publish: watch::Sender<KeeperStatus>,
    beats: watch::Receiver<BootTime>,
}

impl KeeperTask {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut under_way: Option<(Op, BootTime)> = None;
        let mut disarm = None;
        let mut next_alive = now();
        let mut input = KeeperInput::Tick;
        loop {
            for output in self.keeper.step(input, now()) {
                match output {
                    KeeperOutput::Send { op, deadline } => under_way = Some((op, deadline)),
                    KeeperOutput::Guard(GuardCall::Disarm(term)) => disarm = Some(term),
                    KeeperOutput::Guard(call) => self.tell_guard(call),
                }
            }
            self.publish();
            if let Some(term) = disarm.take() {
                let answer = self
                    .link
                    .ask(Request::Disarm { term: term.0 }, Vec::new(), now() + DISARM)
                    .await;
                if let Err(error) = &answer {
                    tracing::warn!(%error, "The lease is kept: the guard does not give it back.");
                }
                input = KeeperInput::Disarmed(answer.is_ok());
                continue;
            }
            input = loop {
                if now() >= next_alive {
                    next_alive = now() + ALIVE;
                    if now().since(*self.beats.borrow()) < LOOP_LIMIT {
                        let _ = self.guard.send(Request::Alive, &[]);
                    }
                }
                let wake = self.keeper.next_tick().min(next_alive);
                match self.wait(&mut commands, &mut under_way, wake).await {
                    Some(KeeperInput::Tick) if now() < self.keeper.next_tick() => {}
                    Some(input) => break input,
                    None => return,
                }
            };
        }
    }

    /// The next thing that happens. An operation that is under way is never dropped: whoever drops the future of a
    /// write does not know whether it happened.
    async fn wait(
        &self,
        commands: &mut mpsc::Receiver<Command>,
        under_way: &mut Option<(Op, BootTime)>,
        wake: BootTime,
    ) -> Option<KeeperInput> {
        if let Some((op, deadline)) = under_way.take() {
            return Some(KeeperInput::Answer(self.execute(&op, deadline).await));
        }
        tokio::select! {
            biased;
            command = commands.recv() => command.map(KeeperInput::Command),
            () = sleep_until(wake) => Some(KeeperInput::Tick),
        }
    }

    async fn execute(&self, op: &Op, deadline: BootTime) -> Outcome {
        // The store keeps to the deadline; the limit here is for one that does not.
        let patience = deadline + Duration::from_secs(1);
        match howdah_http::timeout_at(patience, self.store.execute(op, deadline)).await {
            Ok(outcome) => {
                if let Outcome::Failed(reason) | Outcome::Unknown(reason) = &outcome {
                    tracing::warn!(reason, "The store did not carry out a lease operation.");
                }
                outcome
            }
            Err(_) => Outcome::Unknown("no answer in time".to_owned()),
        }
    }

    fn tell_guard(&self, call: GuardCall) {
        let request = match call {
            GuardCall::Arm {
                term,
                lease,
                stop_at,
                kill_at,
                deadline,
            } => Request::Arm(Arm {
                term: term.0,
                lease: lease.0,
                stop_at,
                kill_at,
                deadline,
            }),
            GuardCall::Disarm(term) => Request::Disarm { term: term.0 },
            GuardCall::Pause(term) => Request::Pause { term: term.0 },
            GuardCall::Lost(term) => {
                tracing::warn!(term = term.0, "The leader lease is lost.");
                Request::Lost { term: term.0 }
            }
        };
        if let Err(error) = self.guard.send(request, &[]) {
            // Not armed, it refuses to promote; armed, it stops PostgreSQL in time.
            tracing::error!(%error, "The guard did not get a lease call.");
        }
    }

    fn publish(&self) {
        let status = KeeperStatus {
            state: self.keeper.state(now()),
            lease: self.keeper.lease(),
        };
        self.publish
            .send_if_modified(|known| std::mem::replace(known, status) != status);
    }
}
