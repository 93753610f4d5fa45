//! The loop, with a store in memory, a guard that is a fake, and no PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use howdah_clock::now;
use howdah_dcs::{
    Answer, Change, Cond, Document, Key, KeyOp, KeyTree, LeaseDone, LeaseOp, MemStore, Outcome, Store,
    StoreError, View, Watcher,
};
use howdah_guard::{GuardClient, Handover, Message, Reply, Request as GuardRequest, WhyRefused};
use howdah_ha::{Dcs, Effect, Keeper, Request};
use howdah_http::Client;
use howdah_postgres::Server;
use howdah_types::BootTime;
use parking_lot::Mutex;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use tokio::sync::{mpsc, oneshot};

use crate::{
    agent::{Agent, Next},
    api::ApiSettings,
    configuration,
    guard_link::GuardLink,
    keeper::KeeperLink,
    publish::{ApiCommand, Published},
    run::Parts,
    setup::ConfigFile,
    wake::Wake,
    watching::Watching,
};

/// The store in memory behind the trait, which can be made not to answer, and counts writes.
#[derive(Clone)]
struct Memory {
    store: Arc<Mutex<MemStore>>,
    down: Arc<AtomicBool>,
    writes: Arc<Mutex<Vec<KeyOp>>>,
    tree: KeyTree,
}

impl Memory {
    fn is_down(&self) -> bool {
        self.down.load(Ordering::SeqCst)
    }
}

impl Store for Memory {
    fn lease<'a>(&'a self, op: &'a LeaseOp, _: BootTime) -> Answer<'a, Outcome<LeaseDone>> {
        Box::pin(async move {
            if self.is_down() {
                return Outcome::Failed("down".into());
            }
            self.store.lock().lease(op, now())
        })
    }

    fn write<'a>(&'a self, op: &'a KeyOp, _: BootTime) -> Answer<'a, Outcome<u64>> {
        Box::pin(async move {
            if self.is_down() {
                return Outcome::Failed("down".into());
            }
            self.writes.lock().push(op.clone());
            self.store.lock().write(op, now())
        })
    }

    fn read(&self, _: BootTime) -> Answer<'_, Result<View, StoreError>> {
        Box::pin(async move {
            if self.is_down() {
                return Err(StoreError::Unreachable("down".into()));
            }
            Ok(View::clone(&self.store.lock().view(&self.tree, now())))
        })
    }

    fn watch(&self) -> Box<dyn Watcher> {
        Box::new(Silence)
    }
}

/// A watch that reports nothing.
struct Silence;

impl Watcher for Silence {
    fn changed(&mut self) -> Answer<'_, Result<Change, StoreError>> {
        Box::pin(std::future::pending())
    }
}

/// A guard that has no PostgreSQL, takes every call about leases, and starts nothing. It ends with the agent's socket.
fn guard() -> GuardClient {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    std::thread::spawn(move || answer(&theirs));
    GuardClient::new(ours)
}

fn answer(socket: &OwnedFd) {
    let mut buffer = [0u8; 4096];
    while let Ok((length @ 1.., _)) = recv(socket.as_fd(), &mut buffer[..], RecvFlags::empty()) {
        let message = Message::<GuardRequest>::decode(&buffer[..length]).unwrap();
        let body = match message.body {
            GuardRequest::Alive => continue,
            GuardRequest::Hello => Reply::State(Handover {
                pid: 0,
                may_write: false,
                term: None,
                lease: 0,
                deadline: BootTime(0),
            }),
            GuardRequest::Start(_) => Reply::Refused(WhyRefused::NotArmed),
            GuardRequest::Stop(_) => Reply::Refused(WhyRefused::NotRunning),
            _ => Reply::Ok { pid: 0 },
        };
        let reply = Message { id: message.id, body };
        if send(socket.as_fd(), &reply.encode(), SendFlags::NOSIGNAL).is_err() {
            return;
        }
    }
}

struct Shell {
    agent: Agent,
    store: Memory,
    published: Published,
    dir: tempfile::TempDir,
}

const CONFIG: &str = "
scope: c
name: a
restapi: {listen: '127.0.0.1:0', connect_address: '127.0.0.1:1'}
etcd3: {host: '127.0.0.1:1'}
postgresql:
  listen: '127.0.0.1:0'
  connect_address: '127.0.0.1:2'
  data_dir: DIR/data
  authentication: {superuser: {username: postgres, password: p}, replication: {username: r, password: p}}
";

