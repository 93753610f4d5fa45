//! The processes of a pod, found by where they work: a process that was left behind by its parents still works in the
//! pod's directories.

use std::{fs, path::PathBuf, time::Duration};

use howdah_clock::now;
use howdah_http::sleep_until;
use rustix::process::{Pid, Signal, kill_process};

/// How often a pod's end is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// All processes that work in one of these directories.
pub(super) fn working_in(directories: &[PathBuf]) -> Vec<i32> {
    let real: Vec<PathBuf> = directories
        .iter()
        .map(|d| fs::canonicalize(d).unwrap_or_else(|_| d.clone()))
        .collect();
    let ours = ancestors();
    let works_here = |pid: &i32| {
        let cwd = howdah_proc::working_directory(*pid);
        cwd.is_some_and(|cwd| real.iter().any(|directory| cwd.starts_with(directory)))
    };
    let pids = howdah_proc::pids().into_iter().filter(works_here);
    pids.filter(|pid| howdah_proc::started(*pid).is_some() && !ours.contains(pid))
        .collect()
}

/// This process and those above it: a shell that happens to stand in a volume belongs to no pod.
fn ancestors() -> Vec<i32> {
    let mut all = vec![i32::try_from(std::process::id()).unwrap_or(0)];
    while let Some(pid) = all.last().filter(|pid| **pid > 1) {
        let Some(stat) = howdah_proc::Stat::of(*pid) else {
            break;
        };
        all.push(stat.parent);
    }
    all
}

pub(super) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may just have ended.
        let _ = kill_process(pid, signal);
    }
}

/// Kills everything that works in these directories, and waits until nothing does.
pub(crate) async fn end_all_in(directories: &[PathBuf]) {
    loop {
        let found = working_in(directories);
        if found.is_empty() {
            return;
        }
        // Frozen first, so that none of them can start another.
        for pid in &found {
            signal(*pid, Signal::STOP);
        }
        for pid in found {
            signal(pid, Signal::KILL);
        }
        sleep_until(now() + LOOK).await;
    }
}

/// Whether this process is still there.
pub(super) fn is_alive(pid: i32, started: u64) -> bool {
    howdah_proc::started(pid) == Some(started)
}

/// Waits for the end of a process that is not our child.
pub(super) async fn gone(pid: i32, started: u64) {
    while is_alive(pid, started) {
        sleep_until(now() + Duration::from_millis(100)).await;
    }
}
