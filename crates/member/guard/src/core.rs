//! What the guard decides: pure, and without allocation.

use std::time::Duration;

use howdah_types::BootTime;

use crate::{
    Arm, Handover, Reply, Request, StartMode, StopMode, Watchdog, WhyRefused, watchdog::WatchdogState,
};

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
    /// The member is asked to end (SIGTERM, SIGINT).
    Terminate,
    /// The watchdog device was opened by an earlier [`Order::OpenWatchdog`].
    WatchdogOpened {
        /// It resets the machine this long after it was fed last.
        timeout: Duration,
        /// It stops when it is closed.
        stops: bool,
    },
    /// An earlier [`Order::OpenWatchdog`] did not succeed.
    WatchdogFailed,
    /// The device took an [`Order::FeedWatchdog`].
    WatchdogFed {
        /// Its timeout since then.
        timeout: Duration,
    },
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
    /// The agent does not answer, or is not waited for any longer.
    KillAgent,
    /// Tell the agent to end.
    TerminateAgent,
    /// Start an agent.
    SpawnAgent,
    /// Agent and PostgreSQL have ended for good: the guard ends with this code.
    Exit(u8),
    /// Open the watchdog device; then [`Input::WatchdogOpened`] or [`Input::WatchdogFailed`].
    OpenWatchdog {
        /// What the agent wants of it.
        wanted: Watchdog,
        /// With this timeout: what was wanted, or less where the lease ends earlier.
        timeout: Duration,
    },
    /// Start the device's time from the beginning; then [`Input::WatchdogFed`], if it took it.
    FeedWatchdog {
        /// Set if it is another one.
        timeout: Duration,
    },
    /// Close the device in the way that stops it.
    CloseWatchdog,
}

/// At most this many orders come from one input.
pub type Orders = [Option<Order>; 3];

const NOTHING: Orders = [None, None, None];

/// The shortest time between two starts of an agent that ends by itself.
const RESPAWN_PAUSE: Duration = Duration::from_secs(1);

/// Killing is repeated this often until nothing is left.
const KILL_AGAIN: Duration = Duration::from_millis(20);

/// When the agent is gone for good, PostgreSQL has this long for its shutdown checkpoint.
const LAST_STOP: Duration = Duration::from_secs(60);

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
    /// Being killed, because its right to write is over.
    Killing,
    /// Being killed, because the agent has asked for it or the guard itself ends.
    Ending,
}

/// The member ends for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Leaving {
    /// The guard's exit code.
    code: u8,
    /// The agent has ended and PostgreSQL was told to stop: at this moment it is killed.
    kill_at: Option<BootTime>,
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

/// What waits for the watchdog device to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Opening {
    request: Request,
    /// The lease that it must serve.
    arm: Arm,
    began: BootTime,
}

/// The guard's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Core {
    armed: Option<Arm>,
    postgres: Postgres,
    fence: Fence,
    /// In maintenance mode, the leadership under which PostgreSQL goes on unwatched and may be started again.
    paused: Option<u64>,
    /// A first primary without a lease must be armed by then.
    unleased_until: Option<BootTime>,
    agent: Agent,
    hang_after: Duration,
    leaving: Option<Leaving>,
    watchdog: WatchdogState,
    opening: Option<Opening>,
    /// When the device was to be fed last.
    fed: BootTime,
}

impl Core {
    /// A guard at its start, before any agent. An agent that is silent for `hang_after` is killed, earlier near
    /// the end of a lease.
    #[must_use]
    pub fn new(hang_after: Duration, now: BootTime) -> Self {
        Core {
            armed: None,
            postgres: Postgres::Down,
            fence: Fence::No,
            paused: None,
            unleased_until: None,
            agent: Agent::Down { spawn_at: now },
            hang_after,
            leaving: None,
            watchdog: WatchdogState::none(),
            opening: None,
            fed: now,
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
                self.and_close(one(Order::Reply(Reply::Refused(WhyRefused::System))))
            }
            Input::PostgresEnded => {
                self.postgres = Postgres::Down;
                self.fence = Fence::No;
                self.unleased_until = None;
                self.and_close(NOTHING)
            }
            Input::AgentEnded => {
                let spawn_at = match self.agent {
                    Agent::Up { since, .. } if now.since(since) < RESPAWN_PAUSE => now + RESPAWN_PAUSE,
                    Agent::Up { .. } | Agent::Down { .. } => now,
                };
                self.paused = None;
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
            Input::Terminate => self.terminate(),
            Input::WatchdogOpened { timeout, stops } => {
                let Some(Opening { request, arm, began }) = self.opening.take() else {
                    return NOTHING;
                };
                let useful = self.watchdog.opened(timeout, stops, arm, began, now);
                let mut orders = self.answered(request, now);
                if !useful {
                    orders[2] = Some(Order::CloseWatchdog);
                }
                orders
            }
            Input::WatchdogFailed => {
                let Some(Opening { request, .. }) = self.opening.take() else {
                    return NOTHING;
                };
                self.watchdog.failed(now);
                self.answered(request, now)
            }
            Input::WatchdogFed { timeout } => {
                self.watchdog.fed(timeout, self.fed);
                NOTHING
            }
        }
    }

