//! One suite for the stores that end leases themselves, against real servers: what every operation answers, and what is left of
//! a process that is gone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use howdah_clock::now;
use howdah_config::{ConsulConfig, EtcdConfig, StoreConfig, ZooKeeperConfig};
use howdah_dcs::{
    Change, Cond, Document, Key, KeyOp, LeaderSeen, LeaseDone, LeaseId, LeaseOp, Outcome, Refusal, Status,
    Store, View,
};
use howdah_http::{Client, Method, Url, sleep_until, timeout_at};
use howdah_stores::Stores;
use howdah_testkit::{Consul, Etcd, Link, ZooKeeper, free_port, until};
use howdah_types::{BootTime, Lsn, MemberName, Scope};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(5);

/// Between ZooKeeper's shortest and longest, and a whole number of its ticks.
const TTL: Duration = Duration::from_secs(6);

/// One process: its stores share what a process knows.
struct Process {
    name: MemberName,
    keeper: Box<dyn Store>,
    main: Box<dyn Store>,
}

impl Process {
    fn new(config: &StoreConfig, name: &str) -> Self {
        let name = MemberName::new(name).unwrap();
        let scope = Scope::new("suite").unwrap();
        let stores = Stores::of(config, "service", &scope, Some(&name)).unwrap();
        let stores = stores.with_leases_of(Some(TTL));
        Process {
            name,
            keeper: stores.open(),
            main: stores.open(),
        }
    }

    async fn lease(&self, op: LeaseOp) -> Outcome<LeaseDone> {
        self.keeper.lease(&op, now() + PATIENCE).await
    }

    async fn grant(&self) -> LeaseId {
        match self.lease(LeaseOp::Grant { ttl: TTL }).await {
            Outcome::Done(LeaseDone::Granted { lease, ttl }) => {
                // Of a session in Consul only a third is sure.
                assert!(ttl == TTL || ttl == TTL / 3, "{ttl:?}");
                lease
            }
            other => panic!("{other:?}"),
        }
    }

    async fn acquire(&self, lease: LeaseId) -> Outcome<LeaseDone> {
        let me = self.name.clone();
        self.lease(LeaseOp::Acquire { me, lease }).await
    }

    /// Renews; until when the store may not give the lease to another one.
    async fn renew(&self, lease: LeaseId) -> Result<BootTime, Outcome<LeaseDone>> {
        let sent = now();
        match self.lease(LeaseOp::Renew { lease, read: true }).await {
            Outcome::Done(LeaseDone::Renewed { ttl, leader }) => {
                assert!(ttl <= TTL);
                assert!(matches!(leader, LeaderSeen::Read(Some(key)) if key.lease == Some(lease)));
                Ok(sent + ttl)
            }
            other => Err(other),
        }
    }

    async fn renew_alone(&self, lease: LeaseId) -> bool {
        matches!(self.lease(LeaseOp::KeepAlive { lease }).await, Outcome::Done(_))
    }

    async fn write(&self, op: KeyOp) -> Outcome<u64> {
        self.main.write(&op, now() + PATIENCE).await
    }

    async fn member(&self, lease: LeaseId, record: &serde_json::Value) -> Outcome<u64> {
        let me = self.name.clone();
        self.write(KeyOp::PutMember {
            me,
            lease,
            record: record.to_string(),
        })
        .await
    }

    async fn put(&self, document: Document, cond: Cond) -> Outcome<u64> {
        self.write(KeyOp::Put { document, cond }).await
    }

    async fn view(&self) -> View {
        self.main.read(now() + PATIENCE).await.unwrap()
    }
}

fn config(n: u64) -> Document {
    Document::config(json!({"ttl": n}).as_object().unwrap())
}

fn done(outcome: Outcome<u64>) -> u64 {
    match outcome {
        Outcome::Done(rev) => rev,
        other => panic!("{other:?}"),
    }
}

