use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use howdah_clock::now;
use howdah_http::{Client, HttpError, Method, Response, Url};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::lab::until;

/// Whose agent a member runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Ours: the path of the binary.
    Howdah(PathBuf),
    /// The peer: the path of Patroni's `patroni`.
    Patroni(PathBuf),
}

/// One member of a lab.
pub struct Member {
    /// Its name.
    pub name: String,
    /// PostgreSQL's port.
    pub port: u16,
    /// The REST API's port.
    pub api: u16,
    /// Whose agent.
    pub flavour: Flavour,
    pub(crate) dir: PathBuf,
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) child: Option<Child>,
}

impl Member {
    /// Starts the agent.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let config = self.dir.join(format!("{}.yml", self.name));
        let mut command = match &self.flavour {
            Flavour::Howdah(program) => {
                let mut command = Command::new(program);
                command.arg("agent");
                command
            }
            Flavour::Patroni(program) => Command::new(program),
        };
        command
            .arg(config)
            .current_dir(&self.dir)
            .env("HOME", &self.dir)
            .stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log).process_group(0);
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        self.child = Some(command.spawn().context("starting an agent")?);
        Ok(())
    }

    /// Where its data lies.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    /// The process that was started: the guard, or Patroni itself.
    #[must_use]
    pub fn guard_pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The agent: the guard's child, or Patroni itself.
    #[must_use]
    pub fn agent_pid(&self) -> Option<u32> {
        let guard = self.guard_pid()?;
        match self.flavour {
            Flavour::Patroni(_) => Some(guard),
            Flavour::Howdah(_) => children(guard)
                .into_iter()
                .find(|pid| command_line(*pid).contains("agent-worker")),
        }
    }

    /// The postmaster, if it lives.
    #[must_use]
    pub fn postmaster_pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).ok()?;
        let pid: u32 = text.lines().next()?.trim().parse().ok()?;
        Path::new(&format!("/proc/{pid}/cwd")).exists().then_some(pid)
    }

    /// All processes of its PostgreSQL.
    #[must_use]
    pub fn postgres_pids(&self) -> Vec<u32> {
        let Ok(data) = self.data_dir().canonicalize() else {
            return Vec::new();
        };
        all_pids()
            .into_iter()
            .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data))
            .collect()
    }

    /// A backend that serves a client.
    #[must_use]
    pub fn a_backend(&self) -> Option<u32> {
        self.postgres_pids().into_iter().find(|pid| {
            command_line(*pid).contains("127.0.0.1(") && !command_line(*pid).contains("walsender")
        })
    }

    /// Kills everything of it at once, as a power failure does.
    pub fn kill_node(&mut self) {
        // Frozen first, so that nobody reacts to another's death.
        let mut pids: Vec<u32> = [self.guard_pid(), self.agent_pid()]
            .into_iter()
            .flatten()
            .collect();
        pids.extend(self.postgres_pids());
        for signal in [Signal::STOP, Signal::KILL] {
            for pid in &pids {
                send(*pid, signal);
            }
        }
        for pid in self.postgres_pids() {
            send(pid, Signal::KILL);
        }
        self.reap();
    }

    /// Waits for the started process to end; the exit code.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn wait_exit(&mut self, patience: Duration) -> anyhow::Result<Option<i32>> {
        let mut child = self.child.take().context("not running")?;
        let mut code = None;
        let waited = until("the agent ends", patience, async || match child.try_wait() {
            Ok(Some(status)) => {
                code = status.code();
                true
            }
            _ => false,
        })
        .await;
        if waited.is_err() {
            self.child = Some(child);
        }
        waited.map(|()| code)
    }

    /// Takes the exit status of a process that was killed.
    pub fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// A request to its REST API.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response, HttpError> {
        let url = Url::parse(&format!("http://127.0.0.1:{}{path}", self.api))?;
        let body = body.map(|body| bytes::Bytes::from(body.to_string()));
        Client::default()
            .request(method, &url, body, now() + Duration::from_secs(90))
            .await
    }

    /// `GET /patroni`; null when it does not answer.
    pub async fn status(&self) -> Value {
        match self.call(Method::GET, "/patroni", None).await {
            Ok(answer) => serde_json::from_slice(&answer.body).unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    /// Resident memory of guard and agent in KiB, and their threads.
    #[must_use]
    pub fn footprint(&self) -> (u64, u64) {
        let mut pids: Vec<u32> = [self.guard_pid(), self.agent_pid()]
            .into_iter()
            .flatten()
            .collect();
        pids.dedup();
        let field = |pid: u32, name: &str| -> u64 {
            let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_default();
            line.split_whitespace()
                .nth(1)
                .and_then(|n| n.parse().ok())
                .unwrap_or(0)
        };
        (
            pids.iter().map(|pid| field(*pid, "VmRSS:")).sum(),
            pids.iter().map(|pid| field(*pid, "Threads:")).sum(),
        )
    }
}

/// Sends a signal; a process that is gone does not matter.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        after
            .split_whitespace()
            .nth(1)
            .and_then(|ppid| ppid.parse::<u32>().ok())
            == Some(parent)
    };
    all_pids().into_iter().filter(is_child).collect()
}

fn command_line(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .unwrap_or_default()
        .replace('\0', " ")
}
