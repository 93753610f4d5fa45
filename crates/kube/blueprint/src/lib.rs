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

mod bounds;
mod credentials;
mod dynamic;
mod infrastructure;
mod lazy;
mod names;
mod objects;
mod people;
mod rollout;
mod rotation;
mod secret;
mod settings;
pub mod sql;
mod status;

pub use bounds::{bound_instances, keeps_from_deletion, refused_name};
pub use credentials::{Credential, Origin, OtherRoles, credentials};
pub use dynamic::{
    APPLIED_ANNOTATION, applied_names, change as dynamic_change, remembered_names, wanted as dynamic_wanted,
};
pub use infrastructure::{InfrastructureRole, InfrastructureSecret, infrastructure_roles};
pub use lazy::{LAZY_ANNOTATION, image_of, keep_note, keep_pods, lazy_revisions, with_image};
pub use names::Names;
pub use objects::{
    BUDGET_ANNOTATION, Live, Objects, POOLER_CONTAINER, POOLER_LABEL, POSTGRES_CONTAINER, PodEnvironment,
    Pooler, TEMPLATE_VERSION, base_labels, objects, overruled_env, overruled_sidecar_env, pooler_conflict,
    pooler_schema, pooler_user, poolers, service_account, template_version_of,
};
pub use people::{Person, TeamMap, people, teams};
pub use rollout::{Pod, ROLL_ANNOTATION, Step, next as next_step, waits};
pub use rotation::{Login, Rotation, dated_part, not_rotated, outdated, rotation};
pub use secret::{CLUSTER_NAMESPACE_ANNOTATION, secret};
pub use settings::{ObjectSettings, PodSettings, PoolerSettings, RotationSettings, Settings, TeamSettings};
pub use status::{Observed, Poolers, invalid as invalid_status, ready, status};
