use std::{ffi::CString, future::Future, pin::Pin, sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_dcs::{LeaseId, LeaseOp, Outcome, Store, Term};
use howdah_guard::{
    GuardClient, Request,
    tree::{DirId, ProcessTable},
};
use howdah_ha::{Command, Failsafe, GuardCall, Keeper, KeeperInput, KeeperOutput, LeaseState, Promise};
use howdah_http::sleep_until;
use howdah_postgres::DataDir;
use howdah_types::BootTime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    failsafe::{self, Asking, SharedAsking},
    guard_link::GuardLink,
    repeated::Repeated,
};

/// Commands that wait; the loop gives a handful in a decision.
const COMMANDS: usize = 16;

/// Leaders that ask for a promise and wait: there is one at a time.
const PROMISES: usize = 4;

/// How often the guard hears that the agent lives.
const ALIVE: Duration = Duration::from_secs(1);

/// The guard says at once whether PostgreSQL may still write, or is frozen.
const DISARM: Duration = Duration::from_secs(2);

/// Killing every process of a server takes this long at most, or the kernel does not let them go.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// The loop awaits nothing for longer than this without a sign of life; beyond it the agent counts as hung.
const LOOP_LIMIT: Duration = Duration::from_secs(15);

/// What the keeper publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeeperStatus {
    /// Whether we lead.
    pub(crate) state: LeaseState,
    /// The lease of this life, for the member record.
    pub(crate) lease: Option<LeaseId>,
    /// The store has answered the last operation.
    pub(crate) store_answers: bool,
    /// What it has of other members' promises.
    pub(crate) failsafe: Failsafe,
    /// Promises that were asked for up to then are not relied upon.
    pub(crate) settled: Option<BootTime>,
    /// The length of the lease as the store granted it.
    pub(crate) granted: Option<Duration>,
    /// What we have promised another leader.
    pub(crate) promise: Option<Promise>,
}

impl Default for KeeperStatus {
    fn default() -> Self {
        KeeperStatus {
            state: LeaseState::None,
            lease: None,
            store_answers: true,
            failsafe: Failsafe::default(),
            settled: None,
            granted: None,
            promise: None,
        }
    }
}

impl KeeperStatus {
    /// Whether it is the same as before but for the time.
    pub(crate) fn is_renewed(&self, before: &KeeperStatus) -> bool {
        let of = |state: LeaseState| match state {
            LeaseState::Held { term, .. } => Some(term),
            LeaseState::None | LeaseState::Unsure => None,
        };
        let to = |status: &KeeperStatus| status.promise.as_ref().map(|promise| promise.leader.clone());
        self.lease == before.lease
            && self.store_answers == before.store_answers
            && self.failsafe == before.failsafe
            && self.settled == before.settled
            && self.granted == before.granted
            && to(self) == to(before)
            && of(self.state) == of(before.state)
            && (self.state == LeaseState::None) == (before.state == LeaseState::None)
    }
}

