//! Keeps a rate: whoever takes bytes is told until when to wait.

use std::time::Duration;

use howdah_http::sleep_until;
use howdah_types::BootTime;
use parking_lot::Mutex;

/// A limit in bytes a second, or none.
#[derive(Debug)]
pub(crate) struct Throttle {
    rate: Option<u64>,
    /// When what was taken so far is paid for.
    free_at: Mutex<BootTime>,
}

impl Throttle {
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Throttle {
            rate: rate.filter(|rate| *rate > 0),
            free_at: Mutex::new(howdah_clock::now()),
        }
    }

    /// Waits until `bytes` more fit the rate. Time that was not used is not saved up.
    pub(crate) async fn take(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let until = {
            let mut free_at = self.free_at.lock();
            let now = howdah_clock::now();
            let begin = (*free_at).max(now);
            *free_at = begin + cost(bytes, rate);
            begin
        };
        sleep_until(until).await;
    }
}

/// How long `bytes` take at a rate.
fn cost(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time() {
        assert_eq!(cost(5 << 20, 10 << 20), Duration::from_millis(500));
        assert_eq!(cost(1, u64::MAX), Duration::ZERO);
    }
}
