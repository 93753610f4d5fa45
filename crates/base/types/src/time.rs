use std::{
    fmt, ops,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A moment on `CLOCK_BOOTTIME`, in nanoseconds since the machine started.
///
/// The only clock that leadership is computed with: it goes on while the machine is suspended (a lease does too)
/// and never jumps. Moments of different machines must not be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Later than every real moment.
    pub const FAR_FUTURE: BootTime = BootTime(u64::MAX);

    /// `seconds` after boot; for tests and the model.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        BootTime(seconds * 1_000_000_000)
    }

    /// Time from `self` until `later`; zero when that is past.
    #[must_use]
    pub fn until(self, later: BootTime) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }

    /// Time from `earlier` until `self`; zero when `earlier` is in the future.
    #[must_use]
    pub fn since(self, earlier: BootTime) -> Duration {
        earlier.until(self)
    }
}

impl ops::Add<Duration> for BootTime {
    type Output = BootTime;

    fn add(self, by: Duration) -> BootTime {
        BootTime(
            self.0
                .saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl ops::Sub<Duration> for BootTime {
    type Output = BootTime;

    fn sub(self, by: Duration) -> BootTime {
        BootTime(
            self.0
                .saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// When the machine started, in milliseconds since 1970; 0 while it is not known.
static STARTED: AtomicU64 = AtomicU64::new(0);

impl BootTime {
    /// From now on moments are shown as time of day (UTC): `unix_millis` is what a clock on the wall shows at `self`. For
    /// people who read logs; nothing is decided by it.
    pub fn show_as(self, unix_millis: u64) {
        STARTED.store(unix_millis.saturating_sub(self.0 / 1_000_000), Ordering::Relaxed);
    }
}

impl fmt::Display for BootTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0 / 1_000_000;
        match STARTED.load(Ordering::Relaxed) {
            0 => write!(f, "{}.{:03}s", millis / 1000, millis % 1000),
            started => {
                let at = started.saturating_add(millis) / 1000;
                write!(f, "{:02}:{:02}:{:02} UTC", at / 3600 % 24, at / 60 % 60, at % 60)
            }
        }
    }
}
