use std::{net::IpAddr, path::PathBuf};

use howdah_config::patch;
use howdah_pgconf::{Wrong, parameter_error};
use serde_json::{Map, Value, json};

use crate::{
    Certificates, Choice, Environment, Facts, SpiloError,
    archive::{Archive, Whose, archive},
    choose, defaults, hba, libraries, objects, origin, store, variables,
};

/// The agent's configuration, and how it differs from what was asked for.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `patroni.yml` as a mapping.
    pub config: Map<String, Value>,
    /// The PostgreSQL that runs.
    pub choice: Choice,
    /// How the member differs from what the user asked for, each a sentence.
    pub notes: Vec<String>,
    /// What the image's own defaults ask for and this machine lacks.
    pub machine: Vec<String>,
    /// Files of the log that must be there, if only empty.
    pub log_files: Vec<PathBuf>,
    /// Files that the configuration names and that hold passwords: paths and contents.
    pub files: Vec<(PathBuf, String)>,
    /// Directories of which nothing but these files may remain.
    pub directories: Vec<PathBuf>,
}

/// Where a difference is noted: by who asked for the thing.
#[derive(Default)]
struct Notes {
    asked: Vec<String>,
    machine: Vec<String>,
}

impl Notes {
    fn of(&mut self, by_user: bool) -> &mut Vec<String> {
        if by_user {
            &mut self.asked
        } else {
            &mut self.machine
        }
    }
}

