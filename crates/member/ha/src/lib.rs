//! What a member of a cluster decides: [`decide`] takes a [`Snapshot`] of everything it knows and returns a [`Plan`]
//! of effects with the reasons for them. [`Keeper`] decides about the leader lease.
//!
//! Pure: no clock, network, file or thread, and the same snapshot always gives the same plan. The model checker and
//! the simulator run this code itself. Must not depend on anything that does I/O.
//!
//! ```text
//!   Snapshot ─► decide.rs ─┬─ no data ──────────► bootstrap.rs       Keeper (keeper.rs)
//!   (snapshot.rs)          ├─ stopped, silent ──► recover.rs           Tick, Command, Outcome
//!                          ├─ leads ────────────► lead.rs                 │
//!                          │     ├─ handover.rs (switchover, failover)    ▼
//!                          │     ├─ sync.rs (commits), sync_*.rs        store operations,
//!                          │     ├─ standby_leader.rs (follows another cluster)
//!                          │     ├─ status.rs (position)
//!                          │     ├─ failsafe.rs (who must agree that it goes on without the store), promises.rs
//!                          │     └─ slots.rs (slot_*.rs, feedback.rs)  Arm / Disarm / Lost for the guard
//!                          ├─ a leader exists ──► follow.rs
//!                          └─ no leader ────────► race.rs           margins.rs: m1 and m2
//!                                ├─ who is ahead: compare.rs
//!                                └─ the store is empty: adopt.rs
//!   rejoin.rs: whether WAL belongs to the leader's history
//!   remember.rs: what is noted in any case   identity.rs: whose data it is   candidate.rs, upstream.rs: who, from whom
//!   Action (action.rs), Effect (effect.rs)
//!   Plan (plan.rs): effects in order, next wake-up, memory, reasons (reason.rs)   gate.rs: checked again when done
//!   step.rs: how an effect is carried out, for the agent and for the model
//! ```

// A variant that is added asks for a decision at every place.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod action;
mod adopt;
mod bootstrap;
mod candidate;
mod compare;
mod copied;
mod decide;
mod effect;
mod failsafe;
mod feedback;
mod follow;
pub mod gate;
mod handover;
mod identity;
mod keeper;
mod lead;
mod margins;
mod plan;
mod promises;
mod race;
mod reason;
mod recover;
mod rejoin;
mod remember;
mod slot_copy;
mod slot_readiness;
mod slots;
mod snapshot;
mod standby_leader;
mod status;
mod step;
mod sync;
mod sync_mix;
mod sync_rule;
mod upstream;

pub use action::{Action, Upstream};
pub use candidate::{candidates, eligible};
pub use copied::Copied;
pub use decide::decide;
pub use effect::{Effect, SlotChange};
pub use feedback::{Feeding, needs_feedback, slot_on_leader};
pub use handover::{AfterStop, Received, Unconfirmed, after_stop};
pub use keeper::{Command, GuardCall, Keeper, KeeperInput, KeeperOutput, LeaseState};
pub use margins::Margins;
pub use plan::Plan;
pub use promises::{Promise, Question};
pub use reason::Reason;
pub use rejoin::{LeaderWal, OwnEnd, OwnWal, Relation, relate};
pub use slot_copy::another_moves;
pub use slot_readiness::SlotReadiness;
pub use snapshot::{
    CommitLevel, Dcs, Failsafe, KnownMember, LastLeader, Me, Memory, Peer, Peers, Postgres, Request, Running,
    RunningAction, Slot, Snapshot, Stopped, Unguarded, WalSender, Written,
};
pub use step::{Here, Means, NotBegun, Step, may_begin, may_go_on};
pub use sync_rule::{NOBODY, SyncRule, quote_sync_name};
pub use upstream::remote;
