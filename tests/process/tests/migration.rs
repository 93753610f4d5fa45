//! docs/migrating-from-patroni.md, followed: a cluster of three Patroni agents becomes one of ours member by member while clients
//! write, and goes back the same way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{process::Command, time::Duration};

use howdah_clock::now;
use howdah_testkit::{Flavour, Lab, LabOptions, Writers, judge, patroni, rows};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(90);

/// Patroni's own command, as whoever migrates has it at hand.
fn patronictl(lab: &Lab, args: &[&str]) -> String {
    let output = Command::new(patroni("patronictl"))
        .arg("-c")
        .arg(lab.dir().join("m0.yml"))
        .args(args)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn settled(lab: &Lab, synchronous: bool) {
    let healthy = lab.wait_healthy(PATIENCE).await;
    assert!(healthy.is_ok(), "{}", lab.logs());
    if synchronous {
        let synchronous = lab.wait_sync(PATIENCE).await;
        assert!(synchronous.is_ok(), "{}", lab.logs());
    }
}

/// One step of the page: the member's agent is stopped in order, and the other one is started with the same file.
async fn replace(lab: &mut Lab, member: usize, by: &Flavour, synchronous: bool) {
    let name = lab.members[member].name.clone();
    if lab.wait_primary(PATIENCE).await.unwrap() == member {
        let said = patronictl(lab, &["switchover", "lab", "--leader", &name, "--force"]);
        assert!(
            said.contains("Successfully switched over"),
            "{said}\n{}",
            lab.logs()
        );
        settled(lab, synchronous).await;
    }
    lab.members[member].terminate();
    lab.members[member].wait_exit(PATIENCE).await.unwrap();
    lab.members[member].flavour = by.clone();
    lab.members[member].start().unwrap();
    settled(lab, synchronous).await;
}

async fn there_and_back(synchronous: bool) {
    let mut options = LabOptions::howdah(0).unwrap().dynamic(json!({
        "ttl": 20, "loop_wait": 2, "retry_timeout": 3, "synchronous_mode": synchronous,
    }));
    let theirs = Flavour::Patroni(patroni("patroni"));
    options.members = vec![theirs.clone(); 3];
    let mut lab = Lab::running(options).await.unwrap();
    let ours = lab.our_agent().unwrap();
    settled(&lab, synchronous).await;
    let primary = lab.wait_primary(PATIENCE).await.unwrap();
    let mut writers = Writers::start(&lab.addresses(), primary).await.unwrap();
    let began = now();
    let mut acks = Vec::new();
    for flavour in [&ours, &theirs] {
        for member in 0..3 {
            replace(&mut lab, member, flavour, synchronous).await;
            writers.drain(&mut acks);
        }
        let listed = patronictl(&lab, &["list"]);
        assert_eq!(listed.matches("streaming").count(), 2, "{listed}");
    }
    let last = lab.wait_primary(PATIENCE).await.unwrap();
    acks.extend(writers.stop().await);
    let rows = rows(&lab.members[last].address()).await.unwrap();
    let verdict = judge(&acks, began, &rows);
    assert_eq!(
        (verdict.lost, verdict.overlap),
        (0, Duration::ZERO),
        "{verdict:?}\n{}",
        lab.logs()
    );
    let mut led: Vec<(u32, usize)> = acks.iter().map(|ack| (ack.term, ack.member)).collect();
    led.sort_unstable();
    led.dedup();
    assert!(led.len() >= 3, "leadership has moved: {led:?}");
}

#[tokio::test]
async fn patronis_cluster_becomes_ours_and_goes_back() {
    there_and_back(false).await;
}

#[tokio::test]
async fn in_synchronous_mode_too() {
    there_and_back(true).await;
}