/// The loop's handle of the keeper's thread.
#[derive(Clone)]
pub(crate) struct KeeperLink {
    commands: mpsc::Sender<Command>,
    asked: mpsc::Sender<AskedFor>,
    asking: SharedAsking,
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
        data_dir: DataDir,
    ) -> anyhow::Result<Self> {
        let (commands, commanded) = mpsc::channel(COMMANDS);
        let (publish, status) = watch::channel(KeeperStatus::default());
        let (heartbeat, beats) = watch::channel(now());
        let (ask, asked) = mpsc::channel(PROMISES);
        let asking = SharedAsking::default();
        let shared = Arc::clone(&asking);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    KeeperTask {
                        keeper,
                        store: Arc::from(open()),
                        guard,
                        link,
                        data_dir,
                        publish,
                        beats,
                        trouble: Repeated::default(),
                        asking: shared,
                        asked,
                        waits: None,
                    }
                    .run(commanded)
                    .await;
                });
            })?;
        Ok(KeeperLink {
            commands,
            asked: ask,
            asking,
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

    /// How the other members are asked when the store does not answer.
    pub(crate) fn ask_with(&self, asking: Option<Asking>) {
        self.asking.store(asking.map(Arc::new));
    }

    /// Promises not to lead, and returns what is promised from now on. `None`: it leads, or may.
    pub(crate) async fn promise(&self, promise: Promise) -> Option<Promise> {
        let (answer, answered) = oneshot::channel();
        self.asked.send((promise, answer)).await.ok()?;
        answered.await.ok()?
    }

    /// What it published last.
    pub(crate) fn status(&self) -> KeeperStatus {
        self.status.borrow().clone()
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

/// A leader that asks for a promise, and who waits for the answer.
type AskedFor = (Promise, oneshot::Sender<Option<Promise>>);

struct KeeperTask {
    keeper: Keeper,
    store: Arc<dyn Store>,
    guard: Arc<GuardClient>,
    link: GuardLink,
    /// Whose PostgreSQL is ended if the guard does not do it.
    data_dir: DataDir,
    publish: watch::Sender<KeeperStatus>,
    beats: watch::Receiver<BootTime>,
    trouble: Repeated,
    asking: SharedAsking,
    asked: mpsc::Receiver<AskedFor>,
    /// Who waits for a promise.
    waits: Option<oneshot::Sender<Option<Promise>>>,
}

/// What the keeper waits for. What is in flight is never dropped: a caller that drops the future of a write does not know
/// whether it happened.
type InFlight = Option<Pin<Box<dyn Future<Output = KeeperInput> + Send>>>;

impl KeeperTask {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut in_flight: InFlight = None;
        // Beside it: a store that is silent must not keep the members from being asked.
        let mut round: InFlight = None;
        let mut next_alive = now();
        let mut input = KeeperInput::Tick;
        loop {
            let mut next = None;
            self.tell_trouble(&input);
            for output in self.keeper.step(input, now()) {
                match output {
                    KeeperOutput::Send { op, deadline } => {
                        in_flight = Some(Box::pin(execute(Arc::clone(&self.store), op, deadline)));
                    }
                    KeeperOutput::Guard(GuardCall::Disarm(term)) => {
                        in_flight = Some(Box::pin(disarm(self.link.clone(), term)));
                    }
                    KeeperOutput::Guard(call) => self.tell_guard(call),
                    KeeperOutput::Ask(question) => {
                        round = Some(Box::pin(failsafe::ask(self.asking.load_full(), question)));
                    }
                    KeeperOutput::Promised(promised) => {
                        if let Some(waits) = self.waits.take() {
                            // Who has gone does not count on it.
                            let given = self.keeper.promise(now()).filter(|_| promised);
                            let _ = waits.send(given.cloned());
                        }
                    }
                    KeeperOutput::EndPrimary => next = self.end_primary().then_some(KeeperInput::Ended),
                }
            }
            self.publish();
            input = match next {
                Some(input) => input,
                None => match self
                    .wait(&mut commands, &mut in_flight, &mut round, &mut next_alive)
                    .await
                {
                    Some(input) => input,
                    None => return,
                },
            };
        }
    }

    fn tell_trouble(&mut self, input: &KeeperInput) {
        let KeeperInput::Answer(outcome) = input else {
            return;
        };
        match outcome {
            Outcome::Failed(reason) | Outcome::Unknown(reason) => {
                if let Some(times) = self.trouble.happened() {
                    tracing::warn!(reason, times, "The store did not carry out a lease operation.");
                }
            }
            Outcome::Done(_) | Outcome::Refused(_) => {
                if let Some(lasted) = self.trouble.over() {
                    tracing::info!(
                        "The store carries out lease operations again, after {:.1} s.",
                        lasted.as_secs_f64()
                    );
                }
            }
        }
    }

    /// The next thing that happens. Signs of life go to the guard whatever is in flight.
    async fn wait(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        in_flight: &mut InFlight,
        round: &mut InFlight,
        next_alive: &mut BootTime,
    ) -> Option<KeeperInput> {
        loop {
            if now() >= *next_alive {
                *next_alive = now() + ALIVE;
                if now().since(*self.beats.borrow()) < LOOP_LIMIT {
                    // Unlike `Alive`, this is answered: a guard that is frozen is noticed.
                    let _ = self.guard.send(Request::Hello, &[]);
                }
            }
            let wake = self.keeper.next_tick().min(*next_alive);
            tokio::select! {
                biased;
                input = landed(in_flight) => {
                    *in_flight = None;
                    return Some(input);
                }
                input = landed(round) => {
                    *round = None;
                    return Some(input);
                }
                Some((promise, answer)) = self.asked.recv() => {
                    self.waits = Some(answer);
                    return Some(KeeperInput::Asked(promise));
                }
                command = commands.recv() => return command.map(KeeperInput::Command),
                () = sleep_until(wake) => {
                    if now() >= self.keeper.next_tick() {
                        return Some(KeeperInput::Tick);
                    }
                }
            }
        }
    }

    /// Ends what still runs as primary although its right to write is over. Normally the guard has done so, and nothing is
    /// left. It blocks this thread, which has nothing more important to do. True when nothing is left.
    fn end_primary(&self) -> bool {
        let path = CString::new(self.data_dir.path().as_os_str().as_encoded_bytes()).ok();
        let Some(data) = path.and_then(|path| DirId::of(&path).ok()) else {
            return false;
        };
        let Ok(mut processes) = ProcessTable::new() else {
            return false;
        };
        let limit = now() + END_PATIENCE;
        let mut told = false;
        // What has been started as a replica since then may stay.
        while !self.data_dir.is_standby() {
            let postmaster = self.data_dir.postmaster().map(|postmaster| postmaster.pid);
            if processes.kill_postgres(postmaster, Some(data), Some(std::process::id())) == 0 {
                return true;
            }
            if !told {
                told = true;
                tracing::error!("The lease is over and PostgreSQL still runs: killing it.");
            }
            if now() >= limit {
                return false;
            }
        }
        true
    }

    fn tell_guard(&self, call: GuardCall) {
        let request = match call {
            GuardCall::Arm(arm) => Request::Arm(arm),
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
            store_answers: !self.trouble.lasts(),
            failsafe: Failsafe::of(&self.keeper, now()),
            settled: self.keeper.settled(),
            granted: self.keeper.granted(),
            promise: self.keeper.promise(now()).cloned(),
        };
        self.publish.send_if_modified(|known| {
            let changed = *known != status;
            *known = status;
            changed
        });
    }
}

/// Waits for what is in flight; for ever when there is nothing.
async fn landed(flight: &mut InFlight) -> KeeperInput {
    match flight {
        Some(flying) => flying.await,
        None => std::future::pending().await,
    }
}

async fn execute(store: Arc<dyn Store>, op: LeaseOp, deadline: BootTime) -> KeeperInput {
    // The store keeps to the deadline; the limit here is for one that does not.
    let patience = deadline + Duration::from_secs(1);
    let outcome = match howdah_http::timeout_at(patience, store.lease(&op, deadline)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Unknown("no answer in time".to_owned()),
    };
    KeeperInput::Answer(outcome)
}

/// A guard that is frozen, or gone, does not agree.
async fn disarm(link: GuardLink, term: Term) -> KeeperInput {
    let request = Request::Disarm { term: term.0 };
    let answer = link.ask(request, Vec::new(), now() + DISARM).await;
    if let Err(error) = &answer {
        tracing::warn!(%error, "The lease is kept: the guard does not give it back.");
    }
    KeeperInput::Disarmed(answer.is_ok())
}
