use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    ConfigError, Hooks, KeyReport, PostgresConfig, ReplicaMethod,
    known::dynamic_key_report,
    methods::{recovery_settings, replica_methods},
    places::NOWHERE,
    reader::Reader,
    slots::{PermanentSlot, SlotMatcher, ignored_slots, permanent_slots},
    standby::{StandbyCluster, standby_cluster},
    string_form,
};

/// The cluster-wide configuration (`config` in the store), read into types.
#[derive(Clone, Debug, PartialEq)]
pub struct Dynamic {
    /// The three timers, after Patroni's corrections.
    pub timers: Timers,
    /// A replica that is further behind than this does not take part in a race; bytes.
    pub maximum_lag_on_failover: u64,
    /// A synchronous standby that is further behind than this is replaced; bytes, `None` for never.
    pub maximum_lag_on_syncnode: Option<u64>,
    /// Rows kept in `history`; 0 for all.
    pub max_timelines_history: usize,
    /// How long a crashed primary may take to start before leadership is given away; zero: at once.
    pub primary_start_timeout: Duration,
    /// How long a primary of a synchronous cluster may take to stop in order; zero: as any other server.
    pub primary_stop_timeout: Duration,
    /// Whether commits wait for a standby.
    pub synchronous_mode: SyncMode,
    /// How many standbys confirm a commit; with fewer standbys, all of them.
    pub synchronous_nodes: u32,
    /// Any of the standbys may confirm it (`synchronous_mode: quorum`); a successor must have asked others.
    pub synchronous_quorum: bool,
    /// The cluster follows another one. Commits wait for no standby then.
    pub standby: Option<StandbyCluster>,
    /// A leader that does not reach the store goes on while all members agree.
    pub failsafe_mode: bool,
    /// A replica on an older timeline does not take part in a race.
    pub check_timeline: bool,
    /// How long the slot of a member that has gone is kept.
    pub member_slots_ttl: Duration,
    /// How long PostgreSQL stays down where leadership was handed over (`howdah.closed_after_handover`).
    pub closed_after_handover: Duration,
    /// Slots that exist on whoever leads, by name.
    pub permanent_slots: BTreeMap<String, PermanentSlot>,
    /// Names of permanent slots that say what cannot be: what has such a name is left alone.
    pub unreadable_slots: BTreeSet<String>,
    /// Slots that are left alone.
    pub ignore_slots: Vec<SlotMatcher>,
    /// Maintenance mode: nothing is started, stopped or failed over.
    pub pause: bool,
    /// Physical slots for members.
    pub use_slots: bool,
    /// Bring a diverged member back by pg_rewind.
    pub use_pg_rewind: bool,
    /// Copy again when pg_rewind fails.
    pub remove_data_directory_on_rewind_failure: bool,
    /// Copy again when timelines have diverged and pg_rewind cannot be used.
    pub remove_data_directory_on_diverged_timelines: bool,
    /// Parameters of PostgreSQL.
    pub parameters: BTreeMap<String, String>,
    /// Lines of `pg_hba.conf`.
    pub pg_hba: Option<Vec<String>>,
    /// Lines of `pg_ident.conf`.
    pub pg_ident: Option<Vec<String>>,
    /// How long PostgreSQL may take to stop in order before it is stopped at once.
    pub pg_ctl_timeout: Duration,
    /// Settings for recovery, of replicas.
    pub recovery_conf: BTreeMap<String, String>,
    /// Ways to make a replica, in the order in which they are tried.
    pub replica_methods: Vec<ReplicaMethod>,
    /// Programs of the user's that hear of events.
    pub hooks: Hooks,
    /// What was corrected or passed over.
    pub warnings: Vec<String>,
}

/// Timers of the leader lease and the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timers {
    /// Length of the leader lease.
    pub ttl: Duration,
    /// The longest time between two looks at the world.
    pub loop_wait: Duration,
    /// How long one operation on the store may be retried.
    pub retry_timeout: Duration,
    /// A lease shorter than Patroni's minimum, used while all members are Howdah's (`howdah.ttl`).
    pub short_ttl: Option<Duration>,
}

