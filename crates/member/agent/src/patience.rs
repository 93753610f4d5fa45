use std::time::Duration;

/// One read of the store within a decision.
pub(crate) const READ_PATIENCE: Duration = Duration::from_secs(3);

/// One write to the store within a plan.
pub(crate) const WRITE_PATIENCE: Duration = Duration::from_secs(3);

/// One read or write of the store for a request of the REST API.
pub(crate) const STORE_PATIENCE: Duration = Duration::from_secs(5);
