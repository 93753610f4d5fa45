//! Clients behind HAProxy with `examples/haproxy.cfg`: what a switchover costs them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    io::{Read, Write},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use howdah_clock::now;
use howdah_http::{Method, sleep_until};
use howdah_testkit::{Address, Lab, LabOptions, connect, free_port, until};
use howdah_types::BootTime;
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);

/// SQLSTATE of a write to a replica.
const READ_ONLY: &str = "25006";

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HAProxy with the example's lines, at this lab's addresses: its port and the socket that tells its state.
fn haproxy(lab: &Lab) -> (Proxy, u16, PathBuf) {
    let port = free_port().unwrap();
    let stats = lab.dir().join("haproxy.sock");
    let mut text = include_str!("../../../examples/haproxy.cfg")
        .replace(
            "global\n",
            &format!("global\n    stats socket {}\n", stats.display()),
        )
        .replace("*:5000", &format!("127.0.0.1:{port}"))
        .replace("*:5001", &format!("127.0.0.1:{}", free_port().unwrap()));
    for (i, member) in lab.members.iter().enumerate() {
        let (postgres, api) = (member.port, member.api);
        let example = format!("10.0.0.{}:5432 port 8008", i + 1);
        assert!(text.contains(&example), "{example}");
        text = text.replace(&example, &format!("127.0.0.1:{postgres} port {api}"));
    }
    let file = lab.dir().join("haproxy.cfg");
    fs::write(&file, text).unwrap();
    let child = Command::new("haproxy")
        .args(["-db", "-f"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("haproxy is not installed: script/test installs it");
    (Proxy(child), port, stats)
}

/// Whether HAProxy has checked every server of `listen primary` and one of them is up. It takes a server for up from its own
/// start until its first check, so a client that comes earlier may meet a replica (docs/load-balancers.md).
fn has_checked(stats: &Path) -> bool {
    let Ok(mut socket) = UnixStream::connect(stats) else {
        return false;
    };
    let mut table = String::new();
    if socket.write_all(b"show stat\n").is_err() || socket.read_to_string(&mut table).is_err() {
        return false;
    }
    let mut rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = rows.next().unwrap_or_default();
    let column = |name: &str| names.iter().position(|&column| column == name).unwrap();
    let (status, result) = (column("status"), column("check_status"));
    let servers: Vec<_> = rows
        .filter(|row| row[0] == "primary" && row[1].starts_with('m'))
        .collect();
    let up = servers.iter().filter(|row| row[status] == "UP").count();
    servers.len() == 3 && up == 1 && servers.iter().all(|row| row[result].starts_with("L7"))
}

/// A client that opens a session for each row: when it wrote, and how often it was told that it may not.
async fn write_until(address: Address, ended: Arc<AtomicBool>) -> (Vec<BootTime>, u32) {
    let (mut written, mut read_only) = (Vec::new(), 0);
    while !ended.load(Ordering::Relaxed) {
        let one = async {
            let (client, _notices) = connect(&address).await?;
            client.batch_execute("INSERT INTO behind VALUES (1)").await
        };
        match tokio::time::timeout(Duration::from_secs(10), one).await {
            Ok(Ok(())) => written.push(now()),
            Ok(Err(error)) => {
                read_only += u32::from(error.code().is_some_and(|code| code.code() == READ_ONLY));
                sleep_until(now() + Duration::from_millis(20)).await;
            }
            Err(_) => {}
        }
    }
    (written, read_only)
}

#[tokio::test]
async fn a_switchover_behind_haproxy_shows_no_client_a_read_only_server() {
    let dynamic = json!({"loop_wait": 5, "howdah": {"ttl": 8, "closed_after_handover": 3}});
    let lab = Lab::running(LabOptions::howdah(3).unwrap().dynamic(dynamic))
        .await
        .unwrap();
    let (_proxy, port, stats) = haproxy(&lab);
    let address = Address {
        host: Ipv4Addr::LOCALHOST,
        port,
        password: lab.members[0].address().password,
    };
    until("HAProxy has checked its servers", SOON, async || {
        has_checked(&stats)
    })
    .await
    .unwrap();
    until("HAProxy leads to the primary", SOON, async || {
        let Ok((client, _notices)) = connect(&address).await else {
            return false;
        };
        client
            .batch_execute("CREATE TABLE IF NOT EXISTS behind (n int)")
            .await
            .is_ok()
    })
    .await
    .unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|_| tokio::spawn(write_until(address.clone(), Arc::clone(&ended))))
        .collect();
    let leader = lab.wait_primary(SOON).await.unwrap();
    let body = json!({"leader": lab.members[leader].name});
    let answer = lab.members[leader]
        .call(Method::POST, "/switchover", Some(&body))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), lab.logs());
    lab.wait_healthy(SOON).await.unwrap();
    sleep_until(now() + Duration::from_secs(2)).await;
    ended.store(true, Ordering::Relaxed);
    let (mut longest, mut read_only) = (Duration::ZERO, 0);
    for client in clients {
        let (written, refused) = client.await.unwrap();
        read_only += refused;
        let pauses = written.windows(2).map(|pair| pair[1].since(pair[0]));
        longest = longest.max(pauses.max().unwrap());
    }
    println!(
        "the longest time without a row: {longest:?}; {read_only} were told that the server is read-only"
    );
    assert_eq!(
        read_only, 0,
        "the old primary stays closed until HAProxy has noticed"
    );
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}
