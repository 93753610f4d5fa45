use serde::Serialize;

use crate::BootTime;

/// The times of one confirmed renewal of the leader lease, on this machine's clock: what the lease keeper computes and
/// the guard acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Arm {
    /// The leadership.
    pub term: u64,
    /// The lease in the store; an agent that is started later goes on with it.
    pub lease: u64,
    /// D - m1: sessions end, PostgreSQL stops.
    pub stop_at: BootTime,
    /// D - m2: what is left is killed.
    pub kill_at: BootTime,
    /// D: from now on another member may lead.
    pub deadline: BootTime,
}

impl Arm {
    /// When the lease keeper looks whether the guard has done its work: a quarter of m2 after the guard must have begun.
    #[must_use]
    pub fn check_at(&self) -> BootTime {
        self.kill_at + self.kill_at.until(self.deadline) / 4
    }
}
