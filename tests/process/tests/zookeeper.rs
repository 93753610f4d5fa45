//! ZooKeeper as the store: our agents, Patroni's beside them, and what is left when servers or agents go.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{process::Command, time::Duration};

use howdah_clock::now;
use howdah_http::Method;
use howdah_testkit::{Flavour, Lab, LabOptions, Link, ZooKeeper, free_port, patroni, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// Each member reaches the ensemble over a link of its own.
struct Cluster {
    lab: Lab,
    links: Vec<Link>,
    servers: ZooKeeper,
}

async fn cluster(options: LabOptions, servers: usize) -> Cluster {
    let mut lab = Lab::new(options).await.unwrap();
    let servers = ZooKeeper::start(lab.dir(), servers).await.unwrap();
    let mut links = Vec::new();
    for member in &lab.members {
        let file = lab.dir().join(format!("{}.yml", member.name));
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let mut hosts = Vec::new();
        for port in servers.ports() {
            let link = Link::open(free_port().unwrap(), port).unwrap();
            hosts.push(format!("127.0.0.1:{}", link.port()));
            links.push(link);
        }
        config.as_object_mut().unwrap().remove("etcd3");
        config["zookeeper"] = json!({"hosts": hosts});
        std::fs::write(&file, config.to_string()).unwrap();
    }
    lab.start_all().unwrap();
    lab.wait_healthy(SOON).await.unwrap();
    Cluster { lab, links, servers }
}

impl Cluster {
    /// What a member says of itself while its PostgreSQL answers.
    async fn status(&self, member: usize) -> Value {
        let mut status = Value::Null;
        until("it says its timeline", SOON, async || {
            status = self.lab.members[member].status().await;
            status["timeline"].is_number()
        })
        .await
        .unwrap_or_else(|error| panic!("{error}: {status}\n{}", self.lab.logs()));
        status
    }

    fn cut(&self, member: usize, cut: bool) {
        let each = self.servers.ports().len();
        for link in &self.links[member * each..(member + 1) * each] {
            link.cut(cut);
        }
    }

    async fn switch_over(&self, from: usize, to: usize) {
        let name = |member: usize| self.lab.members[member].name.clone();
        let body = json!({"leader": name(from), "candidate": name(to)});
        let answer = self.lab.members[from]
            .call(Method::POST, "/switchover", Some(&body))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), self.lab.logs());
        self.lab.wait_healthy(SOON).await.unwrap();
        assert_eq!(self.lab.primary().await, Some(to), "{}", self.lab.logs());
    }
}

fn signal(pid: Option<u32>, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid.unwrap()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Switchover, an agent that is replaced in place, a server that dies, a primary that is cut off, a node that dies.
#[tokio::test]
async fn a_cluster_lives_on_an_ensemble() {
    let dynamic = json!({"howdah": {"ttl": 8}, "loop_wait": 2});
    let mut cluster = cluster(LabOptions::howdah(3).unwrap().dynamic(dynamic), 3).await;
    let first = cluster.lab.primary().await.unwrap();
    let second = (first + 1) % 3;
    cluster.switch_over(first, second).await;

    // Another agent under the same guard goes on with the session: no failover.
    let before = cluster.status(second).await;
    let agent = cluster.lab.members[second].agent_pid();
    signal(cluster.lab.members[second].guard_pid(), Signal::USR2);
    until("another agent serves", SOON, async || {
        cluster.lab.members[second].agent_pid() != agent && cluster.lab.primary().await == Some(second)
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", cluster.lab.logs()));
    let after = cluster.status(second).await;
    assert_eq!(before["timeline"], after["timeline"]);
    assert_eq!(before["postmaster_start_time"], after["postmaster_start_time"]);

    // The ensemble's leader dies: no failover either.
    let leads = cluster.servers.leader().await.unwrap();
    cluster.servers.kill(leads);
    until("the ensemble has another leader", SOON, async || {
        cluster.servers.leader().await.is_some()
    })
    .await
    .unwrap();
    cluster.lab.wait_healthy(SOON).await.unwrap();
    let after = cluster.status(second).await;
    assert_eq!(
        (before["timeline"].clone(), Some(second)),
        (after["timeline"].clone(), cluster.lab.primary().await)
    );
    cluster.servers.start_again(leads).await.unwrap();

    // A primary that is cut off stops before another one leads.
    cluster.cut(second, true);
    until("another member leads", SOON, async || {
        let mut primaries = 0;
        for member in &cluster.lab.members {
            let answer = member.call(Method::GET, "/primary", None).await;
            primaries += i32::from(answer.is_ok_and(|answer| answer.status == 200));
        }
        assert!(primaries < 2, "{}", cluster.lab.logs());
        cluster
            .lab
            .primary()
            .await
            .is_some_and(|primary| primary != second)
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", cluster.lab.logs()));
    cluster.cut(second, false);
    cluster.lab.wait_healthy(SOON).await.unwrap();

    let third = cluster.lab.primary().await.unwrap();
    let killed = now();
    cluster.lab.members[third].kill_node();
    until("another member leads", SOON, async || {
        cluster
            .lab
            .primary()
            .await
            .is_some_and(|primary| primary != third)
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", cluster.lab.logs()));
    // The session's rest, a tick of the ensemble, and the promotion.
    assert!(
        now().since(killed) < Duration::from_secs(20),
        "{:?}",
        now().since(killed)
    );
    cluster.lab.members[third].start().unwrap();
    cluster.lab.wait_healthy(SOON).await.unwrap();
}

/// Leadership goes to Patroni's agent and back; its patronictl and our ctl show the same; ours takes over when its node dies.
#[tokio::test]
async fn patronis_agents_and_ours_are_one_cluster() {
    let mut options = LabOptions::howdah(1)
        .unwrap()
        .dynamic(json!({"ttl": 20, "loop_wait": 2, "retry_timeout": 3}));
    options.members.push(Flavour::Patroni(patroni("patroni")));
    let mut cluster = cluster(options, 1).await;
    let first = cluster.lab.primary().await.unwrap();
    cluster.switch_over(first, 1 - first).await;
    cluster.switch_over(1 - first, first).await;
    let list = |program: &std::path::Path, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .arg("-c")
            .arg(cluster.lab.dir().join("m0.yml"))
            .args(["list", "-f", "json"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let list: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        list
    };
    // Each shows what members wrote last: between two of their writes it may be another moment.
    until("both show the same", SOON, async || {
        list(&cluster.lab.dir().join("howdah"), &["ctl"]) == list(&patroni("patronictl"), &[])
    })
    .await
    .unwrap();
    if first == 0 {
        cluster.switch_over(0, 1).await;
    }
    cluster.lab.members[1].kill_node();
    until("our member leads", SOON, async || {
        cluster.lab.primary().await == Some(0)
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", cluster.lab.logs()));
}
