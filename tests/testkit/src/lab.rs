use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::Context;
use howdah_clock::now;
use howdah_http::{Method, sleep_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Address, Etcd, Flavour, Link, Member, Sandbox, Settings,
    config::{SUPERUSER_PASSWORD, member_config},
    disk::SmallDisk,
    member::Runner,
};

/// How a lab is made.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// One agent each.
    pub members: Vec<Flavour>,
    /// What is different from the defaults.
    pub settings: Settings,
    /// Each member reaches the store over a [`Link`] of its own.
    pub linked: bool,
    /// Each member has a small file system of its own for its data. Only root can make one.
    pub small_disks: bool,
}

/// A store and some members. Everything is killed and removed when it is dropped.
pub struct Lab {
    /// The members, in the order of their names `m0`, `m1`, …
    pub members: Vec<Member>,
    /// The store; none where Kubernetes is it.
    pub etcd: Option<Etcd>,
    /// Each member's way to etcd, in their order.
    pub(crate) links: Vec<Link>,
    pub(crate) disks: Vec<SmallDisk>,
    pub(crate) dir: TempDir,
}

impl LabOptions {
    /// `count` members of ours.
    ///
    /// # Errors
    /// The binary was not built.
    pub fn howdah(count: usize) -> anyhow::Result<Self> {
        let flavour = Flavour::Howdah(howdah_binary()?);
        Ok(LabOptions {
            members: vec![flavour; count],
            settings: Settings::default(),
            linked: false,
            small_disks: false,
        })
    }

    /// With this over the dynamic configuration.
    #[must_use]
    pub fn dynamic(mut self, dynamic: Value) -> Self {
        self.settings.dynamic = dynamic;
        self
    }

    /// With this over the local configuration.
    #[must_use]
    pub fn local(mut self, local: Value) -> Self {
        self.settings.local = local;
        self
    }
}

