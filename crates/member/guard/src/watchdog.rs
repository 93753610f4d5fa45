//! When the machine's watchdog device is opened, fed and closed: pure, the core's part for it.
//!
//! The guard ends PostgreSQL before its lease ends. The device covers what the guard itself cannot: that it is frozen, that the
//! kernel is, or that a process of PostgreSQL does not die of SIGKILL. It resets the machine `timeout` after it was fed last, so
//! it is fed only if that is before the end of the lease, and PostgreSQL ends before it bites.
//!
//! ```text
//!  renewal sent            fed                     stop      kill   device      D
//!       ├───────────────────┼───────────────────────┼─────────┼──────┤──────────┤
//!                           └──────────────── timeout ───────────────┘
//! ```

use std::time::Duration;

use howdah_types::BootTime;

use crate::Arm;

/// A device that could not be opened is tried again after this long.
const AGAIN: Duration = Duration::from_secs(60);

/// What the agent wants of the device: `watchdog` of its configuration, for the present length of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watchdog {
    /// The device resets the machine this long after it was fed last; whole seconds.
    pub timeout: Duration,
    /// `mode: required`: without it PostgreSQL does not become a primary.
    pub required: bool,
    /// `driver: testing`: a named pipe that takes the timeout as text, for tests.
    pub testing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Device {
    Closed,
    /// It could not be opened, or not be set; it is tried again from this moment on.
    Failed {
        again: BootTime,
    },
    Open {
        timeout: Duration,
        /// Not before this moment it resets the machine.
        bites: BootTime,
    },
}

/// The device, as the core knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Dog {
    wanted: Option<Watchdog>,
    device: Device,
}

impl Dog {
    pub(crate) fn none() -> Self {
        Dog {
            wanted: None,
            device: Device::Closed,
        }
    }

    pub(crate) fn wanted(&self) -> Option<Watchdog> {
        self.wanted
    }

    /// Another configuration. True if the device is open by the one before: it must be closed.
    pub(crate) fn want(&mut self, wanted: Option<Watchdog>) -> bool {
        self.wanted = wanted;
        self.close()
    }

    /// True if it is open: it must be closed.
    pub(crate) fn close(&mut self) -> bool {
        let open = matches!(self.device, Device::Open { .. });
        self.device = Device::Closed;
        open
    }

    /// For how long it is opened now, when PostgreSQL becomes a primary or is one; `None` if it is not to be opened.
    pub(crate) fn to_open(&self, arm: Arm, becomes_primary: bool, now: BootTime) -> Option<Duration> {
        let wanted = self.wanted?;
        match self.device {
            Device::Open { .. } => return None,
            Device::Failed { again } if now < again && !becomes_primary => return None,
            Device::Closed | Device::Failed { .. } => {}
        }
        Some(within(wanted.timeout, arm, now))
    }

    /// It was opened, and resets the machine after `timeout`.
    pub(crate) fn opened(&mut self, timeout: Duration, now: BootTime) {
        self.device = Device::Open {
            timeout,
            bites: now + timeout,
        };
    }

    pub(crate) fn failed(&mut self, now: BootTime) {
        self.device = Device::Failed { again: now + AGAIN };
    }

    /// After a renewal: with which timeout it is fed. `None` if it must not be: it would bite after the end of the lease.
    pub(crate) fn to_feed(&self, arm: Arm, now: BootTime) -> Option<Duration> {
        let (wanted, Device::Open { timeout, .. }) = (self.wanted?, self.device) else {
            return None;
        };
        // One that cannot be set to what was asked for is of no use for the lease. Once open it may not be possible to close.
        if timeout > wanted.timeout {
            return Some(timeout);
        }
        (now + wanted.timeout <= arm.deadline).then_some(wanted.timeout)
    }

    /// It was fed not before `at`.
    pub(crate) fn fed(&mut self, timeout: Duration, at: BootTime) {
        if let Device::Open { .. } = self.device {
            self.opened(timeout, at);
        }
    }

