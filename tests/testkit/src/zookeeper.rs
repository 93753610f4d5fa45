use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use howdah_clock::now;
use howdah_http::timeout_at;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::lab::{free_port, until};

/// An ensemble of ZooKeeper's servers, Debian's.
pub struct ZooKeeper {
    servers: Vec<Server>,
}

struct Server {
    child: Child,
    port: u16,
    dir: PathBuf,
}

/// How long a virtual machine of Java may take to start on a busy machine.
const START: Duration = Duration::from_secs(60);

impl ZooKeeper {
    /// Starts so many servers with their data below `dir`, and waits until they serve.
    ///
    /// # Errors
    /// ZooKeeper is not installed or does not start.
    pub async fn start(dir: &Path, servers: usize) -> anyhow::Result<Self> {
        let mut ports = Vec::new();
        for _ in 0..servers {
            ports.push((free_port()?, free_port()?, free_port()?));
        }
        let mut started = Vec::new();
        for (i, (port, _, _)) in ports.iter().enumerate() {
            let dir = dir.join(format!("zookeeper{i}"));
            fs::create_dir_all(dir.join("data"))?;
            let mut text = format!(
                "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
                 admin.enableServer=false\n4lw.commands.whitelist=srvr\n",
                dir.join("data").display()
            );
            if servers > 1 {
                for (j, (_, peers, election)) in ports.iter().enumerate() {
                    text += &format!("server.{j}=127.0.0.1:{peers}:{election}\n");
                }
                fs::write(dir.join("data/myid"), i.to_string())?;
            }
            fs::write(dir.join("zoo.cfg"), text)?;
            started.push(Server {
                child: spawn(&dir)?,
                port: *port,
                dir,
            });
        }
        let zookeeper = ZooKeeper { servers: started };
        for i in 0..servers {
            zookeeper.wait(i).await?;
        }
        Ok(zookeeper)
    }

    async fn wait(&self, server: usize) -> anyhow::Result<()> {
        until("ZooKeeper serves", START, async || {
            mode(self.servers[server].port).await.is_some()
        })
        .await
        .with_context(|| fs::read_to_string(self.servers[server].dir.join("log")).unwrap_or_default())
    }

    /// Where the servers listen, as `host:port`.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        let of = |server: &Server| format!("127.0.0.1:{}", server.port);
        self.servers.iter().map(of).collect()
    }

    /// The ports of the servers.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.servers.iter().map(|server| server.port).collect()
    }

    /// The server that leads the ensemble.
    pub async fn leader(&self) -> Option<usize> {
        for (i, server) in self.servers.iter().enumerate() {
            let mode = mode(server.port).await;
            if mode.is_some_and(|mode| mode == "leader" || mode == "standalone") {
                return Some(i);
            }
        }
        None
    }

    /// Kills one server.
    pub fn kill(&mut self, server: usize) {
        let _ = self.servers[server].child.kill();
        let _ = self.servers[server].child.wait();
    }

    /// Starts a server that was killed, with its data.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_again(&mut self, server: usize) -> anyhow::Result<()> {
        self.servers[server].child = spawn(&self.servers[server].dir)?;
        self.wait(server).await
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        for server in 0..self.servers.len() {
            self.kill(server);
        }
    }
}

fn spawn(dir: &Path) -> anyhow::Result<Child> {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))?;
    Command::new("java")
        .args([
            "-Xmx96m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Djute.maxbuffer=4194304",
        ])
        .args([
            "-cp",
            "/usr/share/java/zookeeper.jar",
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        ])
        .arg(dir.join("zoo.cfg"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("Java is not installed: apt-get install libzookeeper-java")
}

/// What a server is in its ensemble, if it serves.
async fn mode(port: u16) -> Option<String> {
    let asked = timeout_at(now() + Duration::from_secs(1), async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"srvr").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    });
    let text = asked.await.ok()?.ok()?;
    let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "))?;
    Some(mode.trim().to_owned())
}