impl Timers {
    /// The length of the leader lease: the short one only while all members are Howdah's.
    #[must_use]
    pub fn lease(&self, all_ours: bool) -> Duration {
        self.short_ttl.filter(|_| all_ours).unwrap_or(self.ttl)
    }
}

impl Default for Timers {
    fn default() -> Self {
        Timers {
            ttl: Duration::from_secs(30),
            loop_wait: Duration::from_secs(10),
            retry_timeout: Duration::from_secs(10),
            short_ttl: None,
        }
    }
}

/// `synchronous_mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum SyncMode {
    /// Commits do not wait.
    #[default]
    Off,
    /// Commits wait for standbys, and go on without when no standby is there.
    On,
    /// Commits wait for standbys, also when no standby is there (`synchronous_mode_strict`).
    Strict,
}

impl Dynamic {
    /// How long a server may take to stop in order before it is stopped at once. Of a primary in synchronous mode
    /// `primary_stop_timeout` says it: what it has acknowledged is on a standby.
    #[must_use]
    pub fn stop_patience(&self, is_primary: bool) -> Duration {
        let of_primaries = !self.primary_stop_timeout.is_zero() && self.synchronous_mode != SyncMode::Off;
        if is_primary && of_primaries {
            self.primary_stop_timeout
        } else {
            self.pg_ctl_timeout
        }
    }
}

/// Reads a dynamic configuration; the local `postgresql` section wins where both may speak.
///
/// # Errors
/// A wrong value.
pub fn dynamic_from(config: &Map<String, Value>, local: &PostgresConfig) -> Result<Dynamic, ConfigError> {
    read(config, &local.parameters, &local.section)
}

/// Whether every member would take a dynamic configuration, as far as that depends on no member's own file.
///
/// # Errors
/// As [`dynamic_from`].
pub fn check_dynamic(config: &Map<String, Value>) -> Result<(), ConfigError> {
    read(config, &BTreeMap::new(), &Map::new()).map(|_| ())
}

