use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use howdah_clock::now;
use howdah_http::{Client, Method, Url};

use crate::lab::{free_port, until};

/// One etcd.
pub struct Etcd {
    child: Child,
    port: u16,
}

impl Etcd {
    /// Starts one with its data below `dir` and waits until it answers.
    ///
    /// # Errors
    /// It is not installed or does not start.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let (port, peer) = (free_port()?, free_port()?);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let log = std::fs::File::create(dir.join("etcd.log"))?;
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(dir.join("etcd"))
            .args([
                "--listen-client-urls",
                &url(port),
                "--advertise-client-urls",
                &url(port),
            ])
            .args([
                "--listen-peer-urls",
                &url(peer),
                "--initial-advertise-peer-urls",
                &url(peer),
            ])
            .args(["--initial-cluster", &format!("default={}", url(peer))])
            // Tests write little, and the disk of a test machine is slow.
            .arg("--unsafe-no-fsync")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("etcd is not installed: run script/setup")?;
        let etcd = Etcd { child, port };
        let health = Url::parse(&format!("{}/health", etcd.url()))?;
        until("etcd answers", Duration::from_secs(20), async || {
            let answer = Client::default()
                .request(Method::GET, &health, None, now() + Duration::from_secs(1))
                .await;
            answer.is_ok_and(|answer| answer.text().contains("true"))
        })
        .await?;
        Ok(etcd)
    }

    /// `127.0.0.1:port`
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `http://127.0.0.1:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
