use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use howdah_clock::now;
use howdah_http::{Client, Method, Url};
use serde_json::json;

use crate::lab::{free_port, until};

/// One etcd.
pub struct Etcd {
    child: Child,
    port: u16,
    /// Lives that it has had.
    lives: u32,
}

impl Etcd {
    /// Starts one with its data below `dir` and waits until it answers.
    ///
    /// # Errors
    /// It is not installed or does not start.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        let child = spawn(dir, port, 0)?;
        let etcd = Etcd {
            child,
            port,
            lives: 1,
        };
        etcd.wait().await?;
        Ok(etcd)
    }

    async fn wait(&self) -> anyhow::Result<()> {
        let health = Url::parse(&format!("{}/health", self.url()))?;
        until("etcd answers", Duration::from_secs(20), async || {
            let answer = Client::default()
                .request(Method::GET, &health, None, now() + Duration::from_secs(1))
                .await;
            answer.is_ok_and(|answer| answer.text().contains("true"))
        })
        .await
    }

    /// Kills it.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it after [`Etcd::stop`], at the same address and without its data.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_empty(&mut self, dir: &Path) -> anyhow::Result<()> {
        self.child = spawn(dir, self.port, self.lives)?;
        self.lives += 1;
        self.wait().await
    }

    /// Writes a key.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn put(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let body = json!({"key": BASE64.encode(key), "value": BASE64.encode(value)});
        self.post("/v3/kv/put", body).await
    }

    /// Deletes a key, or all that begin with it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn delete(&self, key: &str, all: bool) -> anyhow::Result<()> {
        let mut body = json!({"key": BASE64.encode(key)});
        if all {
            let mut end = key.as_bytes().to_vec();
            if let Some(last) = end.last_mut() {
                *last += 1;
            }
            body["range_end"] = BASE64.encode(end).into();
        }
        self.post("/v3/kv/deleterange", body).await
    }

    async fn post(&self, path: &str, body: serde_json::Value) -> anyhow::Result<()> {
        let url = Url::parse(&format!("{}{path}", self.url()))?;
        let body = Bytes::from(body.to_string());
        let answer = Client::default()
            .request(Method::POST, &url, Some(body), now() + Duration::from_secs(5))
            .await?;
        anyhow::ensure!(answer.status == 200, "etcd: {} {}", answer.status, answer.text());
        Ok(())
    }

    /// Where it listens on this machine.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(dir: &Path, port: u16, life: u32) -> anyhow::Result<Child> {
    let peer = free_port()?;
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let log = std::fs::File::create(dir.join(format!("etcd-{life}.log")))?;
    Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.join(format!("etcd-{life}")))
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
        .context("etcd is not installed: run script/setup")
}
