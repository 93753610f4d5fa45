//! What users of a cluster do to it that is no fault, and must not end as one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{os::fd::OwnedFd, process::Command, time::Duration};

use howdah_clock::now;
use howdah_http::Method;
use howdah_testkit::{Lab, LabOptions, connect, until};
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const SOON: Duration = Duration::from_secs(20);

async fn lab(members: usize) -> Lab {
    let dynamic = json!({"loop_wait": 5, "howdah": {"ttl": 8}});
    Lab::running(LabOptions::howdah(members).unwrap().dynamic(dynamic))
        .await
        .unwrap()
}

async fn status_of(lab: &Lab, member: usize, method: Method, path: &str, body: &Value) -> (u16, String) {
    let answer = lab.members[member].call(method, path, Some(body)).await.unwrap();
    (answer.status, answer.text())
}

#[tokio::test]
async fn switchovers_one_after_the_other_all_succeed() {
    let lab = lab(3).await;
    for round in 0..12 {
        let leader = lab.wait_primary(SOON).await.unwrap();
        let body = json!({"leader": lab.members[leader].name});
        let (status, text) = status_of(&lab, leader, Method::POST, "/switchover", &body).await;
        assert_eq!(status, 200, "switchover {round}: {text}\n{}", lab.logs());
        // The next one begins when those who follow have come to the new timeline.
        lab.wait_healthy(SOON).await.unwrap();
    }
    let rewound = lab
        .members
        .iter()
        .filter(|member| member.log().contains("Rewound"))
        .count();
    assert_eq!(
        rewound,
        0,
        "a planned handover leaves no member ahead: {}",
        lab.logs()
    );
}

#[tokio::test]
async fn a_promotion_by_hand_does_not_last() {
    let lab = lab(2).await;
    let leader = lab.wait_primary(SOON).await.unwrap();
    let replica = lab.a_replica().await.unwrap();
    let (client, _) = connect(&lab.members[replica].address()).await.unwrap();
    client.batch_execute("SELECT pg_promote()").await.ok();
    drop(client);
    until("the replica follows again", Duration::from_secs(60), async || {
        let status = lab.members[replica].status().await;
        status["role"] == "replica" && status["replication_state"] == "streaming"
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs()));
    assert_eq!(lab.wait_primary(SOON).await.unwrap(), leader);
}

#[tokio::test]
async fn pause_allows_what_is_requested() {
    let lab = lab(2).await;
    let leader = lab.wait_primary(SOON).await.unwrap();
    let replica = lab.a_replica().await.unwrap();
    let (status, text) = status_of(&lab, leader, Method::PATCH, "/config", &json!({"pause": true})).await;
    assert_eq!(status, 200, "{text}");
    until("all have seen the pause", SOON, async || {
        let mut paused = true;
        for member in &lab.members {
            paused &= member.status().await["pause"] == true;
        }
        paused
    })
    .await
    .unwrap();
    let (status, text) = status_of(&lab, leader, Method::POST, "/restart", &json!({})).await;
    assert_eq!(
        status,
        200,
        "the primary restarts in pause: {text}\n{}",
        lab.logs()
    );
    lab.wait_healthy(SOON).await.unwrap();
    let (status, text) = status_of(&lab, replica, Method::POST, "/reinitialize", &json!({})).await;
    assert_eq!(status, 200, "a replica is copied in pause: {text}");
    lab.wait_healthy(Duration::from_secs(60)).await.unwrap();
    let body = json!({"leader": lab.members[leader].name, "candidate": lab.members[replica].name});
    let (status, text) = status_of(&lab, leader, Method::POST, "/switchover", &body).await;
    assert_eq!(status, 200, "a switchover in pause: {text}\n{}", lab.logs());
    // The old primary follows without waiting for the end of the pause.
    lab.wait_healthy(SOON).await.unwrap();
    assert_eq!(lab.wait_primary(SOON).await.unwrap(), replica);

    // A primary that died in pause stays down until a start is requested.
    let pid = lab.members[replica].postmaster_pid().unwrap();
    Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    until("there is no leader", SOON, async || {
        lab.members[replica].postmaster_pid().is_none() && lab.primary().await.is_none()
    })
    .await
    .unwrap();
    let (status, text) = status_of(&lab, replica, Method::POST, "/restart", &json!({})).await;
    assert_eq!(status, 200, "it is started in pause: {text}\n{}", lab.logs());
    lab.wait_healthy(SOON).await.unwrap();
}

