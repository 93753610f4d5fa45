//! What the guard decides: pure, and without allocation.

use std::time::Duration;

use howdah_types::BootTime;

use crate::{Arm, Reply, Request, StartMode, WhyRefused};

/// How PostgreSQL is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopMode {
    /// Sessions end, WAL goes to the replicas, a checkpoint is written (SIGINT).
    Fast = 1,
    /// No checkpoint: crash recovery at the next start (SIGQUIT).
    Immediate = 2,
}

impl StopMode {
    pub(crate) fn from_code(code: u64) -> Option<Self> {
        [StopMode::Fast, StopMode::Immediate]
            .into_iter()
            .find(|mode| *mode as u64 == code)
    }
}

/// What an agent that starts anew is told, so that it goes on where the last one ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Handover {
    /// The postmaster; 0 if PostgreSQL does not run.
    pub pid: u32,
    /// PostgreSQL was started as primary or promoted.
    pub may_write: bool,
    /// The leadership that is armed.
    pub term: Option<u64>,
    /// Its lease in the store.
    pub lease: u64,
    /// Until when.
    pub deadline: BootTime,
}

/// What the guard hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time passed.
    Tick,
    /// The agent asks.
    Request(Request),
    /// The postmaster was started by an earlier [`Order::Start`].
    Started {
        /// Its pid.
        pid: u32,
    },
    /// An earlier [`Order::Start`] did not succeed.
    NotStarted,
    /// The postmaster has ended.
    PostgresEnded,
    /// The agent has ended.
    AgentEnded,
    /// An agent was started by an earlier [`Order::SpawnAgent`].
    AgentStarted,
}

/// What the guard does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Answer the request.
    Reply(Reply),
    /// Start PostgreSQL with the command line of the request; then [`Input::Started`] or [`Input::NotStarted`].
    Start,
    /// Tell PostgreSQL to leave recovery.
    Promote,
    /// Tell PostgreSQL to stop.
    Stop(StopMode),
    /// Freeze the postmaster, kill all its processes, then it; repeated at every tick until nothing is left.
    KillPostgres,
    /// The agent does not answer.
    KillAgent,
    /// Start an agent.
    SpawnAgent,
}

/// At most this many orders come from one input.
pub type Orders = [Option<Order>; 2];

const NOTHING: Orders = [None, None];

/// The shortest time between two starts of an agent that ends by itself.
const RESPAWN_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Postgres {
    Down,
    /// `Order::Start` was given.
    Starting {
        writes: bool,
    },
    Up {
        pid: u32,
        writes: bool,
    },
}

/// Between a calm guard and a dead PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fence {
    No,
    /// Asked to stop at D - m1.
    Stopping,
    /// Being killed.
    Killing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Agent {
    /// Starts at this moment at the earliest.
    Down {
        spawn_at: BootTime,
    },
    Up {
        heard: BootTime,
        since: BootTime,
    },
}

/// The guard's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Core {
    armed: Option<Arm>,
    /// The newest leadership ever armed: an older one never comes back.
    newest_term: u64,
    postgres: Postgres,
    fence: Fence,
    /// A first primary without a lease must be armed by then.
    unleased_until: Option<BootTime>,
    agent: Agent,
    hang_after: Duration,
}

impl Core {
    /// A guard at its start, before any agent. An agent that is silent for `hang_after` is killed.
    #[must_use]
    pub fn new(hang_after: Duration, now: BootTime) -> Self {
        Core {
            armed: None,
            newest_term: 0,
            postgres: Postgres::Down,
            fence: Fence::No,
            unleased_until: None,
            agent: Agent::Down { spawn_at: now },
            hang_after,
        }
    }

    /// Takes one input and says what to do.
    #[must_use]
    pub fn step(&mut self, input: Input, now: BootTime) -> Orders {
        match input {
            Input::Tick => self.tick(now),
            Input::Request(request) => self.request(request, now),
            Input::Started { pid } => {
                if let Postgres::Starting { writes } = self.postgres {
                    self.postgres = Postgres::Up { pid, writes };
                }
                one(Order::Reply(Reply::Ok { pid }))
            }
            Input::NotStarted => {
                self.postgres = Postgres::Down;
                one(Order::Reply(Reply::Refused(WhyRefused::System)))
            }
            Input::PostgresEnded => {
                self.postgres = Postgres::Down;
                self.fence = Fence::No;
                self.unleased_until = None;
                NOTHING
            }
            Input::AgentEnded => {
                let spawn_at = match self.agent {
                    Agent::Up { since, .. } if now.since(since) < RESPAWN_PAUSE => now + RESPAWN_PAUSE,
                    _ => now,
                };
                // The store may be another one, with lower terms, when the next agent comes; nothing that the last one
                // sent can still arrive.
                self.newest_term = 0;
                self.agent = Agent::Down { spawn_at };
                NOTHING
            }
            Input::AgentStarted => {
                self.agent = Agent::Up {
                    heard: now,
                    since: now,
                };
                NOTHING
            }
        }
    }

