use std::time::Duration;

use howdah_types::BootTime;

/// How long before the end D of a lease PostgreSQL stops, so that nothing of it is left at D.
///
/// - `m2`, the kill: a twentieth of the lease, between 0.5 s and 1.5 s. Killing every process of a large server
///   takes milliseconds; the rest is for a machine that is short of CPU.
/// - `m1`, the stop: `m2` and a tenth of the lease, between 1 s and 4 s, for the shutdown checkpoint and for the
///   replicas to receive the last WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Margins {
    /// From D - m1 on PostgreSQL stops.
    pub m1: Duration,
    /// From D - m2 on it is killed.
    pub m2: Duration,
}

impl Margins {
    /// The margins of a lease of this length.
    #[must_use]
    pub fn of(ttl: Duration) -> Self {
        let m2 = (ttl / 20).clamp(Duration::from_millis(500), Duration::from_millis(1500));
        let m1 = m2 + (ttl / 10).clamp(Duration::from_secs(1), Duration::from_secs(4));
        Margins { m1, m2 }
    }

    /// When PostgreSQL must begin to stop.
    #[must_use]
    pub fn stop_at(self, deadline: BootTime) -> BootTime {
        deadline - self.m1
    }

    /// When it must be killed.
    #[must_use]
    pub fn kill_at(self, deadline: BootTime) -> BootTime {
        deadline - self.m2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_leave_time_to_renew() {
        for seconds in [5, 8, 10, 20, 30, 60, 300] {
            let ttl = Duration::from_secs(seconds);
            let margins = Margins::of(ttl);
            assert!(margins.m2 < margins.m1);
            assert!(
                ttl / 3 + margins.m1 < ttl * 3 / 4,
                "{seconds}: the second renewal must still be in time"
            );
        }
    }
}
