//! The running sandbox, as other processes find it.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use howdah_sandbox::SandboxDir;
use serde_json::{Value, json};

/// A sandbox's server process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) pid: i32,
    started: u64,
    /// Everything of it is there.
    pub(crate) ready: bool,
}

impl Server {
    /// The server that is running, if one is.
    pub(crate) fn find(dir: &SandboxDir) -> Option<Server> {
        let text = fs::read_to_string(dir.server_file()).ok()?;
        let known: Value = serde_json::from_str(&text).ok()?;
        let server = Server {
            pid: i32::try_from(known["pid"].as_i64()?).ok()?,
            started: known["started"].as_u64()?,
            ready: known["ready"] == true,
        };
        server.is_alive().then_some(server)
    }

    /// Whether it is still the same process.
    pub(crate) fn is_alive(self) -> bool {
        howdah_proc::started(self.pid) == Some(self.started)
    }

    /// Says that this process is the server.
    pub(crate) fn announce(dir: &SandboxDir, ready: bool) -> anyhow::Result<()> {
        let pid = i32::try_from(std::process::id()).context("this process has no id")?;
        let started = howdah_proc::started(pid).context("/proc does not show this process")?;
        let text = json!({"pid": pid, "started": started, "ready": ready}).to_string();
        let path: PathBuf = dir.server_file();
        let next = path.with_extension("next");
        fs::write(&next, text).with_context(|| format!("{}", next.display()))?;
        fs::rename(&next, &path).with_context(|| format!("{}", path.display()))
    }

    /// No process is the server any more.
    pub(crate) fn withdraw(dir: &SandboxDir) {
        let _ = fs::remove_file(dir.server_file());
    }
}
