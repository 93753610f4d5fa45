//! What a manifest means: the Kubernetes objects, the SQL, the order of a rollout, the status. All of it as pure
//! functions of the manifest, the operator's settings and what was observed; the operator carries it out.
//!
//! Names, labels and contents of the objects are those of the operator that its users come from: an adopted cluster
//! must not roll, and its Secrets must be found.
//!
//! ```text
//!   Manifest + Settings ─► objects/ ─► Objects (StatefulSet, Services, Secrets, budgets, account)
//!                       ─► dynamic.rs ─► the change of the agent's dynamic configuration
//!   Manifest + Catalogue of the database ─► sql/ ─► statements with reasons
//!   observed pods and members ─► rollout.rs ─► the next step      ─► status.rs ─► conditions and progress
//! ```

mod credentials;
mod dynamic;
mod names;
mod objects;
mod rollout;
mod settings;
pub mod sql;
mod status;

pub use credentials::{Credential, credentials};
pub use dynamic::{
    APPLIED_ANNOTATION, applied_names, change as dynamic_change, remembered_names, wanted as dynamic_wanted,
};
pub use names::Names;
pub use objects::{
    Live, Objects, POOLER_CONTAINER, POOLER_LABEL, POSTGRES_CONTAINER, Pooler, TEMPLATE_VERSION, base_labels,
    objects, overruled_env, overruled_sidecar_env, pooler_conflict, pooler_schema, pooler_user, poolers,
    secret, service_account, template_version_of,
};
pub use rollout::{Pod, ROLL_ANNOTATION, Step, next as next_step, waits};
pub use settings::{PodSettings, PoolerSettings, Settings};
pub use status::{Observed, Poolers, invalid as invalid_status, ready, status};
