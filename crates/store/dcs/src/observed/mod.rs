//! Leases for stores without expiry, such as Kubernetes' ConfigMaps: each observer times the leader's record itself.
//!
//! The record is over when it has not changed for its length *on the observer's clock since the observer saw it*, and then
//! only if a fresh read says the same, and then by a swap on the version that was read. The leader counts from when it
//! *sent* a renewal, which is earlier than any observer can have seen it.
//!
//! ```text
//!   record.rs   Record, and what a swap makes of it
//!   seen.rs     Observed: what a process has seen of it, and since when
//!   attempt.rs  Attempt: which requests renew it, take it, give it back
//! ```
//!
//! Pure, as everything here: the model runs this very code.

mod attempt;
#[cfg(test)]
mod race_test;
mod record;
mod seen;

pub use attempt::{Attempt, Next, Reply, Request};
pub use record::{Change, Record};
pub use seen::{Observed, Sight};
