//! Tests with real processes: what a cluster must do when its parts die, freeze or are told to change.
//!
//! `tests/*.rs` run in `script/test`; `chaos` repeats the faults as often as one wants:
//! `cargo run -p howdah-process-tests --bin chaos -- --runs 50`.

mod campaign;
mod ctl;

pub use campaign::{Tally, is_excused, is_root, lab_in, run_fault};
pub use ctl::ctl;
