//! A cluster's life: made, changed, restarted, paused, copied again, ended.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{process::Command, time::Duration};

use howdah_http::Method;
use howdah_process_tests::ctl;
use howdah_testkit::{Lab, LabOptions, connect, until};
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn parameters_restart_pause_and_reinitialize_through_ctl() {
    let lab = Lab::running(LabOptions::howdah(2).unwrap()).await.unwrap();
    // A member's record in the store follows what its REST API says, which `running` has waited for, with its next decision.
    until("both members are listed", SOON, async || {
        let list = ctl(&lab, &["list"]).unwrap();
        list.contains("| Leader  | running ") && list.contains("| Replica | streaming |")
    })
    .await
    .unwrap();

    // A parameter that needs a restart is pending until there was one.
    let edited = ctl(
        &lab,
        &[
            "edit-config",
            "--pg",
            "max_connections=60",
            "--pg",
            "work_mem=8MB",
            "--force",
        ],
    )
    .unwrap();
    assert!(
        edited.contains("+    max_connections: 60") && edited.contains("Configuration changed"),
        "{edited}"
    );
    until("the restart is pending", SOON, async || {
        ctl(&lab, &["list"])
            .unwrap()
            .matches("max_connections: 50->60")
            .count()
            == 2
    })
    .await
    .unwrap();
    let restarted = ctl(&lab, &["restart", "lab", "--force", "--pending"]).unwrap();
    assert_eq!(
        restarted.matches("Success: restart on member").count(),
        2,
        "{restarted}"
    );
    lab.wait_healthy(SOON).await.unwrap();
    until("no restart is pending", SOON, async || {
        !ctl(&lab, &["list"]).unwrap().contains("Pending restart")
    })
    .await
    .unwrap();
    let primary = lab.wait_primary(SOON).await.unwrap();
    let (client, _) = howdah_testkit::connect(&lab.members[primary].address())
        .await
        .unwrap();
    for (name, wanted) in [("max_connections", "60"), ("work_mem", "8MB")] {
        let row = client.query_one(&format!("SHOW {name}"), &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), wanted);
    }
    drop(client);

    // In maintenance mode a dead PostgreSQL stays dead; afterwards it is started.
    assert!(
        ctl(&lab, &["pause", "--wait"])
            .unwrap()
            .contains("Success: cluster management is paused")
    );
    assert!(ctl(&lab, &["list"]).unwrap().contains(" Maintenance mode: on"));
    let replica = lab.a_replica().await.unwrap();
    let pid = lab.members[replica].postmaster_pid().unwrap();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
    until("the replica has stopped", SOON, async || {
        lab.members[replica].postmaster_pid().is_none()
    })
    .await
    .unwrap();
    assert_eq!(lab.primary().await, Some(primary));
    assert!(
        ctl(&lab, &["resume", "--wait"])
            .unwrap()
            .contains("Success: cluster management is resumed")
    );
    lab.wait_healthy(SOON).await.unwrap();

    let name = lab.members[replica].name.as_str();
    let reinit = ctl(&lab, &["reinit", "lab", name, "--force", "--wait"]).unwrap();
    assert!(
        reinit.contains(&format!("Reinitialize is completed on: {name}")),
        "{reinit}"
    );
    lab.wait_healthy(SOON).await.unwrap();
    let history = ctl(&lab, &["history", "-f", "json"]).unwrap();
    assert_eq!(history.trim(), "[]", "no failover has happened: {history}");
}

