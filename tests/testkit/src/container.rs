use std::{
    fs,
    net::Ipv4Addr,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use rustix::process::Signal;

use crate::{Address, Lab, config::SUPERUSER_PASSWORD, free_port, lab::unprivileged, processes::send, until};

/// What a container of the image runs, as processes of this machine: configured by variables alone, with a root of its own.
pub struct Container {
    /// Its root directory.
    pub root: PathBuf,
    /// The server's port.
    pub port: u16,
    /// The REST API's port.
    pub api: u16,
    child: Option<Child>,
    log: PathBuf,
}

impl Container {
    /// Starts one of a cluster beside a lab, whose etcd is the store.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(lab: &Lab, cluster: &str, ordinal: u32, variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        Container::start_as(lab, cluster, ordinal, variables, unprivileged()?)
    }

    /// The same as a user and group of these ids, which only root can do.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_as(
        lab: &Lab,
        cluster: &str,
        ordinal: u32,
        variables: &[(&str, &str)],
        owner: Option<(u32, u32)>,
    ) -> anyhow::Result<Self> {
        let name = format!("{cluster}-{ordinal}");
        let root = lab.dir.path().join(&name);
        fs::create_dir_all(&root)?;
        let (port, api) = (free_port()?, free_port()?);
        let log = root.join("log");
        let output = fs::File::create(&log)?;
        let etcd = lab.etcd.as_ref().context("no etcd")?.url();
        let mut command = Command::new(lab.dir.path().join("howdah"));
        command
            .arg("entrypoint")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &root)
            .env("HOSTNAME", &name)
            .env("SCOPE", cluster)
            .env("POD_IP", Ipv4Addr::LOCALHOST.to_string())
            .env("PGPORT", port.to_string())
            .env("APIPORT", api.to_string())
            .env("PGPASSWORD_SUPERUSER", SUPERUSER_PASSWORD)
            .env("PGPASSWORD_STANDBY", "of the standby")
            .env("ETCD3_HOST", etcd.trim_start_matches("http://"))
            // Clients of tests speak no TLS unless they say so.
            .env("ALLOW_NOSSL", "true")
            .env("HOWDAH_POD_ROOT", &root)
            .envs(variables.iter().copied())
            .current_dir(&root)
            .stdin(Stdio::null());
        command
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        if let Some((uid, gid)) = owner {
            chown(&root, Some(uid), Some(gid))?;
            command.uid(uid).gid(gid);
        }
        let child = Some(command.spawn().context("starting a container")?);
        Ok(Container {
            root,
            port,
            api,
            child,
            log,
        })
    }

    /// Where its server is.
    #[must_use]
    pub fn address(&self) -> Address {
        Address {
            host: Ipv4Addr::LOCALHOST,
            port: self.port,
            password: SUPERUSER_PASSWORD.to_owned(),
        }
    }

    /// What it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A file below its root.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root
            .join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
    }

    /// Waits for its end; the exit code.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn wait_exit(&mut self, patience: Duration) -> anyhow::Result<Option<i32>> {
        let mut code = None;
        let child = self.child.as_mut().context("not running")?;
        until("the container ends", patience, async || match child.try_wait() {
            Ok(Some(status)) => {
                code = status.code();
                true
            }
            _ => false,
        })
        .await?;
        Ok(code)
    }
}

impl Drop for Container {
    /// The death of the guard ends everything below it.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            send(child.id(), Signal::KILL);
            let _ = child.wait();
        }
    }
}