    /// When [`Input::Tick`] is due; it may come earlier.
    #[must_use]
    pub fn next_tick(&self, now: BootTime) -> BootTime {
        let agent = match self.agent {
            Agent::Down { spawn_at } => spawn_at,
            Agent::Up { heard, .. } => heard + self.hang_after,
        };
        let lease = match (self.fence, self.armed) {
            // Killing goes on until nothing is left.
            (Fence::Killing, _) => now + Duration::from_millis(20),
            (Fence::Stopping, Some(arm)) => arm.kill_at,
            (Fence::No, Some(arm)) if self.may_write() => arm.stop_at,
            (Fence::No, Some(arm)) => arm.deadline,
            (_, None) => self.unleased_until.unwrap_or(BootTime::FAR_FUTURE),
        };
        agent.min(lease)
    }

    /// What a new agent is told.
    #[must_use]
    pub fn handover(&self) -> Handover {
        Handover {
            pid: self.pid().unwrap_or(0),
            may_write: self.may_write(),
            term: self.armed.map(|arm| arm.term),
            lease: self.armed.map_or(0, |arm| arm.lease),
            deadline: self.armed.map_or(BootTime(0), |arm| arm.deadline),
        }
    }

    /// The postmaster, if one runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self.postgres {
            Postgres::Up { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Whether PostgreSQL was started as primary or promoted and still runs.
    #[must_use]
    pub fn may_write(&self) -> bool {
        matches!(
            self.postgres,
            Postgres::Up { writes: true, .. } | Postgres::Starting { writes: true }
        )
    }

    /// Whether the guard is ending PostgreSQL.
    #[must_use]
    pub fn is_fencing(&self) -> bool {
        self.fence != Fence::No
    }

    fn tick(&mut self, now: BootTime) -> Orders {
        let fence = self.tick_lease(now);
        let agent = match &mut self.agent {
            Agent::Down { spawn_at } if now >= *spawn_at => Some(Order::SpawnAgent),
            Agent::Up { heard, .. } if now.since(*heard) >= self.hang_after => {
                // If it does not die of that, it is killed again after the same time.
                *heard = now;
                Some(Order::KillAgent)
            }
            _ => None,
        };
        [fence, agent]
    }

    fn tick_lease(&mut self, now: BootTime) -> Option<Order> {
        if self.fence == Fence::Killing {
            return Some(Order::KillPostgres);
        }
        if self.unleased_until.is_some_and(|until| now >= until) {
            self.fence = Fence::Killing;
            return Some(Order::KillPostgres);
        }
        let arm = self.armed?;
        if !self.may_write() {
            if now >= arm.deadline {
                self.armed = None;
            }
            return None;
        }
        if now >= arm.kill_at {
            self.fence = Fence::Killing;
            self.armed = None;
            Some(Order::KillPostgres)
        } else if now >= arm.stop_at && self.fence == Fence::No {
            self.fence = Fence::Stopping;
            Some(Order::Stop(StopMode::Fast))
        } else {
            None
        }
    }

    fn request(&mut self, request: Request, now: BootTime) -> Orders {
        if let Agent::Up { heard, .. } = &mut self.agent {
            *heard = now;
        }
        match self.answer(request, now) {
            Ok(orders) => orders,
            Err(why) => one(Order::Reply(Reply::Refused(why))),
        }
    }

    fn answer(&mut self, request: Request, now: BootTime) -> Result<Orders, WhyRefused> {
        let ok = one(Order::Reply(Reply::Ok { pid: 0 }));
        match request {
            Request::Hello => Ok(one(Order::Reply(Reply::State(self.handover())))),
            Request::Alive => Ok(NOTHING),
            Request::Exit { .. } => Ok(ok),
            Request::Arm(arm) => self.arm(arm, now).map(|()| ok),
            Request::Disarm { term } => {
                if self.may_write() {
                    return Err(WhyRefused::MayWrite);
                }
                if self.armed.take_if(|arm| arm.term == term).is_some() {
                    self.newest_term = 0;
                }
                Ok(ok)
            }
            Request::Pause { term } => {
                self.calm()?;
                self.armed
                    .take_if(|arm| arm.term == term)
                    .ok_or(WhyRefused::NotArmed)?;
                Ok(ok)
            }
            Request::Lost { term } => {
                if self.armed.take_if(|arm| arm.term == term).is_none() {
                    return Ok(ok);
                }
                self.newest_term = 0;
                if !self.may_write() {
                    return Ok(ok);
                }
                self.fence = Fence::Killing;
                Ok([Some(Order::KillPostgres), ok[0]])
            }
            Request::Start(mode) => self.start(mode, now),
            Request::Promote { term, not_after } => {
                self.calm()?;
                self.authority(term, not_after, now)?;
                match &mut self.postgres {
                    Postgres::Up { writes, .. } => *writes = true,
                    _ => return Err(WhyRefused::NotRunning),
                }
                Ok([Some(Order::Promote), ok[0]])
            }
            Request::Stop(mode) => {
                self.pid().ok_or(WhyRefused::NotRunning)?;
                Ok([Some(Order::Stop(mode)), ok[0]])
            }
            Request::Adopt {
                pid,
                may_write,
                not_after,
            } => {
                if self.postgres != Postgres::Down {
                    return Err(WhyRefused::Running);
                }
                self.postgres = Postgres::Up {
                    pid,
                    writes: may_write,
                };
                self.unleased_until = may_write.then_some(not_after);
                Ok(ok)
            }
        }
    }

    fn arm(&mut self, arm: Arm, now: BootTime) -> Result<(), WhyRefused> {
        self.calm()?;
        if arm.term < self.newest_term {
            return Err(WhyRefused::OldTerm);
        }
        if now >= arm.stop_at {
            return Err(WhyRefused::TooLate);
        }
        // A renewal that was sent before another one is not newer, whichever arrives last.
        let known = self
            .armed
            .filter(|known| known.term == arm.term && known.deadline > arm.deadline);
        self.armed = Some(known.unwrap_or(arm));
        self.newest_term = arm.term;
        self.unleased_until = None;
        Ok(())
    }

    fn start(&mut self, mode: StartMode, now: BootTime) -> Result<Orders, WhyRefused> {
        self.calm()?;
        if self.postgres != Postgres::Down {
            return Err(WhyRefused::Running);
        }
        let writes = match mode {
            StartMode::Replica => false,
            StartMode::Primary { term, not_after } => {
                self.authority(term, not_after, now)?;
                true
            }
            StartMode::Bootstrap { not_after } => {
                if now >= not_after {
                    return Err(WhyRefused::TooLate);
                }
                self.unleased_until = Some(not_after);
                true
            }
        };
        self.postgres = Postgres::Starting { writes };
        Ok(one(Order::Start))
    }

    /// The right to make PostgreSQL writable: the armed leadership, in time.
    fn authority(&self, term: u64, not_after: BootTime, now: BootTime) -> Result<(), WhyRefused> {
        let arm = self
            .armed
            .filter(|arm| arm.term == term)
            .ok_or(WhyRefused::NotArmed)?;
        if now >= not_after || now >= arm.stop_at {
            return Err(WhyRefused::TooLate);
        }
        Ok(())
    }

    fn calm(&self) -> Result<(), WhyRefused> {
        if self.fence == Fence::No {
            Ok(())
        } else {
            Err(WhyRefused::Fencing)
        }
    }
}

fn one(order: Order) -> Orders {
    [Some(order), None]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANG: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> BootTime {
        BootTime::from_secs(seconds)
    }

    fn arm(term: u64, deadline: u64) -> Request {
        Request::Arm(Arm {
            term,
            lease: 7,
            stop_at: at(deadline - 4),
            kill_at: at(deadline - 1),
            deadline: at(deadline),
        })
    }

    fn ask(core: &mut Core, request: Request, now: u64) -> Result<Option<Order>, WhyRefused> {
        let orders = core.step(Input::Request(request), at(now));
        match orders.into_iter().flatten().find_map(|o| match o {
            Order::Reply(Reply::Refused(why)) => Some(why),
            _ => None,
        }) {
            Some(why) => Err(why),
            None => Ok(orders[0]),
        }
    }

    fn primary(deadline: u64) -> Core {
        let mut core = Core::new(HANG, at(0));
        ask(&mut core, arm(1, deadline), 0).unwrap();
        ask(
            &mut core,
            Request::Start(StartMode::Primary {
                term: 1,
                not_after: at(3),
            }),
            1,
        )
        .unwrap();
        let _ = core.step(Input::Started { pid: 42 }, at(1));
        core
    }

    #[test]
    fn a_primary_is_stopped_then_killed_before_its_lease_ends() {
        let mut core = primary(30);
        assert_eq!(
            core.next_tick(at(1)).0,
            at(0).0,
            "an agent is to be started first"
        );
        let _ = core.step(Input::AgentStarted, at(1));
        assert_eq!(core.tick_lease(at(25)), None);
        assert_eq!(core.tick_lease(at(26)), Some(Order::Stop(StopMode::Fast)));
        assert_eq!(core.tick_lease(at(27)), None);
        assert_eq!(
            ask(&mut core, arm(1, 60), 27),
            Err(WhyRefused::Fencing),
            "a late renewal does not save it"
        );
        assert_eq!(core.tick_lease(at(29)), Some(Order::KillPostgres));
        assert_eq!(
            core.tick_lease(at(30)),
            Some(Order::KillPostgres),
            "until nothing is left"
        );
        let _ = core.step(Input::PostgresEnded, at(30));
        assert_eq!(core.tick_lease(at(31)), None);
        assert!(!core.may_write() && !core.is_fencing());
    }

    #[test]
    fn promotion_needs_the_armed_term_in_time() {
        let mut core = Core::new(HANG, at(0));
        ask(&mut core, Request::Start(StartMode::Replica), 0).unwrap();
        let _ = core.step(Input::Started { pid: 42 }, at(0));
        let promote = |term, not_after| Request::Promote {
            term,
            not_after: at(not_after),
        };
        assert_eq!(ask(&mut core, promote(1, 9), 1), Err(WhyRefused::NotArmed));
        ask(&mut core, arm(5, 30), 1).unwrap();
        assert_eq!(ask(&mut core, promote(4, 9), 2), Err(WhyRefused::NotArmed));
        assert_eq!(
            ask(&mut core, promote(5, 9), 9),
            Err(WhyRefused::TooLate),
            "a thawed agent cannot promote late"
        );
        assert_eq!(ask(&mut core, promote(5, 99), 26), Err(WhyRefused::TooLate));
        assert_eq!(ask(&mut core, arm(4, 40), 3), Err(WhyRefused::OldTerm));
        assert_eq!(ask(&mut core, promote(5, 9), 3), Ok(Some(Order::Promote)));
        assert!(core.may_write());
    }

    #[test]
    fn a_lost_lease_kills_at_once_and_only_its_own_term() {
        let mut core = primary(30);
        assert_eq!(
            ask(&mut core, Request::Lost { term: 9 }, 2).unwrap(),
            Some(Order::Reply(Reply::Ok { pid: 0 }))
        );
        assert!(!core.is_fencing());
        assert_eq!(
            ask(&mut core, Request::Lost { term: 1 }, 2).unwrap(),
            Some(Order::KillPostgres)
        );
    }

    #[test]
    fn a_writer_is_never_disarmed_except_in_pause() {
        let mut core = primary(30);
        assert_eq!(
            ask(&mut core, Request::Disarm { term: 1 }, 2),
            Err(WhyRefused::MayWrite)
        );
        ask(&mut core, Request::Pause { term: 1 }, 2).unwrap();
        assert_eq!(core.tick_lease(at(1000)), None);
        ask(&mut core, arm(1, 2000), 1001).unwrap();
        assert_eq!(core.tick_lease(at(1999)), Some(Order::KillPostgres));
    }

    #[test]
    fn a_first_primary_must_get_a_lease() {
        let mut core = Core::new(HANG, at(0));
        ask(
            &mut core,
            Request::Start(StartMode::Bootstrap { not_after: at(60) }),
            0,
        )
        .unwrap();
        let _ = core.step(Input::Started { pid: 42 }, at(0));
        assert_eq!(core.tick_lease(at(59)), None);
        assert_eq!(core.tick_lease(at(60)), Some(Order::KillPostgres));
    }

    #[test]
    fn an_adopted_primary_must_get_a_lease_too() {
        let mut core = Core::new(HANG, at(0));
        ask(
            &mut core,
            Request::Adopt {
                pid: 7,
                may_write: true,
                not_after: at(30),
            },
            0,
        )
        .unwrap();
        assert_eq!(core.tick_lease(at(29)), None);
        assert_eq!(core.tick_lease(at(30)), Some(Order::KillPostgres));
    }

    #[test]
    fn a_silent_agent_is_replaced_and_told_what_it_had() {
        let mut core = primary(30);
        let _ = core.step(Input::AgentStarted, at(1));
        let _ = core.step(Input::Request(Request::Alive), at(4));
        assert_eq!(core.step(Input::Tick, at(8)), NOTHING);
        assert_eq!(core.step(Input::Tick, at(9)), [None, Some(Order::KillAgent)]);
        let _ = core.step(Input::AgentEnded, at(9));
        assert_eq!(core.step(Input::Tick, at(9)), [None, Some(Order::SpawnAgent)]);
        let _ = core.step(Input::AgentStarted, at(9));
        let Ok(Some(Order::Reply(Reply::State(state)))) = ask(&mut core, Request::Hello, 10) else {
            panic!("a state")
        };
        assert_eq!(
            (state.pid, state.term, state.lease, state.may_write),
            (42, Some(1), 7, true)
        );
    }
}
