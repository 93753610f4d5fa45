//! Putting an agent together.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_config::LocalConfig;
use howdah_dcs::{LeaseId, Member, Store, StoreError, Term, View};
use howdah_guard::{GuardClient, Handover, Request};
use howdah_ha::{Keeper, Memory, Plan, Promise};
use howdah_http::{Client, Method, Url, sleep_until};
use howdah_postgres::Server;
use howdah_stores::Stores;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    agent::{Agent, Signals},
    api::{self, ApiSettings},
    archiver::Archiver,
    certificates::{Certificates, Files},
    cluster::ClusterState,
    configuration::{self, Configuration},
    failsafe,
    gather::Observer,
    guard_link::GuardLink,
    keeper::KeeperLink,
    known_members::{self, KnownMembers},
    logical_slots::LogicalSlots,
    note::Note,
    pending::Pending,
    probe::Prober,
    publish::{ApiCommand, Published},
    repeated::Repeated,
    replication::Replication,
    request::Asked,
    schedule::Schedule,
    setup::{ConfigFile, peer_client},
    voice::Voice,
    wake::Wake,
    watching::Watching,
    work::Work,
};

/// Commands of the API that wait: callers beyond that are asked to try again.
const API_COMMANDS: usize = 16;

/// Runs the agent in a process that the guard has started. Returns the exit code.
///
/// # Errors
/// What is needed to begin is missing; nothing was started then.
pub fn run(file: ConfigFile, log_lost: fn() -> u64) -> anyhow::Result<u8> {
    now().show_as(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0));
    let (config, warning) = file.read()?;
    if let Some(warning) = warning {
        tracing::warn!("Configuration: {warning}.");
    }
    let socket = howdah_guard::take_descriptor().context("this command is started by the guard only")?;
    let guard = Arc::new(GuardClient::new(socket));
    let server = Server::new(&config)?;
    tracing::info!(version = %server.programs.version, "Found PostgreSQL.");

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // DNS only; each thread counts.
        .max_blocking_threads(1)
        .build()?;
    let client = Arc::clone(&guard);
    let code = runtime.block_on(begin(file, config, server, client, log_lost));
    let exit = match &code {
        Ok(code) => *code,
        Err(_) => 1,
    };
    // The guard ends with this code, after PostgreSQL. A guard that has died does not hear it.
    let _ = guard.send(Request::Exit { code: exit }, &[]);
    code
}

async fn begin(
    file: ConfigFile,
    config: LocalConfig,
    server: Server,
    guard: Arc<GuardClient>,
    log_lost: fn() -> u64,
) -> anyhow::Result<u8> {
    let wake = Wake::default();
    let link = GuardLink::start(Arc::clone(&guard), wake.clone())?;
    let handover = link
        .hello(now() + Duration::from_secs(5))
        .await
        .context("greeting the guard")?;
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    };
    let stores = Stores::of(
        &config.store,
        &config.namespace,
        &config.scope,
        Some(&config.name),
    )?;
    let store: Arc<dyn Store> = Arc::from(stores.open());
    let Some(view) = first_view(store.as_ref(), &guard, &mut signals).await? else {
        return Ok(0);
    };
    let peers = peer_client(&config)?;
    if handover.pid == 0 && !wait_for_other_life(&config, &view, &peers, &guard, &mut signals).await? {
        return Ok(0);
    }
    let config = Arc::new(config);
    let settings = configuration::first(&view, file, Arc::clone(&config), &server).await?;
    let dynamic = Arc::clone(&settings.dynamic);
    for warning in &dynamic.warnings {
        tracing::warn!("Configuration: {warning}.");
    }
    let ttl = dynamic.timers.lease(view.all_ours());
    let keeper = Keeper::new(config.name.clone(), ttl).bound_by(kept_promise(&server));
    let mine = view
        .members
        .get(&config.name)
        .and_then(|member| member.howdah.as_ref());
    let left = mine.and_then(|mark| mark.lease_ms).map(Duration::from_millis);
    let keeper = adopted(keeper, &handover).granted_with(left);
    let for_keeper = stores.clone().with_leases_of(left);
    let data_dir = server.dir.clone();
    let keeper = KeeperLink::start(keeper, move || for_keeper.open(), guard, link.clone(), data_dir)?;

    let (commands, api_commands) = mpsc::channel(API_COMMANDS);
    let watching = Watching::default();
    let published = Published::new(commands, watching.clone());
    let files = Files::of(&settings.local, &dynamic);
    let (certificates, look) = Certificates::watched(files, wake.clone()).await;
    let api = api::start(
        Arc::clone(&config),
        server.clone(),
        stores.open(),
        published.clone(),
        wake.clone(),
        keeper.clone(),
    )
    .await?;
    let watch = tokio::spawn(watching.clone().run(store.watch(), wake.clone()));
    let look = tokio::spawn(look);
    let archiver = Archiver::start(
        config.archive.as_ref(),
        server.dir.path().to_owned(),
        keeper.clone(),
        published.clone(),
    );
    let mut agent = Agent::new(Parts {
        settings,
        server,
        store,
        watching,
        published,
        api: api_commands,
        api_settings: api.settings(),
        certificates,
        keeper,
        guard: link,
        wake,
        peers,
        log_lost,
    });
    agent.adopt(&handover).await;
    let code = agent.run(signals).await;
    drop(archiver);
    watch.abort();
    look.abort();
    api.stop();
    Ok(code)
}