/// Makes the agent's configuration from a container's environment.
///
/// # Errors
/// See [`SpiloError`].
pub fn configure(env: &Environment, facts: &Facts) -> Result<Outcome, SpiloError> {
    let mut notes = Notes {
        asked: variables::not_acted_on(env)?,
        machine: Vec::new(),
    };
    let wanted = match env.get("PGVERSION") {
        None => None,
        Some(text) => Some(text.parse::<u32>().map_err(|_| SpiloError::Bad {
            name: "PGVERSION".into(),
            reason: format!("'{text}' is not a major version"),
        })?),
    };
    let choice = choose(wanted, facts.data_major, &facts.installed)?;
    notes.asked.extend(choice.note.clone());

    let mut config = base(env, facts, &choice)?;
    let (name, store) = store::section(env, facts)?;
    config.insert(name.to_owned(), store);
    if let Some(namespace) = env.get("NAMESPACE").filter(|name| *name != "default") {
        config.insert("namespace".into(), json!(namespace));
    }
    if let Some(standby) = origin::standby_cluster(env, facts, &choice)? {
        config["bootstrap"]["dcs"]["standby_cluster"] = standby;
    }
    let data_dir = config["postgresql"]["data_dir"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let log_directory = config["postgresql"]["parameters"]["log_directory"]
        .as_str()
        .unwrap_or_default();
    let log_directory = PathBuf::from(&data_dir).join(log_directory);
    let log_files = objects::log_files(env)?;
    let log_files = log_files.iter().map(|name| log_directory.join(name)).collect();
    let method = origin::clone(env, facts, &choice, &data_dir)?;
    let mut files = Vec::new();
    let mut archives: Vec<Archive> = Vec::new();
    if let (Some(method), Some(bootstrap)) = (method, section(&mut config, &["bootstrap"])) {
        bootstrap.extend(method.keys);
        files.extend(method.passfile);
        archives.extend(method.archive);
    }
    if let Some(archive) = archive(env, facts, Whose::Standby, choice.major)? {
        let (name, section) = origin::standby_method(&archive, facts, &choice, &data_dir);
        config["postgresql"][name] = section;
        archives.push(archive);
    }
    let own_archive = own_archive(env, facts, &choice, &mut config, &mut archives)?;
    files.extend(archives.iter().flat_map(Archive::files));
    // A directory that a user names may have more in it.
    let directories = archives.into_iter().map(|archive| archive.dir);
    let directories = directories
        .filter(|dir| dir.starts_with(&facts.run_dir))
        .collect();
    let own = match env.get("SPILO_CONFIGURATION") {
        Some(_) => env.mapping("SPILO_CONFIGURATION")?,
        None => env.mapping("PATRONI_CONFIGURATION")?,
    };
    let initdb = merged_options(&config["bootstrap"]["initdb"], &own);
    patch(&mut config, &own);
    if let Some(lines) = config["postgresql"].get("pg_hba").and_then(Value::as_array) {
        let lines: Vec<String> = lines
            .iter()
            .filter_map(|line| line.as_str().map(str::to_owned))
            .collect();
        if let Some(lines) = hba::with_local(&lines) {
            config["postgresql"]["pg_hba"] = json!(lines);
        }
    }
    config["bootstrap"]["initdb"] = Value::Array(initdb);
    if let Some(dcs) = section(&mut config, &["bootstrap", "dcs"])
        && own_ttl(&own).is_none()
    {
        // Every member of a cluster that this agent bootstraps is ours at first, and ours need no 30 seconds. It is off
        // as soon as another agent joins.
        dcs.insert("howdah".into(), json!({"ttl": SHORT_LEASE}));
    }
    adapt(&mut config, facts, &choice, &own, &mut notes);
    let mut howdah = json!({ "notes": notes.asked, "machine": notes.machine });
    if let Some(archive) = own_archive {
        howdah["archive"] = archive;
    }
    config.insert("howdah".into(), howdah);
    Ok(Outcome {
        config,
        choice,
        notes: notes.asked,
        machine: notes.machine,
        files,
        directories,
        log_files,
    })
}

/// The cluster's own archive: WAL goes there and comes from there, and backups are made by a schedule.
fn own_archive(
    env: &Environment,
    facts: &Facts,
    choice: &Choice,
    config: &mut Map<String, Value>,
    archives: &mut Vec<Archive>,
) -> Result<Option<Value>, SpiloError> {
    let Some(archive) = archive(env, facts, Whose::Own, choice.major)? else {
        return Ok(None);
    };
    config["postgresql"]["parameters"]["archive_command"] = json!(archive.push(facts));
    config["postgresql"]["recovery_conf"] = json!({"restore_command": archive.get_or_stream(facts)});
    let bad = |name: &str, reason: String| SpiloError::Bad {
        name: name.to_owned(),
        reason,
    };
    let number = |name: &str, default: &str| -> Result<u32, SpiloError> {
        let text = env.or(name, default);
        text.parse()
            .map_err(|_| bad(name, format!("'{text}' is not a number")))
    };
    let keep = number("BACKUP_NUM_TO_RETAIN", "5")?;
    let megabytes = number("WALE_BACKUP_THRESHOLD_MEGABYTES", "102400")?;
    let percentage = number("WALE_BACKUP_THRESHOLD_PERCENTAGE", "30")?;
    let data_dir = config["postgresql"]["data_dir"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    config["postgresql"][REPLICA_METHOD] = json!({
        "command": archive.replica(facts, &data_dir, choice.major, megabytes, percentage),
        "no_params": true,
        "no_leader": true,
    });
    config["postgresql"]["create_replica_methods"] = json!([REPLICA_METHOD, "basebackup"]);
    let mut own = json!({
        "env_dir": archive.dir,
        "backup_schedule": env.or("BACKUP_SCHEDULE", "0 1 * * *"),
        // Spilo's rule: at least so many backups, and at least so many days; never fewer than two.
        "keep": keep.max(2),
        "from_replica": env.on("WALG_BACKUP_FROM_REPLICA"),
    });
    if let Some(schedule) = env.get("HOWDAH_DRILL_SCHEDULE") {
        own["drill_schedule"] = json!(schedule);
    }
    archives.push(archive);
    Ok(Some(own))
}

/// Spilo's name for replicas that are made from the archive.
const REPLICA_METHOD: &str = "wal_e";

/// Seconds; see docs/safety.md for the margins that it leaves.
const SHORT_LEASE: u32 = 8;

/// The length of the lease that a user asks for.
fn own_ttl(own: &Map<String, Value>) -> Option<&Value> {
    own.get("bootstrap")?.get("dcs")?.get("ttl")
}

fn base(env: &Environment, facts: &Facts, choice: &Choice) -> Result<Map<String, Value>, SpiloError> {
    let ip = env.get("POD_IP").ok_or(SpiloError::Missing {
        name: "POD_IP",
        why: "other members reach this one by it",
    })?;
    let ip: IpAddr = ip.parse().map_err(|_| SpiloError::Bad {
        name: "POD_IP".into(),
        reason: format!("'{ip}' is not an IP address"),
    })?;
    let scope = env.get("SCOPE").ok_or(SpiloError::Missing {
        name: "SCOPE",
        why: "it is the cluster's name",
    })?;
    let root = env.or("PGROOT", "/home/postgres/pgdata/pgroot");
    let data = env
        .get("PGDATA")
        .map_or_else(|| format!("{root}/data"), str::to_owned);
    let (port, api_port) = (env.or("PGPORT", "5432"), env.or("APIPORT", "8008"));
    let superuser = env.or("PGUSER_SUPERUSER", "postgres");
    let secret = |name: &'static str| {
        env.get(name).ok_or(SpiloError::Missing {
            name,
            why: "a default that everybody knows would be no password",
        })
    };
    let (password, standby_password) = (secret("PGPASSWORD_SUPERUSER")?, secret("PGPASSWORD_STANDBY")?);
    let mut parameters = defaults::local_parameters(facts.memory);
    parameters.extend(defaults::logging(env, facts));
    if let Some(files) = &facts.certificate {
        parameters.insert("ssl".into(), json!("on"));
        let all = [
            ("ssl_cert_file", Some(&files.certificate)),
            ("ssl_key_file", Some(&files.key)),
            ("ssl_ca_file", files.ca.as_ref()),
            ("ssl_crl_file", files.crl.as_ref()),
        ];
        for (name, path) in all {
            if let Some(path) = path {
                parameters.insert(name.into(), json!(path));
            }
        }
    }
    parameters.insert("unix_socket_directories".into(), json!(facts.run_dir));
    let locale = format!("{}.UTF-8", env.or("INITDB_LOCALE", "en_US"));
    let mut postgresql = json!({
        "listen": listen(ip, port),
        "connect_address": env.get("PG_CONNECT_ADDRESS").map_or_else(|| address(ip, port), str::to_owned),
        "data_dir": facts.path(&data),
        "bin_dir": choice.bin_dir,
        "pgpass": facts.run_dir.join("pgpass"),
        "use_unix_socket": true,
        "authentication": {
            "superuser": {"username": superuser, "password": password},
            "replication": {"username": env.or("PGUSER_STANDBY", "standby"), "password": standby_password},
        },
        "parameters": parameters,
        "pg_hba": hba::lines(env),
        "basebackup": [{"checkpoint": "fast"}],
    });
    if let Some(callbacks) = objects::callbacks(env, facts, choice)? {
        postgresql["callbacks"] = callbacks;
    }
    let mut config = json!({
        "scope": scope,
        "name": facts.hostname,
        // Every pod of a Kubernetes can connect, and in the sandbox every user of the machine: what changes the cluster
        // needs a credential, and a superuser of the database may do it.
        "restapi": {
            "listen": listen(ip, api_port),
            "connect_address": env.get("RESTAPI_CONNECT_ADDRESS").map_or_else(|| address(ip, api_port), str::to_owned),
            "authentication": {"username": superuser, "password": password},
        },
        "bootstrap": {
            "initdb": [{"encoding": "UTF8"}, {"locale": locale}, "data-checksums"],
            "dcs": {
                "ttl": 30,
                "loop_wait": 10,
                "retry_timeout": 10,
                "maximum_lag_on_failover": 33_554_432,
                "postgresql": {
                    "use_pg_rewind": true,
                    "use_slots": true,
                    "parameters": defaults::dynamic_parameters(facts.memory),
                },
            },
        },
        "postgresql": postgresql,
    });
    if let Some(Certificates {
        certificate, key, ca, ..
    }) = &facts.rest_certificate
    {
        config["restapi"]["certfile"] = json!(certificate);
        config["restapi"]["keyfile"] = json!(key);
        if let Some(ca) = ca {
            config["restapi"]["cafile"] = json!(ca);
        }
    }
    if let Some(command) = objects::post_init(env, facts, choice)? {
        config["bootstrap"]["post_init"] = json!(command);
    }
    Ok(config.as_object().cloned().unwrap_or_default())
}

/// All addresses of the pod, as in Spilo: sidecars and `kubectl port-forward` come in by 127.0.0.1. Pods of the sandbox share
/// the machine's network, and each has a loopback address of its own.
fn listen(ip: IpAddr, port: &str) -> String {
    if ip.is_loopback() {
        address(ip, port)
    } else {
        format!("*:{port}")
    }
}

fn address(ip: IpAddr, port: &str) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    }
}

