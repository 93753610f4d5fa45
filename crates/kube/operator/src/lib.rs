//! The operator: makes clusters be what their manifests say.
//!
//! Watches keep every object in an index, which decides which clusters need a pass. A pass reads the cluster from the
//! index, lets `howdah-blueprint` decide, carries out one step and writes the status. The agents fail over by themselves,
//! whether the operator runs or not.
//!
//! ```text
//!   watches (controller.rs) ─► index.rs ─► reconcile.rs: observe.rs ─► howdah-blueprint ─► apply.rs (objects), logins.rs (Secrets)
//!                                    │                              ├──► database/, rotation.rs (roles, databases, passwords)
//!                                    │                              └──► agents.rs (configuration, restarts, switchovers)
//!                                    └─► status and events (report.rs)              cleanup.rs (deletion)
//! ```
//!
//! Of several processes one works, while its `fence.rs` is open. `pace.rs` says when a cluster is looked at again, `meter.rs` counts, `describe.rs` is upstream's debug API.

mod agents;
mod apply;
mod cleanup;
mod configure;
mod context;
mod controller;
mod database;
mod definition;
mod describe;
mod error;
mod fence;
mod index;
mod known;
mod lazy;
mod login;
mod logins;
mod meter;
mod notes;
mod objects;
mod observe;
mod origin;
mod pace;
mod pass;
mod poolers;
mod prune;
mod reconcile;
mod refusals;
mod report;
mod rotation;
mod setup;
mod sources;
mod steps;
mod volumes;
mod waiting;
mod windows;

pub use context::postgresql_api;
pub use controller::Operator;
pub use definition::{definition_is_served, install_definition, install_team_definition};
pub use describe::redact;
pub use error::{OperatorError, kube_text};
pub use fence::Fence;
pub use meter::Meter;
pub use setup::Setup;