#[tokio::test]
async fn wrong_values_are_refused_and_unfinished_bodies_delay_no_request() {
    let lab = lab(1).await;
    let leader = lab.wait_primary(SOON).await.unwrap();
    let before = status_of(&lab, leader, Method::GET, "/config", &json!(null))
        .await
        .1;
    let wrong = [
        json!({"postgresql": {"pg_hba": [1, 2, {}]}}),
        json!({"postgresql": {"pg_hba": ["hots all all all md5"]}}),
        json!({"postgresql": {"parameters": "x"}}),
        json!({"postgresql": {"parameters": {"max_connections": -5}}}),
        json!({"postgresql": {"parameters": {"wal_level": "everything"}}}),
        json!({"ttl": 1e12}),
        json!({"failsafe_mode": "often"}),
    ];
    for body in wrong {
        let (status, text) = status_of(&lab, leader, Method::PATCH, "/config", &body).await;
        assert_eq!(status, 400, "{body}: {text}");
    }
    for body in [
        json!({"timeout": "x"}),
        json!({"timeout": 0}),
        json!({"timeout": "-3s"}),
    ] {
        let (status, text) = status_of(&lab, leader, Method::POST, "/restart", &body).await;
        assert_eq!(status, 400, "{body}: {text}");
    }
    for pair in [
        "ttl=soon",
        "postgresql.pg_hba=7",
        "maximum_lag_on_failover=1 parsec",
    ] {
        let edited = Command::new(lab.dir().join("howdah"))
            .args(["ctl", "-c"])
            .arg(lab.dir().join("m0.yml"))
            .args(["edit-config", "--force", "-s", pair])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&edited.stderr);
        assert!(!edited.status.success(), "{pair}: {said}");
        assert!(said.contains("nothing was changed"), "{pair}: {said}");
    }
    let after = status_of(&lab, leader, Method::GET, "/config", &json!(null))
        .await
        .1;
    assert_eq!(before, after, "nothing of them was stored");
    let (status, text) = status_of(&lab, leader, Method::POST, "/restart", &json!({"timeout": "30s"})).await;
    assert_eq!(status, 200, "{text}");

    let member = &lab.members[leader];
    let mut unfinished = Vec::new();
    for _ in 0..600 {
        let Ok(mut stream) = TcpStream::connect((member.host, member.api)).await else {
            continue;
        };
        let head = "POST /restart HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{";
        let _ = stream.write_all(head.as_bytes()).await;
        unfinished.push(stream);
    }
    let began = now();
    // From another address, as a load balancer asks.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let address = format!("{}:{}", member.host, member.api).parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(b"GET /primary HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer)
        .await
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"),
        "{answer}"
    );
    assert!(
        now().since(began) < Duration::from_secs(1),
        "{:?}",
        now().since(began)
    );
    drop(unfinished);
}

/// Each connection to a server without its map of files ends with an error, while the server itself runs.
#[tokio::test]
async fn a_restart_of_a_server_that_serves_no_session_is_no_success() {
    let lab = lab(1).await;
    let leader = lab.wait_primary(SOON).await.unwrap();
    std::fs::remove_file(lab.members[leader].data_dir().join("global/pg_filenode.map")).unwrap();
    let (status, text) = status_of(&lab, leader, Method::POST, "/restart", &json!({})).await;
    assert_eq!(status, 503, "{text}");
}

/// Behind a pipe that is the test user's and one that the agent's user may open again.
#[tokio::test]
async fn a_log_that_is_not_read_holds_up_nothing() {
    for mode in ["600", "666"] {
        let options = LabOptions::howdah(1)
            .unwrap()
            .dynamic(json!({"postgresql": {"parameters": {"log_statement": "all"}}}));
        let mut lab = Lab::new(options).await.unwrap();
        let pipe = lab.dir().join("m0.log");
        let made = Command::new("mkfifo").args(["-m", mode]).arg(&pipe).status();
        assert!(made.unwrap().success());
        let reader = rustix::fs::open(&pipe, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        lab.start_all().unwrap();
        let primary = until("a primary", SOON, async || lab.primary().await.is_some()).await;
        assert!(primary.is_ok(), "{}", read_some(&reader));
        let (client, _notices) = connect(&lab.members[0].address()).await.unwrap();
        let statement = format!("SELECT '{}'", "x".repeat(1000));
        let much = async {
            for _ in 0..1000 {
                client.batch_execute(&statement).await.unwrap();
            }
        };
        tokio::time::timeout(SOON, much).await.unwrap();
        let shown = client.query_one("SHOW log_statement", &[]).await.unwrap();
        assert_eq!(shown.get::<_, String>(0), "all");
        // A reader that comes back finds lines.
        assert!(read_some(&reader).contains("LOG:"));
    }
}

fn read_some(pipe: &OwnedFd) -> String {
    let mut bytes = vec![0; 64 * 1024];
    let n = rustix::io::read(pipe, &mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}
