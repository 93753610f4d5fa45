//! A cluster that follows another one: made as a copy of it, promoted, and the other way round.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use howdah_http::Method;
use howdah_process_tests::ctl;
use howdah_testkit::{Lab, LabOptions, until};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn quick(mut more: Value) -> Value {
    more["howdah"] = json!({"ttl": 5});
    more["loop_wait"] = json!(2);
    more
}

async fn run(lab: &Lab, member: usize, sql: &str) {
    let address = lab.members[member].address();
    let done = until(sql, PATIENCE, async || {
        match howdah_testkit::connect(&address).await {
            Ok((client, _)) => client.batch_execute(sql).await.is_ok(),
            Err(_) => false,
        }
    })
    .await;
    assert!(done.is_ok(), "m{member}: {sql}\n{}", lab.logs());
}

/// Waits until the member has a table. It is looked for by its name, so that the logs stay short.
async fn has(lab: &Lab, member: usize, table: &str) {
    let found = until(table, PATIENCE, async || {
        is_there(lab, member, table).await == Some(true)
    })
    .await;
    assert!(found.is_ok(), "m{member}: no table {table}\n{}", lab.logs());
}

async fn is_there(lab: &Lab, member: usize, table: &str) -> Option<bool> {
    let address = lab.members[member].address();
    let (client, _) = howdah_testkit::connect(&address).await.ok()?;
    let sql = "SELECT to_regclass($1::text) IS NOT NULL";
    let row = client.query_one(sql, &[&table]).await.ok()?;
    Some(row.get(0))
}

/// The member that leads without being primary.
async fn standby_leader(lab: &Lab) -> Option<usize> {
    for (index, member) in lab.members.iter().enumerate() {
        if member.is_started() && member.status().await["role"] == "standby_leader" {
            return Some(index);
        }
    }
    None
}

async fn follows(lab: &Lab) -> usize {
    let found = until("a member leads in recovery", PATIENCE, async || {
        standby_leader(lab).await.is_some()
    })
    .await;
    assert!(found.is_ok(), "{}", lab.logs());
    standby_leader(lab).await.unwrap()
}

async fn code(lab: &Lab, member: usize, path: &str) -> u16 {
    lab.members[member]
        .call(Method::GET, path, None)
        .await
        .unwrap()
        .status
}

#[tokio::test]
async fn a_cluster_follows_another_one_is_promoted_and_followed() {
    let slots = json!({"slots": {"other_cluster": {"type": "physical"}}});
    let main = Lab::running(LabOptions::howdah(2).unwrap().dynamic(quick(slots)))
        .await
        .unwrap();
    let primary = main.wait_primary(PATIENCE).await.unwrap();
    run(&main, primary, "CREATE TABLE first AS SELECT 1 AS n").await;
    let remote = |lab: &Lab, member: usize| {
        let address = lab.members[member].address();
        json!({"standby_cluster": {"host": address.host.to_string(), "port": address.port}})
    };
    let mut followed = quick(remote(&main, primary));
    followed["standby_cluster"]["primary_slot_name"] = json!("other_cluster");
    let options = LabOptions::howdah(2).unwrap().dynamic(followed);
    let mut other = Lab::new(options).await.unwrap();
    other.start_all().unwrap();

    // Both members of the other cluster have its rows; one leads, and takes no writes.
    let leader = follows(&other).await;
    let replica = 1 - leader;
    has(&other, replica, "first").await;
    run(&main, primary, "CREATE TABLE second AS SELECT 2 AS n").await;
    has(&other, replica, "second").await;
    let (client, _) = howdah_testkit::connect(&main.members[primary].address())
        .await
        .unwrap();
    let sql = "SELECT active FROM pg_replication_slots WHERE slot_name = 'other_cluster'";
    let active: bool = client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(active, "it streams through its slot");
    let listed = until("both are listed as streaming", PATIENCE, async || {
        let list = ctl(&other, &["list"]).unwrap();
        list.contains("| Standby Leader | streaming |") && list.contains("| Replica        | streaming |")
    })
    .await;
    assert!(listed.is_ok(), "{}", ctl(&other, &["list"]).unwrap());
    for (path, on_leader, on_replica) in [
        ("/standby-leader", 200, 503),
        ("/leader", 200, 503),
        ("/primary", 503, 503),
        ("/replica", 503, 200),
        ("/read-only", 200, 200),
    ] {
        let codes = (
            code(&other, leader, path).await,
            code(&other, replica, path).await,
        );
        assert_eq!(codes, (on_leader, on_replica), "{path}");
    }

    // Its leader dies: another one follows the remote cluster, and the lost one follows that.
    other.members[leader].kill_node();
    until("the other member leads in recovery", PATIENCE, async || {
        standby_leader(&other).await == Some(replica)
    })
    .await
    .unwrap();
    run(&main, primary, "CREATE TABLE third AS SELECT 3 AS n").await;
    has(&other, replica, "third").await;
    other.members[leader].start().unwrap();
    has(&other, leader, "third").await;

    // It is promoted, and what the main cluster writes from then on is its own.
    let said = ctl(&other, &["promote-cluster", "--force"]).unwrap();
    assert!(said.contains("cluster is successfully promoted"), "{said}");
    let promoted = other.wait_primary(PATIENCE).await.unwrap();
    run(&main, primary, "CREATE TABLE lost AS SELECT 4 AS n").await;
    run(&other, promoted, "CREATE TABLE kept AS SELECT 5 AS n").await;
    has(&other, 1 - promoted, "kept").await;

    // The main cluster follows it now: its former primary is rewound, its replica comes along.
    let address = other.members[promoted].address();
    let (host, port) = (address.host.to_string(), address.port.to_string());
    let said = ctl(
        &main,
        &["demote-cluster", "--host", &host, "--port", &port, "--force"],
    )
    .unwrap();
    assert!(said.contains("cluster is successfully demoted"), "{said}");
    let said = ctl(&main, &["demote-cluster", "--host", &host, "--force"]).unwrap();
    assert!(
        said.contains("Cluster is already in the required state"),
        "{said}"
    );
    let leader = follows(&main).await;
    has(&main, leader, "kept").await;
    has(&main, 1 - leader, "kept").await;
    for member in [leader, 1 - leader] {
        let lost = is_there(&main, member, "lost").await;
        assert_eq!(
            lost,
            Some(false),
            "m{member} has rows of its own\n{}",
            main.logs()
        );
    }
}