    /// What the agent wants of the watchdog device.
    #[must_use]
    pub fn watchdog(&self) -> Option<Watchdog> {
        self.watchdog.wanted()
    }

    /// The orders; and the device is closed, if it is open and PostgreSQL does not write.
    fn and_close(&mut self, mut orders: Orders) -> Orders {
        if !self.may_write() && self.watchdog.close() {
            orders[2] = Some(Order::CloseWatchdog);
        }
        orders
    }

    /// When [`Input::Tick`] is due; it may come earlier.
    #[must_use]
    pub fn next_tick(&self, now: BootTime) -> BootTime {
        let agent = match self.agent {
            Agent::Down { spawn_at } => spawn_at,
            Agent::Up { heard, .. } => self.silence_ends(heard),
        };
        let agent = match self.leaving {
            Some(Leaving {
                kill_at: Some(at), ..
            }) => at.max(now + KILL_AGAIN),
            Some(_) if matches!(self.agent, Agent::Down { .. }) => now,
            _ => agent,
        };
        let lease = match (self.fence, self.armed) {
            (Fence::Killing | Fence::Ending, _) => now + KILL_AGAIN,
            (Fence::Stopping, Some(arm)) => self.watchdog.limits(arm).1,
            (Fence::No, Some(arm)) if self.may_write() => self.watchdog.limits(arm).0,
            (Fence::No, Some(arm)) => arm.deadline,
            (_, None) => self.unleased_until.unwrap_or(BootTime::FAR_FUTURE),
        };
        agent.min(lease)
    }

    /// What the guard tells a new agent.
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
            Postgres::Starting { .. } | Postgres::Down => None,
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

    /// Whether a primary runs without a deadline, because the cluster is in pause.
    #[must_use]
    pub fn is_unfenced(&self) -> bool {
        self.may_write() && self.armed.is_none() && self.unleased_until.is_none() && !self.is_fencing()
    }

    /// Whether a primary runs until a moment that no lease sets: the first of a cluster, or one that was started by hand.
    #[must_use]
    pub fn is_unleased(&self) -> bool {
        self.may_write() && self.unleased_until.is_some()
    }

    /// Whether the guard is ending PostgreSQL because its right to write is over.
    #[must_use]
    pub fn is_fencing(&self) -> bool {
        matches!(self.fence, Fence::Stopping | Fence::Killing)
    }

    fn tick(&mut self, now: BootTime) -> Orders {
        let fence = self.tick_lease(now);
        let silence_ends = match self.agent {
            Agent::Up { heard, .. } => self.silence_ends(heard),
            Agent::Down { .. } => BootTime::FAR_FUTURE,
        };
        let agent = match &mut self.agent {
            Agent::Down { .. } if self.leaving.is_some() => self.tick_leaving(now),
            Agent::Down { spawn_at } if now >= *spawn_at => Some(Order::SpawnAgent),
            Agent::Up { heard, .. } if now >= silence_ends => {
                // If it does not die of that, it is killed again after the same time.
                *heard = now;
                Some(Order::KillAgent)
            }
            Agent::Up { .. } | Agent::Down { .. } => None,
        };
        [fence, agent, None]
    }

    /// Until when an agent's silence is borne: for `hang_after`, and less while the right to write ends so soon that the next
    /// agent could not renew it in time.
    fn silence_ends(&self, heard: BootTime) -> BootTime {
        let usual = heard + self.hang_after;
        match self.armed {
            Some(arm) if self.may_write() && self.fence == Fence::No => {
                let in_time = self.watchdog.limits(arm).0 - self.hang_after * 3 / 10;
                usual.min(in_time.max(heard + self.hang_after * 2 / 5))
            }
            Some(_) | None => usual,
        }
    }

    /// Told once, the agent ends in order and hands over; told twice, it is not waited for, and PostgreSQL still gets a
    /// clean stop; told a third time, PostgreSQL stops at once.
    fn terminate(&mut self) -> Orders {
        one(match self.leaving {
            Some(Leaving { kill_at: Some(_), .. }) => Order::Stop(StopMode::Immediate),
            Some(_) => Order::KillAgent,
            None => {
                self.leaving = Some(Leaving {
                    code: 0,
                    kill_at: None,
                });
                Order::TerminateAgent
            }
        })
    }

