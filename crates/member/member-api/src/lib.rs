//! The documents of the agent's REST API, in Patroni's form: what is asked, what is answered, and which health check
//! is met.
//!
//! Pure. Shared by all that serve it (the agent), request it (other agents, `howdah ctl`) and show it. Must not depend
//! on HTTP.
//!
//! ```text
//!   facts.rs    MemberFacts: what a member publishes   health.rs   path + facts ─► 200 or 503
//!   status.rs   GET /patroni, and a peer's reading     cluster.rs  GET /cluster
//!   metrics.rs  GET /metrics                           requests.rs POST bodies and their mistakes
//!   restart.rs  POST /restart, now or at a time
//! ```

mod archive_metrics;
mod cluster;
mod facts;
mod health;
mod metrics;
mod requests;
mod restart;
mod status;

pub use cluster::cluster_document;
pub use facts::{MemberFacts, Position};
pub use health::{Query, health, readiness};
pub use metrics::metrics;
pub use requests::{BadRequest, ReinitRequest, SwitchoverRequest};
pub use restart::{Due, RestartRequest, ScheduledRestart};
pub use status::{PeerStatus, status_document};

/// The version that peers and `patronictl` see: whose behaviour the API has.
pub const PATRONI_VERSION: &str = "4.1.5";
