use std::path::Path;

use serde_json::{Value, json};

/// The superuser's password in labs on etcd.
pub(crate) const SUPERUSER_PASSWORD: &str = "super";

/// The keys of the cluster in etcd.
pub(crate) const KEYS: &str = "/service/lab/";

/// What a test wants different from the defaults.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Merged over `bootstrap.dcs`, key by key at the top.
    pub dynamic: Value,
    /// Merged over the local configuration, key by key at the top.
    pub local: Value,
    /// Variables of the agents' environment.
    pub environment: Vec<(String, String)>,
}

/// The configuration of one member, as text that is JSON and so YAML too.
pub(crate) fn member_config(
    name: &str,
    dir: &Path,
    etcd: &str,
    (postgres, api): (u16, u16),
    settings: &Settings,
) -> String {
    let mut dynamic = json!({
        "ttl": 30, "loop_wait": 10, "retry_timeout": 10, "maximum_lag_on_failover": 1_048_576,
        "postgresql": {
            "use_pg_rewind": true,
            // A small disk holds the WAL of many short timelines.
            "parameters": {
                "max_connections": 50, "shared_buffers": "16MB", "fsync": "off",
                "max_wal_size": "128MB", "min_wal_size": "32MB",
            },
            "pg_hba": ["local all all trust", "host replication replicator 127.0.0.1/32 md5", "host all all 127.0.0.1/32 md5"],
        },
    });
    overlay(&mut dynamic, &settings.dynamic);
    let mut config = json!({
        "scope": "lab",
        "name": name,
        "etcd3": {"host": etcd},
        "restapi": {"listen": format!("127.0.0.1:{api}"), "connect_address": format!("127.0.0.1:{api}")},
        "bootstrap": {"dcs": dynamic, "initdb": [{"encoding": "UTF8"}, "data-checksums", "no-sync"]},
        "postgresql": {
            "listen": format!("127.0.0.1:{postgres}"),
            "connect_address": format!("127.0.0.1:{postgres}"),
            "data_dir": dir.join(name).join("data"),
            "pgpass": dir.join(format!("{name}.pgpass")),
            "bin_dir": postgres_bin(),
            "authentication": {
                "superuser": {"username": "postgres", "password": SUPERUSER_PASSWORD},
                "replication": {"username": "replicator", "password": "rep"},
                "rewind": {"username": "rewinder", "password": "rew"},
            },
            "parameters": {"unix_socket_directories": dir},
        },
        "watchdog": {"mode": "off"},
    });
    overlay(&mut config, &settings.local);
    config.to_string()
}

fn overlay(base: &mut Value, over: &Value) {
    let Value::Object(over) = over else { return };
    for (key, value) in over {
        base[key] = value.clone();
    }
}

/// Debian's newest PostgreSQL; empty where the programs are on `PATH`.
pub(crate) fn postgres_bin() -> String {
    let majors = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = majors
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| bin.join("postgres").is_file())
        .max();
    newest.map_or_else(String::new, |(_, bin)| bin.display().to_string())
}
