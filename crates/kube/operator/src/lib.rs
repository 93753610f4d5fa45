//! The operator: makes clusters be what their manifests say.
//!
//! Watches keep every object in an index, which decides which clusters need a pass. A pass reads the cluster from the
//! index, lets `howdah-blueprint` decide, carries out one step and writes the status. The agents fail over by themselves,
//! whether the operator runs or not.
//!
//! ```text
//!   watches (controller.rs) ─► index.rs ─► reconcile.rs: observe.rs ─► howdah-blueprint ─► apply.rs  (objects, Secrets)
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
mod index;
mod objects;
mod observe;
mod reconcile;
mod report;

pub use context::postgresql_api;
pub use controller::run;
pub use error::OperatorError;
