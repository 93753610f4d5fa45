//! The operator: makes clusters be what their manifests say.
//!
//! Each pass over a cluster reads everything, lets `howdah-plan` decide, carries one step out, and writes down what it
//! found. It keeps nothing that a restart would lose: what it remembers only saves work. It is never in the way of a
//! failover, which is the agents' own.
//!
//! ```text
//!   watches (controller.rs) ─► reconcile.rs: observe.rs ─► howdah-plan ─► apply.rs  (objects, Secrets)
//!                                    │                              ├──► database/ (roles, databases)
//!                                    │                              └──► agents.rs (configuration, restarts, switchovers)
//!                                    └─► status and events (report.rs)              cleanup.rs (deletion)
//! ```

mod agents;
mod apply;
mod cleanup;
mod context;
mod controller;
mod database;
mod error;
mod observe;
mod reconcile;
mod report;

pub use context::postgresql_api;
pub use controller::run;
pub use error::OperatorError;
