//! The clock of the product: `CLOCK_BOOTTIME`, read here and nowhere else (clippy refuses every other clock).

use howdah_types::BootTime;
use rustix::time::{ClockId, clock_gettime};

/// Now. Goes on while the machine is suspended, as leases do.
#[must_use]
pub fn now() -> BootTime {
    let time = clock_gettime(ClockId::Boottime);
    let nanos = time.tv_sec.unsigned_abs().saturating_mul(1_000_000_000);
    BootTime(nanos.saturating_add(time.tv_nsec.unsigned_abs()))
}
