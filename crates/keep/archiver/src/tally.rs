use jiff::Timestamp;
use parking_lot::Mutex;

/// What has become of the files that PostgreSQL has asked for.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

/// See [`Tally`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) archived: u64,
    pub(crate) failed: u64,
    pub(crate) fetched: u64,
    pub(crate) fetched_ahead: u64,
    pub(crate) last: Option<(String, Timestamp)>,
    pub(crate) failing: Option<Failing>,
}

/// Since when nothing could be archived, and why.
#[derive(Clone, Debug)]
pub(crate) struct Failing {
    pub(crate) since: Timestamp,
    pub(crate) reason: String,
}

impl Tally {
    pub(crate) fn archived(&self, name: &str) {
        let mut counts = self.0.lock();
        counts.archived += 1;
        counts.last = Some((name.to_owned(), Timestamp::now()));
        counts.failing = None;
    }

    pub(crate) fn failed(&self, reason: &str) {
        let mut counts = self.0.lock();
        counts.failed += 1;
        // The first reason stays: a retry may say it in other words, and each change is told.
        if counts.failing.is_none() {
            counts.failing = Some(Failing {
                since: Timestamp::now(),
                reason: reason.to_owned(),
            });
        }
    }

    pub(crate) fn fetched(&self, was_ready: bool) {
        let mut counts = self.0.lock();
        counts.fetched += 1;
        counts.fetched_ahead += u64::from(was_ready);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().clone()
    }
}