async fn keys_answer_as_asked(store: &StoreConfig) {
    let (a, b) = (Process::new(store, "a"), Process::new(store, "b"));
    assert_eq!(
        a.view().await,
        View {
            rev: a.view().await.rev,
            ..View::default()
        }
    );
    let (lease_a, lease_b) = (a.grant().await, b.grant().await);
    assert_ne!(lease_a, lease_b);
    for _ in 0..2 {
        done(a.write(KeyOp::Claim { lease: lease_a }).await);
    }
    assert_eq!(
        b.write(KeyOp::Claim { lease: lease_b }).await,
        Outcome::Refused(Refusal::Condition)
    );
    assert_eq!(b.view().await.initialize.as_deref(), Some(""));
    done(a.put(Document::initialize(7_u64), Cond::Always).await);
    assert_eq!(b.view().await.initialize.as_deref(), Some("7"));
    assert_eq!(
        b.write(KeyOp::Claim { lease: lease_b }).await,
        Outcome::Refused(Refusal::Condition)
    );

    let refused = Outcome::Refused(Refusal::Condition);
    let first = done(a.put(config(1), Cond::Absent).await);
    assert_eq!(b.put(config(2), Cond::Absent).await, refused);
    assert_eq!(b.put(config(2), Cond::Rev(0)).await, refused);
    assert_eq!(b.view().await.config.rev, first);
    let second = done(b.put(config(2), Cond::Rev(first)).await);
    assert!(second > first);
    assert_eq!(a.put(config(3), Cond::Rev(first)).await, refused);
    let delete = |rev| KeyOp::Delete {
        key: Key::Config,
        cond: Cond::Rev(rev),
    };
    assert_eq!(a.write(delete(first)).await, refused);
    done(a.write(delete(second)).await);
    assert_eq!(b.view().await.config.value, None);
    // A key that is made again has another revision than before.
    let third = done(a.put(config(1), Cond::Rev(0)).await);
    assert!(third > second);
    assert_eq!(b.put(config(4), Cond::Rev(first)).await, refused);
    // What was claimed and named stays when its life ends.
    assert!(matches!(
        a.lease(LeaseOp::Revoke { lease: lease_a }).await,
        Outcome::Done(LeaseDone::Ended)
    ));
    assert_eq!(b.view().await.initialize.as_deref(), Some("7"));
}

