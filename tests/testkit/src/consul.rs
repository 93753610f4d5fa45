use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use howdah_clock::now;
use howdah_http::{Client, Method, Url};

use crate::lab::{free_port, until};

/// A Consul of one server, if there is one on this machine.
pub struct Consul {
    child: Child,
    port: u16,
}

impl Consul {
    /// The program that `$HOWDAH_CONSUL` names, or the one on `PATH`. Debian has none, and later versions are not free software.
    #[must_use]
    pub fn program() -> Option<PathBuf> {
        if let Some(program) = std::env::var_os("HOWDAH_CONSUL") {
            return Some(program.into());
        }
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|dir| dir.join("consul"))
            .find(|program| program.is_file())
    }

    /// Starts one with its data below `dir` and waits until it leads.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.join("consul");
        fs::create_dir_all(&dir)?;
        let port = free_port()?;
        let ports: Vec<u16> = (0..4).map(|_| free_port()).collect::<Result<_, _>>()?;
        let config = serde_json::json!({
            "server": true, "bootstrap_expect": 1, "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
            "data_dir": dir.join("data"), "session_ttl_min": "2s", "disable_update_check": true,
            "ports": {"http": port, "server": ports[0], "serf_lan": ports[1], "dns": -1, "serf_wan": -1,
                "grpc": -1, "grpc_tls": -1, "https": -1},
        });
        fs::write(dir.join("config.json"), config.to_string())?;
        let log = fs::File::create(dir.join("log"))?;
        let child = Command::new(program)
            .args(["agent", "-config-file"])
            .arg(dir.join("config.json"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let consul = Consul { child, port };
        let leader = Url::parse(&format!("http://127.0.0.1:{port}/v1/kv/x?keys&consistent"))?;
        until("Consul leads", Duration::from_secs(30), async || {
            let answer = Client::default()
                .request(Method::GET, &leader, None, now() + Duration::from_secs(1))
                .await;
            answer.is_ok_and(|answer| answer.status == 404)
        })
        .await
        .with_context(|| fs::read_to_string(dir.join("log")).unwrap_or_default())?;
        Ok(consul)
    }

    /// Where its HTTP API listens on this machine.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
