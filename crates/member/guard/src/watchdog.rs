//! When the machine's watchdog device is opened, fed and closed: pure, the core's part for it.
//!
//! The guard ends PostgreSQL before its lease ends. The device covers what the guard itself cannot: that it is frozen, that the
//! kernel is, or that the postmaster does not die of SIGKILL. It resets the machine `timeout` after it was fed last. Each renewal
//! feeds it with a timeout that ends before the lease does, and PostgreSQL ends before the device fires.
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

/// What the agent wants of the device: `watchdog` of its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watchdog {
    /// The device resets the machine this long before the lease ends, or a sixth of what is left of it if that is less: the lease
    /// keeper's second try comes after three fifths of the lease.
    pub margin: Duration,
    /// `mode: required`: without it PostgreSQL does not become a primary.
    pub required: bool,
    /// `driver: testing`: a named pipe that takes the timeout as text, for tests.
    pub testing: bool,
}

impl Watchdog {
    /// The timeout in whole seconds, at least one, for what is left of a lease.
    fn timeout(&self, left: Duration) -> Duration {
        let wanted = left.saturating_sub(self.margin.min(left / 6));
        // Rounded up, so that a renewal's way does not cost a second; but not beyond the lease.
        let up = Duration::from_secs(wanted.as_secs() + u64::from(wanted.subsec_nanos() > 0));
        let timeout = if up <= left {
            up
        } else {
            Duration::from_secs(left.as_secs())
        };
        timeout.max(Duration::from_secs(1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Device {
    Closed,
    /// It could not be opened, or not be set; it is tried again from this moment on.
    Failed {
        again: BootTime,
    },
    Open {
        /// Not before this moment it resets the machine.
        fires_at: BootTime,
        /// It has a timeout of its own that outlasts the lease: it is of use only against a machine that hangs for good.
        too_long: bool,
    },
}

/// The device, as the core knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WatchdogState {
    wanted: Option<Watchdog>,
    device: Device,
}

impl WatchdogState {
    pub(crate) fn none() -> Self {
        WatchdogState {
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

    /// With which timeout it is opened now, when PostgreSQL becomes a primary or is one; `None` if it is not to be opened.
    pub(crate) fn to_open(&self, arm: Arm, becomes_primary: bool, now: BootTime) -> Option<Duration> {
        let wanted = self.wanted?;
        match self.device {
            Device::Open { .. } => return None,
            Device::Failed { again } if now < again && !becomes_primary => return None,
            Device::Closed | Device::Failed { .. } => {}
        }
        Some(wanted.timeout(now.until(arm.deadline)))
    }

    /// It was opened between the two moments, and resets the machine after `timeout`. False if it is of no use and must be
    /// closed: its own timeout is so short that PostgreSQL would stop before the next renewal, or too long where it is required.
    pub(crate) fn opened(
        &mut self,
        timeout: Duration,
        stops: bool,
        arm: Arm,
        began: BootTime,
        now: BootTime,
    ) -> bool {
        let left = began.until(arm.deadline);
        let too_long = now + timeout > arm.deadline;
        let too_short = timeout < left / 2 + arm.stop_at.until(arm.deadline) && timeout < left * 3 / 4;
        let required = self.wanted.is_some_and(|wanted| wanted.required);
        if too_short && !required && !stops {
            // Closed, it would reset the machine; fed with each renewal it may not.
            self.device = Device::Open {
                fires_at: BootTime::FAR_FUTURE,
                too_long: true,
            };
            return true;
        }
        if too_short || too_long && required {
            self.failed(now);
            return false;
        }
        self.device = Device::Open {
            fires_at: began + timeout,
            too_long,
        };
        true
    }

    pub(crate) fn failed(&mut self, now: BootTime) {
        self.device = Device::Failed { again: now + AGAIN };
    }

    /// After a renewal: with which timeout it is fed. `None` if that would change nothing.
    pub(crate) fn to_feed(&self, arm: Arm, now: BootTime) -> Option<Duration> {
        let (wanted, Device::Open { fires_at, too_long }) = (self.wanted?, self.device) else {
            return None;
        };
        let timeout = wanted.timeout(now.until(arm.deadline));
        (too_long || now + timeout > fires_at).then_some(timeout)
    }

    /// It was fed not before `at`, and has this timeout since.
    pub(crate) fn fed(&mut self, timeout: Duration, at: BootTime) {
        if let Device::Open { fires_at, .. } = &mut self.device
            && *fires_at != BootTime::FAR_FUTURE
        {
            *fires_at = at + timeout;
        }
    }

    /// Whether PostgreSQL may be a primary, as far as the device matters.
    pub(crate) fn allows(&self) -> bool {
        self.wanted.is_none_or(|wanted| !wanted.required) || matches!(self.device, Device::Open { .. })
    }

    /// When PostgreSQL stops and when it is killed: before the lease ends, and before the device fires.
    pub(crate) fn limits(&self, arm: Arm) -> (BootTime, BootTime) {
        match self.device {
            Device::Open { fires_at, .. } if fires_at < arm.deadline => (
                fires_at - arm.stop_at.until(arm.deadline),
                fires_at - arm.kill_at.until(arm.deadline),
            ),
            Device::Open { .. } | Device::Closed | Device::Failed { .. } => (arm.stop_at, arm.kill_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Core, Input, Order, Reply, Request, StartMode, WhyRefused};

    fn at(seconds: u64) -> BootTime {
        BootTime::from_secs(seconds)
    }

    fn wanted(required: bool) -> Watchdog {
        Watchdog {
            margin: Duration::from_secs(5),
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
                        let opened = timeout.map_or(Input::WatchdogFailed, |timeout| Input::WatchdogOpened {
                            timeout,
                            stops: true,
                        });
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
    fn postgresql_ends_before_it_fires() {
        let mut machine = Machine::new(true, Some);
        machine.ask(arm(30), 0).unwrap();
        machine.promote(1).unwrap();
        // Opened at 1 with 29 s left, of which a sixth is less than 5 s, it fires at 26, and PostgreSQL stops 4 s before that.
        assert_eq!(machine.due(1), at(22));
        machine.ask(arm(40), 10).unwrap();
        assert_eq!(machine.due(10), at(31));
        // A renewal of which we hear late: it fires before the end of that lease, too.
        machine.ask(arm(50), 26).unwrap();
        assert_eq!((machine.fed, machine.due(26)), (2, at(42)));
        // One that brings nothing leaves it as it is.
        machine.ask(arm(50), 26).unwrap();
        assert_eq!((machine.fed, machine.due(26)), (2, at(42)));
    }

    #[test]
    fn opened_late_it_bites_before_the_end_of_the_lease_all_the_same() {
        let mut machine = Machine::new(true, Some);
        machine.ask(arm(30), 0).unwrap();
        machine.promote(20).unwrap();
        assert_eq!(
            machine.due(20),
            at(25),
            "it is opened with 9 s of 10, and fires at 29"
        );
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
    fn a_timeout_is_what_is_left_without_the_margin() {
        for (left, margin, timeout) in [
            (29.99, 5, 25),
            (30.0, 5, 25),
            (30.0, 0, 30),
            (29.99, 0, 29),
            // What store gives less of a session, as ZooKeeper's does.
            (22.4, 5, 19),
            (8.0, 5, 7),
            (5.0, 5, 5),
            // `safety_margin: -1` and whatever else is more than a sixth.
            (30.0, 3600, 25),
            (0.3, 5, 1),
        ] {
            let wanted = Watchdog {
                margin: Duration::from_secs(margin),
                ..wanted(true)
            };
            let got = wanted.timeout(Duration::from_secs_f64(left));
            assert_eq!(got, Duration::from_secs(timeout), "{left} {margin}");
        }
    }

    #[test]
    fn one_with_a_short_timeout_of_its_own_is_not_used() {
        for required in [false, true] {
            let mut machine = Machine::new(required, |_| Some(Duration::from_secs(10)));
            machine.ask(arm(30), 0).unwrap();
            assert_eq!(machine.promote(1).is_ok(), !required);
            assert!(!machine.open);
        }
    }

    #[test]
    fn a_primary_without_the_device_after_a_pause_ends_with_its_lease() {
        let mut machine = Machine::new(true, Some);
        machine.ask(arm(30), 0).unwrap();
        machine.promote(1).unwrap();
        machine.ask(Request::Pause { term: 1 }, 2).unwrap();
        machine.timeout = |_| None;
        assert_eq!(machine.ask(arm(50), 20), Err(WhyRefused::NoWatchdog));
        assert_eq!(machine.due(20), at(46));
        assert_eq!(machine.ask(arm(60), 30), Err(WhyRefused::NoWatchdog));
        assert_eq!(machine.due(30), at(46));
    }

    #[test]
    fn it_is_not_opened_for_a_renewal_that_comes_too_late() {
        let mut machine = Machine::new(false, Some);
        machine
            .ask(Request::Start(StartMode::Bootstrap { not_after: at(500) }), 0)
            .unwrap();
        assert_eq!(machine.ask(arm(30), 40), Err(WhyRefused::TooLate));
        assert!(!machine.open);
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