    /// The agent has ended for good: PostgreSQL stops, and then the guard ends.
    fn tick_leaving(&mut self, now: BootTime) -> Option<Order> {
        let leaving = self.leaving.as_mut()?;
        if self.postgres == Postgres::Down {
            return Some(Order::Exit(leaving.code));
        }
        match leaving.kill_at {
            None => {
                leaving.kill_at = Some(now + LAST_STOP);
                Some(Order::Stop(StopMode::Fast))
            }
            Some(at) if now >= at && self.fence == Fence::No => {
                self.fence = Fence::Ending;
                Some(Order::KillPostgres)
            }
            Some(_) => None,
        }
    }

    fn tick_lease(&mut self, now: BootTime) -> Option<Order> {
        if matches!(self.fence, Fence::Killing | Fence::Ending) {
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
        let (stop_at, kill_at) = self.watchdog.limits(arm);
        if now >= kill_at {
            self.fence = Fence::Killing;
            self.armed = None;
            Some(Order::KillPostgres)
        } else if now >= stop_at && self.fence == Fence::No {
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
        if let Some(order) = self.open_first(request, now) {
            return one(order);
        }
        self.answered(request, now)
    }

    /// What makes PostgreSQL a primary, or lets it go on as one, waits until the watchdog device was opened.
    fn open_first(&mut self, request: Request, now: BootTime) -> Option<Order> {
        let (arm, becomes_primary) = match request {
            // Without a lease in time it is refused; in maintenance mode nothing is watched.
            Request::Promote { term, not_after } => {
                self.pid()?;
                (self.lease_of(term, not_after, now)?, true)
            }
            Request::Start(StartMode::Primary { term, not_after }) if self.postgres == Postgres::Down => {
                (self.lease_of(term, not_after, now)?, true)
            }
            Request::Arm(arm) if self.may_write() && self.accepts(arm, now).is_ok() => (arm, false),
            Request::Arm(_)
            | Request::Hello
            | Request::Alive
            | Request::Disarm { .. }
            | Request::Pause { .. }
            | Request::Lost { .. }
            | Request::Start(_)
            | Request::Stop(_)
            | Request::Adopt { .. }
            | Request::Exit { .. }
            | Request::Watchdog(_) => return None,
        };
        let wanted = self.watchdog.wanted()?;
        let timeout = self.watchdog.to_open(arm, becomes_primary, now)?;
        self.opening = Some(Opening {
            request,
            arm,
            began: now,
        });
        Some(Order::OpenWatchdog { wanted, timeout })
    }

    /// The armed lease, if something may be begun under it now.
    fn lease_of(&self, term: u64, not_after: BootTime, now: BootTime) -> Option<Arm> {
        self.refuse_while_fencing().ok()?;
        let arm = self.armed.filter(|arm| arm.term == term)?;
        (now < not_after && now < arm.stop_at).then_some(arm)
    }

    fn answered(&mut self, request: Request, now: BootTime) -> Orders {
        let orders = self
            .answer(request, now)
            .unwrap_or_else(|why| one(Order::Reply(Reply::Refused(why))));
        self.and_close(orders)
    }

    fn answer(&mut self, request: Request, now: BootTime) -> Result<Orders, WhyRefused> {
        let ok = one(Order::Reply(Reply::Ok { pid: 0 }));
        match request {
            Request::Hello => Ok(one(Order::Reply(Reply::State(self.handover())))),
            Request::Alive => Ok(NOTHING),
            Request::Exit { code } => {
                self.leaving = Some(Leaving { code, kill_at: None });
                Ok(ok)
            }
            Request::Arm(arm) => {
                self.arm(arm, now)?;
                let feed = self.armed.filter(|_| self.may_write());
                let feed = feed.and_then(|arm| self.watchdog.to_feed(arm, now));
                let feed = feed.map(|timeout| {
                    self.fed = now;
                    Order::FeedWatchdog { timeout }
                });
                Ok([ok[0], feed, None])
            }
            Request::Watchdog(wanted) => {
                let close = self.watchdog.want(wanted).then_some(Order::CloseWatchdog);
                Ok([ok[0], close, None])
            }
            Request::Disarm { term } => {
                if self.may_write() {
                    return Err(WhyRefused::MayWrite);
                }
                self.armed.take_if(|arm| arm.term == term);
                self.paused = None;
                Ok(ok)
            }
            Request::Pause { term } => {
                self.refuse_while_fencing()?;
                self.armed
                    .take_if(|arm| arm.term == term)
                    .ok_or(WhyRefused::NotArmed)?;
                self.paused = Some(term);
                let close = self.watchdog.close().then_some(Order::CloseWatchdog);
                Ok([ok[0], close, None])
            }
            Request::Lost { term } => {
                self.paused.take_if(|paused| *paused == term);
                if self.armed.take_if(|arm| arm.term == term).is_none() {
                    return Ok(ok);
                }
                if !self.may_write() {
                    return Ok(ok);
                }
                self.fence = Fence::Killing;
                Ok([Some(Order::KillPostgres), ok[0], None])
            }
            Request::Start(mode) => self.start(mode, now),
            Request::Promote { term, not_after } => {
                self.refuse_while_fencing()?;
                self.authority(term, not_after, now)?;
                match &mut self.postgres {
                    Postgres::Up { writes, .. } => *writes = true,
                    Postgres::Starting { .. } | Postgres::Down => return Err(WhyRefused::NotRunning),
                }
                Ok([Some(Order::Promote), ok[0], None])
            }
            Request::Stop(mode) => {
                self.pid().ok_or(WhyRefused::NotRunning)?;
                let order = match mode {
                    StopMode::Kill => {
                        if self.fence != Fence::Killing {
                            self.fence = Fence::Ending;
                        }
                        Order::KillPostgres
                    }
                    StopMode::Fast | StopMode::Immediate => Order::Stop(mode),
                };
                Ok([Some(order), ok[0], None])
            }
            Request::Adopt {
                pid,
                may_write,
                not_after,
            } => {
                self.adopt(pid, may_write, not_after)?;
                Ok(ok)
            }
        }
    }

    /// A server that the guard has not started, or one that writes although the guard has not allowed it: a person has
    /// started or promoted it by hand. From now on it is fenced as any other one.
    fn adopt(&mut self, pid: u32, may_write: bool, not_after: BootTime) -> Result<(), WhyRefused> {
        let wrote = match self.postgres {
            Postgres::Down => false,
            Postgres::Up { pid: known, writes } if known == pid => writes,
            Postgres::Up { .. } | Postgres::Starting { .. } => return Err(WhyRefused::Running),
        };
        let writes = may_write || wrote;
        self.postgres = Postgres::Up { pid, writes };
        // An armed lease is its bound; so is the one that it was given before, unless this one is earlier.
        if writes && self.armed.is_none() {
            let known = self.unleased_until.filter(|_| wrote);
            if !wrote || known.is_some() {
                self.unleased_until = Some(known.map_or(not_after, |known| known.min(not_after)));
            }
        }
        Ok(())
    }

    /// Whether a renewal is news, and comes in time.
    fn accepts(&self, arm: Arm, now: BootTime) -> Result<(), WhyRefused> {
        self.refuse_while_fencing()?;
        // Once the armed leadership is over, terms may be lower: a store that was lost begins to count again.
        if self.armed.is_some_and(|known| arm.term < known.term) {
            return Err(WhyRefused::OldTerm);
        }
        if now >= arm.stop_at {
            return Err(WhyRefused::TooLate);
        }
        Ok(())
    }

    fn arm(&mut self, arm: Arm, now: BootTime) -> Result<(), WhyRefused> {
        self.accepts(arm, now)?;
        // A primary without the device that it needs goes on until the end of the lease that it has, or of this one.
        if self.may_write() && !self.watchdog.allows() {
            if self.armed.is_none() {
                self.armed = Some(arm);
                (self.paused, self.unleased_until) = (None, None);
            }
            return Err(WhyRefused::NoWatchdog);
        }
        // A renewal that was sent before another one is not newer, whichever arrives last.
        let known = self
            .armed
            .filter(|known| known.term == arm.term && known.deadline > arm.deadline);
        self.armed = Some(known.unwrap_or(arm));
        self.paused = None;
        self.unleased_until = None;
        Ok(())
    }

    fn start(&mut self, mode: StartMode, now: BootTime) -> Result<Orders, WhyRefused> {
        self.refuse_while_fencing()?;
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

    /// The right to make PostgreSQL writable: the armed leadership, in time; in maintenance mode, where nothing is watched,
    /// the leadership that was armed when it began.
    fn authority(&self, term: u64, not_after: BootTime, now: BootTime) -> Result<(), WhyRefused> {
        if self.paused == Some(term) && self.armed.is_none() {
            return if now < not_after {
                Ok(())
            } else {
                Err(WhyRefused::TooLate)
            };
        }
        let arm = self
            .armed
            .filter(|arm| arm.term == term)
            .ok_or(WhyRefused::NotArmed)?;
        if !self.watchdog.allows() {
            return Err(WhyRefused::NoWatchdog);
        }
        if now >= not_after || now >= self.watchdog.limits(arm).0 {
            return Err(WhyRefused::TooLate);
        }
        Ok(())
    }

    /// Nothing is begun while PostgreSQL is being ended.
    fn refuse_while_fencing(&self) -> Result<(), WhyRefused> {
        if self.fence == Fence::No {
            Ok(())
        } else {
            Err(WhyRefused::Fencing)
        }
    }
}

fn one(order: Order) -> Orders {
    [Some(order), None, None]
}

#[cfg(test)]
mod tests;
