//! Processes of this machine, by number.

use rustix::process::{Pid, Signal, kill_process};

fn number(pid: u32) -> i32 {
    i32::try_from(pid).unwrap_or(0)
}

/// Sends a signal; a process that is gone does not matter.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(number(pid)) {
        let _ = kill_process(pid, signal);
    }
}

pub(crate) fn all_pids() -> Vec<u32> {
    let pids = howdah_proc::pids().into_iter();
    pids.filter_map(|pid| u32::try_from(pid).ok()).collect()
}

pub(crate) fn children(parent: u32) -> Vec<u32> {
    let pids = howdah_proc::children(number(parent)).into_iter();
    pids.filter_map(|pid| u32::try_from(pid).ok()).collect()
}

pub(crate) fn command_line(pid: u32) -> String {
    howdah_proc::command_line(number(pid))
}

pub(crate) fn working_directory(pid: u32) -> Option<std::path::PathBuf> {
    howdah_proc::working_directory(number(pid))
}

pub(crate) fn status_number(pid: u32, name: &str) -> u64 {
    howdah_proc::status_number(number(pid), name).unwrap_or(0)
}
