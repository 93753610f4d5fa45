//! The API that users write to: `postgresql` objects of `acid.zalan.do/v1`, exactly as they are in use.
//!
//! One table of fields (`fields.rs`) is the source of the CRD's schema, of the lint's knowledge of keys and types, and of
//! the statement which fields are acted on; the typed form (`spec.rs`) is read from what has passed it. A spec is never
//! rewritten: defaults and old names are resolved in memory only.
//!
//! ```text
//!   text ─► lint/ ─► findings (line, reason, what to write)          fields.rs ─► crd.rs ─► the CRD
//!   object ─► manifest.rs ─► Manifest { name, spec.rs, unsupported fields }    status.rs ─► status as users read it
//! ```
//!
//! Pure: no I/O, no clock, no Kubernetes client.

mod checks;
mod containers;
mod crd;
mod error;
mod fields;
mod foreign;
pub mod lint;
mod manifest;
mod names;
mod origin;
mod pooler;
mod quantity;
mod resources;
mod schema;
mod spec;
mod status;
mod support;
mod team_crd;
mod windows;

pub use containers::{
    AdditionalVolume, DATA_PATH, DATA_VOLUME, POSTGRES_CONTAINER, Sidecar, TLS_CA_PATH, TLS_PATH, Tls,
};
pub use crd::{CRD_NAME, CRD_REVISION, crd};
pub use error::ManifestError;
pub use fields::{OLD_NAMES, spec_schema};
pub use manifest::{Manifest, asks_for_missing_data};
pub use names::{
    MAX_NAME, PROTECTED_ROLES, RECOMMENDED_NAME, in_secret_name, is_database_name, is_dns_label,
    is_reserved_role, is_role_name, is_schema_name,
};
pub use origin::{CloneFrom, StandbyOf};
pub use pooler::{ConnectionPooler, PoolerRole};
pub use quantity::Quantity;
pub use resources::Resources;
pub use schema::{Kind, Schema};
pub use spec::{
    Flag, FlagError, PatroniSpec, PostgresSpec, PostgresqlSpec, PreparedDatabase, PreparedSchema, Volume,
    role_flags,
};
pub use status::{Condition, MemberStatus, Status, phase};
pub use support::{Support, spec_paths, support, unsupported};
pub use team_crd::{TEAM_CRD_NAME, team_crd};
pub use windows::{WeekMinute, Window, opens_in};

/// The API group.
pub const GROUP: &str = "acid.zalan.do";
/// Its version.
pub const VERSION: &str = "v1";
/// The kind, in lower case as its users write it.
pub const KIND: &str = "postgresql";
/// The plural in paths.
pub const PLURAL: &str = "postgresqls";
/// The majors of PostgreSQL that a manifest may ask for.
pub const OFFERED_VERSIONS: &[&str] = &["14", "15", "16", "17", "18"];