    /// Whether PostgreSQL may be a primary, as far as the device matters; under this lease, if it becomes one.
    pub(crate) fn allows(&self, arm: Option<Arm>) -> bool {
        let Some(wanted) = self.wanted.filter(|wanted| wanted.required) else {
            return true;
        };
        match self.device {
            Device::Open { timeout, bites } => {
                timeout <= wanted.timeout && arm.is_none_or(|arm| bites <= arm.deadline)
            }
            Device::Closed | Device::Failed { .. } => false,
        }
    }

    /// When PostgreSQL stops and when it is killed: before the lease ends, and before the device bites.
    pub(crate) fn limits(&self, arm: Arm) -> (BootTime, BootTime) {
        match self.device {
            Device::Open { bites, .. } if bites < arm.deadline => (
                bites - arm.stop_at.until(arm.deadline),
                bites - arm.kill_at.until(arm.deadline),
            ),
            Device::Open { .. } | Device::Closed | Device::Failed { .. } => (arm.stop_at, arm.kill_at),
        }
    }
}

/// The timeout in whole seconds, shorter if the lease ends earlier; one second at least.
fn within(timeout: Duration, arm: Arm, now: BootTime) -> Duration {
    Duration::from_secs(now.until(arm.deadline).min(timeout).as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Core, Input, Order, Reply, Request, StartMode, WhyRefused};

    const TIMEOUT: Duration = Duration::from_secs(25);

    fn at(seconds: u64) -> BootTime {
        BootTime::from_secs(seconds)
    }

    fn wanted(required: bool) -> Watchdog {
        Watchdog {
            timeout: TIMEOUT,
            required,
            testing: false,
        }
    }

    fn arm(deadline: u64) -> Request {
        Request::Arm(Arm {
            term: 1,
            lease: 7,
            stop_at: at(deadline - 4),
            kill_at: at(deadline - 1),
            deadline: at(deadline),
        })
    }

    /// A guard with a device that can be set to what is asked for; `None`: it cannot be opened.
    struct Machine {
        core: Core,
        timeout: fn(Duration) -> Option<Duration>,
        open: bool,
        fed: u32,
    }

    impl Machine {
        fn new(required: bool, timeout: fn(Duration) -> Option<Duration>) -> Self {
            let mut machine = Machine {
                core: Core::new(Duration::from_secs(1000), at(0)),
                timeout,
                open: false,
                fed: 0,
            };
            machine.step(Input::AgentStarted, 0).unwrap();
            machine.ask(Request::Watchdog(Some(wanted(required))), 0).unwrap();
            machine
        }

        fn ask(&mut self, request: Request, now: u64) -> Result<(), WhyRefused> {
            self.step(Input::Request(request), now)
        }

        fn step(&mut self, input: Input, now: u64) -> Result<(), WhyRefused> {
            let mut said = Ok(());
            for order in self.core.step(input, at(now)).into_iter().flatten() {
                match order {
                    Order::Reply(Reply::Refused(why)) => said = Err(why),
                    Order::OpenWatchdog { timeout, .. } => {
                        let timeout = (self.timeout)(timeout);
                        self.open = timeout.is_some();
                        let opened = timeout
                            .map_or(Input::WatchdogFailed, |timeout| Input::WatchdogOpened { timeout });
                        said = said.and(self.step(opened, now));
                    }
                    Order::FeedWatchdog { timeout } => {
                        self.fed += 1;
                        self.step(Input::WatchdogFed { timeout }, now).unwrap();
                    }
                    Order::CloseWatchdog => self.open = false,
                    Order::Start => self.step(Input::Started { pid: 9 }, now).unwrap(),
                    _ => {}
                }
            }
            said
        }

        fn promote(&mut self, now: u64) -> Result<(), WhyRefused> {
            self.ask(Request::Start(StartMode::Replica), now).unwrap();
            let not_after = at(now + 10);
            self.ask(Request::Promote { term: 1, not_after }, now)
        }

        fn due(&self, now: u64) -> BootTime {
            self.core.next_tick(at(now))
        }
    }

    #[test]
    fn it_is_open_while_postgresql_may_write_and_fed_by_renewals() {
        let mut machine = Machine::new(false, Some);
        machine.ask(arm(30), 0).unwrap();
        assert!(!machine.open, "a replica needs none");
        machine.promote(1).unwrap();
        assert!(machine.open && machine.fed == 0);
        machine.ask(arm(40), 10).unwrap();
        assert_eq!(machine.fed, 1);
        machine.step(Input::PostgresEnded, 12).unwrap();
        assert!(!machine.open);
    }

    #[test]
    fn postgresql_ends_before_it_bites() {
        let mut machine = Machine::new(true, Some);
        machine.ask(arm(30), 0).unwrap();
        machine.promote(1).unwrap();
        // Opened at 1, it bites at 26, and PostgreSQL stops 4 s before that, not 4 s before 30.
        assert_eq!(machine.due(1), at(22));
        machine.ask(arm(40), 10).unwrap();
        assert_eq!(machine.due(10), at(31));
        // A renewal of which we hear late moves the lease, but the device would bite after its end: it is not fed.
        machine.ask(arm(50), 26).unwrap();
        assert_eq!((machine.fed, machine.due(26)), (1, at(31)));
        machine.ask(arm(56), 27).unwrap();
        assert_eq!((machine.fed, machine.due(27)), (2, at(48)));
    }

    #[test]
    fn opened_late_it_bites_before_the_end_of_the_lease_all_the_same() {
        let mut machine = Machine::new(true, Some);
        machine.ask(arm(30), 0).unwrap();
        machine.promote(20).unwrap();
        assert_eq!(machine.due(20), at(26), "it is opened with 10 s, and bites at 30");
    }

    #[test]
    fn one_that_is_required_and_fails_lets_nothing_become_a_primary() {
        for timeout in [|_| None, |_| Some(Duration::from_secs(60))] as [fn(Duration) -> Option<Duration>; 2]
        {
            let mut machine = Machine::new(true, timeout);
            machine.ask(arm(30), 0).unwrap();
            assert_eq!(machine.promote(1), Err(WhyRefused::NoWatchdog));
            assert!(!machine.open && !machine.core.may_write());
            let mut machine = Machine::new(false, timeout);
            machine.ask(arm(30), 0).unwrap();
            machine.promote(1).unwrap();
            assert!(machine.core.may_write(), "automatic goes on without");
        }
    }

    #[test]
    fn one_that_becomes_required_and_fails_lets_a_primary_end_with_its_lease() {
        let mut machine = Machine::new(false, |_| None);
        machine.ask(arm(30), 0).unwrap();
        machine.promote(1).unwrap();
        machine.ask(Request::Watchdog(Some(wanted(true))), 2).unwrap();
        assert_eq!(machine.ask(arm(40), 10), Err(WhyRefused::NoWatchdog));
        assert_eq!(machine.due(10), at(26));
    }

    #[test]
    fn pause_closes_it_and_the_next_renewal_after_pause_opens_it() {
        let mut machine = Machine::new(false, Some);
        machine.ask(arm(30), 0).unwrap();
        machine.promote(1).unwrap();
        machine.ask(Request::Pause { term: 1 }, 2).unwrap();
        assert!(!machine.open);
        machine.ask(arm(50), 20).unwrap();
        assert!(machine.open);
        machine.ask(Request::Watchdog(None), 21).unwrap();
        assert!(!machine.open);
    }

    #[test]
    fn one_that_cannot_be_opened_is_not_tried_at_every_renewal() {
        let mut machine = Machine::new(false, |_| None);
        machine.ask(arm(30), 0).unwrap();
        machine.promote(1).unwrap();
        machine.timeout = Some;
        machine.ask(arm(40), 10).unwrap();
        assert!(!machine.open);
        machine.ask(arm(100), 70).unwrap();
        assert!(machine.open);
    }
}
