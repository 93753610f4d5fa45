//! A cluster as people and programs look at it: each member's role, state and position, typed, from one read of the store.
//!
//! `GET /cluster` and `howdah ctl list` render it; rollouts, the operator's index and the status decide by it. No decision
//! compares words: those of Patroni's API are made here and nowhere else.
//!
//! ```text
//!   View (dcs) ──► members() ──► MemberOverview { role, state, received, replayed, … }
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod member;
mod role;
mod state;

pub use howdah_dcs::ArchiveMark;
pub use member::{MemberOverview, WalPosition, members};
pub use role::MemberRole;
pub use state::{MemberState, Replication};
