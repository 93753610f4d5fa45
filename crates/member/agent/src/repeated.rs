use std::time::Duration;

use howdah_clock::now;
use howdah_types::BootTime;

/// The same trouble is logged again after this long.
const EVERY: Duration = Duration::from_secs(10);

/// Trouble that comes again and again: told at once, then with its count from time to time, and when it is over.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    since: Option<BootTime>,
    said: Option<BootTime>,
    times: u32,
}

impl Repeated {
    /// It has happened. The count to tell with it; `None` when it is not to be told now.
    pub(crate) fn happened(&mut self) -> Option<u32> {
        let at = now();
        self.since.get_or_insert(at);
        self.times = self.times.saturating_add(1);
        let due = self.said.is_none_or(|said| at >= said + EVERY);
        due.then(|| {
            self.said = Some(at);
            self.times
        })
    }

    /// It has happened and is not over.
    pub(crate) fn lasts(&self) -> bool {
        self.since.is_some()
    }

    /// It is over. For how long it lasted, if it was told.
    pub(crate) fn over(&mut self) -> Option<Duration> {
        let Repeated { since, said, .. } = std::mem::take(self);
        said.and(since).map(|since| now().since(since))
    }
}
