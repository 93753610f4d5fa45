//! The agent: gathers what a decision needs, asks [`howdah_ha::decide`], and carries out the effects.
//!
//! Decides nothing itself. Three threads: the loop, the lease keeper, the REST API; and the guard, which is another
//! process. A long action is a task of the loop's thread; the loop goes on beside it.
//!
//! ```text
//!            ┌──────── loop (agent.rs) ────────┐      keeper.rs  own thread, own connection ─► store
//!  wakes ──► │ gather.rs ─► decide ─► effects.rs│                 │ Arm, Lost, Alive
//!            └───┬──────────────────────┬──────┘                 ▼
//!      publish.rs│ (ArcSwap)            │ action/*  ─────────► guard_link.rs ─► guard process ─► postmaster
//!                ▼                      ▼
//!   api/* own thread, no SQL      probe.rs asks other members
//!
//!   of the loop: report.rs (record, state, log)   requests.rs (actions that end, API)   life.rs (adopt, reload, end)
//!                scheduled.rs (restarts at a time)
//!   its state:   configuration.rs (from the file and the store)   cluster.rs (what the store says)   work.rs (the long action)
//!                request.rs (what was asked)   replication.rs (what PostgreSQL was told)   pending.rs   voice.rs (what was said)
//!   for its next life: note.rs (files beside the data)   known_members.rs   failsafe.rs (promises, and how members are asked)
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod action;
mod agent;
mod api;
mod archiver;
mod blocking;
mod callbacks;
mod certificates;
mod cluster;
mod configuration;
mod effects;
mod failsafe;
mod gather;
pub mod generate;
mod guard_link;
mod keeper;
mod known_members;
mod life;
mod logical_slots;
mod member;
mod note;
mod outside;
mod patience;
mod pending;
mod probe;
mod publish;
mod repeated;
mod replication;
mod report;
mod reported;
mod request;
mod requests;
mod run;
mod schedule;
mod scheduled;
mod setup;
#[cfg(test)]
mod shell_tests;
mod take_config;
mod voice;
mod wake;
mod watchdog;
mod watching;
mod work;

pub use run::run;
pub use setup::{ConfigFile, SetupError};
