//! The words every other crate speaks: positions in the WAL, names, roles, tags, moments of time.
//!
//! Pure data, no I/O, no clock: a [`BootTime`] comes from the owner of a clock and is only compared here.
//! Must not depend on anything but serde; every other crate of the workspace may depend on it.
//!
//! ```text
//!   lsn.rs  Lsn, Timeline      name.rs  MemberName, Scope      role.rs  Role, PgState
//!   arm.rs  Arm: the times of a lease
//!   time.rs BootTime           tags.rs  Tags                   version.rs PgVersion, SystemId
//!   class.rs Class: what is to be done about an error
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod arm;
mod class;
mod lsn;
mod name;
mod role;
mod tags;
mod time;
mod version;

pub use arm::Arm;
pub use class::{Class, Classified};
pub use lsn::{Lsn, Origins, Timeline, have_forked};
pub use name::{MemberName, NameError, Scope};
pub use role::{PgState, Role};
pub use tags::Tags;
pub use time::BootTime;
pub use version::{PgVersion, SystemId};