fn read(
    config: &Map<String, Value>,
    local_parameters: &BTreeMap<String, String>,
    local_section: &Map<String, Value>,
) -> Result<Dynamic, ConfigError> {
    let root = Reader::root(config, &NOWHERE);
    let mut warnings = Vec::new();
    let KeyReport {
        not_acted_on,
        unknown,
    } = dynamic_key_report(config);
    if let Some(line) = (KeyReport {
        not_acted_on,
        unknown,
    })
    .warning()
    {
        warnings.push(line);
    }

    let mut section = root.section("postgresql")?.map();
    for excluded in [
        "connect_address",
        "proxy_address",
        "listen",
        "config_dir",
        "data_dir",
        "pgpass",
        "authentication",
    ] {
        section.shift_remove(excluded);
    }
    let use_slots = Reader::root(&section, &NOWHERE)
        .flag("use_slots")?
        .unwrap_or(true);
    let mut parameters = texts(&root.section("postgresql")?.section("parameters")?)?;
    for (name, value) in local_parameters {
        let name = name.to_ascii_lowercase();
        if howdah_pgconf::MANAGED.iter().any(|guc| guc.name == name) {
            warnings.push(format!(
                "postgresql.parameters.{name} is cluster-wide: set it with edit-config"
            ));
        } else {
            parameters.insert(name, value.clone());
        }
    }
    let managed = |name: &str| howdah_pgconf::MANAGED.iter().any(|guc| guc.name == name);
    for own in howdah_pgconf::AGENT_OWNED {
        if !managed(own) && parameters.remove(*own).is_some() {
            warnings.push(format!("postgresql.parameters.{own} is set by the agent"));
        }
    }
    // Before PostgreSQL 13 it was counted in segments.
    if let Some(segments) = parameters.remove("wal_keep_segments")
        && let Ok(segments) = segments.trim().parse::<u64>()
    {
        let size = format!("{}MB", segments.saturating_mul(16));
        parameters.entry("wal_keep_size".to_owned()).or_insert(size);
    }
    warnings.extend(howdah_pgconf::managed_values(&parameters).1);
    for (key, value) in local_section {
        if !matches!(key.as_str(), "use_slots" | "parameters") && !value.is_null() {
            section.insert(key.clone(), value.clone());
        }
    }
    let postgresql = Reader::root(&section, &NOWHERE);
    let flag = |key: &str| Ok::<_, ConfigError>(postgresql.flag(key)?.unwrap_or(false));

    let strict = root.flag("synchronous_mode_strict")?.unwrap_or(false);
    let synchronous_quorum = asks_for_quorum(&root);
    let standby = standby_cluster(&root, &postgresql)?;
    let synchronous = synchronous_quorum || synchronous_flag(&root)?;
    let synchronous_mode = match (synchronous && standby.is_none(), strict) {
        (false, _) => SyncMode::Off,
        (true, false) => SyncMode::On,
        (true, true) => SyncMode::Strict,
    };
    let start_timeout = match root.int("primary_start_timeout", "s")? {
        Some(seconds) => Some(seconds),
        None => root.int("master_start_timeout", "s")?,
    };
    let stop_timeout = match root.int("primary_stop_timeout", "s")? {
        Some(timeout) => Some(timeout),
        None => root.int("master_stop_timeout", "s")?,
    };
    let seconds = |value: Option<i64>, default: u64| Duration::from_secs(value.map_or(default, non_negative));
    let slots = permanent_slots(&root, &mut warnings)?;
    Ok(Dynamic {
        timers: timers(&root, &mut warnings)?,
        maximum_lag_on_failover: root
            .int("maximum_lag_on_failover", "B")?
            .map_or(1_048_576, non_negative),
        maximum_lag_on_syncnode: root
            .int("maximum_lag_on_syncnode", "B")?
            .filter(|lag| *lag > 0)
            .map(non_negative),
        max_timelines_history: usize::try_from(root.int("max_timelines_history", "")?.unwrap_or(0))
            .unwrap_or(0),
        primary_start_timeout: seconds(start_timeout, 300),
        primary_stop_timeout: seconds(stop_timeout, 0),
        synchronous_mode,
        synchronous_nodes: root
            .int("synchronous_node_count", "")?
            .map_or(1, |count| u32::try_from(count).unwrap_or(0).max(1)),
        synchronous_quorum,
        standby,
        failsafe_mode: root.flag("failsafe_mode")?.unwrap_or(false),
        check_timeline: root.flag("check_timeline")?.unwrap_or(false),
        closed_after_handover: closed_after_handover(&root)?,
        member_slots_ttl: seconds(root.int("member_slots_ttl", "s")?, 1800),
        permanent_slots: slots.permanent,
        unreadable_slots: slots.unreadable,
        ignore_slots: ignored_slots(&root, &mut warnings),
        pause: root.flag("pause")?.unwrap_or(false),
        use_slots,
        use_pg_rewind: flag("use_pg_rewind")?,
        remove_data_directory_on_rewind_failure: flag("remove_data_directory_on_rewind_failure")?,
        remove_data_directory_on_diverged_timelines: flag("remove_data_directory_on_diverged_timelines")?,
        parameters,
        pg_hba: hba_lines(&postgresql)?,
        pg_ident: postgresql.lines("pg_ident")?,
        pg_ctl_timeout: seconds(
            postgresql.int("pg_ctl_timeout", "s")?.filter(|value| *value > 0),
            60,
        ),
        recovery_conf: recovery_settings(&postgresql.section("recovery_conf")?)?,
        replica_methods: replica_methods(&postgresql)?,
        hooks: Hooks::read(&postgresql)?,
        warnings,
    })
}

/// Longer than any load balancer takes to notice; while it lasts the cluster has one replica less.
const CLOSED_AT_MOST: i64 = 60;

fn closed_after_handover(root: &Reader<'_>) -> Result<Duration, ConfigError> {
    let howdah = root.section("howdah")?;
    match howdah.int("closed_after_handover", "s")? {
        Some(value) if !(0..=CLOSED_AT_MOST).contains(&value) => Err(howdah.error(
            "closed_after_handover",
            &format!("must be between 0 and {CLOSED_AT_MOST} seconds"),
        )),
        value => Ok(Duration::from_secs(value.map_or(0, non_negative))),
    }
}