#[tokio::test]
async fn a_restart_can_be_scheduled_and_forgotten() {
    let lab = Lab::running(LabOptions::howdah(2).unwrap()).await.unwrap();
    let replica = lab.a_replica().await.unwrap();
    let member = &lab.members[replica];
    let name = member.name.as_str();
    let before = member.postmaster_pid();
    let restart = |at: &str| ctl(&lab, &["restart", "lab", name, "--force", "--scheduled", at]).unwrap();
    assert!(
        restart("2099-01-01T00:00:00+00:00")
            .contains(&format!("Success: restart scheduled on member {name}"))
    );
    until("the record shows it", SOON, async || {
        ctl(&lab, &["list"]).unwrap().contains("2099-01-01T00:00:00")
    })
    .await
    .unwrap();
    let again = member
        .call(
            Method::POST,
            "/restart",
            Some(&json!({"schedule": "2099-01-01T00:00:00Z"})),
        )
        .await
        .unwrap();
    assert_eq!(again.status, 409, "{}", again.text());
    let flushed = ctl(&lab, &["flush", "lab", name, "restart", "--force"]).unwrap();
    assert!(
        flushed.contains(&format!("Success: flush scheduled restart for member {name}")),
        "{flushed}"
    );
    let none = member.call(Method::DELETE, "/restart", None).await.unwrap();
    assert_eq!(none.status, 404);
    assert_eq!(member.postmaster_pid(), before);

    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    assert!(restart(&soon.to_string()).contains("Success"));
    until("it was restarted", SOON, async || {
        member.postmaster_pid().is_some_and(|pid| Some(pid) != before)
    })
    .await
    .unwrap();
    assert!(jiff::Timestamp::now() >= soon, "not before its time");
    lab.wait_healthy(SOON).await.unwrap();
    let cluster = member.call(Method::GET, "/cluster", None).await.unwrap();
    assert!(
        !cluster.text().contains("scheduled_restart"),
        "{}",
        cluster.text()
    );
}

/// A candidate that receives nothing at this moment would lack the end: it is not handed over to.
#[tokio::test]
async fn a_switchover_needs_a_candidate_that_streams() {
    let lab = Lab::running(LabOptions::howdah(2).unwrap()).await.unwrap();
    let primary = lab.wait_primary(SOON).await.unwrap();
    let replica = lab.a_replica().await.unwrap();
    let (from, to) = (&lab.members[primary], &lab.members[replica]);
    let postmaster = from.postmaster_pid();
    let signal = |name: &str, pid: u32| {
        let done = Command::new("kill").args([name, &pid.to_string()]).status();
        assert!(done.unwrap().success());
    };
    let receiver = to.wal_receiver().unwrap();
    signal("-STOP", receiver);
    let (client, _) = howdah_testkit::connect(&from.address()).await.unwrap();
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication";
    client.batch_execute(sql).await.unwrap();
    let body = json!({"leader": from.name, "candidate": to.name});
    let answer = from.call(Method::POST, "/switchover", Some(&body)).await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(lab.primary().await, Some(primary));
    assert_eq!(
        from.postmaster_pid(),
        postmaster,
        "it was not stopped for nothing"
    );
    client.batch_execute("CREATE TABLE still_here ()").await.unwrap();

    signal("-CONT", receiver);
    lab.wait_healthy(SOON).await.unwrap();
    let answer = from.call(Method::POST, "/switchover", Some(&body)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(lab.wait_primary(SOON).await.unwrap(), replica);
}

#[tokio::test]
async fn wrong_configuration_changes_nothing() {
    let lab = Lab::running(LabOptions::howdah(1).unwrap()).await.unwrap();
    let member = &lab.members[0];
    let body = json!({"ttl": "soon"});
    let answer = member.call(Method::PATCH, "/config", Some(&body)).await.unwrap();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (400, "ttl: must be a number")
    );
    let answer = member
        .call(
            Method::PATCH,
            "/config",
            Some(&json!({"synchronous_mode": "quorumm"})),
        )
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (400, "synchronous_mode: must be true, false or quorum")
    );
    let config = member.call(Method::GET, "/config", None).await.unwrap().text();
    assert!(
        config.contains("\"ttl\":30") && !config.contains("quorum"),
        "{config}"
    );
}

#[tokio::test]
async fn a_failed_bootstrap_leaves_a_clean_store_and_the_data_aside() {
    let broken = json!({"bootstrap": {"dcs": {}, "initdb": ["no-such-option"]}});
    let mut lab = Lab::new(LabOptions::howdah(1).unwrap().local(broken))
        .await
        .unwrap();
    lab.start_all().unwrap();
    let code = lab.members[0].wait_exit(SOON).await.unwrap();
    assert_eq!(code, Some(1), "{}", lab.logs());
    assert!(
        lab.members[0].log().contains("bootstrap failed: initdb failed"),
        "{}",
        lab.logs()
    );
    let keys = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args([
            "--endpoints",
            &lab.etcd.as_ref().unwrap().url(),
            "get",
            "--prefix",
            "/service/lab/initialize",
        ])
        .output()
        .unwrap();
    assert!(keys.stdout.is_empty(), "another member may try");
}