impl Shell {
    /// An agent without a `bootstrap` section and without data: it can only wait.
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yml");
        std::fs::write(&path, CONFIG.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        let file = ConfigFile { path };
        let config = Arc::new(file.read().unwrap().0);
        let server = Server::new(&config).unwrap();
        let store = Memory {
            store: Arc::default(),
            down: Arc::default(),
            writes: Arc::default(),
            tree: KeyTree::new("service", &config.scope),
        };
        let wake = Wake::default();
        let client = Arc::new(guard());
        let guard = GuardLink::start(Arc::clone(&client), wake.clone()).unwrap();
        let view = store.read(now()).await.unwrap();
        let settings = configuration::first(&view, file, Arc::clone(&config), &server)
            .await
            .unwrap();
        let own = store.clone();
        let keeper = KeeperLink::start(
            Keeper::new(config.name.clone(), Duration::from_secs(30)),
            move || Box::new(own),
            client,
            guard.clone(),
            server.dir.clone(),
        )
        .unwrap();
        let (commands, api) = mpsc::channel(4);
        let watching = Watching::default();
        let published = Published::new(commands, watching.clone());
        let agent = Agent::new(Parts {
            settings,
            server,
            store: Arc::new(store.clone()),
            watching,
            published: published.clone(),
            api,
            api_settings: ApiSettings::new(&config).unwrap(),
            certificates: crate::certificates::Certificates::watched(Default::default(), wake.clone())
                .await
                .0,
            keeper,
            guard,
            wake,
            peers: Client::default(),
            log_lost: || 0,
        });
        let lease = |status: &crate::keeper::KeeperStatus| status.lease.is_some();
        assert!(
            agent
                .keeper
                .wait_for(lease, now() + Duration::from_secs(10))
                .await
        );
        Shell {
            agent,
            store,
            published,
            dir,
        }
    }

    fn reasons(&self) -> Vec<String> {
        let facts = self.published.facts().unwrap();
        facts.reasons.iter().map(ToString::to_string).collect()
    }

    fn records(&self) -> usize {
        let writes = self.store.writes.lock();
        writes
            .iter()
            .filter(|op| matches!(op, KeyOp::PutMember { .. }))
            .count()
    }
}

#[tokio::test]
async fn reasons_are_shown_until_the_next_decision() {
    let mut shell = Shell::start().await;
    shell.agent.turn().await;
    let decided = shell.reasons();
    assert!(!decided.is_empty());
    let (done, answered) = oneshot::channel();
    shell.agent.api_command(ApiCommand::Refresh(done)).await;
    answered.await.unwrap();
    assert_eq!(shell.reasons(), decided);
}

#[tokio::test]
async fn the_record_is_written_once_and_again_when_it_is_gone() {
    let mut shell = Shell::start().await;
    shell.agent.turn().await;
    shell.agent.turn().await;
    assert_eq!(shell.records(), 1);
    shell.store.store.lock().wipe();
    shell.agent.cluster.watching.disturb();
    shell.agent.turn().await;
    assert_eq!(shell.records(), 2);
}

#[tokio::test]
async fn a_refused_write_ends_the_plan_and_is_decided_upon_again_soon() {
    let mut shell = Shell::start().await;
    shell.agent.turn().await;
    let put = Effect::Put {
        document: Document::verbatim(Key::Sync, "{}".to_owned()),
        cond: Cond::Rev(99),
    };
    shell.agent.plan.next_wake = now() + Duration::from_secs(10);
    assert!(shell.agent.carry_out(put, &Arc::default()).await == Next::Stop);
    assert!(shell.agent.plan.next_wake < now() + Duration::from_secs(1));
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_down_and_what_it_said_is_kept() {
    let mut shell = Shell::start().await;
    shell.agent.turn().await;
    shell.store.down.store(true, Ordering::SeqCst);
    shell.agent.cluster.watching.disturb();
    shell.agent.turn().await;
    let since = shell.agent.cluster.down_since().unwrap();
    assert!(shell.agent.cluster.view.is_some() && shell.agent.cluster.is_known(Duration::from_secs(30)));
    assert!(!shell.agent.cluster.is_known(Duration::ZERO));
    let postgres = shell.agent.picture.clone().unwrap();
    assert_eq!(shell.agent.snapshot(None, postgres).dcs, Dcs::Down { since });
    shell.store.down.store(false, Ordering::SeqCst);
    shell.agent.turn().await;
    assert_eq!(shell.agent.cluster.down_since(), None);
}

#[tokio::test]
async fn a_wrong_file_changes_nothing() {
    let mut shell = Shell::start().await;
    let before = Arc::clone(&shell.agent.settings.local);
    let path = shell.dir.path().join("a.yml");
    for wrong in ["scope: [", "scope: c\nname: other"] {
        std::fs::write(&path, wrong).unwrap();
        shell.agent.reload().await;
        assert!(Arc::ptr_eq(&before, &shell.agent.settings.local));
    }
    let text = CONFIG.replace("DIR", shell.dir.path().to_str().unwrap());
    std::fs::write(
        &path,
        text.replace("name: a", "name: a\ntags: {nofailover: true}"),
    )
    .unwrap();
    shell.agent.reload().await;
    assert!(shell.agent.settings.local.tags.nofailover());
}

#[tokio::test]
async fn a_shutdown_answers_who_waits_and_ends_the_agent() {
    let mut shell = Shell::start().await;
    let (answer, mut answered) = oneshot::channel();
    shell.agent.ask(Request::Restart, answer);
    shell.agent.terminate();
    assert_eq!(
        answered.try_recv().unwrap(),
        Err("the agent is ending".to_owned())
    );
    shell.agent.turn().await;
    let ended = shell.agent.work.ended().await;
    shell.agent.action_ended(ended);
    assert_eq!(shell.agent.exit, Some(0));
}
