//! Replication slots: permanent ones are there after a switchover and after a failover, and lose and repeat nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use howdah_http::Method;
use howdah_testkit::{Flavour, Lab, LabOptions, connect, patroni, until};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(90);

async fn lab(options: LabOptions) -> Lab {
    let dynamic = json!({"howdah": {"ttl": 5}, "loop_wait": 2,
        "slots": {
            "events": {"type": "logical", "database": "postgres", "plugin": "test_decoding"},
            "archive": {"type": "physical"},
        },
        "ignore_slots": [{"name": "theirs"}],
        "postgresql": {
            "parameters": {"shared_buffers": "16MB", "wal_level": "logical"},
            "pg_hba": ["host replication replicator 127.0.0.1/32 md5", "host all all 127.0.0.1/32 md5"],
        },
    });
    Lab::running(options.dynamic(dynamic)).await.unwrap()
}

fn three() -> LabOptions {
    LabOptions::howdah(3).unwrap()
}

/// The first column of all rows; empty when the member does not answer.
async fn column(lab: &Lab, member: usize, sql: &str) -> Vec<String> {
    let Ok((client, _)) = connect(&lab.members[member].address()).await else {
        return Vec::new();
    };
    let rows = client.query(sql, &[]).await.unwrap_or_default();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn run(lab: &Lab, member: usize, sql: &str) {
    let (client, _) = connect(&lab.members[member].address()).await.unwrap();
    client.batch_execute(sql).await.unwrap();
}

async fn insert(lab: &Lab, member: usize, rows: std::ops::Range<i32>) {
    let sql = format!(
        "INSERT INTO t SELECT generate_series({}, {})",
        rows.start,
        rows.end - 1
    );
    run(lab, member, &sql).await;
}

/// The rows that the consumer of `events` gets, and confirms.
async fn consume(lab: &Lab, member: usize) -> Vec<i32> {
    let sql = "SELECT data FROM pg_logical_slot_get_changes('events', NULL, NULL) WHERE data LIKE '%public.t: INSERT%'";
    let (client, _) = connect(&lab.members[member].address()).await.unwrap();
    let rows = client.query(sql, &[]).await.unwrap();
    let number = |text: &str| text.rsplit(':').next().unwrap().trim().parse().unwrap();
    rows.iter().map(|row| number(row.get(0))).collect()
}

/// All members have the slot, and their copies are where the primary's is.
async fn all_have_it(lab: &Lab) {
    let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'events' AND plugin = 'test_decoding'";
    let mut seen = Vec::new();
    let same = until(
        "all members have the slot, as far as the primary",
        PATIENCE,
        async || {
            let mut at = Vec::new();
            for member in 0..lab.members.len() {
                at.push(column(lab, member, sql).await);
            }
            let same = at.iter().all(|at| at.len() == 1 && *at == seen);
            seen = at[lab.primary().await.unwrap_or(0)].clone();
            same
        },
    );
    if let Err(error) = same.await {
        panic!("{error}\n{}", lab.logs());
    }
}

/// Consumes until the slot needs no WAL of before; a checkpoint writes what it goes on from.
async fn keep_consuming(lab: &Lab, primary: usize) {
    for _ in 0..3 {
        run(lab, primary, "CHECKPOINT; SELECT pg_switch_wal()").await;
        consume(lab, primary).await;
    }
}

/// Every replica has said so since this many bytes of its log.
async fn all_are_safe(lab: &Lab, since: &[usize]) {
    let primary = lab.wait_primary(PATIENCE).await.unwrap();
    let safe = until("all replicas say that the slot is safe", PATIENCE, async || {
        lab.members
            .iter()
            .zip(since)
            .enumerate()
            .all(|(i, (member, since))| {
                i == primary
                    || member.log()[*since..].contains("slot events is safe to be used after a failover")
            })
    });
    if let Err(error) = safe.await {
        panic!("{error}\n{}", lab.logs());
    }
}

fn logs_end(lab: &Lab) -> Vec<usize> {
    lab.members.iter().map(|member| member.log().len()).collect()
}

#[tokio::test]
async fn permanent_slots_survive_switchover_and_failover() {
    let mut lab = lab(three()).await;
    let first = lab.wait_primary(PATIENCE).await.unwrap();
    // The slot needs WAL that was written before the replicas were copied: it is theirs once its consumer is further.
    tokio::join!(all_have_it(&lab), keep_consuming(&lab, first));
    all_are_safe(&lab, &[0, 0, 0]).await;
    let feedback = "SHOW hot_standby_feedback";
    let second = (first + 1) % 3;
    assert_eq!(column(&lab, second, feedback).await, ["on"]);
    run(&lab, first, "CREATE TABLE t (n int)").await;
    insert(&lab, first, 0..10).await;
    assert_eq!(consume(&lab, first).await, (0..10).collect::<Vec<_>>());
    insert(&lab, first, 10..20).await;
    all_have_it(&lab).await;
    // A switchover: what was not consumed comes from the new primary, and nothing comes twice.
    let body = json!({"leader": lab.members[first].name, "candidate": lab.members[second].name});
    let answer = lab.members[first]
        .call(Method::POST, "/switchover", Some(&body))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), lab.logs());
    assert_eq!(
        lab.wait_primary(PATIENCE).await.unwrap(),
        second,
        "{}",
        lab.logs()
    );
    insert(&lab, second, 20..30).await;
    assert_eq!(
        consume(&lab, second).await,
        (10..30).collect::<Vec<_>>(),
        "{}",
        lab.logs()
    );
    lab.wait_healthy(PATIENCE).await.unwrap();
    all_have_it(&lab).await;
    let archive = "SELECT slot_type::text FROM pg_replication_slots WHERE slot_name = 'archive'";
    for member in 0..3 {
        assert_eq!(column(&lab, member, archive).await, ["physical"], "m{member}");
    }
    // A failover, while the former primary has the slot as a replica.
    insert(&lab, second, 30..40).await;
    let gone = lab.members[second].name.clone();
    lab.members[second].kill_node();
    let third = lab.wait_primary(PATIENCE).await.unwrap();
    assert_ne!(lab.members[third].name, gone);
    insert(&lab, third, 40..50).await;
    assert_eq!(
        consume(&lab, third).await,
        (30..50).collect::<Vec<_>>(),
        "{}",
        lab.logs()
    );
    // It comes back as a copy, without the WAL of before.
    lab.members[second].start().unwrap();
    lab.wait_healthy(PATIENCE).await.unwrap();
    tokio::join!(all_have_it(&lab), keep_consuming(&lab, third));
}