fn non_negative(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn synchronous_flag(root: &Reader<'_>) -> Result<bool, ConfigError> {
    let flag = root.flag("synchronous_mode");
    let told = flag.map_err(|_| root.error("synchronous_mode", "must be true, false or quorum"))?;
    Ok(told.unwrap_or(false))
}

/// `synchronous_mode: quorum`
fn asks_for_quorum(root: &Reader<'_>) -> bool {
    let mode = root.text("synchronous_mode").ok().flatten();
    mode.is_some_and(|mode| mode.eq_ignore_ascii_case("quorum"))
}

/// Parameters, by their names in lower case: PostgreSQL does not tell the cases apart.
fn texts(section: &Reader<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    section
        .map()
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| match &value {
            Value::Object(_) | Value::Array(_) => Err(section.error(&key, "must be a single value")),
            _ => Ok((key.to_ascii_lowercase(), string_form(&value))),
        })
        .collect()
}

/// `pg_hba`, each line of which PostgreSQL can read.
fn hba_lines(postgresql: &Reader<'_>) -> Result<Option<Vec<String>>, ConfigError> {
    if let Some(items) = postgresql.value("pg_hba").and_then(Value::as_array)
        && let Some(item) = items.iter().find(|item| !item.is_string())
    {
        return Err(postgresql.error("pg_hba", &format!("{item} is no line")));
    }
    let lines = postgresql.lines("pg_hba")?;
    let errors = howdah_pgconf::hba_errors(lines.as_deref().unwrap_or_default());
    match errors.first() {
        Some((number, reason)) => Err(postgresql.error("pg_hba", &format!("line {number}: {reason}"))),
        None => Ok(lines),
    }
}

/// A longer lease, in seconds, is a mistake: for this long no member would take over after a node died.
const LONGEST_LEASE: i64 = 3600;

