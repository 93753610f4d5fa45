//! A world in which the product's own decisions are tried out: three members, one store, and an environment that may
//! kill, freeze, cut off, lose answers and deliver late, at every point where the world may intervene.
//!
//! What decides is the production code: [`howdah_ha::decide`], [`howdah_ha::gate`], [`howdah_ha::Keeper`],
//! [`howdah_guard::Core`], and the store's semantics: [`howdah_dcs::MemStore`] for etcd, the rules of
//! [`howdah_dcs::observed`] for Kubernetes, which ends no lease. What is modelled is the rest: time, PostgreSQL's WAL, the
//! network, and the order in which things happen.
//!
//! ```text
//!   world.rs    time, members, the agenda of small steps     explore.rs   all choices with up to N faults (exhaustive)
//!   member.rs   one member: agent, keeper, guard, PostgreSQL  simulate.rs  random choices from a seed
//!   acting.rs   effects and actions                           check.rs     what must hold, always and in the end
//!   handover.rs giving leadership away                        delivery.rs  what travels to the store and back
//!   store.rs    etcd or Kubernetes, and who has seen what      kubernetes.rs  a ConfigMap with a version
//! ```

mod acting;
mod check;
mod delivery;
mod explore;
mod handover;
mod kubernetes;
mod member;
mod settings;
mod simulate;
mod store;
mod world;

pub use check::Violation;
pub use explore::{Explored, explore, retell};
pub use settings::{Faults, Settings, Sync};
pub use simulate::{Simulated, simulate};
pub use world::{Choice, World};
