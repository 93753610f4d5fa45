use std::{
    fs,
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use howdah_clock::now;
use howdah_http::{Client, HttpError, Method, Response, Url, basic_auth};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    Address, Sandbox,
    config::postgres_bin,
    lab::until,
    processes::{all_pids, children, command_line, send, status_number, working_directory},
};

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
    /// The address of PostgreSQL and the REST API.
    pub host: Ipv4Addr,
    /// PostgreSQL's port.
    pub port: u16,
    /// The REST API's port.
    pub api: u16,
    /// Whose agent.
    pub flavour: Flavour,
    /// The superuser's password.
    pub(crate) password: String,
    pub(crate) runner: Runner,
}

/// Who starts a member's processes.
pub(crate) enum Runner {
    /// This test.
    Test {
        dir: PathBuf,
        owner: Option<(u32, u32)>,
        environment: Vec<(String, String)>,
        child: Option<Child>,
    },
    /// The node of a sandbox, where the member is a pod. It starts a container that has ended again by itself.
    Node(Arc<Sandbox>),
}

impl Member {
    /// Starts the agent, if it does not run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log_path = self.log_path();
        let (dir, owner, environment, child) = match &mut self.runner {
            Runner::Test {
                dir,
                owner,
                environment,
                child,
            } => (dir, owner, environment, child),
            Runner::Node(_) => return self.skip_back_off(),
        };
        let log = fs::OpenOptions::new().create(true).append(true).open(log_path)?;
        let config = dir.join(format!("{}.yml", self.name));
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
            .current_dir(&dir)
            .env("HOME", &dir)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log).process_group(0);
        if let Some((uid, gid)) = owner {
            command.uid(*uid).gid(*gid);
        }
        *child = Some(command.spawn().context("starting an agent")?);
        Ok(())
    }

    /// Starts PostgreSQL as a user at the machine would, without the agent.
    ///
    /// # Errors
    /// It does not start, or is a pod's.
    pub fn start_postgres_by_hand(&self) -> anyhow::Result<()> {
        let Runner::Test { dir, owner, .. } = &self.runner else {
            anyhow::bail!("{} is a pod", self.name);
        };
        let program = PathBuf::from(postgres_bin()).join("pg_ctl");
        let mut command = Command::new(program);
        command
            .args(["start", "--silent", "--wait", "--pgdata"])
            .arg(self.data_dir())
            .args(["--log", "/dev/null"])
            .current_dir(dir)
            .stdin(Stdio::null());
        if let Some((uid, gid)) = owner {
            command.uid(*uid).gid(*gid);
        }
        let status = command.status().context("pg_ctl")?;
        anyhow::ensure!(status.success(), "pg_ctl start: {status}");
        Ok(())
    }

    /// A container that ends often waits longer and longer before it is started again; that of a new pod does not.
    fn skip_back_off(&self) -> anyhow::Result<()> {
        match &self.runner {
            Runner::Node(sandbox) if self.guard_pid().is_none() => sandbox
                .kubectl(&[
                    "delete",
                    "pod",
                    &self.name,
                    "--force",
                    "--grace-period=0",
                    "--wait=false",
                ])
                .map(drop),
            _ => Ok(()),
        }
    }

    /// Whether it is to run.
    #[must_use]
    pub fn is_started(&self) -> bool {
        match &self.runner {
            Runner::Test { child, .. } => child.is_some(),
            Runner::Node(_) => true,
        }
    }

    /// How its PostgreSQL is reached.
    #[must_use]
    pub fn address(&self) -> Address {
        Address {
            host: self.host,
            port: self.port,
            password: self.password.clone(),
        }
    }

    /// Where its data lies.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        match &self.runner {
            Runner::Test { dir, .. } => dir.join(&self.name).join("data"),
            Runner::Node(sandbox) => sandbox.data_dir(&self.name).unwrap_or_default(),
        }
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        match &self.runner {
            Runner::Test { dir, .. } => dir.join(format!("{}.log", self.name)),
            Runner::Node(sandbox) => match sandbox.pod(&self.name) {
                Ok((home, _)) => home.join("logs/postgres.log"),
                Err(_) => PathBuf::new(),
            },
        }
    }

    /// The process that was started: the guard, or Patroni itself.
    #[must_use]
    pub fn guard_pid(&self) -> Option<u32> {
        match &self.runner {
            Runner::Test { child, .. } => child.as_ref().map(Child::id),
            Runner::Node(sandbox) => {
                let pid = u32::try_from(sandbox.pod(&self.name).ok()?.1).ok()?;
                working_directory(pid).is_some().then_some(pid)
            }
        }
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
        working_directory(pid).is_some().then_some(pid)
    }

    /// All processes of its PostgreSQL.
    #[must_use]
    pub fn postgres_pids(&self) -> Vec<u32> {
        let Ok(data) = self.data_dir().canonicalize() else {
            return Vec::new();
        };
        all_pids()
            .into_iter()
            .filter(|pid| working_directory(*pid).is_some_and(|cwd| cwd == data))
            .collect()
    }

    /// A backend that serves a client.
    #[must_use]
    pub fn a_backend(&self) -> Option<u32> {
        self.postgres_pids().into_iter().find(|pid| {
            command_line(*pid).contains("127.0.0.1(") && !command_line(*pid).contains("walsender")
        })
    }

    /// The process that receives WAL from upstream.
    #[must_use]
    pub fn wal_receiver(&self) -> Option<u32> {
        self.process("walreceiver")
    }

    /// Its processes of this kind, such as `walsender`.
    #[must_use]
    pub fn processes(&self, kind: &str) -> Vec<u32> {
        let mut pids = self.postgres_pids();
        pids.retain(|pid| command_line(*pid).contains(kind));
        pids
    }

    /// Its process of this kind, such as `checkpointer`.
    #[must_use]
    pub fn process(&self, kind: &str) -> Option<u32> {
        self.processes(kind).first().copied()
    }

    /// Kills everything of it at once, as a power failure does.
    pub fn kill_node(&mut self) {
        // Frozen first, so that none reacts to another's death.
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

    /// Asks the agent to end in order, as a service manager does. A pod's is not asked.
    pub fn terminate(&self) {
        if let Runner::Test {
            child: Some(child), ..
        } = &self.runner
        {
            send(child.id(), Signal::TERM);
        }
    }

    /// Waits for the started process to end; the exit code. What a node runs is the node's to wait for.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn wait_exit(&mut self, patience: Duration) -> anyhow::Result<Option<i32>> {
        let Runner::Test { child: slot, .. } = &mut self.runner else {
            return Ok(None);
        };
        let mut child = slot.take().context("not running")?;
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
            *slot = Some(child);
        }
        waited.map(|()| code)
    }

    /// Takes the exit status of a process that was killed.
    pub fn reap(&mut self) {
        if let Runner::Test { child, .. } = &mut self.runner
            && let Some(mut child) = child.take()
        {
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
        let url = Url::parse(&format!("http://{}:{}{path}", self.host, self.api))?;
        let body = body.map(|body| bytes::Bytes::from(body.to_string()));
        // Agents of an operator want the superuser's name and password; where nothing is asked for, they do no harm.
        Client::default()
            .with_authorization(Some(basic_auth("postgres", &self.password)))
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
        let field = status_number;
        (
            pids.iter().map(|pid| field(*pid, "VmRSS:")).sum(),
            pids.iter().map(|pid| field(*pid, "Threads:")).sum(),
        )
    }
}
