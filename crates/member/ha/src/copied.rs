//! How often a logical slot is copied: PostgreSQL is stopped for it each time.

use std::time::Duration;

use howdah_types::BootTime;
use serde::Serialize;

/// It is tried again after this long: the WAL of a slot whose consumer is far behind may not be here. A slot that was copied waits twice as long, and
/// so on: one that is lost again and again must not keep the replica from serving.
pub(crate) const COPY_AGAIN: Duration = Duration::from_secs(15);
const DOUBLED: u32 = 6;

/// After this long without a copy that is forgotten.
const FORGET_COPIES: Duration = Duration::from_secs(3600);

/// How often PostgreSQL was stopped of late to copy a slot, and when last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Copied {
    times: u32,
    at: BootTime,
}

impl Copied {
    /// Once more.
    #[must_use]
    pub fn another(before: Option<&Copied>, now: BootTime) -> Self {
        let recent = before.filter(|before| now < before.at + FORGET_COPIES);
        Copied {
            times: recent.map_or(1, |before| before.times.saturating_add(1)),
            at: now,
        }
    }

    /// When it may be copied again.
    pub(crate) fn again(&self) -> BootTime {
        self.at + COPY_AGAIN * 2u32.pow(self.times.min(DOUBLED))
    }
}
