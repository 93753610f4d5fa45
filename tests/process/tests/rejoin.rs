//! A former primary whose WAL has left the cluster's history comes back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use howdah_testkit::{Lab, LabOptions};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// Makes WAL on the primary that its replica never gets, kills the node, and lets it come back.
async fn diverge(postgresql: Value) -> Lab {
    let dynamic = json!({"howdah": {"ttl": 5}, "loop_wait": 2, "postgresql": postgresql});
    let mut lab = Lab::running(LabOptions::howdah(2).unwrap().dynamic(dynamic))
        .await
        .unwrap();
    let primary = lab.wait_primary(PATIENCE).await.unwrap();
    let replica = 1 - primary;
    // The replica's node is down, so what follows exists on the primary alone.
    lab.members[replica].kill_node();
    let (client, _) = howdah_testkit::connect(&lab.members[primary].address())
        .await
        .unwrap();
    client
        .batch_execute("CREATE TABLE lost (n int); INSERT INTO lost VALUES (1)")
        .await
        .unwrap();
    lab.members[primary].kill_node();
    lab.members[replica].start().unwrap();
    howdah_testkit::until("the replica has taken over", PATIENCE, async || {
        lab.primary().await == Some(replica)
    })
    .await
    .unwrap();
    let (client, _) = howdah_testkit::connect(&lab.members[replica].address())
        .await
        .unwrap();
    client
        .batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (2)")
        .await
        .unwrap();
    lab.members[primary].start().unwrap();
    lab.wait_healthy(PATIENCE).await.unwrap();
    let (client, _) = howdah_testkit::connect(&lab.members[primary].address())
        .await
        .unwrap();
    let tables = client
        .query(
            "SELECT relname::text FROM pg_class WHERE relname IN ('lost', 'kept')",
            &[],
        )
        .await
        .unwrap();
    let names: Vec<String> = tables.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["kept"], "it has the cluster's history and not its own");
    lab
}

fn base() -> Value {
    json!({
        "parameters": {"fsync": "off", "shared_buffers": "16MB"},
        "pg_hba": ["host replication replicator 127.0.0.1/32 md5", "host all all 127.0.0.1/32 md5"],
    })
}

#[tokio::test]
async fn by_pg_rewind() {
    let mut postgresql = base();
    postgresql["use_pg_rewind"] = true.into();
    let lab = diverge(postgresql).await;
    assert!(
        lab.members.iter().any(|member| member.log().contains("Rewound.")),
        "{}",
        lab.logs()
    );
}

#[tokio::test]
async fn by_a_new_copy_that_keeps_the_diverged_data() {
    let lab = diverge(base()).await;
    let kept = std::fs::read_dir(lab.dir())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains(".diverged-"))
        .count();
    assert_eq!(
        kept,
        1,
        "what only the old primary had is beside the new copy\n{}",
        lab.logs()
    );
}