impl Lab {
    /// Starts etcd and writes the members' configurations; no agent runs yet.
    ///
    /// # Errors
    /// etcd is not there.
    pub async fn new(options: LabOptions) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("howdah-lab-")
            .tempdir_in("/tmp")?;
        let owner = unprivileged()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        if let Some((uid, gid)) = owner {
            chown(dir.path(), Some(uid), Some(gid))?;
        }
        let etcd = Etcd::start(dir.path()).await?;
        let mut links = Vec::new();
        let mut disks = Vec::new();
        let mut members = Vec::new();
        for (i, flavour) in options.members.into_iter().enumerate() {
            let name = format!("m{i}");
            let ports = (free_port()?, free_port()?);
            let store = if options.linked {
                let link = Link::open(free_port()?, etcd.port())?;
                let port = link.port();
                links.push(link);
                port
            } else {
                etcd.port()
            };
            let store = format!("127.0.0.1:{store}");
            let text = member_config(&name, dir.path(), &store, ports, &options.settings);
            fs::write(dir.path().join(format!("{name}.yml")), text)?;
            if options.small_disks {
                disks.push(SmallDisk::mount(dir.path().join(&name), owner)?);
            }
            let flavour = match flavour {
                // Where the checkout lies, the unprivileged user may not read.
                Flavour::Howdah(program) => Flavour::Howdah(copy_program(&program, dir.path())?),
                other => other,
            };
            members.push(Member {
                name,
                host: Ipv4Addr::LOCALHOST,
                port: ports.0,
                api: ports.1,
                flavour,
                password: SUPERUSER_PASSWORD.to_owned(),
                runner: Runner::Test {
                    dir: dir.path().to_owned(),
                    owner,
                    environment: options.settings.environment.clone(),
                    child: None,
                },
            });
        }
        Ok(Lab {
            members,
            etcd: Some(etcd),
            links,
            disks,
            dir,
        })
    }

    /// A lab whose members all run: one leads, the others stream.
    ///
    /// # Errors
    /// They do not come up.
    pub async fn running(options: LabOptions) -> anyhow::Result<Self> {
        let mut lab = Lab::new(options).await?;
        lab.start_all()?;
        lab.wait_healthy(Duration::from_secs(60)).await?;
        Ok(lab)
    }

    /// Starts all agents.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().try_for_each(Member::start)
    }

    /// Our agent, where the members' user can run it.
    ///
    /// # Errors
    /// The binary was not built.
    pub fn our_agent(&self) -> anyhow::Result<Flavour> {
        Ok(Flavour::Howdah(copy_program(&howdah_binary()?, self.dir())?))
    }

    /// How the members' PostgreSQL is reached, in their order.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        self.members.iter().map(Member::address).collect()
    }

    /// Where everything lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Cuts a member off from the store, or lets it reach the store again. Nothing happens in a lab without links.
    pub fn cut_from_store(&self, member: usize, cut: bool) {
        if let Some(link) = self.links.get(member) {
            link.cut(cut);
        }
    }

    /// The member whose `/primary` check is met, by index.
    pub async fn primary(&self) -> Option<usize> {
        for (i, member) in self.members.iter().enumerate() {
            if member.is_started()
                && member
                    .call(Method::GET, "/primary", None)
                    .await
                    .is_ok_and(|answer| answer.status == 200)
            {
                return Some(i);
            }
        }
        None
    }

    /// Waits for a primary.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn wait_primary(&self, patience: Duration) -> anyhow::Result<usize> {
        let mut found = None;
        until("a primary", patience, async || {
            found = self.primary().await;
            found.is_some()
        })
        .await
        .with_context(|| self.logs())?;
        found.context("no primary")
    }

    /// Waits until one member leads and all others that were started stream from it on its timeline.
    ///
    /// # Errors
    /// They do not in time; the message has the logs.
    pub async fn wait_healthy(&self, patience: Duration) -> anyhow::Result<()> {
        until("all members are healthy", patience, async || {
            self.is_healthy().await
        })
        .await
        .with_context(|| self.logs())
    }

    pub(crate) async fn is_healthy(&self) -> bool {
        let mut timelines = Vec::new();
        let mut primaries = 0;
        for member in self.members.iter().filter(|member| member.is_started()) {
            let status = member.status().await;
            match (status["role"].as_str(), status["replication_state"].as_str()) {
                (Some("primary" | "master"), _) if status["state"] == "running" => primaries += 1,
                (Some("replica"), Some("streaming")) => {}
                _ => return false,
            }
            timelines.push(status["timeline"].clone());
        }
        timelines.dedup();
        primaries == 1 && timelines.len() == 1
    }

    /// Requests a switchover until the candidate leads. One request may be refused for a moment. After one that was carried out
    /// another would fit nothing: Patroni answers once the lease is handed over, and the new primary a moment later.
    ///
    /// # Errors
    /// It does not in time; the message has the last answer and the logs.
    pub async fn hand_over(&self, from: usize, to: usize, patience: Duration) -> anyhow::Result<()> {
        let body = serde_json::json!({"leader": self.members[from].name, "candidate": self.members[to].name});
        let mut said = String::new();
        let done = until("leadership is handed over", patience, async || {
            match self.primary().await {
                Some(primary) if primary == to => return true,
                Some(_) => {}
                None => return false,
            }
            let answer = self.members[from]
                .call(Method::POST, "/switchover", Some(&body))
                .await;
            said = format!("{:?}", answer.map(|answer| answer.text()));
            false
        });
        done.await.with_context(|| format!("{said}\n{}", self.logs()))
    }

    /// Waits until a synchronous standby is published: before that no member may take over.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn wait_sync(&self, patience: Duration) -> anyhow::Result<()> {
        until("a standby is synchronous", patience, async || {
            for member in self.members.iter().filter(|member| member.is_started()) {
                let status = member.status().await;
                if status["sync_standby"] == true || status["quorum_standby"] == true {
                    return true;
                }
            }
            false
        })
        .await
        .with_context(|| self.logs())
    }

    /// How long the leader lease is.
    ///
    /// # Errors
    /// No member shows its configuration.
    pub async fn lease(&self) -> anyhow::Result<Duration> {
        let config = self.config().await?;
        let seconds = config["howdah"]["ttl"].as_u64().or(config["ttl"].as_u64());
        Ok(Duration::from_secs(seconds.unwrap_or(30)))
    }

    /// The dynamic configuration.
    ///
    /// # Errors
    /// No member shows it.
    pub async fn config(&self) -> anyhow::Result<Value> {
        for member in &self.members {
            let Ok(answer) = member.call(Method::GET, "/config", None).await else {
                continue;
            };
            return Ok(serde_json::from_str(&answer.text())?);
        }
        anyhow::bail!("no member shows the configuration")
    }

    /// The sandbox whose pods the members are.
    pub(crate) fn sandbox(&self) -> Option<&Sandbox> {
        self.members.iter().find_map(|member| match &member.runner {
            Runner::Node(sandbox) => Some(&**sandbox),
            Runner::Test { .. } => None,
        })
    }

    /// A member that is not primary.
    pub async fn a_replica(&self) -> Option<usize> {
        let primary = self.primary().await?;
        (0..self.members.len()).find(|i| *i != primary)
    }

    /// The ends of all logs, for a failed test.
    #[must_use]
    pub fn logs(&self) -> String {
        let end = |member: &Member| {
            let log = member.log();
            // PostgreSQL may say much, the agent says what it does.
            let (mut agent, mut postgres): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| {
                line.contains(" INFO: ") || line.contains(" WARNING: ") || line.contains(" ERROR: ")
            });
            agent.drain(..agent.len().saturating_sub(40));
            postgres.drain(..postgres.len().saturating_sub(20));
            format!(
                "--- {}, its agent\n{}\n--- {}, its PostgreSQL\n{}\n",
                member.name,
                agent.join("\n"),
                member.name,
                postgres.join("\n")
            )
        };
        self.members.iter().map(end).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for member in &mut self.members {
            // A sandbox ends its pods itself.
            if matches!(member.runner, Runner::Test { .. }) {
                member.kill_node();
            }
        }
        self.disks.clear();
        if std::env::var_os("HOWDAH_KEEP_LABS").is_some() {
            eprintln!("kept: {}", self.dir.path().display());
            self.dir.disable_cleanup(true);
        }
    }
}

