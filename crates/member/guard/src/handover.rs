use howdah_types::BootTime;

/// How PostgreSQL is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopMode {
    /// Sessions end, WAL goes to the replicas, a checkpoint is written (SIGINT).
    Fast = 1,
    /// No checkpoint: crash recovery at the next start (SIGQUIT).
    Immediate = 2,
    /// Every process is killed (SIGKILL): for a server that does not react to signals any more.
    Kill = 3,
}

impl StopMode {
    pub(crate) fn from_code(code: u64) -> Option<Self> {
        [StopMode::Fast, StopMode::Immediate, StopMode::Kill]
            .into_iter()
            .find(|mode| *mode as u64 == code)
    }
}

/// What the guard tells a new agent, so that it goes on where the last one ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Handover {
    /// The postmaster; 0 if PostgreSQL does not run.
    pub pid: u32,
    /// PostgreSQL was started as primary or promoted.
    pub may_write: bool,
    /// The leadership that is armed.
    pub term: Option<u64>,
    /// Its lease in the store.
    pub lease: u64,
    /// Until when.
    pub deadline: BootTime,
}
