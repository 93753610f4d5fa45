//! The processes of a pod, found by where they work: a process that was left behind by its parents still works in the
//! pod's directories.

use std::{fs, path::PathBuf, time::Duration};

use howdah_clock::now;
use howdah_http::sleep_until;
use rustix::process::{Pid, Signal, kill_process};

/// How often a pod's end is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// When a process began, in ticks since boot: with its id it names the process for good. `None` if there is none, or it
/// has ended and nobody has taken note of that yet.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; the state and the rest follow its last parenthesis.
    let rest = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// All processes that work in one of these directories.
pub(super) fn working_in(directories: &[PathBuf]) -> Vec<i32> {
    let real: Vec<PathBuf> = directories
        .iter()
        .map(|d| fs::canonicalize(d).unwrap_or_else(|_| d.clone()))
        .collect();
    let ours = ancestors();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
            cwd.is_ok_and(|cwd| real.iter().any(|directory| cwd.starts_with(directory)))
        })
        .filter(|pid| start_time(*pid).is_some() && !ours.contains(pid))
        .collect()
}

/// This process and those above it: a shell that happens to stand in a volume is nobody's pod.
fn ancestors() -> Vec<i32> {
    let mut all = vec![i32::try_from(std::process::id()).unwrap_or(0)];
    while let Some(pid) = all.last().filter(|pid| **pid > 1) {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            break;
        };
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        match parent {
            Some(parent) => all.push(parent),
            None => break,
        }
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
    start_time(pid) == Some(started)
}

/// Waits for the end of a process that is not our child.
pub(super) async fn gone(pid: i32, started: u64) {
    while is_alive(pid, started) {
        sleep_until(now() + Duration::from_millis(100)).await;
    }
}
