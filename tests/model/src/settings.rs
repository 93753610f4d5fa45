use howdah_config::{Dynamic, LocalConfig, Places, Source, WatchdogConfig, dynamic_from, load};
use howdah_guard::Watchdog;
use serde_json::json;

/// Steps of time in a second.
pub(crate) const TICKS: u64 = 2;

/// For whom commits wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Not at all.
    Off,
    /// One standby.
    One,
    /// Both standbys, where both are there.
    Both,
    /// Any of the standbys.
    Quorum,
}

impl Sync {
    /// They wait.
    #[must_use]
    pub fn is_on(self) -> bool {
        self != Sync::Off
    }
}

/// Which faults the environment may choose.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Answers of the store are lost, requests are dropped, or carried out late.
    pub network: bool,
    /// Members are cut off from the store and from each other.
    pub partitions: bool,
    /// PostgreSQL, agents and whole nodes die.
    pub deaths: bool,
    /// Agents freeze between a decision and its effect, or between a request and its answer.
    pub freezes: bool,
    /// A user requests a switchover, a replica's WAL receiver reconnects. These are no faults: while there are no others,
    /// nothing may be lost in any mode.
    pub requests: bool,
    /// Members are told to end and are back soon; all WAL receivers reconnect at once. No faults either.
    pub ends: bool,
    /// Agent and guard freeze together: covered in asynchronous mode only by a watchdog device.
    pub both_freeze: bool,
    /// The guard alone freezes.
    pub guards: bool,
    /// The store forgets everything.
    pub wipes: bool,
    /// All nodes lose power at once.
    pub power: bool,
    /// A server dies and can never be started again, or hangs.
    pub broken: bool,
    /// A checkpointer does not read changed settings for a while.
    pub checkpointers: bool,
    /// A process that sends WAL does not read changed settings for a while.
    pub senders: bool,
    /// Members do not reach the store, and reach each other.
    pub store_out: bool,
    /// Maintenance mode. A primary that is cut off is not fenced in it, so from then on no node is cut off or dies as a whole.
    pub pause: bool,
}

impl Faults {
    /// Only what users and operators do in order: switchovers, restarts, members that end and come back, WAL receivers that
    /// reconnect. Nothing may be lost by that in any mode.
    #[must_use]
    pub fn of_requests() -> Self {
        Faults {
            requests: true,
            ends: true,
            partitions: false,
            checkpointers: false,
            ..Faults::of_commits()
        }
    }

    /// Only what promises of the failsafe mode rest on: the store is out of reach, processes die, agents freeze.
    #[must_use]
    pub fn of_promises() -> Self {
        Faults {
            partitions: false,
            deaths: true,
            freezes: true,
            checkpointers: false,
            store_out: true,
            ..Faults::of_commits()
        }
    }

    /// Only what decides whether a commit waits for a standby that is there: a checkpointer that reads no settings, and
    /// members that are cut off. Few enough that every placement of two is quickly tried.
    #[must_use]
    pub fn of_commits() -> Self {
        Faults {
            network: false,
            partitions: true,
            deaths: false,
            freezes: false,
            requests: false,
            ends: false,
            both_freeze: false,
            guards: false,
            wipes: false,
            power: false,
            broken: false,
            checkpointers: true,
            senders: false,
            store_out: false,
            pause: false,
        }
    }
}

/// What is fixed in one world.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's configuration.
    pub(crate) dynamic: Dynamic,
    /// The store is Kubernetes, not etcd.
    pub(crate) kubernetes: bool,
    /// The cluster does not exist yet.
    pub bootstrap: bool,
    /// Every machine has a watchdog device.
    pub(crate) watchdog: Option<Watchdog>,
    watchdog_config: WatchdogConfig,
    /// What the environment may do.
    pub faults: Faults,
    /// How often it may do something.
    pub budget: u8,
    /// From this tick on it does nothing more.
    pub calm_after: u64,
    /// The world ends at this tick.
    pub end: u64,
    /// The guard kills an agent that is silent for so many seconds.
    pub hang_after: u64,
    /// Commits in all; the log of a world that is explored exhaustively must stay short.
    pub commits: usize,
    /// A client commits every so many ticks.
    pub commit_every: u64,
}

impl Settings {
    /// The same in failsafe mode, in a world in which the store is out of reach at times.
    #[must_use]
    pub fn in_failsafe_mode(mut self) -> Self {
        self.dynamic.failsafe_mode = true;
        self.faults.store_out = true;
        self
    }

    /// The same on machines with a watchdog device, as it is used without a word of configuration.
    #[must_use]
    pub fn with_watchdogs(mut self) -> Self {
        self.watchdog = Some(Watchdog {
            margin: self.watchdog_config.safety_margin,
            required: false,
            testing: false,
        });
        self
    }

    /// A cluster with a lease of six seconds; `kubernetes`: in a store that ends no leases.
    ///
    /// # Errors
    /// The built-in configuration is wrong, which a test would show.
    pub fn new(sync: Sync, kubernetes: bool) -> anyhow::Result<Self> {
        let text = "name: a\nscope: s\nrestapi: {listen: '127.0.0.1:1'}\netcd3: {host: 'h:1'}\npostgresql:\n  \
            listen: 127.0.0.1:1\n  data_dir: /d\n  authentication: {replication: {username: r}}\n";
        let config = load(&[Source {
            file: "model".into(),
            text: text.into(),
        }])?;
        let local = LocalConfig::from_value(&config, &Places::default(), std::path::Path::new("/"))?;
        let (mode, nodes) = match sync {
            Sync::Off => (json!(false), 1),
            Sync::One => (json!(true), 1),
            Sync::Both => (json!(true), 2),
            Sync::Quorum => (json!("quorum"), 1),
        };
        let dynamic = json!({"synchronous_mode": mode, "synchronous_node_count": nodes, "loop_wait": 2, "howdah": {"ttl": 6},
            "postgresql": {"use_slots": false}});
        let dynamic = dynamic_from(
            &dynamic.as_object().cloned().unwrap_or_default(),
            &local.postgresql,
        )?;
        Ok(Settings {
            dynamic,
            kubernetes,
            bootstrap: false,
            watchdog: None,
            watchdog_config: local.watchdog.clone(),
            faults: Faults {
                network: true,
                partitions: true,
                deaths: true,
                freezes: true,
                requests: true,
                ends: true,
                both_freeze: false,
                guards: true,
                wipes: true,
                power: true,
                broken: true,
                checkpointers: sync.is_on(),
                senders: matches!(sync, Sync::Quorum | Sync::Both),
                store_out: false,
                pause: true,
            },
            budget: 1,
            calm_after: 18,
            end: 76,
            hang_after: 60,
            commits: 8,
            commit_every: 4,
        })
    }
}
