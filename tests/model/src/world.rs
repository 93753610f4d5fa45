use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::Arc,
};

use howdah_config::SyncMode;
use howdah_dcs::{Cond, Document, FailoverRequest, KeyOp, KeyTree, Outcome, Refusal, View};
use howdah_guard::{Input, Order, Request as Ask};
use howdah_ha::{GuardCall, KeeperInput, KeeperOutput, LeaseState, Promise, Request};
use howdah_types::{BootTime, Scope, Timeline};

use crate::{
    Settings, Violation,
    acting::WHILE,
    check::Checker,
    member::{Agent, Node, SYSTEM, ttl},
    settings::TICKS,
    store::{Seen, Store, Wire},
};

/// What the environment does at one point; 0 is nothing.
pub type Choice = u8;

/// How many members a world has.
pub(crate) const MEMBERS: usize = 3;

/// The next small step of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// Time moves on; guards look at the clock before anybody else can act.
    Time,
    /// What may befall a node at this moment.
    Fate(usize),
    /// The keeper looks at the clock.
    Keeper(usize),
    /// What the keeper has sent is delivered.
    Deliver(usize),
    /// The keeper asks the other members, in failsafe mode.
    Ask(usize),
    /// The loop decides.
    Decide(usize),
    /// The next effect of the decision is carried out.
    Effect(usize),
    /// The long action goes on.
    Act(usize),
    /// WAL is shipped and clients write.
    Traffic,
}

/// What may befall a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Nothing,
    /// A user requests a switchover from it.
    Switchover,
    /// To the next member.
    SwitchoverToNext,
    /// A user requests a restart of its PostgreSQL.
    Restart,
    /// In maintenance mode a user stops its PostgreSQL and starts it again, past the guard.
    RestartByHand,
    /// It is told to end, as a pod is that is deleted, and is back three seconds after it has ended.
    Ends,
    /// Its WAL receiver is between two connections.
    NoReceiver,
    /// All of them are.
    NoReceivers,
    PostgresDies,
    AgentDies,
    NodeDies,
    CutBriefly,
    CutForLong,
    /// It does not reach the store, and reaches the other members.
    StoreOut,
    /// No member reaches the store.
    StoreDown,
    /// Agent and guard.
    BothFreeze,
    GuardFreezes,
    /// PostgreSQL dies, and no start succeeds.
    NeverStarts,
    /// PostgreSQL does not answer any more.
    Hangs,
    /// The checkpointer reads no changed setting for a while.
    CheckpointerBusy,
    /// The process that sends to this member reads no changed setting for a while.
    SenderLate,
    /// The store loses all keys and leases.
    StoreForgets,
    /// All nodes lose power.
    PowerCut,
    /// Maintenance mode, for a while.
    Pause,
}

/// Three members, a store, and a clock.
#[derive(Clone)]
pub struct World {
    pub(crate) tick: u64,
    step: Step,
    pub(crate) store: Store,
    pub(crate) nodes: Vec<Node>,
    /// Requests that were given up and arrive all the same.
    pub(crate) late: Vec<(u64, Wire)>,
    budget: u8,
    pause_until: u64,
    pub(crate) paused_once: bool,
    /// A node was cut off, or has died as a whole.
    cut_once: bool,
    pub(crate) checker: Checker,
    pub(crate) tree: KeyTree,
    /// Filled when a run is told again.
    pub(crate) story: Option<Vec<String>>,
    pub(crate) violation: Option<Violation>,
}

