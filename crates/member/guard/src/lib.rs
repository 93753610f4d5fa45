//! The guard: a small process that is the parent of the agent and of PostgreSQL, and ends PostgreSQL's right to write
//! before anyone else's may begin.
//!
//! It shares nothing with the agent's main loop: no thread, no allocation after its start, no log that can block. It
//! alone starts PostgreSQL as primary and promotes it, so an agent that was frozen and thaws cannot do so late.
//!
//! ```text
//!              agent ── requests (seqpacket) ──►┌──────────┐── starts, promotes ──► postmaster ─► backends
//!   heartbeat, Arm{term, stop_at, kill_at} ───► │ core.rs  │── fast stop at stop_at ─►
//!                                               │ (pure)   │── freezes and kills all of them at kill_at ─►
//!              agent ◄── restarts ───────────── └──────────┘
//! ```
//!
//! `core` decides and is pure (the model checker runs it); `run` is the loop around it; `sys` is the only file of the
//! workspace with `unsafe`; `tree` finds and kills processes; `protocol` is the versioned form of the messages;
//! `client` is the agent's end; `watchdog` decides about the machine's watchdog device, and `device` is that. Must not depend on tokio or on any crate but `types`.

// A variant that is added asks for a decision at every place.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

mod client;

mod core;
mod device;
mod handover;
mod log;
mod output;
mod protocol;
mod run;
#[allow(unsafe_code, reason = "fork, exec, signals: the one home of process unsafe")]
mod sys;
pub mod tree;
mod watchdog;

pub use client::{GuardClient, GuardError};
pub use core::{Core, Input, Order, Orders};
pub use handover::{Handover, StopMode};
pub use howdah_types::Arm;
pub use protocol::{MAX_MESSAGE, Message, Reply, Request, StartMode, WhyRefused};
pub use run::{GUARD_FD_ENV, run};
pub use sys::{end_at_closed_pipes, pass_no_descriptors_on};
pub use watchdog::Watchdog;

/// The agent's end of the socket to its guard, if a guard started this process. The second call gives `None`.
#[must_use]
pub fn take_descriptor() -> Option<std::os::fd::OwnedFd> {
    std::env::var_os(GUARD_FD_ENV)?;
    sys::take_descriptor()
}