/// Reads the timers and corrects them as Patroni does: minima first, then `loop_wait + 2*retry_timeout <= ttl`.
fn timers(root: &Reader<'_>, warnings: &mut Vec<String>) -> Result<Timers, ConfigError> {
    let mut at_least = |key: &str, default: i64, min: i64| -> Result<i64, ConfigError> {
        let value = root.int(key, "s")?.unwrap_or(default);
        if value < min {
            warnings.push(format!("{key}={value} is below the minimum: {min} is used"));
        }
        Ok(value.max(min))
    };
    let ttl = at_least("ttl", 30, 20)?;
    if ttl > LONGEST_LEASE {
        return Err(root.error("ttl", &format!("must be at most {LONGEST_LEASE} seconds")));
    }
    let mut loop_wait = at_least("loop_wait", 10, 1)?;
    let mut retry_timeout = at_least("retry_timeout", 10, 3)?;
    let both = retry_timeout.saturating_mul(2);
    if both.saturating_add(1) > ttl {
        loop_wait = 1;
        retry_timeout = (ttl - 1) / 2;
        warnings.push(format!(
            "ttl={ttl} is too short for these timers: loop_wait=1, retry_timeout={retry_timeout}"
        ));
    } else if both.saturating_add(loop_wait) > ttl {
        loop_wait = ttl - both;
        warnings.push(format!(
            "loop_wait + 2*retry_timeout is longer than ttl={ttl}: loop_wait={loop_wait}"
        ));
    }
    let howdah = root.section("howdah")?;
    let short = match howdah.int("ttl", "s")? {
        Some(value) if value < 5 => return Err(howdah.error("ttl", "must be at least 5 seconds")),
        other => other.filter(|value| *value < ttl),
    };
    let seconds = |value: i64| Duration::from_secs(non_negative(value));
    Ok(Timers {
        ttl: seconds(ttl),
        loop_wait: seconds(loop_wait),
        retry_timeout: seconds(retry_timeout),
        short_ttl: short.map(seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Places;
    use crate::{LocalConfig, Source, load};
    use serde_json::json;

    fn local(text: &str) -> LocalConfig {
        let config = load(&[Source {
            file: "a.yml".into(),
            text: text.into(),
        }])
        .unwrap();
        LocalConfig::from_value(&config, &Places::default(), std::path::Path::new("/w")).unwrap()
    }

    const LOCAL: &str = "name: a\nscope: b\nrestapi: {listen: '127.0.0.1:8008'}\netcd3: {host: 'h:1'}\n\
        postgresql:\n  listen: 127.0.0.1:5432\n  data_dir: data/a\n  authentication: {replication: {username: r}}\n  \
        parameters: {work_mem: 8MB, max_connections: 10, port: 1}\n";

    fn dynamic(value: Value) -> Result<Dynamic, ConfigError> {
        dynamic_from(value.as_object().unwrap(), &local(LOCAL).postgresql)
    }

    #[test]
    fn the_patience_with_a_primary_that_stops_is_of_synchronous_mode() {
        let patience = |config: Value| dynamic(config).unwrap().stop_patience(true).as_secs();
        assert_eq!(patience(json!({"primary_stop_timeout": 7})), 60);
        assert_eq!(
            patience(json!({"primary_stop_timeout": 7, "synchronous_mode": true})),
            7
        );
        assert_eq!(
            patience(json!({"master_stop_timeout": "1min", "synchronous_mode": "quorum"})),
            60
        );
        assert_eq!(
            patience(json!({"primary_stop_timeout": 0, "synchronous_mode": true})),
            60
        );
        let replica = dynamic(json!({"primary_stop_timeout": 7, "synchronous_mode": true})).unwrap();
        assert_eq!(replica.stop_patience(false).as_secs(), 60);
    }

    #[test]
    fn timers_are_corrected_as_patroni_does() {
        let of = |value| {
            let timers = dynamic(value).unwrap().timers;
            (
                timers.ttl.as_secs(),
                timers.loop_wait.as_secs(),
                timers.retry_timeout.as_secs(),
            )
        };
        assert_eq!(of(json!({})), (30, 10, 10));
        assert_eq!(
            of(json!({"ttl": 10, "loop_wait": 5, "retry_timeout": 5})),
            (20, 5, 5)
        );
        assert_eq!(
            of(json!({"ttl": 30, "loop_wait": 15, "retry_timeout": 10})),
            (30, 10, 10)
        );
        assert_eq!(of(json!({"ttl": 20, "retry_timeout": 15})), (20, 1, 9));
        // Sums beyond 64 bits are as much too long as any other.
        assert_eq!(of(json!({"loop_wait": i64::MAX})), (30, 10, 10));
        assert_eq!(of(json!({"retry_timeout": i64::MAX})), (30, 1, 14));
    }

    #[test]
    fn local_parameters_win_except_the_cluster_wide_ones() {
        let config =
            dynamic(json!({"postgresql": {"parameters": {"work_mem": "4MB", "max_connections": 50}}}))
                .unwrap();
        assert_eq!(config.parameters["work_mem"], "8MB");
        assert_eq!(config.parameters["max_connections"], "50");
        assert!(!config.parameters.contains_key("port"));
        assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    }

    #[test]
    fn a_cluster_that_follows_another_one() {
        let of = |section: Value| dynamic(json!({"standby_cluster": section, "synchronous_mode": true}));
        let follows =
            of(json!({"host": "a,b", "primary_slot_name": "s", "restore_command": "cp %f %p"})).unwrap();
        assert_eq!(follows.synchronous_mode, SyncMode::Off);
        let standby = follows.standby.unwrap();
        assert_eq!((standby.host.as_deref(), standby.port), (Some("a,b"), 5432));
        assert_eq!(standby.slot.as_deref(), Some("s"));
        assert_eq!(standby.recovery["restore_command"], "cp %f %p");
        let archive = of(json!({"restore_command": "cp %f %p"}))
            .unwrap()
            .standby
            .unwrap();
        assert_eq!(archive.host, None);
        for none in [
            json!({"host": null}),
            json!({"primary_slot_name": "s"}),
            Value::Null,
        ] {
            let config = of(none.clone()).unwrap();
            assert_eq!(
                (config.standby, config.synchronous_mode),
                (None, SyncMode::On),
                "{none}"
            );
        }
        assert!(of(json!({"host": "a", "port": 0})).is_err());
        assert!(of(json!({"host": "a", "port": "x"})).is_err());
    }

    #[test]
    fn quorum_is_a_synchronous_mode() {
        let quorum = dynamic(json!({"synchronous_mode": "quorum", "synchronous_node_count": 2})).unwrap();
        assert_eq!(quorum.synchronous_mode, SyncMode::On);
        assert_eq!((quorum.synchronous_quorum, quorum.synchronous_nodes), (true, 2));
        let error = dynamic(json!({"synchronous_mode": "sometimes"})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "synchronous_mode: must be true, false or quorum"
        );
    }

    #[test]
    fn what_cannot_be_done_safely_is_refused() {
        let error = dynamic(json!({"ttl": "soon"})).unwrap_err().to_string();
        assert_eq!(error, "ttl: must be a number");
        assert!(dynamic(json!({"failsafe_mode": "often"})).is_err());
        for ttl in [json!(3601), json!(1e12), json!(1e30)] {
            assert!(dynamic(json!({ "ttl": ttl })).is_err(), "{ttl}");
        }
    }

    #[test]
    fn what_would_keep_every_member_from_starting_is_refused() {
        for (postgresql, path) in [
            (json!({"pg_hba": [1, 2, {"a": 1}]}), "pg_hba"),
            (json!({"pg_hba": ["host all all 127.0.0.1/33 md5"]}), "pg_hba"),
            (json!({"parameters": "x"}), "postgresql.parameters"),
            (json!({"parameters": {"work_mem": {"a": 1}}}), "work_mem"),
        ] {
            let error = dynamic(json!({ "postgresql": postgresql }))
                .unwrap_err()
                .to_string();
            assert!(error.contains(path), "{error}");
        }
    }

    #[test]
    fn names_are_folded_and_places_are_the_agents() {
        let config = dynamic(json!({"postgresql": {"parameters": {
            "MAX_WORKER_PROCESSES": 20, "data_directory": "/x", "Hba_File": "/y", "wal_keep_segments": 8,
            "max_connections": -5,
        }}}))
        .unwrap();
        assert_eq!(config.parameters["max_worker_processes"], "20");
        assert_eq!(config.parameters["wal_keep_size"], "128MB");
        assert!(
            !config.parameters.contains_key("data_directory") && !config.parameters.contains_key("hba_file")
        );
        let warned = config.warnings.join("; ");
        for part in ["data_directory", "hba_file", "max_connections cannot be '-5'"] {
            assert!(warned.contains(part), "{warned}");
        }
    }

    #[test]
    fn relative_paths_and_errors_with_lines() {
        assert_eq!(
            local(LOCAL).postgresql.data_dir,
            std::path::Path::new("/w/data/a")
        );
        let text = LOCAL.replace("127.0.0.1:5432", "':5432'");
        let sources = [Source {
            file: "a.yml".into(),
            text,
        }];
        let config = load(&sources).unwrap();
        let places = Places::of(&sources, &Map::new());
        let error = LocalConfig::from_value(&config, &places, std::path::Path::new("/w")).unwrap_err();
        assert!(
            error.to_string().starts_with("postgresql.listen (line 6): "),
            "{error}"
        );
    }

    #[test]
    fn the_v2_store_is_refused_with_the_way_out() {
        let text = LOCAL.replace("etcd3:", "etcd:");
        let sources = [Source {
            file: "a.yml".into(),
            text,
        }];
        let config = load(&sources).unwrap();
        let places = Places::of(&sources, &Map::new());
        let error = LocalConfig::from_value(&config, &places, std::path::Path::new("/w"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("rename the section to 'etcd3:'") && error.contains("line 4"),
            "{error}"
        );
    }
}