impl World {
    /// A cluster that exists, with all members stopped as equal replicas and no leader.
    ///
    /// # Errors
    /// A built-in name is wrong.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let now = BootTime::from_secs(1);
        let mut store = Store::new(settings.kubernetes);
        if !settings.bootstrap {
            let put = KeyOp::Put {
                document: Document::initialize(SYSTEM),
                cond: Cond::Always,
            };
            store.write(&put, now);
        }
        let nodes = (0..MEMBERS)
            .map(|i| Node::new(i, settings, now))
            .collect::<anyhow::Result<_>>()?;
        let mut world = World {
            tick: TICKS,
            step: Step::Time,
            store,
            nodes,
            late: Vec::new(),
            budget: settings.budget,
            pause_until: 0,
            paused_once: false,
            cut_once: false,
            checker: Checker::default(),
            tree: KeyTree::new("service", &Scope::new("s")?),
            story: None,
            violation: None,
        };
        world.watch(settings);
        Ok(world)
    }

    /// Begins to tell what happens.
    pub fn tell(&mut self) {
        self.story = Some(Vec::new());
    }

    /// What was told.
    #[must_use]
    pub fn story(&self) -> &[String] {
        self.story.as_deref().unwrap_or_default()
    }

    /// What has gone wrong.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Whether the world has come to its end.
    #[must_use]
    pub fn is_over(&self, settings: &Settings) -> bool {
        self.violation.is_some() || self.tick >= settings.end
    }

    /// A number that is the same for equal states.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (
            self.tick,
            self.step,
            &self.store,
            &self.nodes,
            &self.late,
            self.budget,
            (self.pause_until, self.paused_once, self.cut_once),
            &self.checker,
        )
            .hash(&mut hasher);
        hasher.finish()
    }

    pub(crate) fn now(&self) -> BootTime {
        BootTime(self.tick * 1_000_000_000 / TICKS)
    }

    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        let at = self.now();
        if let Some(story) = &mut self.story {
            story.push(format!("{at}  {}", line()));
        }
    }

    pub(crate) fn runs(&self, i: usize) -> bool {
        self.nodes[i].agent == Agent::Runs
    }

    pub(crate) fn connected(&self, i: usize) -> bool {
        self.nodes[i].cut_until <= self.tick && self.nodes[i].off_until <= self.tick
    }

    pub(crate) fn reaches_store(&self, i: usize) -> bool {
        self.connected(i) && self.nodes[i].store_out_until <= self.tick
    }

    /// How many things the environment may do at the next step, the first of which is nothing.
    #[must_use]
    pub fn choices(&self, settings: &Settings) -> Choice {
        if self.budget == 0 || self.tick >= settings.calm_after {
            return 1;
        }
        let faults = &settings.faults;
        match self.step {
            Step::Fate(i) if self.nodes[i].off_until <= self.tick => {
                Choice::try_from(self.fates(i, settings).len()).unwrap_or(1)
            }
            Step::Ask(i) if self.nodes[i].question.is_some() && self.runs(i) => {
                1 + Choice::from(faults.network) + if faults.freezes { 2 } else { 0 }
            }
            Step::Deliver(i) if self.nodes[i].sent.is_some() && self.reaches_store(i) => {
                let network = if faults.network { 4 } else { 0 };
                1 + network + if faults.freezes { 2 } else { 0 }
            }
            Step::Effect(i) if !self.nodes[i].effects.is_empty() && self.runs(i) && faults.freezes => 4,
            Step::Act(i) if self.nodes[i].doing.is_some() && self.runs(i) && faults.freezes => 3,
            _ => 1,
        }
    }

    /// Takes the next small step.
    pub fn advance(&mut self, settings: &Settings, choice: Choice) {
        if choice > 0 {
            self.budget = self.budget.saturating_sub(1);
        }
        let step = self.step;
        self.step = match step {
            Step::Time => {
                self.pass_time(settings);
                Step::Fate(0)
            }
            Step::Fate(i) => {
                self.fate(i, choice, settings);
                if i + 1 < MEMBERS {
                    Step::Fate(i + 1)
                } else {
                    Step::Keeper(0)
                }
            }
            Step::Keeper(i) => {
                self.keeper(i, KeeperInput::Tick);
                Step::Deliver(i)
            }
            Step::Deliver(i) => {
                self.deliver(i, choice, settings);
                // An answer may lead to the next request at once.
                if self.nodes[i].sent.is_some() && self.runs(i) && self.reaches_store(i) {
                    Step::Deliver(i)
                } else {
                    Step::Ask(i)
                }
            }
            Step::Ask(i) => {
                self.ask(i, choice, settings);
                Step::Decide(i)
            }
            Step::Decide(i) => {
                self.decide(i, settings);
                Step::Effect(i)
            }
            Step::Effect(i) => {
                self.effect(i, choice, settings);
                if !self.nodes[i].effects.is_empty() && self.runs(i) {
                    Step::Effect(i)
                } else {
                    Step::Act(i)
                }
            }
            Step::Act(i) => {
                self.act(i, choice, settings);
                if i + 1 < MEMBERS {
                    Step::Keeper(i + 1)
                } else {
                    Step::Traffic
                }
            }
            Step::Traffic => {
                self.traffic(settings);
                self.check(settings);
                self.tick += 1;
                Step::Time
            }
        };
    }

    fn pass_time(&mut self, settings: &Settings) {
        let now = self.now();
        for i in 0..MEMBERS {
            if self.nodes[i].device.is_some_and(|bites| now >= bites) {
                self.say(|| format!("m{i}: the watchdog device resets the machine"));
                self.node_dies(i, self.tick + 3 * TICKS);
            }
        }
        self.store.expire(now);
        let due: Vec<Wire> = self
            .late
            .iter()
            .filter(|(at, _)| *at <= self.tick)
            .map(|(_, wire)| wire.clone())
            .collect();
        self.late.retain(|(at, _)| *at > self.tick);
        for wire in due {
            let back = self.store.carry_out(&wire, now);
            self.say(|| format!("store: carried out late: {wire:?}: {back:?}"));
        }
        for i in 0..MEMBERS {
            if self.nodes[i].off_until == self.tick && self.tick > 0 {
                self.say(|| format!("m{i}: the node is started again"));
                let fresh = Node::new(i, settings, now);
                if let Ok(fresh) = fresh {
                    let pg = self.nodes[i].pg.clone();
                    // Another boot: its clock tells nothing of the time before.
                    let kept = self.nodes[i].kept.clone().map(|promise| Promise {
                        until: now + ttl(settings),
                        ..promise
                    });
                    self.nodes[i] = Node {
                        pg,
                        kept,
                        unseen_for: self.nodes[i].unseen_for,
                        in_store_since: self.nodes[i].in_store_since,
                        kept_members: self.nodes[i].kept_members.clone(),
                        store_out_until: self.nodes[i].store_out_until,
                        cut_until: self.nodes[i].cut_until,
                        ended_until: self.nodes[i].ended_until,
                        ..fresh
                    };
                }
            }
            if self.nodes[i].agent == Agent::Frozen(self.tick) {
                self.say(|| format!("m{i}: the agent thaws"));
                self.nodes[i].agent = Agent::Runs;
            }
        }
        for i in 0..MEMBERS {
            let tick = self.tick;
            self.nodes[i].pg.reload(tick);
            if self.nodes[i].guard_frozen_until > tick && !self.runs(i) && self.nodes[i].off_until <= tick {
                // Whichever way it came to that: neither can end PostgreSQL.
                self.nodes[i].both_frozen = true;
            }
            let there = self.runs(i)
                && self.connected(i)
                && self.nodes[i].pg.up
                && self.nodes[i].pg.hung_since.is_none();
            let since = &mut self.nodes[i].reachable_since;
            if there {
                since.get_or_insert(tick);
            } else {
                *since = None;
            }
        }
        for i in 0..MEMBERS {
            let another = (0..MEMBERS).any(|j| j != i && self.reaches_store(j));
            if self.reaches_store(i) {
                let since = self.nodes[i].in_store_since;
                if self.tick >= since + WHILE {
                    self.nodes[i].unseen_for = 0;
                }
            } else {
                self.nodes[i].in_store_since = self.tick + 1;
                self.nodes[i].unseen_for += u64::from(another);
            }
        }
        for i in 0..MEMBERS {
            self.catch_up(i, settings);
            self.guard(i, Input::Tick, settings);
            if self.runs(i) {
                self.guard(i, Input::Request(Ask::Alive), settings);
                if let Some((op, back, sent)) = self.nodes[i].answer.take() {
                    self.hear(i, op, back, sent);
                }
                if let Some((asked, agreed)) = self.nodes[i].agreed.take() {
                    self.keeper(i, KeeperInput::Answers { asked, agreed });
                }
            }
        }
    }

    /// A guard that was frozen sees afterwards what has ended meanwhile.
    fn catch_up(&mut self, i: usize, settings: &Settings) {
        if self.nodes[i].guard_frozen_until <= self.tick {
            for request in std::mem::take(&mut self.nodes[i].guard_inbox) {
                self.guard(i, Input::Request(request), settings);
            }
        }
        if !self.nodes[i].pg.up && self.nodes[i].guard.pid().is_some() {
            self.guard(i, Input::PostgresEnded, settings);
        }
        if self.nodes[i].agent == Agent::Dead && self.nodes[i].agent_known {
            self.guard(i, Input::AgentEnded, settings);
        }
    }

    /// What may befall a node at this moment; the first is nothing.
    fn fates(&self, i: usize, settings: &Settings) -> Vec<Fate> {
        let faults = &settings.faults;
        let node = &self.nodes[i];
        let mut fates = vec![Fate::Nothing];
        let mut add = |may: bool, fate: Fate| {
            if may {
                fates.push(fate);
            }
        };
        let exists = !node.pg.missing;
        add(faults.requests && exists, Fate::Switchover);
        add(faults.requests && exists, Fate::SwitchoverToNext);
        add(
            faults.requests && exists && node.pg.serves(self.tick),
            Fate::Restart,
        );
        add(
            self.paused() && node.pg.serves(self.tick) && node.doing.is_none(),
            Fate::RestartByHand,
        );
        add(faults.ends && exists && !self.paused_once, Fate::Ends);
        add(faults.requests && exists && self.all_receive(), Fate::NoReceiver);
        add(
            faults.ends && exists && i == 0 && self.all_receive(),
            Fate::NoReceivers,
        );
        add(faults.deaths, Fate::PostgresDies);
        add(faults.deaths, Fate::AgentDies);
        add(faults.deaths && !self.paused_once, Fate::NodeDies);
        add(faults.partitions && !self.paused_once, Fate::CutBriefly);
        add(faults.partitions && !self.paused_once, Fate::CutForLong);
        add(faults.store_out && !self.paused_once, Fate::StoreOut);
        add(faults.store_out && i == 0 && !self.paused_once, Fate::StoreDown);
        add(faults.both_freeze && !self.paused_once, Fate::BothFreeze);
        add(faults.guards && !self.paused_once, Fate::GuardFreezes);
        let serves_alone = node.pg.primary && node.pg.serves(self.tick);
        // One at a time: a member must be left that can serve.
        let none_broken = self.nodes.iter().all(|node| !node.pg.broken);
        add(
            faults.broken && serves_alone && none_broken && self.could_be_replaced(i, settings),
            Fate::NeverStarts,
        );
        let leads = node.keeper.state(self.now()).held(self.now()).is_some();
        add(
            faults.broken && serves_alone && leads && !self.paused_once,
            Fate::Hangs,
        );
        add(faults.checkpointers && node.pg.up, Fate::CheckpointerBusy);
        add(faults.senders && self.streams(i).is_some(), Fate::SenderLate);
        // What befalls all of them is offered once.
        add(
            faults.wipes && i == 0 && exists && !self.paused_once,
            Fate::StoreForgets,
        );
        add(
            faults.power && i == 0 && exists && !self.paused_once,
            Fate::PowerCut,
        );
        add(
            faults.pause && i == 0 && exists && !self.cut_once && !self.paused(),
            Fate::Pause,
        );
        fates
    }

    /// Whether another member may take over by the rules: nothing helps where the only copy is lost.
    fn could_be_replaced(&self, i: usize, settings: &Settings) -> bool {
        let mut store = self.store.clone();
        let mut seen = Seen::default();
        let sync = store.view(&self.tree, &mut seen, self.now()).sync.value.clone();
        let sync = sync.filter(|_| settings.dynamic.synchronous_mode != SyncMode::Off);
        let synchronous = settings.dynamic.synchronous_mode != SyncMode::Off;
        (0..MEMBERS).filter(|j| *j != i).any(|j| {
            let node = &self.nodes[j];
            let named = sync
                .as_ref()
                .is_some_and(|sync| sync.includes(node.name.as_str()));
            !node.pg.missing && (named || !synchronous)
        })
    }

    /// What befalls a node.
    fn fate(&mut self, i: usize, choice: Choice, settings: &Settings) {
        let fate = self
            .fates(i, settings)
            .get(usize::from(choice))
            .copied()
            .unwrap_or(Fate::Nothing);
        if fate == Fate::Nothing {
            return;
        }
        self.say(|| format!("m{i}: FAULT: {fate:?}"));
        let tick = self.tick;
        let is_fault = !matches!(
            fate,
            Fate::NoReceiver
                | Fate::NoReceivers
                | Fate::Ends
                | Fate::Switchover
                | Fate::SwitchoverToNext
                | Fate::Restart
                | Fate::RestartByHand
                | Fate::Pause
        );
        self.checker.disturbed |= is_fault;
        let node = &mut self.nodes[i];
        match fate {
            Fate::Nothing => {}
            Fate::Switchover => self.switch_over(i, None),
            Fate::SwitchoverToNext => self.switch_over(i, Some((i + 1) % MEMBERS)),
            Fate::Restart => node.request = Some(Request::Restart),
            Fate::RestartByHand => {
                self.guard(i, Input::PostgresEnded, settings);
            }
            Fate::Ends => {
                node.request = Some(Request::Shutdown);
                // What only one member has waits for that one, and not for a second end of it.
                let ended = self.nodes.iter().any(|node| node.ended_until > tick);
                self.checker.disturbed |= ended;
                self.nodes[i].ended_until = tick + 20 * TICKS;
            }
            Fate::NoReceiver => node.no_receiver_until = tick + 4 * TICKS,
            Fate::NoReceivers => {
                for node in &mut self.nodes {
                    node.no_receiver_until = tick + 4 * TICKS;
                }
            }
            Fate::PostgresDies => self.postgres_dies(i, settings),
            Fate::AgentDies => self.agent_dies(i, settings),
            Fate::NodeDies => self.node_dies(i, tick + 3 * TICKS),
            Fate::CutBriefly | Fate::CutForLong => {
                let seconds = if fate == Fate::CutBriefly { 3 } else { 8 };
                node.cut_until = tick + seconds * TICKS;
                self.cut_once = true;
            }
            Fate::StoreOut => {
                node.store_out_until = tick + 12 * TICKS;
                self.cut_once = true;
            }
            Fate::StoreDown => {
                for node in &mut self.nodes {
                    node.store_out_until = tick + 12 * TICKS;
                }
                self.cut_once = true;
            }
            Fate::BothFreeze => {
                node.agent = Agent::Frozen(tick + 8 * TICKS);
                node.guard_frozen_until = tick + 8 * TICKS;
                node.both_frozen = true;
            }
            Fate::GuardFreezes => node.guard_frozen_until = tick + 8 * TICKS,
            Fate::NeverStarts => {
                node.pg.broken = true;
                self.postgres_dies(i, settings);
            }
            Fate::Hangs => node.pg.hung_since = Some(tick),
            Fate::CheckpointerBusy => node.pg.busy_until = tick + 7 * TICKS,
            Fate::SenderLate => {
                if let Some(primary) = self.streams(i) {
                    let pg = &mut self.nodes[primary].pg;
                    let names = pg.sync_names.clone();
                    pg.late_senders.insert(i, (names, tick + 7 * TICKS));
                }
            }
            Fate::StoreForgets => {
                self.store.wipe();
                self.checker.forget_terms();
            }
            Fate::PowerCut => {
                for j in 0..MEMBERS {
                    let pg = &mut self.nodes[j].pg;
                    pg.slow_start = pg.up && pg.primary;
                    self.node_dies(j, tick + 3 * TICKS);
                }
            }
            Fate::Pause => {
                self.pause_until = tick + 6 * TICKS;
                self.paused_once = true;
            }
        }
    }

    /// A member has ended in order; its next life begins soon.
    pub(crate) fn node_ends(&mut self, i: usize) {
        let clean = self.nodes[i].pg.clean;
        self.say(|| format!("m{i}: has ended"));
        self.node_dies(i, self.tick + 3 * TICKS);
        self.nodes[i].pg.clean = clean;
    }

    /// Everything of a node ends at once.
    fn node_dies(&mut self, i: usize, until: u64) {
        let node = &mut self.nodes[i];
        node.off_until = until;
        node.agent = Agent::Dead;
        node.pg.up = false;
        node.pg.clean = false;
        node.pg.hung_since = None;
        node.device = None;
        self.cut_once = true;
    }

    /// The cluster is in maintenance mode.
    pub(crate) fn paused(&self) -> bool {
        self.pause_until > self.tick
    }

    /// No WAL receiver is between connections: one at a time, so that a replica always has everything.
    fn all_receive(&self) -> bool {
        self.nodes.iter().all(|node| node.no_receiver_until <= self.tick)
    }

    /// A user at a member's machine requests a switchover from it.
    fn switch_over(&mut self, i: usize, to: Option<usize>) {
        let request = FailoverRequest {
            leader: Some(self.nodes[i].name.clone()),
            candidate: to.map(|to| self.nodes[to].name.clone()),
            scheduled_at: None,
            force: false,
            confirmed: false,
        };
        self.ask_for(i, &request);
    }

    pub(crate) fn agent_dies(&mut self, i: usize, settings: &Settings) {
        if self.nodes[i].agent != Agent::Dead {
            self.nodes[i].agent = Agent::Dead;
            self.guard(i, Input::AgentEnded, settings);
        }
    }

    pub(crate) fn postgres_dies(&mut self, i: usize, settings: &Settings) {
        if self.nodes[i].pg.up {
            self.nodes[i].pg.up = false;
            self.nodes[i].pg.clean = false;
            self.nodes[i].pg.hung_since = None;
            self.guard(i, Input::PostgresEnded, settings);
        }
    }

    pub(crate) fn freeze(&mut self, i: usize, seconds: u64) {
        self.checker.disturbed = true;
        self.say(|| format!("m{i}: FAULT: the agent freezes for {seconds} s"));
        self.nodes[i].agent = Agent::Frozen(self.tick + seconds * TICKS);
    }

    /// One input of a guard, and what it orders. A guard that is frozen reads what the keeper has sent when it thaws, before
    /// anything else; one that is off hears nothing.
    pub(crate) fn guard(&mut self, i: usize, input: Input, settings: &Settings) -> bool {
        if self.nodes[i].guard_frozen_until > self.tick || self.nodes[i].off_until > self.tick {
            if let Input::Request(request @ (Ask::Arm(_) | Ask::Lost { .. } | Ask::Pause { .. })) = input {
                self.nodes[i].guard_inbox.push(request);
            }
            return false;
        }
        let now = self.now();
        if input == Input::AgentEnded {
            self.nodes[i].agent_known = false;
        }
        let orders = self.nodes[i].guard.step(input, now);
        let mut agreed = true;
        for order in orders.into_iter().flatten() {
            match order {
                Order::Reply(howdah_guard::Reply::Refused(why)) => {
                    self.say(|| format!("m{i}: the guard refuses {input:?}: {why:?}"));
                    agreed = false;
                }
                Order::Reply(_) => {}
                Order::OpenWatchdog { timeout, .. } => {
                    self.nodes[i].device = Some(now + timeout);
                    let opened = Input::WatchdogOpened { timeout, stops: true };
                    self.guard(i, opened, settings);
                }
                Order::FeedWatchdog { timeout } => {
                    self.nodes[i].device = Some(now + timeout);
                    self.guard(i, Input::WatchdogFed { timeout }, settings);
                }
                Order::CloseWatchdog => self.nodes[i].device = None,
                Order::Start => {
                    let tick = self.tick;
                    let pg = &mut self.nodes[i].pg;
                    pg.up = true;
                    pg.primary = !pg.standby;
                    // A checkpointer reads the setting when it begins.
                    pg.busy_until = 0;
                    pg.late_senders.clear();
                    pg.reload(tick);
                    pg.starting_until = if std::mem::take(&mut pg.slow_start) {
                        tick + 4 * TICKS
                    } else {
                        0
                    };
                    let broken = pg.broken;
                    self.guard(i, Input::Started { pid: 1 }, settings);
                    if broken {
                        self.say(|| format!("m{i}: PostgreSQL ends while it starts"));
                        self.postgres_dies(i, settings);
                    }
                }
                Order::Promote => {
                    let tick = self.tick;
                    let pg = &mut self.nodes[i].pg;
                    pg.primary = true;
                    pg.standby = false;
                    pg.history.push((pg.timeline, pg.wal.len()));
                    pg.timeline += 1;
                    pg.origins
                        .insert(Timeline(pg.timeline), format!("m{i} at {tick}"));
                    self.say(|| format!("m{i}: PostgreSQL is promoted"));
                }
                Order::Stop(_) => {
                    // A fence's fast stop is taken not to end in time; a handover's is modelled by its action.
                }
                Order::KillPostgres => {
                    self.say(|| format!("m{i}: the guard kills PostgreSQL"));
                    self.postgres_dies(i, settings);
                }
                Order::KillAgent => {
                    self.say(|| format!("m{i}: the guard kills the silent agent"));
                    self.agent_dies(i, settings);
                }
                Order::SpawnAgent => {
                    self.say(|| format!("m{i}: the guard starts an agent"));
                    self.nodes[i].new_agent(settings, now);
                    self.nodes[i].agent = Agent::Runs;
                    self.nodes[i].agent_known = true;
                    self.guard(i, Input::AgentStarted, settings);
                }
                // No guard of this world is asked to end.
                Order::TerminateAgent | Order::Exit(_) => {}
            }
        }
        agreed
    }

    /// One input of a keeper. What it tells the guard takes effect before anything else.
    pub(crate) fn keeper(&mut self, i: usize, input: KeeperInput) {
        if !self.runs(i) {
            return;
        }
        let now = self.now();
        let refused_by = match &input {
            KeeperInput::Answer(Outcome::Refused(Refusal::HasLeader(leader))) => leader.lease,
            _ => None,
        };
        let own = refused_by.is_some() && refused_by == self.nodes[i].keeper.lease();
        for output in self.nodes[i].keeper.step(input, now) {
            match output {
                KeeperOutput::Send { op, .. } => self.nodes[i].sent = Some(op),
                KeeperOutput::Guard(call) => self.call_guard(i, call),
                KeeperOutput::EndPrimary => self.end_primary(i),
                KeeperOutput::Ask(question) => self.nodes[i].question = Some(question),
                KeeperOutput::Promised(promised) => self.nodes[i].promised = promised,
            }
        }
        if own && self.nodes[i].keeper.state(now) == LeaseState::None {
            self.violation = Some(Violation::GaveUp { member: i });
        }
    }

    /// The agent's own hand, for a guard that is frozen.
    fn end_primary(&mut self, i: usize) {
        let Some(settings) = self.checker.settings.clone() else {
            return;
        };
        if self.nodes[i].pg.up && !self.nodes[i].pg.standby {
            self.say(|| format!("m{i}: the agent ends PostgreSQL in the guard's place"));
            self.postgres_dies(i, &settings);
        }
        self.keeper(i, KeeperInput::Ended);
    }

    fn call_guard(&mut self, i: usize, call: GuardCall) {
        if let GuardCall::Lost(term) = call
            && self.store.leader(self.now()).is_some_and(|leader| {
                leader.term == term && leader.lease.is_some() && leader.lease == self.nodes[i].keeper.lease()
            })
        {
            self.violation = Some(Violation::GaveUp { member: i });
        }
        self.say(|| format!("m{i}: keeper: {call:?}"));
        let request = match call {
            GuardCall::Arm(arm) => {
                let pg = &mut self.nodes[i].pg;
                if pg.up && pg.primary {
                    // What ran before its agent had this leadership writes under it now.
                    pg.term = arm.term;
                }
                Ask::Arm(arm)
            }
            GuardCall::Disarm(term) => {
                // A guard that is frozen does not answer, and that is no agreement.
                let agreed = match self.checker.settings.clone() {
                    Some(settings) => self.guard(i, Input::Request(Ask::Disarm { term: term.0 }), &settings),
                    None => false,
                };
                return self.keeper(i, KeeperInput::Disarmed(agreed));
            }
            GuardCall::Pause(term) => Ask::Pause { term: term.0 },
            GuardCall::Lost(term) => Ask::Lost { term: term.0 },
        };
        // The guard's orders that need the settings (a new agent) do not come from these requests.
        if let Some(settings) = self.checker.settings.clone() {
            self.guard(i, Input::Request(request), &settings);
        }
    }

    /// The store as a member reads it now.
    pub(crate) fn view_of(&mut self, i: usize) -> Arc<View> {
        let now = self.now();
        self.store.view(&self.tree, &mut self.nodes[i].seen, now)
    }
}
