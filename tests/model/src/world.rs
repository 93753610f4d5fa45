use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use howdah_dcs::{Cond, FailoverRequest, Key, KeyTree, Op, Outcome, Refusal, View};
use howdah_guard::{Input, Order, Request as Ask};
use howdah_ha::{GuardCall, KeeperInput, KeeperOutput, LeaseState};
use howdah_types::{BootTime, Scope};

use crate::{
    Settings, Violation,
    check::Checker,
    member::{Agent, Node, SYSTEM},
    settings::TICKS,
    store::{Store, Wire},
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
    /// The loop decides.
    Decide(usize),
    /// The next effect of the decision is carried out.
    Effect(usize),
    /// The long action goes on.
    Act(usize),
    /// WAL is shipped and clients write.
    Traffic,
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
        let put = Op::Put {
            key: Key::Initialize,
            value: SYSTEM.to_string(),
            cond: Cond::Always,
        };
        store.apply(&put, now);
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

    /// How many things the environment may do at the next step, the first of which is nothing.
    #[must_use]
    pub fn choices(&self, settings: &Settings) -> Choice {
        if self.budget == 0 || self.tick >= settings.calm_after {
            return 1;
        }
        let faults = &settings.faults;
        match self.step {
            Step::Fate(i) if self.nodes[i].off_until <= self.tick => {
                let deaths = if faults.deaths { 3 } else { 0 };
                let cuts = if faults.partitions { 2 } else { 0 };
                let requests = if faults.requests {
                    2 + u8::from(self.all_receive())
                } else {
                    0
                };
                1 + requests + deaths + cuts + u8::from(faults.both_freeze)
            }
            Step::Deliver(i) if self.nodes[i].sent.is_some() && self.connected(i) => {
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
                if self.nodes[i].sent.is_some() && self.runs(i) && self.connected(i) {
                    Step::Deliver(i)
                } else {
                    Step::Decide(i)
                }
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
                    self.nodes[i] = Node {
                        pg,
                        cut_until: self.nodes[i].cut_until,
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
            self.catch_up(i, settings);
            self.guard(i, Input::Tick, settings);
            if self.runs(i) {
                self.guard(i, Input::Request(Ask::Alive), settings);
                if let Some((op, back, sent)) = self.nodes[i].answer.take() {
                    self.hear(i, op, back, sent);
                }
            }
        }
    }

    /// A guard that was frozen sees afterwards what has ended meanwhile.
    fn catch_up(&mut self, i: usize, settings: &Settings) {
        if !self.nodes[i].pg.up && self.nodes[i].guard.pid().is_some() {
            self.guard(i, Input::PostgresEnded, settings);
        }
        if self.nodes[i].agent == Agent::Dead && self.nodes[i].agent_known {
            self.guard(i, Input::AgentEnded, settings);
        }
    }

    /// What befalls a node.
    fn fate(&mut self, i: usize, choice: Choice, settings: &Settings) {
        let mut options: Vec<&str> = vec!["nothing"];
        if settings.faults.requests {
            options.extend(["asks for a switchover", "asks for a switchover to the next"]);
            if self.all_receive() {
                options.push("receives no WAL for a while");
            }
        }
        if settings.faults.deaths {
            options.extend(["postgres dies", "agent dies", "node dies"]);
        }
        if settings.faults.partitions {
            options.extend(["cut off briefly", "cut off for long"]);
        }
        if settings.faults.both_freeze {
            options.push("agent and guard freeze");
        }
        let what = options.get(usize::from(choice)).copied().unwrap_or("nothing");
        if choice > 0 {
            self.say(|| format!("m{i}: FAULT: {what}"));
        }
        match what {
            "nothing" => return,
            "receives no WAL for a while" => {
                self.nodes[i].no_receiver_until = self.tick + 4 * TICKS;
                return;
            }
            "asks for a switchover" => return self.switch_over(i, None),
            "asks for a switchover to the next" => return self.switch_over(i, Some((i + 1) % MEMBERS)),
            _ => self.checker.disturbed = true,
        }
        let tick = self.tick;
        let node = &mut self.nodes[i];
        match what {
            "postgres dies" => self.postgres_dies(i, settings),
            "agent dies" => self.agent_dies(i, settings),
            "node dies" => {
                node.off_until = tick + 3 * TICKS;
                node.agent = Agent::Dead;
                node.pg.up = false;
            }
            "cut off briefly" => node.cut_until = tick + 3 * TICKS,
            "cut off for long" => node.cut_until = tick + 8 * TICKS,
            "agent and guard freeze" => {
                node.agent = Agent::Frozen(tick + 8 * TICKS);
                node.guard_frozen_until = tick + 8 * TICKS;
            }
            _ => {}
        }
    }

    /// Nobody's WAL receiver is between connections: one at a time, so that somebody always has everything.
    fn all_receive(&self) -> bool {
        self.nodes.iter().all(|node| node.no_receiver_until <= self.tick)
    }

    /// Somebody at a member's machine asks for a switchover from it.
    fn switch_over(&mut self, i: usize, to: Option<usize>) {
        let request = FailoverRequest {
            leader: Some(self.nodes[i].name.clone()),
            candidate: to.map(|to| self.nodes[to].name.clone()),
            scheduled_at: None,
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
            self.guard(i, Input::PostgresEnded, settings);
        }
    }

    pub(crate) fn freeze(&mut self, i: usize, seconds: u64) {
        self.checker.disturbed = true;
        self.say(|| format!("m{i}: FAULT: the agent freezes for {seconds} s"));
        self.nodes[i].agent = Agent::Frozen(self.tick + seconds * TICKS);
    }

    /// One input of a guard, and what it orders. A guard that is frozen or off hears nothing; its socket keeps what
    /// was sent only in our favour, so requests to it are lost.
    pub(crate) fn guard(&mut self, i: usize, input: Input, settings: &Settings) -> bool {
        if self.nodes[i].guard_frozen_until > self.tick || self.nodes[i].off_until > self.tick {
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
                Order::Start => {
                    self.nodes[i].pg.up = true;
                    self.nodes[i].pg.primary = !self.nodes[i].pg.standby;
                    self.guard(i, Input::Started { pid: 1 }, settings);
                }
                Order::Promote => {
                    let pg = &mut self.nodes[i].pg;
                    pg.primary = true;
                    pg.standby = false;
                    pg.timeline += 1;
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
                    self.nodes[i].new_agent(settings);
                    self.nodes[i].agent = Agent::Runs;
                    self.nodes[i].agent_known = true;
                    self.guard(i, Input::AgentStarted, settings);
                }
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
            }
        }
        if own && self.nodes[i].keeper.state(now) == LeaseState::None {
            self.violation = Some(Violation::GaveUp { member: i });
        }
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
            GuardCall::Arm {
                term,
                lease,
                stop_at,
                kill_at,
                deadline,
            } => Ask::Arm(howdah_guard::Arm {
                term: term.0,
                lease: lease.0,
                stop_at,
                kill_at,
                deadline,
            }),
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
    pub(crate) fn view_of(&mut self, i: usize) -> View {
        let now = self.now();
        self.store.view(&self.tree, &mut self.nodes[i].seen, now)
    }
}