async fn leadership_belongs_to_one_life(store: &StoreConfig) {
    let (a, b) = (Process::new(store, "a"), Process::new(store, "b"));
    let (lease_a, lease_b) = (a.grant().await, b.grant().await);
    for (process, lease) in [(&a, lease_a), (&b, lease_b)] {
        done(process.member(lease, &json!({"state": "starting"})).await);
        done(process.member(lease, &json!({"state": "running"})).await);
    }
    let view = b.view().await;
    assert_eq!(view.members.len(), 2);
    let Outcome::Done(LeaseDone::Acquired { term }) = a.acquire(lease_a).await else {
        panic!("not acquired")
    };
    for (process, lease) in [(&a, lease_a), (&b, lease_b)] {
        match process.acquire(lease).await {
            Outcome::Refused(Refusal::HasLeader(leader)) => {
                assert_eq!(
                    (leader.name.as_str(), leader.lease, leader.term),
                    ("a", Some(lease_a), term)
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let view = b.view().await;
    assert!(view.led_by(lease_a) && view.leader.unwrap().term == term);
    let until = a.renew(lease_a).await.unwrap();
    assert!(until > now());
    assert_eq!(
        b.lease(LeaseOp::Release { lease: lease_b }).await,
        Outcome::Refused(Refusal::Condition)
    );
    assert!(matches!(
        a.lease(LeaseOp::Release { lease: lease_a }).await,
        Outcome::Done(LeaseDone::Ended)
    ));
    let Outcome::Done(LeaseDone::Acquired { term: next }) = b.acquire(lease_b).await else {
        panic!("not acquired")
    };
    assert!(next > term);
    assert!(matches!(
        b.lease(LeaseOp::Revoke { lease: lease_b }).await,
        Outcome::Done(LeaseDone::Ended)
    ));
    let view = a.view().await;
    assert_eq!((view.leader, view.members.len()), (None, 1));
    assert_eq!(b.renew(lease_b).await, Err(Outcome::Refused(Refusal::NoLease)));
    assert_eq!(
        b.member(lease_b, &json!({})).await,
        Outcome::Refused(Refusal::NoLease)
    );
    a.lease(LeaseOp::Revoke { lease: lease_a }).await.done().unwrap();
}

/// A process that is gone leads until the end of its lease, and not longer than that by much.
async fn a_lease_ends_and_not_too_early(store: &StoreConfig) {
    let observer = Process::new(store, "b");
    let gone = Process::new(store, "a");
    let lease = gone.grant().await;
    done(gone.member(lease, &json!({"state": "running"})).await);
    assert!(matches!(gone.acquire(lease).await, Outcome::Done(_)));
    let mut end = BootTime(0);
    for _ in 0..3 {
        sleep_until(now() + Duration::from_millis(2500)).await;
        end = gone.renew(lease).await.unwrap();
    }
    drop(gone);
    while observer.view().await.led_by(lease) {
        assert!(
            now() < end + TTL + Duration::from_secs(4),
            "the lease does not end"
        );
    }
    assert!(now() >= end, "the lease ended {:?} too early", now().until(end));
    assert!(observer.view().await.members.is_empty());
}

/// The agent that follows another one under the same guard goes on with its lease.
async fn the_next_agent_goes_on_with_the_lease(store: &StoreConfig) {
    let first = Process::new(store, "a");
    let lease = first.grant().await;
    assert!(matches!(first.acquire(lease).await, Outcome::Done(_)));
    drop(first);
    let next = Process::new(store, "a");
    assert!(next.renew(lease).await.unwrap() > now());
    done(next.member(lease, &json!({"state": "running"})).await);
    assert!(next.view().await.led_by(lease));
    next.lease(LeaseOp::Revoke { lease }).await.done().unwrap();
}

async fn changes_are_told(store: &StoreConfig) {
    let (a, b) = (Process::new(store, "a"), Process::new(store, "b"));
    let lease = a.grant().await;
    done(
        a.member(lease, &json!({"state": "running", "xlog_location": 1}))
            .await,
    );
    let mut watcher = b.main.watch();
    let mut next = async || {
        timeout_at(now() + PATIENCE, watcher.changed())
            .await
            .expect("no change was told")
            .unwrap()
    };
    assert_eq!(
        next().await,
        Change::Other,
        "it stands; what was before may have been missed"
    );
    done(
        a.member(lease, &json!({"state": "running", "xlog_location": 2}))
            .await,
    );
    // Seen for the first time, unless the watch begins with what is there.
    next().await;
    done(
        a.member(lease, &json!({"state": "running", "xlog_location": 3}))
            .await,
    );
    assert_eq!(next().await, Change::Positions);
    let status = Status {
        optime: Some(Lsn(5)),
        ..Status::default()
    };
    done(a.put(Document::status(&status), Cond::Always).await);
    let mut change = next().await;
    if change == Change::Other {
        // Its creation, where that and its content are told apart.
        done(a.put(Document::status(&status), Cond::Always).await);
        change = next().await;
    }
    assert_eq!(change, Change::Positions);
    done(a.put(config(9), Cond::Always).await);
    assert_eq!(next().await, Change::Other);
    a.lease(LeaseOp::Revoke { lease }).await.done().unwrap();
    assert_eq!(next().await, Change::Other, "the member is gone");
}

/// A store that is out of reach has not refused; when it is back, the same lease goes on.
async fn an_outage_is_no_refusal(store: &StoreConfig, link: &Link) {
    let a = Process::new(store, "a");
    let lease = a.grant().await;
    assert!(matches!(a.acquire(lease).await, Outcome::Done(_)));
    link.cut(true);
    let short = now() + Duration::from_secs(1);
    let renewed = a.keeper.lease(&LeaseOp::Renew { lease, read: true }, short).await;
    assert!(
        matches!(renewed, Outcome::Unknown(_) | Outcome::Failed(_)),
        "{renewed:?}"
    );
    let short = now() + Duration::from_secs(1);
    assert!(a.main.read(short).await.is_err());
    let op = KeyOp::Put {
        document: config(5),
        cond: Cond::Always,
    };
    let written = a.main.write(&op, now() + Duration::from_secs(1)).await;
    assert!(
        matches!(written, Outcome::Unknown(_) | Outcome::Failed(_)),
        "{written:?}"
    );
    link.cut(false);
    until("the lease goes on", PATIENCE, async || {
        a.renew(lease).await.is_ok()
    })
    .await
    .unwrap();
    assert!(a.view().await.led_by(lease));
    a.lease(LeaseOp::Revoke { lease }).await.done().unwrap();
}

async fn suite(store: &StoreConfig, linked: &StoreConfig, link: &Link) {
    keys_answer_as_asked(store).await;
    leadership_belongs_to_one_life(store).await;
    the_next_agent_goes_on_with_the_lease(store).await;
    changes_are_told(store).await;
    an_outage_is_no_refusal(linked, link).await;
    a_lease_ends_and_not_too_early(store).await;
}

fn etcd(port: u16) -> StoreConfig {
    StoreConfig::Etcd(EtcdConfig {
        endpoints: vec![format!("http://127.0.0.1:{port}")],
        ..EtcdConfig::default()
    })
}

fn zookeeper(ports: &[u16]) -> StoreConfig {
    StoreConfig::ZooKeeper(ZooKeeperConfig {
        servers: ports.iter().map(|port| ("127.0.0.1".to_owned(), *port)).collect(),
        ..ZooKeeperConfig::default()
    })
}

#[tokio::test]
async fn etcd_is_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let server = Etcd::start(dir.path()).await.unwrap();
    let link = Link::open(free_port().unwrap(), server.port()).unwrap();
    suite(&etcd(server.port()), &etcd(link.port()), &link).await;
}

fn consul(port: u16) -> StoreConfig {
    StoreConfig::Consul(ConsulConfig {
        url: format!("http://127.0.0.1:{port}"),
        ..ConsulConfig::default()
    })
}

/// Where there is a Consul: Debian has none.
#[tokio::test]
async fn consul_is_a_store() {
    let Some(program) = Consul::program() else {
        eprintln!("skipped: $HOWDAH_CONSUL names no Consul");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let server = Consul::start(&program, dir.path()).await.unwrap();
    let link = Link::open(free_port().unwrap(), server.port()).unwrap();
    suite(&consul(server.port()), &consul(link.port()), &link).await;
    another_session_waits_for_one_that_was_destroyed(server.port()).await;
}

/// A session also ends when its node leaves, or by a hand; its holder may not hear of it. No other session leads before its lease is over.
async fn another_session_waits_for_one_that_was_destroyed(port: u16) {
    let store = consul(port);
    let (a, b) = (Process::new(&store, "a"), Process::new(&store, "b"));
    let (lease_a, lease_b) = (a.grant().await, b.grant().await);
    // The last test's session has left a lock delay.
    while !matches!(a.acquire(lease_a).await, Outcome::Done(_)) {
        assert!(a.renew_alone(lease_a).await && b.renew_alone(lease_b).await);
    }
    let end = a.renew(lease_a).await.unwrap();
    let ask = async |method, path: &str| {
        let url = Url::parse(&format!("http://127.0.0.1:{port}/v1/session/{path}")).unwrap();
        let answer = Client::default()
            .request(method, &url, None, now() + PATIENCE)
            .await;
        answer.unwrap().text()
    };
    let sessions: serde_json::Value = serde_json::from_str(&ask(Method::GET, "list").await).unwrap();
    let is_a = |session: &&serde_json::Value| session["Name"] == "suite-a";
    let session = sessions.as_array().unwrap().iter().find(is_a).unwrap();
    ask(
        Method::PUT,
        &format!("destroy/{}", session["ID"].as_str().unwrap()),
    )
    .await;
    assert_eq!(b.view().await.leader, None);
    while !matches!(b.acquire(lease_b).await, Outcome::Done(_)) {
        assert!(now() < end + TTL, "it waits for longer than the lock delay");
        assert!(b.renew_alone(lease_b).await);
    }
    assert!(
        now() >= end,
        "another session leads {:?} too early",
        now().until(end)
    );
}

#[tokio::test]
async fn zookeeper_is_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let server = ZooKeeper::start(dir.path(), 1).await.unwrap();
    let ports = server.ports();
    let link = Link::open(free_port().unwrap(), ports[0]).unwrap();
    suite(&zookeeper(&ports), &zookeeper(&[link.port()]), &link).await;
}

/// An ensemble goes on without the server that a process is connected to, and so does its lease. The server that leads is lost
/// too: sessions are counted from the beginning by the next one, never less.
#[tokio::test]
async fn a_lease_outlives_servers_of_its_ensemble() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = ZooKeeper::start(dir.path(), 3).await.unwrap();
    let store = zookeeper(&servers.ports());
    let a = Process::new(&store, "a");
    let lease = a.grant().await;
    done(a.member(lease, &json!({"state": "running"})).await);
    assert!(matches!(a.acquire(lease).await, Outcome::Done(_)));
    let observer = Process::new(&zookeeper(&servers.ports()[1..]), "b");
    let leads = servers.leader().await.unwrap();
    for killed in [0, leads] {
        servers.kill(killed);
        until("the lease goes on", TTL, async || a.renew(lease).await.is_ok())
            .await
            .unwrap_or_else(|error| panic!("server {killed} of which {leads} led: {error}"));
        servers.start_again(killed).await.unwrap();
        assert!(a.renew(lease).await.is_ok());
    }
    let end = a.renew(lease).await.unwrap();
    assert!(observer.view().await.led_by(lease) || now() >= end);
}
