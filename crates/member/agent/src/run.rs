//! Putting an agent together.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_config::LocalConfig;
use howdah_dcs::{LeaseId, Member, Store, StoreError, Term, View};
use howdah_guard::{GuardClient, Handover, Request};
use howdah_ha::{Keeper, Memory, Plan};
use howdah_http::{Client, Method, Url, sleep_until};
use howdah_postgres::Server;
use howdah_stores::Stores;
use howdah_types::Role;
use serde_json::Map;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::{
    agent::{Agent, Signals},
    api, configuration,
    gather::Observer,
    guard_link::GuardLink,
    keeper::KeeperLink,
    member::Publisher,
    pending::Loaded,
    probe::Prober,
    publish::Published,
    repeated::Repeated,
    setup::{ConfigFile, peer_client},
    wake::Wake,
    watching::Watching,
};

/// Commands of the API that wait: more at a time are told to come again.
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
    let bootstrap = config.bootstrap.as_ref().map(|b| &b.dcs);
    let (configuration, dynamic) = configuration::first(&view, bootstrap, &server).await?;
    for warning in &dynamic.warnings {
        tracing::warn!("Configuration: {warning}.");
    }
    let ttl = dynamic.timers.lease(view.all_ours());
    let keeper = adopted(Keeper::new(config.name.clone(), ttl), &handover);
    let for_keeper = stores.clone();
    let data_dir = server.dir.clone();
    let keeper = KeeperLink::start(keeper, move || for_keeper.open(), guard, link.clone(), data_dir)?;

    let (commands, api_commands) = mpsc::channel(API_COMMANDS);
    let watching = Watching::default();
    let published = Published::new(commands, watching.clone());
    let config = Arc::new(config);
    let api = api::start(
        Arc::clone(&config),
        server.clone(),
        stores.open(),
        published.clone(),
        wake.clone(),
    )
    .await?;
    let watch = tokio::spawn(watching.clone().run(store.watch(), wake.clone()));
    let (action_done, action_results) = mpsc::channel(2);
    let (stage, _) = watch::channel(None);
    let mut agent = Agent {
        file,
        server,
        dynamic: Arc::new(dynamic),
        configuration,
        starting_with: None,
        keeper_paused: false,
        store,
        watching,
        read_at: now(),
        due: true,
        verify_lease: false,
        last_plan: Plan::default(),
        picture: None,
        keeper,
        guard: link,
        prober: Prober::new(peers.clone(), wake.clone()),
        wake,
        peer_client: peers,
        published,
        api_settings: api.settings(),
        api: api_commands,
        observer: Observer::default(),
        memory: Memory::default(),
        running: None,
        action_task: None,
        action_done,
        action_results,
        stage,
        upstream: None,
        sync_names: None,
        request: None,
        pending: Map::new(),
        check_pending: true,
        file_errors: Vec::new(),
        store_trouble: Repeated::default(),
        guard_trouble: Repeated::default(),
        sync_trouble: Repeated::default(),
        slot_trouble: Repeated::default(),
        next_proof: now(),
        scheduled: None,
        recalled: false,
        loaded: Loaded::default(),
        publisher: Publisher::default(),
        store_down_since: None,
        last_view: None,
        seen_at: 0,
        next_look: now(),
        last_sentence: String::new(),
        last_role: Role::Uninitialized,
        callback: None,
        exit: None,
        log_lost,
        config,
    };
    agent.adopt(&handover).await;
    let code = agent.run(signals).await;
    watch.abort();
    api.stop();
    Ok(code)
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
