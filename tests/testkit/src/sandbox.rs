use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::Context;
use serde_json::Value;

use crate::lab::howdah_binary;

/// A sandbox of its own: `howdah up` with a state directory that is removed at the end.
pub struct Sandbox {
    program: PathBuf,
    state: PathBuf,
}

impl Sandbox {
    /// Starts one.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start() -> anyhow::Result<Self> {
        // Not a temporary directory of ours alone: pods run as another user when this is root.
        let state = tempfile::Builder::new()
            .prefix("howdah-sandbox-")
            .tempdir_in("/var/tmp")?
            .keep();
        fs::remove_dir(&state)?;
        let sandbox = Sandbox {
            program: howdah_binary()?,
            state,
        };
        sandbox.run(&["up", "--detach"])?;
        Ok(sandbox)
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Runs `howdah` on it. What it prints does not matter for how it ended.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn howdah(&self, args: &[&str]) -> anyhow::Result<Output> {
        // A file, not a pipe: a server in the background would hold the pipe open.
        let out = tempfile::NamedTempFile::new()?;
        let errors = tempfile::NamedTempFile::new()?;
        let status = Command::new(&self.program)
            .args(args)
            .env("HOWDAH_STATE", &self.state)
            .stdin(Stdio::null())
            .stdout(out.reopen()?)
            .stderr(errors.reopen()?)
            .status()
            .context("starting howdah")?;
        Ok(Output {
            status,
            stdout: fs::read(out.path())?,
            stderr: fs::read(errors.path())?,
        })
    }

    /// Runs `howdah` on it and returns what it prints.
    ///
    /// # Errors
    /// It fails; with everything it said.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.howdah(args)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(
            output.status.success(),
            "howdah {args:?}: {}\n{text}{errors}",
            output.status
        );
        Ok(text)
    }

    /// Applies a manifest and waits until the cluster is ready.
    ///
    /// # Errors
    /// It is refused or not ready within two minutes.
    pub fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), manifest)?;
        let path = file.path().to_string_lossy().into_owned();
        self.run(&["apply", "-f", &path, "--wait", "--timeout", "2m"])
    }

    /// What one SQL statement prints, through the primary's Service.
    ///
    /// # Errors
    /// psql fails.
    pub fn sql(&self, cluster: &str, database: &str, sql: &str) -> anyhow::Result<String> {
        let text = self.run(&["psql", cluster, "-d", database, "--", "-qXAt", "-c", sql])?;
        Ok(text.trim().to_owned())
    }

    /// A cluster's object.
    ///
    /// # Errors
    /// It is not there.
    pub fn cluster(&self, name: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.run(&["get", name, "-o", "json"])?)?)
    }

    /// The directory of a running pod, with its guard's process id.
    ///
    /// # Errors
    /// It does not run.
    pub fn pod(&self, name: &str) -> anyhow::Result<(PathBuf, i32)> {
        for entry in fs::read_dir(self.state.join("pods"))?.flatten() {
            let Ok(text) = fs::read_to_string(entry.path().join("process.json")) else {
                continue;
            };
            let known: Value = serde_json::from_str(&text)?;
            if known["pod"] == format!("default/{name}").as_str() {
                let pid = known["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
                return Ok((entry.path(), pid.context("a pod without a process")?));
            }
        }
        anyhow::bail!("pod {name} does not run")
    }

    /// The data directory of a running pod.
    ///
    /// # Errors
    /// It does not run.
    pub fn data_dir(&self, name: &str) -> anyhow::Result<PathBuf> {
        Ok(self.pod(name)?.0.join("root/home/postgres/pgdata/pgroot/data"))
    }

    /// The postmaster of a pod.
    ///
    /// # Errors
    /// PostgreSQL does not run in it.
    pub fn postmaster(&self, name: &str) -> anyhow::Result<i32> {
        let file = self.data_dir(name)?.join("postmaster.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        Ok(text.lines().next().unwrap_or_default().trim().parse()?)
    }

    /// Runs kubectl on it: `HOWDAH_KUBECTL`, or the one on `PATH`. Returns everything that it prints.
    ///
    /// # Errors
    /// It is not installed or fails.
    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let program = std::env::var_os("HOWDAH_KUBECTL").unwrap_or_else(|| "kubectl".into());
        let output = Command::new(program)
            .arg("--kubeconfig")
            .arg(self.state.join("kubeconfig"))
            .arg("--cache-dir")
            .arg(self.state.with_extension("kubectl"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .context("starting kubectl: script/test installs it")?;
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "kubectl {args:?}: {text}");
        Ok(text)
    }

    /// The processes that still work in its directories.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let works_here =
            |pid: &i32| howdah_proc::working_directory(*pid).is_some_and(|cwd| cwd.starts_with(&self.state));
        howdah_proc::pids().into_iter().filter(works_here).collect()
    }
}

impl Drop for Sandbox {
    #[allow(clippy::disallowed_methods, reason = "a test waits")]
    fn drop(&mut self) {
        if self.state.exists()
            && let Err(error) = self.run(&["down", "--purge"])
        {
            eprintln!("a sandbox was left behind in {}: {error:#}", self.state.display());
        }
        let _ = fs::remove_dir_all(self.state.with_extension("kubectl"));
    }
}
