//! Failsafe mode: a leader that the store does not answer goes on while all members agree.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use howdah_clock::now;
use howdah_http::{Method, sleep_until};
use howdah_testkit::{Ack, Flavour, Lab, LabOptions, Writers, patroni, rows, until};
use howdah_types::BootTime;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

async fn lab(mut options: LabOptions, ttl: u64) -> Lab {
    options.linked = true;
    let lease = if ttl < 20 {
        json!({ "ttl": ttl })
    } else {
        json!({})
    };
    let options = options.dynamic(json!({
        "failsafe_mode": true, "ttl": ttl.max(20), "howdah": lease, "loop_wait": 2, "retry_timeout": 3, "postgresql": {
            "parameters": {"shared_buffers": "16MB"},
            "pg_hba": ["host replication replicator 127.0.0.1/32 md5", "host all all 127.0.0.1/32 md5"],
        },
    }));
    let lab = Lab::running(options).await.unwrap();
    all_are_in_the_topology(&lab).await;
    lab
}

async fn all_are_in_the_topology(lab: &Lab) {
    let count = lab.members.len();
    until("the topology names all members", PATIENCE, async || {
        let answer = lab.members[0].call(Method::GET, "/failsafe", None).await;
        let answer = answer.ok().filter(|answer| answer.status == 200);
        let topology = answer.and_then(|answer| {
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&answer.text()).ok()
        });
        topology.is_some_and(|topology| topology.len() == count)
    })
    .await
    .unwrap();
}

/// No member reaches the store.
fn cut_all(lab: &Lab, cut: bool) {
    for member in 0..lab.members.len() {
        lab.cut_from_store(member, cut);
    }
}

async fn says_so(lab: &Lab, member: usize) -> bool {
    lab.members[member].status().await["failsafe_mode_is_active"] == true
}

/// Writes are acknowledged after this moment, by this member.
async fn goes_on(lab: &Lab, writers: &mut Writers, acks: &mut Vec<Ack>, member: usize, after: BootTime) {
    let goes_on = until("writes go on", PATIENCE, async || {
        writers.drain(acks);
        acks.iter().any(|ack| ack.member == member && ack.at > after)
    });
    if let Err(error) = goes_on.await {
        panic!("{error}\n{}", lab.logs());
    }
}

/// A store that does not answer for more than two leases: PostgreSQL is not restarted, the leader stays, no row is lost.
#[tokio::test]
async fn an_outage_of_the_store_stops_no_write() {
    let lab = lab(LabOptions::howdah(3).unwrap(), 5).await;
    let primary = lab.wait_primary(PATIENCE).await.unwrap();
    let postmaster = lab.members[primary].postmaster_pid();
    let mut writers = Writers::start(&lab.addresses(), primary).await.unwrap();
    let mut acks = Vec::new();
    cut_all(&lab, true);
    let end = now() + Duration::from_secs(12);
    sleep_until(end).await;
    goes_on(&lab, &mut writers, &mut acks, primary, end).await;
    for member in 0..3 {
        assert!(says_so(&lab, member).await, "m{member}\n{}", lab.logs());
    }
    cut_all(&lab, false);
    lab.wait_healthy(PATIENCE).await.unwrap();
    until("the failsafe mode is over", PATIENCE, async || {
        let active = [
            says_so(&lab, 0).await,
            says_so(&lab, 1).await,
            says_so(&lab, 2).await,
        ];
        !active.contains(&true)
    })
    .await
    .unwrap();
    assert_eq!(lab.primary().await, Some(primary), "{}", lab.logs());
    assert_eq!(
        lab.members[primary].postmaster_pid(),
        postmaster,
        "{}",
        lab.logs()
    );
    acks.extend(writers.stop().await);
    let rows = rows(&lab.members[primary].address()).await.unwrap();
    let lost = acks
        .iter()
        .filter(|ack| !rows.contains(&(format!("{:?}", ack.kind), ack.n)));
    assert_eq!(lost.count(), 0, "{}", lab.logs());
    // Promises are given back: a switchover need not wait for their end.
    let (from, to) = (&lab.members[primary], (primary + 1) % 3);
    let body = json!({"leader": from.name, "candidate": lab.members[to].name});
    let answer = from.call(Method::POST, "/switchover", Some(&body)).await.unwrap();
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), lab.logs());
    assert_eq!(lab.wait_primary(PATIENCE).await.unwrap(), to, "{}", lab.logs());
}

/// The leader alone does not reach the store, and one member does not answer: it stops before the others may take over.
#[tokio::test]
async fn a_member_that_does_not_agree_ends_it() {
    let mut lab = lab(LabOptions::howdah(3).unwrap(), 5).await;
    let old = lab.wait_primary(PATIENCE).await.unwrap();
    let (dead, other) = ((old + 1) % 3, (old + 2) % 3);
    let writers = Writers::start(&lab.addresses(), old).await.unwrap();
    lab.members[dead].kill_node();
    lab.cut_from_store(old, true);
    until("the third member leads", PATIENCE, async || {
        lab.primary().await == Some(other)
    })
    .await
    .unwrap();
    let acks = writers.stop().await;
    let last = acks
        .iter()
        .filter(|ack| ack.member == old)
        .map(|ack| ack.at)
        .max();
    let first = acks
        .iter()
        .filter(|ack| ack.member == other)
        .map(|ack| ack.at)
        .min();
    assert!(
        last < first || first.is_none(),
        "{last:?} {first:?}\n{}",
        lab.logs()
    );
    lab.cut_from_store(old, false);
    lab.members[dead].start().unwrap();
    lab.wait_healthy(PATIENCE).await.unwrap();
    all_are_in_the_topology(&lab).await;
}

/// Patroni's agent and ours agree in both directions, for longer than a lease.
#[tokio::test]
async fn patronis_agents_and_ours_agree() {
    let mut options = LabOptions::howdah(1).unwrap();
    options.members.push(Flavour::Patroni(patroni("patroni")));
    let lab = lab(options, 20).await;
    for _ in 0..2 {
        let leader = lab.wait_primary(PATIENCE).await.unwrap();
        all_are_in_the_topology(&lab).await;
        let mut writers = Writers::start(&lab.addresses(), leader).await.unwrap();
        let mut acks = Vec::new();
        cut_all(&lab, true);
        let end = now() + Duration::from_secs(24);
        sleep_until(end).await;
        goes_on(&lab, &mut writers, &mut acks, leader, end).await;
        cut_all(&lab, false);
        lab.wait_healthy(PATIENCE).await.unwrap();
        assert_eq!(lab.primary().await, Some(leader), "{}", lab.logs());
        writers.stop().await;
        lab.hand_over(leader, 1 - leader, PATIENCE).await.unwrap();
        lab.wait_healthy(PATIENCE).await.unwrap();
    }
}