/// Looks every 20 ms until `condition` holds.
///
/// # Errors
/// It does not in time.
pub async fn until(
    what: &str,
    patience: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) -> anyhow::Result<()> {
    let deadline = now() + patience;
    while !condition().await {
        anyhow::ensure!(now() < deadline, "waited {patience:?} in vain until {what}");
        sleep_until(now() + Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Ports for servers of tests lie below those that the kernel gives to outgoing connections: one of theirs may be taken
/// again before the server binds it.
const PORTS: std::ops::Range<u32> = 20_000..32_000;

/// A port without a listener, and that no other call in this process has returned.
///
/// # Errors
/// There is none.
pub fn free_port() -> anyhow::Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.end - PORTS.start;
    for _ in 0..count {
        // Test programs that run at the same time begin at different places.
        let offset = std::process::id().wrapping_mul(97) + GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(PORTS.start + offset % count)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("all ports from {} to {} are taken", PORTS.start, PORTS.end)
}

/// PostgreSQL does not run as root: the owner of Debian's PostgreSQL files then.
pub(crate) fn unprivileged() -> anyhow::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let line = passwd.lines().find(|line| line.starts_with("postgres:"));
    let fields: Vec<&str> = line
        .context("there is no user 'postgres': run script/setup")?
        .split(':')
        .collect();
    let number = |i: usize| {
        fields
            .get(i)
            .and_then(|text| text.parse().ok())
            .context("/etc/passwd")
    };
    Ok(Some((number(2)?, number(3)?)))
}

fn copy_program(program: &Path, dir: &Path) -> anyhow::Result<PathBuf> {
    let copy = dir.join("howdah");
    if !copy.exists() {
        fs::copy(program, &copy).with_context(|| program.display().to_string())?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    }
    Ok(copy)
}

/// A program of Patroni, which `script/test` installs and names in `HOWDAH_PATRONI`.
///
/// # Panics
/// The variable is not set: a test that needs it cannot be run without.
#[must_use]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
pub fn patroni(program: &str) -> PathBuf {
    let dir =
        std::env::var_os("HOWDAH_PATRONI").expect("HOWDAH_PATRONI: run these tests through script/test");
    PathBuf::from(dir).join("bin").join(program)
}

/// `HOWDAH_BIN`, or the binary of the same build as this test.
pub fn howdah_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("HOWDAH_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let found = test
        .ancestors()
        .map(|dir| dir.join("howdah"))
        .find(|path| path.is_file());
    let path =
        found.context("the howdah binary was not built: run 'cargo build' first, or set HOWDAH_BIN")?;
    anyhow::ensure!(fs::metadata(&path)?.size() > 0, "{} is empty", path.display());
    Ok(path)
}