#[tokio::test]
async fn an_ended_agent_leaves_no_process_and_hands_over() {
    let mut lab = Lab::running(LabOptions::howdah(2).unwrap()).await.unwrap();
    let primary = lab.wait_primary(SOON).await.unwrap();
    let guard = lab.members[primary].guard_pid().unwrap();
    assert!(
        Command::new("kill")
            .args(["-TERM", &guard.to_string()])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(
        lab.members[primary].wait_exit(SOON).await.unwrap(),
        Some(0),
        "{}",
        lab.logs()
    );
    assert!(lab.members[primary].postgres_pids().is_empty());
    let new = lab.wait_primary(SOON).await.unwrap();
    assert_ne!(new, primary);
    // It comes back by itself, and without a rewind: nothing was lost on the way.
    lab.members[primary].start().unwrap();
    lab.wait_healthy(SOON).await.unwrap();
    assert!(
        !lab.members[primary].log().contains("Our WAL has left"),
        "{}",
        lab.logs()
    );
}

#[tokio::test]
async fn an_ended_primary_that_no_replica_has_followed_comes_back_with_its_rows() {
    let mut lab = Lab::running(
        LabOptions::howdah(2)
            .unwrap()
            .dynamic(json!({"howdah": {"ttl": 8}})),
    )
    .await
    .unwrap();
    let primary = lab.wait_primary(SOON).await.unwrap();
    let (client, _notices) = connect(&lab.members[primary].address()).await.unwrap();
    let role: String = client
        .query_one("SELECT usename::text FROM pg_stat_replication", &[])
        .await
        .unwrap()
        .get(0);
    // One transaction each: a replica that reconnects before the role is locked for others would have the table.
    for statement in [
        &*format!("ALTER ROLE \"{role}\" NOLOGIN"),
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_replication",
        "CREATE TABLE late AS SELECT generate_series(1, 1000) AS n",
    ] {
        client.batch_execute(statement).await.unwrap();
    }
    drop(client);
    let guard = lab.members[primary].guard_pid().unwrap();
    let term = Command::new("kill").args(["-TERM", &guard.to_string()]).status();
    assert!(term.unwrap().success());
    lab.members[primary].wait_exit(SOON).await.unwrap();
    lab.members[primary].start().unwrap();
    let again = until("it leads again", SOON, async || {
        lab.primary().await == Some(primary)
    });
    assert!(again.await.is_ok(), "{}", lab.logs());
    let (client, _notices) = connect(&lab.members[primary].address()).await.unwrap();
    let rows: i64 = client
        .query_one("SELECT count(*) FROM late", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(rows, 1000, "{}", lab.logs());
    client
        .batch_execute(&format!("ALTER ROLE \"{role}\" LOGIN"))
        .await
        .unwrap();
    lab.wait_healthy(SOON).await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_gone_stops_the_primary_in_time_and_readers_stay() {
    let lab = Lab::running(
        LabOptions::howdah(2)
            .unwrap()
            .dynamic(json!({"howdah": {"ttl": 6}})),
    )
    .await
    .unwrap();
    let primary = lab.wait_primary(SOON).await.unwrap();
    let etcd = lab.etcd.as_ref().unwrap().pid().to_string();
    assert!(
        Command::new("kill")
            .args(["-STOP", &etcd])
            .status()
            .unwrap()
            .success()
    );
    until("writes have stopped", Duration::from_secs(8), async || {
        lab.primary().await.is_none()
    })
    .await
    .unwrap();
    until("it can be read", SOON, async || {
        let status = lab.members[primary].status().await;
        status["role"] == "replica" && status["state"] == "running"
    })
    .await
    .unwrap();
    assert!(
        Command::new("kill")
            .args(["-CONT", &etcd])
            .status()
            .unwrap()
            .success()
    );
    lab.wait_healthy(Duration::from_secs(40)).await.unwrap();
}