/// What an agent is put together from.
pub(crate) struct Parts {
    pub(crate) settings: Configuration,
    pub(crate) server: Server,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) watching: Watching,
    pub(crate) published: Published,
    pub(crate) api: mpsc::Receiver<ApiCommand>,
    pub(crate) api_settings: ApiSettings,
    pub(crate) certificates: Certificates,
    pub(crate) keeper: KeeperLink,
    pub(crate) guard: GuardLink,
    pub(crate) wake: Wake,
    pub(crate) peers: Client,
    /// Lines that the log could not take.
    pub(crate) log_lost: fn() -> u64,
}

impl Agent {
    /// An agent that has looked at nothing yet.
    pub(crate) fn new(parts: Parts) -> Self {
        let memory = Memory {
            known: known_members::kept(&parts.server),
            ..Memory::default()
        };
        let scope = parts.settings.local.scope.clone();
        Agent {
            watchdog: crate::watchdog::Told::default(),
            settings: parts.settings,
            server: parts.server,
            cluster: ClusterState::new(parts.store, parts.watching),
            observer: Observer::default(),
            picture: None,
            next_look: now(),
            prober: Prober::new(parts.peers.clone(), scope, parts.wake.clone()),
            peer_client: parts.peers,
            known_members: KnownMembers::default(),
            plan: Plan {
                memory,
                ..Plan::default()
            },
            due: true,
            verify_lease: false,
            keeper: parts.keeper,
            keeper_paused: false,
            guard: parts.guard,
            guard_trouble: Repeated::default(),
            work: Work::default(),
            replication: Replication::default(),
            logical_slots: LogicalSlots::default(),
            asked: Asked::default(),
            schedule: Schedule::default(),
            pending: Pending::default(),
            voice: Voice::new(parts.published, parts.log_lost),
            wake: parts.wake,
            api: parts.api,
            api_settings: parts.api_settings,
            certificates: parts.certificates,
            exit: None,
        }
    }
}

/// Goes on with the leadership that the guard has kept armed.
fn adopted(keeper: Keeper, handover: &Handover) -> Keeper {
    match handover.term {
        Some(term) => {
            tracing::info!(term, deadline = %handover.deadline, "The guard hands the leadership over.");
            keeper.adopt(Term(term), LeaseId(handover.lease), handover.deadline)
        }
        None => keeper,
    }
}

/// What the last life of this agent has promised a leader, in failsafe mode.
fn kept_promise(server: &Server) -> Option<Promise> {
    let lines = Note::promise(server).all_lines();
    let kept = lines.iter().filter_map(|line| failsafe::from_text(line, now()));
    let promise = kept.max_by_key(|promise| promise.until)?;
    let (leader, until) = (&promise.leader, promise.until);
    tracing::info!("Failsafe mode: {leader} was promised that this member does not lead before {until}.");
    Some(promise)
}

/// Waits for the store; tries every second and says so once in a while. `None`: told to end.
async fn first_view(
    store: &dyn Store,
    guard: &GuardClient,
    signals: &mut Signals,
) -> anyhow::Result<Option<View>> {
    let mut tries = 0u32;
    loop {
        let _ = guard.send(Request::Alive, &[]);
        match store.read(now() + Duration::from_secs(3)).await {
            Ok(view) => return Ok(Some(view)),
            Err(StoreError::Auth(reason)) => anyhow::bail!("the store refuses our credentials: {reason}"),
            Err(error) if tries.is_multiple_of(10) => tracing::warn!("Waiting for the store: {error}."),
            Err(_) => {}
        }
        tries += 1;
        tokio::select! {
            biased;
            _ = signals.terminate.recv() => return Ok(None),
            _ = signals.interrupt.recv() => return Ok(None),
            () = sleep_until(now() + Duration::from_secs(1)) => {}
        }
    }
}

/// How long another life of this member is waited for: a pod is started while the old one still ends.
const OTHER_LIFE: Duration = Duration::from_secs(30);

/// Two agents of one name would take turns at one record: this one waits until the other has ended. False: told to end.
async fn wait_for_other_life(
    config: &LocalConfig,
    view: &View,
    client: &Client,
    guard: &GuardClient,
    signals: &mut Signals,
) -> anyhow::Result<bool> {
    let Some(base) = view.members.get(&config.name).and_then(Member::api_base) else {
        return Ok(true);
    };
    let url = Url::parse(&format!("{base}/liveness"))?;
    let limit = now() + OTHER_LIFE;
    let mut told = false;
    loop {
        let _ = guard.send(Request::Alive, &[]);
        let answer = client
            .request(Method::GET, &url, None, now() + Duration::from_secs(3))
            .await;
        if answer.is_err() {
            return Ok(true);
        }
        anyhow::ensure!(
            now() < limit,
            "a member named '{}' is already running at {base}: give this one another name",
            config.name
        );
        if !told {
            told = true;
            tracing::warn!(
                "Another agent named '{}' answers at {base}: waiting for its end.",
                config.name
            );
        }
        tokio::select! {
            biased;
            _ = signals.terminate.recv() => return Ok(false),
            _ = signals.interrupt.recv() => return Ok(false),
            () = sleep_until(now() + Duration::from_millis(250)) => {}
        }
    }
}