/// A member that comes later gets a copy; what is not the configuration's stays on the primary, and what was goes everywhere.
#[tokio::test]
async fn slots_are_copied_and_dropped_as_the_configuration_says() {
    let lab = lab(three()).await;
    let primary = lab.wait_primary(PATIENCE).await.unwrap();
    tokio::join!(all_have_it(&lab), keep_consuming(&lab, primary));
    let replica = (primary + 1) % 3;
    run(
        &lab,
        primary,
        "SELECT pg_create_logical_replication_slot('users', 'test_decoding')",
    )
    .await;
    run(
        &lab,
        primary,
        "SELECT pg_create_physical_replication_slot('theirs')",
    )
    .await;
    run(
        &lab,
        replica,
        "SELECT pg_create_physical_replication_slot('theirs')",
    )
    .await;
    let since = logs_end(&lab);
    run(&lab, replica, "SELECT pg_drop_replication_slot('events')").await;
    all_have_it(&lab).await;
    assert!(
        lab.members[replica].log()[since[replica]..].contains("Logical slots were copied"),
        "{}",
        lab.logs()
    );
    let change = json!({"slots": {"events": null}});
    let answer = lab.members[primary]
        .call(Method::PATCH, "/config", Some(&change))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let names = "SELECT slot_name::text FROM pg_replication_slots ORDER BY 1";
    let gone = until("the slot is dropped everywhere", PATIENCE, async || {
        let mut gone = true;
        for member in 0..3 {
            gone &= !column(&lab, member, names).await.contains(&"events".to_owned());
        }
        gone
    });
    if let Err(error) = gone.await {
        panic!("{error}\n{}", lab.logs());
    }
    let has = |names: Vec<String>, name: &str| names.iter().any(|known| known == name);
    assert!(has(column(&lab, primary, names).await, "users"));
    assert!(has(column(&lab, primary, names).await, "theirs"));
    assert!(has(column(&lab, replica, names).await, "theirs"));
}

/// Patroni's agent and ours copy each other's slots, and move them along.
#[tokio::test]
async fn patronis_agents_and_ours_have_the_same_slots() {
    let mut options = LabOptions::howdah(1).unwrap();
    options.members.push(Flavour::Patroni(patroni("patroni")));
    let lab = lab(options).await;
    let mut expected = 0..0;
    for _ in 0..2 {
        let leader = lab.wait_primary(PATIENCE).await.unwrap();
        tokio::join!(all_have_it(&lab), keep_consuming(&lab, leader));
        run(&lab, leader, "CREATE TABLE IF NOT EXISTS t (n int)").await;
        insert(&lab, leader, expected.end..expected.end + 10).await;
        assert_eq!(
            consume(&lab, leader).await,
            (expected.end..expected.end + 10).collect::<Vec<_>>()
        );
        insert(&lab, leader, expected.end + 10..expected.end + 20).await;
        expected = expected.end + 10..expected.end + 20;
        all_have_it(&lab).await;
        let to = 1 - leader;
        lab.hand_over(leader, to, PATIENCE).await.unwrap();
        assert_eq!(
            consume(&lab, to).await,
            expected.clone().collect::<Vec<_>>(),
            "{}",
            lab.logs()
        );
        lab.wait_healthy(PATIENCE).await.unwrap();
    }
}