/// The wanted locale if the machine has it, else one that every machine has and that knows Unicode.
fn locale(wanted: &str, facts: &Facts, by_user: bool, notes: &mut Notes) -> String {
    let normal = |name: &str| name.to_ascii_lowercase().replace('-', "");
    if wanted == "C" || wanted == "POSIX" || facts.locales.iter().any(|have| normal(have) == normal(wanted)) {
        return wanted.to_owned();
    }
    notes.of(by_user).push(format!(
        "locale {wanted} is not installed; C.UTF-8 sorts by code points instead"
    ));
    "C.UTF-8".to_owned()
}

/// initdb's options: the image's, and over them those of the user. Replacing the whole list, as with other lists, would
/// lose the checksums and the encoding of every cluster that sets one more option.
fn merged_options(base: &Value, own: &Map<String, Value>) -> Vec<Value> {
    let name = |option: &Value| match option {
        Value::Object(pair) => pair.keys().next().cloned().unwrap_or_default(),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let own = own
        .get("bootstrap")
        .and_then(|section| section.get("initdb"))
        .and_then(Value::as_array);
    let own = own.cloned().unwrap_or_default();
    let kept = base.as_array().into_iter().flatten();
    let kept = kept.filter(|option| !own.iter().any(|other| name(other) == name(option)));
    kept.cloned().chain(own.iter().cloned()).collect()
}

/// Leaves out what the chosen PostgreSQL lacks. `own` is the user's configuration, which is part of `config` already.
fn adapt(
    config: &mut Map<String, Value>,
    facts: &Facts,
    choice: &Choice,
    own: &Map<String, Value>,
    notes: &mut Notes,
) {
    let own = Value::Object(own.clone());
    let own_options = own["bootstrap"]["initdb"].as_array().cloned().unwrap_or_default();
    let own_parameters = [
        &own["postgresql"]["parameters"],
        &own["bootstrap"]["dcs"]["postgresql"]["parameters"],
    ];
    let empty = std::collections::BTreeSet::new();
    let have = facts.libraries.get(&choice.major).unwrap_or(&empty);
    for option in config["bootstrap"]["initdb"].as_array_mut().into_iter().flatten() {
        for (name, value) in option.as_object_mut().into_iter().flatten() {
            if name.starts_with("lc-") || name == "locale" {
                let by_user = own_options.iter().any(|option| option.get(name).is_some());
                let wanted = value.as_str().unwrap_or_default();
                *value = json!(locale(wanted, facts, by_user, notes));
            }
        }
    }
    if let Some(parameters) = section(config, &["postgresql", "parameters"]) {
        let given = parameters.get("shared_preload_libraries").and_then(Value::as_str);
        let (list, missing) = libraries::preload(given, choice.major, have);
        if !missing.is_empty() {
            notes.of(given.is_some()).push(format!(
                "libraries that are not installed are not preloaded: {}",
                missing.join(", ")
            ));
        }
        parameters.insert("shared_preload_libraries".into(), json!(list));
        drop_unknown(parameters, choice.major, own_parameters[0], notes);
    }
    if let Some(parameters) = section(config, &["bootstrap", "dcs", "postgresql", "parameters"]) {
        drop_unknown(parameters, choice.major, own_parameters[1], notes);
    }
}

/// Takes out what the server of this major does not have. Wrong values stay: the agent asks PostgreSQL about them, and keeps
/// the value before.
fn drop_unknown(parameters: &mut Map<String, Value>, major: u32, own: &Value, notes: &mut Notes) {
    parameters.retain(|name, _| match parameter_error(name, "", major) {
        Some(why @ Wrong::Unknown { .. }) => {
            let by_user = own.get(name).is_some();
            notes
                .of(by_user)
                .push(format!("parameter {name} is left out: {why}"));
            false
        }
        _ => true,
    });
}

fn section<'a>(config: &'a mut Map<String, Value>, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let (first, rest) = path.split_first()?;
    let mut at = config.get_mut(*first)?;
    for key in rest {
        at = at.get_mut(*key)?;
    }
    at.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_config::{LocalConfig, Places, dynamic_from};
    use std::{
        collections::{BTreeMap, BTreeSet},
        path::{Path, PathBuf},
    };

    fn env(more: &[(&str, &str)]) -> Environment {
        let base = [
            ("SCOPE", "acid-x"),
            ("POD_IP", "127.70.0.2"),
            ("POD_NAMESPACE", "default"),
            ("PGVERSION", "18"),
            ("PGPASSWORD_SUPERUSER", "a"),
            ("PGPASSWORD_STANDBY", "b"),
            ("DCS_ENABLE_KUBERNETES_API", "true"),
            ("KUBERNETES_USE_CONFIGMAPS", "true"),
        ];
        base.iter()
            .chain(more)
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn facts() -> Facts {
        Facts {
            hostname: "acid-x-0".into(),
            installed: BTreeMap::from([(15, PathBuf::from("/usr/lib/postgresql/15/bin"))]),
            libraries: BTreeMap::from([(15, BTreeSet::from(["pg_stat_statements".to_owned()]))]),
            locales: BTreeSet::from(["C.utf8".to_owned()]),
            memory: 1 << 30,
            root: "/pods/x".into(),
            run_dir: "/run/x".into(),
            ..Facts::default()
        }
    }

    #[test]
    fn the_agent_accepts_what_comes_out_and_every_difference_is_told() {
        let spilo = r#"{"postgresql": {"parameters": {"shared_buffers": "64MB"}},
            "bootstrap": {"initdb": [{"auth-host": "scram-sha-256"}], "dcs": {"ttl": 20, "postgresql": {"parameters": {"io_method": "worker"}}}}}"#;
        let outcome = configure(&env(&[("SPILO_CONFIGURATION", spilo)]), &facts()).unwrap();
        let config = LocalConfig::from_value(&outcome.config, &Places::default(), Path::new("/")).unwrap();
        assert_eq!(
            config.postgresql.data_dir,
            Path::new("/pods/x/home/postgres/pgdata/pgroot/data")
        );
        assert_eq!(config.postgresql.parameters["shared_buffers"], "64MB");
        assert_eq!(
            config.postgresql.parameters["shared_preload_libraries"],
            "pg_stat_statements"
        );
        let bootstrap = config.bootstrap.unwrap();
        assert_eq!(
            bootstrap.initdb,
            [
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--data-checksums",
                "--auth-host=scram-sha-256"
            ]
        );
        let dynamic = dynamic_from(&bootstrap.dcs, &config.postgresql).unwrap();
        assert_eq!(dynamic.timers.ttl.as_secs(), 20);
        let told = [outcome.notes, outcome.machine].concat().join("\n");
        for part in ["PostgreSQL 18 is asked for", "io_method", "bg_mon", "en_US.UTF-8"] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }

    #[test]
    fn a_pod_with_a_network_of_its_own_listens_on_all_of_it() {
        for (ip, listen, connect) in [
            ("127.70.0.2", "127.70.0.2", "127.70.0.2"),
            ("10.86.0.5", "*", "10.86.0.5"),
            ("fd00::5", "*", "[fd00::5]"),
        ] {
            let config = configure(&env(&[("POD_IP", ip)]), &facts()).unwrap().config;
            for (section, port) in [("postgresql", "5432"), ("restapi", "8008")] {
                assert_eq!(config[section]["listen"], format!("{listen}:{port}"));
                assert_eq!(config[section]["connect_address"], format!("{connect}:{port}"));
            }
            LocalConfig::from_value(&config, &Places::default(), Path::new("/")).unwrap();
        }
    }

    #[test]
    fn what_would_make_other_data_is_not_bootstrapped() {
        for (name, value) in [
            ("CLONE_METHOD", "CLONE_WITH_WALE"),
            ("STANDBY_WALG_SSH_PREFIX", "ssh://b"),
        ] {
            let config = configure(&env(&[(name, value)]), &facts()).unwrap().config;
            let method = config["bootstrap"]["method"].as_str().unwrap();
            let command = config["bootstrap"][method]["command"].as_str().unwrap();
            assert!(command.contains(name) && command.contains("exit 1"), "{command}");
            LocalConfig::from_value(&config, &Places::default(), Path::new("/")).unwrap();
        }
        for (name, value) in [
            ("CLONE_METHOD", "CLONE_WITH_MAGIC"),
            ("CLONE_METHOD", "CLONE_WITH_BASEBACKUP"),
            ("STANDBY_PORT", "5433"),
            ("PGVERSION", "new"),
            ("POD_IP", "acid-x-0"),
            ("HOWDAH_SPILO_OBJECTS", "some"),
        ] {
            assert!(configure(&env(&[(name, value)]), &facts()).is_err(), "{name}");
        }
        let no_store: Environment = [
            ("SCOPE", "a"),
            ("POD_IP", "10.0.0.1"),
            ("PGPASSWORD_SUPERUSER", "a"),
            ("PGPASSWORD_STANDBY", "b"),
        ]
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .into_iter()
        .collect();
        assert!(configure(&no_store, &facts()).is_err());
    }

    #[test]
    fn another_cluster_is_followed_or_copied() {
        let follows = env(&[
            ("STANDBY_HOST", "old.example"),
            ("STANDBY_PRIMARY_SLOT_NAME", "us"),
        ]);
        let config = configure(&follows, &facts()).unwrap().config;
        assert_eq!(
            config["bootstrap"]["dcs"]["standby_cluster"],
            json!({"host": "old.example", "port": 5432, "primary_slot_name": "us"})
        );
        let copies = env(&[
            ("CLONE_METHOD", "CLONE_WITH_BASEBACKUP"),
            ("CLONE_HOST", "old.example"),
            ("CLONE_PORT", "5433"),
            ("CLONE_USER", "standby"),
            ("CLONE_PASSWORD", "a:b'c"),
        ]);
        let outcome = configure(&copies, &facts()).unwrap();
        let (path, text) = &outcome.files[0];
        assert_eq!(text, "old.example:5433:*:standby:a\\:b'c\n");
        let command = &outcome.config["bootstrap"]["clone_with_basebackup"]["command"];
        let command = command.as_str().unwrap();
        assert!(
            command.contains(&format!("passfile={}", path.display())),
            "{command}"
        );
        assert!(!command.contains("a:b"), "{command}");
        LocalConfig::from_value(&outcome.config, &Places::default(), Path::new("/")).unwrap();
    }

    #[test]
    fn addresses_logs_and_scripts_are_as_the_environment_says() {
        let env = env(&[
            ("PG_CONNECT_ADDRESS", "10.1.1.1:6432"),
            ("RESTAPI_CONNECT_ADDRESS", "10.1.1.1:9008"),
            ("LOG_SHIP_HOURLY", "true"),
            ("PGLOG", "/logs"),
            ("CALLBACK_SCRIPT", "/own callback"),
            ("HOWDAH_SPILO_OBJECTS", "with-log-tables"),
            ("HUMAN_ROLE", "people"),
        ]);
        let outcome = configure(&env, &facts()).unwrap();
        let postgresql = &outcome.config["postgresql"];
        assert_eq!(postgresql["connect_address"], "10.1.1.1:6432");
        assert_eq!(outcome.config["restapi"]["connect_address"], "10.1.1.1:9008");
        assert_eq!(postgresql["parameters"]["log_filename"], "postgresql-%u-%H.log");
        assert_eq!(outcome.log_files.len(), 7 * 24);
        assert!(outcome.log_files[0].ends_with("logs/postgresql-1-00.csv"));
        let callbacks = &postgresql["callbacks"];
        assert_eq!(callbacks["on_start"], "/own callback");
        let changed = callbacks["on_role_change"].as_str().unwrap();
        for part in [
            "role-changed",
            "--human-role 'people'",
            "--log-tables hourly",
            "--callback '/own callback'",
        ] {
            assert!(changed.contains(part), "{part} in {changed}");
        }
        let config = configure(&self::env(&[("HOWDAH_SPILO_OBJECTS", "off")]), &facts())
            .unwrap()
            .config;
        assert_eq!(config["bootstrap"].get("post_init"), None);
        assert_eq!(config["postgresql"].get("callbacks"), None);
    }

    #[test]
    fn what_is_not_there_yet_is_told() {
        let outcome = configure(&env(&[("LOG_S3_BUCKET", "b")]), &facts()).unwrap();
        assert!(outcome.notes.iter().any(|note| note.contains("LOG_S3_BUCKET")));
    }

    #[test]
    fn an_archive_is_written_read_and_kept() {
        let outcome = configure(
            &env(&[("WAL_S3_BUCKET", "b"), ("AWS_SECRET_ACCESS_KEY", "s3cret")]),
            &facts(),
        )
        .unwrap();
        let postgresql = &outcome.config["postgresql"];
        let push = postgresql["parameters"]["archive_command"].as_str().unwrap();
        assert!(
            push.contains("wal push --env-dir") && push.ends_with("\"%p\""),
            "{push}"
        );
        assert!(
            postgresql["recovery_conf"]["restore_command"]
                .as_str()
                .unwrap()
                .contains("wal get")
        );
        let own = &outcome.config["howdah"]["archive"];
        assert_eq!(
            (&own["backup_schedule"], &own["keep"]),
            (&json!("0 1 * * *"), &json!(5))
        );
        // Secrets are in files of their own.
        assert!(
            !Value::Object(outcome.config.clone())
                .to_string()
                .contains("s3cret")
        );
        assert!(outcome.files.iter().any(|(_, text)| text == "s3cret\n"));
        LocalConfig::from_value(&outcome.config, &Places::default(), Path::new("/")).unwrap();
        assert!(
            configure(
                &env(&[("WAL_S3_BUCKET", "b"), ("BACKUP_NUM_TO_RETAIN", "x")]),
                &facts()
            )
            .is_err()
        );
    }

    #[test]
    fn a_clone_and_a_standby_begin_with_a_backup() {
        let clones = [
            ("CLONE_METHOD", "CLONE_WITH_WALE"),
            ("CLONE_SCOPE", "old"),
            ("CLONE_WALE_S3_PREFIX", "s3://b/spilo/old/uid/wal/15"),
            ("CLONE_TARGET_TIME", "2026-11-25T10:00:00Z"),
        ];
        let config = configure(&env(&clones), &facts()).unwrap().config;
        let section = &config["bootstrap"]["clone_with_wale"];
        assert!(
            section["command"]
                .as_str()
                .unwrap()
                .contains("backup restore --env-dir"),
            "{section}"
        );
        assert_eq!(
            section["recovery_conf"]["recovery_target_time"],
            "2026-11-25T10:00:00+00:00"
        );
        LocalConfig::from_value(&config, &Places::default(), Path::new("/")).unwrap();
        let config = configure(&env(&[("STANDBY_WALE_S3_PREFIX", "s3://b/x")]), &facts())
            .unwrap()
            .config;
        let standby = &config["bootstrap"]["dcs"]["standby_cluster"];
        assert!(
            standby["restore_command"].as_str().unwrap().contains("wal get"),
            "{standby}"
        );
        assert!(config["postgresql"]["bootstrap_standby_with_wale"]["command"].is_string());
        LocalConfig::from_value(&config, &Places::default(), Path::new("/")).unwrap();
    }
}
