//! Several synchronous standbys, and commits that wait for any of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use howdah_http::Method;
use howdah_testkit::{Ack, Lab, LabOptions, Writers, rows, until};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

async fn lab(members: usize, synchronous: Value) -> Lab {
    let mut dynamic = json!({"howdah": {"ttl": 5}, "loop_wait": 2, "postgresql": {
        "parameters": {"shared_buffers": "16MB"},
        "pg_hba": ["host replication replicator 127.0.0.1/32 md5", "host all all 127.0.0.1/32 md5"],
    }});
    let more = synchronous.as_object().unwrap().clone();
    dynamic.as_object_mut().unwrap().extend(more);
    Lab::running(LabOptions::howdah(members).unwrap().dynamic(dynamic))
        .await
        .unwrap()
}

/// The names of the members whose status says so, and the setting of the primary, with single letters for names.
async fn said(lab: &Lab, role: &str) -> (usize, String) {
    let mut count = 0;
    for member in lab.members.iter().filter(|member| member.is_started()) {
        count += usize::from(member.status().await[role] == true);
    }
    let Some(primary) = lab.primary().await else {
        return (count, "no primary".to_owned());
    };
    let Ok((client, _)) = howdah_testkit::connect(&lab.members[primary].address()).await else {
        return (count, "no connection".to_owned());
    };
    let setting = client.query_one("SHOW synchronous_standby_names", &[]).await;
    let setting: String = setting.map_or_else(|error| error.to_string(), |row| row.get(0));
    (count, setting)
}

async fn settles(lab: &Lab, role: &str, standbys: usize, begins: &str) {
    let mut last = (0, String::new());
    let settled = until("the standbys are synchronous", PATIENCE, async || {
        last = said(lab, role).await;
        last.0 == standbys && last.1.starts_with(begins) && !last.1.contains("no standby")
    })
    .await;
    assert!(
        settled.is_ok(),
        "{last:?}, not {standbys} and {begins}\n{}",
        lab.logs()
    );
}

/// Every acknowledged row is on the primary.
async fn nothing_is_lost(lab: &Lab, writers: Writers, mut acks: Vec<Ack>) {
    acks.extend(writers.stop().await);
    assert!(!acks.is_empty(), "the writers have written");
    let primary = lab.wait_primary(PATIENCE).await.unwrap();
    let rows = rows(&lab.members[primary].address()).await.unwrap();
    let lost = acks
        .iter()
        .filter(|ack| !rows.contains(&(format!("{:?}", ack.kind), ack.n)))
        .count();
    assert_eq!(lost, 0, "of {}\n{}", acks.len(), lab.logs());
}

async fn patch(lab: &Lab, change: Value) {
    let primary = lab.wait_primary(PATIENCE).await.unwrap();
    let answer = lab.members[primary]
        .call(Method::PATCH, "/config", Some(&change))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

/// One of two synchronous standbys dies: commits go on with the other. The modes change while clients write.
#[tokio::test]
async fn two_standbys_have_every_commit_and_modes_change_under_load() {
    let mut lab = lab(3, json!({"synchronous_mode": true, "synchronous_node_count": 2})).await;
    settles(&lab, "sync_standby", 2, "2 (").await;
    let primary = lab.wait_primary(PATIENCE).await.unwrap();
    let writers = Writers::start(&lab.addresses(), primary).await.unwrap();
    let standby = (primary + 1) % 3;
    lab.members[standby].kill_node();
    settles(&lab, "sync_standby", 1, "\"").await;
    lab.members[standby].start().unwrap();
    settles(&lab, "sync_standby", 2, "2 (").await;
    patch(
        &lab,
        json!({"synchronous_mode": "quorum", "synchronous_node_count": 1}),
    )
    .await;
    settles(&lab, "quorum_standby", 2, "ANY 1 (").await;
    patch(&lab, json!({"synchronous_node_count": 2})).await;
    settles(&lab, "quorum_standby", 2, "ANY 2 (").await;
    patch(
        &lab,
        json!({"synchronous_mode": true, "synchronous_node_count": 1}),
    )
    .await;
    settles(&lab, "sync_standby", 1, "\"").await;
    patch(&lab, json!({"synchronous_node_count": 2})).await;
    settles(&lab, "sync_standby", 2, "2 (").await;
    assert_eq!(
        lab.wait_primary(PATIENCE).await.unwrap(),
        primary,
        "nothing failed over"
    );
    lab.members[primary].kill_node();
    until("another member leads", PATIENCE, async || {
        lab.primary().await.is_some_and(|now| now != primary)
    })
    .await
    .unwrap();
    nothing_is_lost(&lab, writers, Vec::new()).await;
}

/// The primary and one standby are lost: the other one cannot know whether it has everything, and waits. When the lost standby is
/// back, one of the two takes over with every acknowledged row.
#[tokio::test]
async fn a_quorum_decides_who_takes_over() {
    let mut lab = lab(
        3,
        json!({"synchronous_mode": "quorum", "synchronous_mode_strict": true}),
    )
    .await;
    settles(&lab, "quorum_standby", 2, "ANY 1 (").await;
    let primary = lab.wait_primary(PATIENCE).await.unwrap();
    let mut writers = Writers::start(&lab.addresses(), primary).await.unwrap();
    let (left, other) = ((primary + 1) % 3, (primary + 2) % 3);
    // The other one alone has what is written now.
    let receiver = lab.members[left].wal_receiver().unwrap();
    signal(receiver, rustix::process::Signal::STOP);
    let mut acks = Vec::new();
    let before = howdah_clock::now();
    until(
        "rows are acknowledged that only one standby has",
        PATIENCE,
        async || {
            writers.drain(&mut acks);
            let rows = acks.iter().filter(|ack: &&Ack| ack.at > before).count();
            rows > 50 && ahead(&lab, primary, other, left).await
        },
    )
    .await
    .unwrap();
    lab.members[primary].kill_node();
    lab.members[other].kill_node();
    // What the kernel had taken for it is gone with it.
    signal(receiver, rustix::process::Signal::KILL);
    until("it says why it does not take over", PATIENCE, async || {
        lab.members[left]
            .log()
            .contains("not racing: 0 of the 1 other synchronous standbys")
    })
    .await
    .unwrap();
    assert_eq!(lab.primary().await, None, "{}", lab.logs());
    lab.members[other].start().unwrap();
    until("the one that has everything leads", PATIENCE, async || {
        lab.primary().await == Some(other)
    })
    .await
    .unwrap();
    nothing_is_lost(&lab, writers, acks).await;
    lab.members[primary].start().unwrap();
    settles(&lab, "quorum_standby", 2, "ANY 1 (").await;
}

/// Whether one standby has confirmed what the other has not.
async fn ahead(lab: &Lab, primary: usize, one: usize, other: usize) -> bool {
    let Ok((client, _)) = howdah_testkit::connect(&lab.members[primary].address()).await else {
        return false;
    };
    let sql = "SELECT one.flush_lsn > other.flush_lsn FROM pg_stat_replication one, pg_stat_replication other \
        WHERE one.application_name = $1 AND other.application_name = $2";
    let names = [&lab.members[one].name, &lab.members[other].name];
    match client.query_opt(sql, &[names[0], names[1]]).await {
        Ok(Some(row)) => row.get::<_, Option<bool>>(0) == Some(true),
        _ => false,
    }
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
