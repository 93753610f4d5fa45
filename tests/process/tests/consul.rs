//! Consul as the store, where there is one: Debian has none, and `$HOWDAH_CONSUL` names the program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use howdah_clock::now;
use howdah_http::{Client, Method, Url};
use howdah_testkit::{Consul, Flavour, Lab, LabOptions, Link, free_port, patroni, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// Each member reaches Consul over a link of its own.
struct Cluster {
    lab: Lab,
    links: Vec<Link>,
    consul: Consul,
}

async fn cluster(options: LabOptions) -> Option<Cluster> {
    let Some(program) = Consul::program() else {
        eprintln!("skipped: $HOWDAH_CONSUL names no Consul");
        return None;
    };
    let mut lab = Lab::new(options).await.unwrap();
    let consul = Consul::start(&program, lab.dir()).await.unwrap();
    let mut links = Vec::new();
    for member in &lab.members {
        let file = lab.dir().join(format!("{}.yml", member.name));
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let link = Link::open(free_port().unwrap(), consul.port()).unwrap();
        config.as_object_mut().unwrap().remove("etcd3");
        config["consul"] = json!({"host": format!("127.0.0.1:{}", link.port()), "register_service": true});
        links.push(link);
        std::fs::write(&file, config.to_string()).unwrap();
    }
    lab.start_all().unwrap();
    lab.wait_healthy(SOON).await.unwrap();
    Some(Cluster { lab, links, consul })
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

    /// The tags of each member's service.
    async fn services(&self) -> Vec<(String, Vec<String>)> {
        let url = format!("http://127.0.0.1:{}/v1/catalog/service/lab", self.consul.port());
        let answer = Client::default()
            .request(
                Method::GET,
                &Url::parse(&url).unwrap(),
                None,
                now() + Duration::from_secs(2),
            )
            .await
            .unwrap();
        let services: Value = serde_json::from_str(&answer.text()).unwrap();
        let texts = |value: &Value| -> Vec<String> {
            value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|tag| tag.as_str().map(str::to_owned))
                .collect()
        };
        let mut found: Vec<_> = services
            .as_array()
            .unwrap()
            .iter()
            .map(|service| {
                (
                    service["ServiceID"].as_str().unwrap().to_owned(),
                    texts(&service["ServiceTags"]),
                )
            })
            .collect();
        found.sort();
        found
    }
}

#[tokio::test]
async fn a_cluster_lives_on_consul() {
    let dynamic = json!({"howdah": {"ttl": 18}, "loop_wait": 2});
    let Some(mut cluster) = cluster(LabOptions::howdah(3).unwrap().dynamic(dynamic)).await else {
        return;
    };
    let first = cluster.lab.primary().await.unwrap();
    let second = (first + 1) % 3;
    cluster.switch_over(first, second).await;
    until("all are services, one of them the primary", SOON, async || {
        let services = cluster.services().await;
        let is_primary = |tags: &[String]| tags == ["primary", "master"];
        services.len() == 3
            && services
                .iter()
                .enumerate()
                .all(|(i, (id, tags))| id == &format!("lab/m{i}") && is_primary(tags) == (i == second))
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", cluster.lab.logs()));

    // Another agent under the same guard goes on with the session: no failover.
    let before = cluster.status(second).await;
    let agent = cluster.lab.members[second].agent_pid();
    let guard = i32::try_from(cluster.lab.members[second].guard_pid().unwrap()).unwrap();
    kill_process(Pid::from_raw(guard).unwrap(), Signal::USR2).unwrap();
    until("another agent serves", SOON, async || {
        cluster.lab.members[second].agent_pid() != agent && cluster.lab.primary().await == Some(second)
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", cluster.lab.logs()));
    let after = cluster.status(second).await;
    assert_eq!(before["postmaster_start_time"], after["postmaster_start_time"]);

    // A primary that is cut off stops before another one leads.
    cluster.links[second].cut(true);
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
    cluster.links[second].cut(false);
    cluster.lab.wait_healthy(SOON).await.unwrap();
    let third = cluster.lab.primary().await.unwrap();
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
}

#[tokio::test]
async fn patronis_agents_and_ours_are_one_cluster() {
    let mut options = LabOptions::howdah(1)
        .unwrap()
        .dynamic(json!({"ttl": 20, "loop_wait": 2, "retry_timeout": 3}));
    options.members.push(Flavour::Patroni(patroni("patroni")));
    let Some(mut cluster) = cluster(options).await else {
        return;
    };
    let first = cluster.lab.primary().await.unwrap();
    cluster.switch_over(first, 1 - first).await;
    cluster.switch_over(1 - first, first).await;
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
