use serde_json::{Map, Value, json};

use crate::{Environment, Facts};

/// Parameters that the image puts into the dynamic configuration of a new cluster.
pub(crate) fn dynamic_parameters(memory: u64) -> Value {
    let megabytes = memory / 1_048_576;
    json!({
        "archive_mode": "on",
        "archive_timeout": "1800s",
        "wal_level": "hot_standby",
        "wal_log_hints": "on",
        "wal_compression": "on",
        "max_wal_senders": 10,
        "max_connections": (megabytes / 30).clamp(100, 1000),
        "max_replication_slots": 10,
        "hot_standby": "on",
        "tcp_keepalives_idle": 900,
        "tcp_keepalives_interval": 100,
        "log_line_prefix": "%t [%p]: [%l-1] %c %x %d %u %a %h ",
        "log_checkpoints": "on",
        "log_lock_waits": "on",
        "log_min_duration_statement": 500,
        "log_autovacuum_min_duration": 0,
        "log_connections": "on",
        "log_disconnections": "on",
        "log_statement": "ddl",
        "log_temp_files": 0,
        "track_functions": "all",
        "checkpoint_completion_target": 0.9,
        "autovacuum_max_workers": 5,
        "autovacuum_vacuum_scale_factor": 0.05,
        "autovacuum_analyze_scale_factor": 0.02,
    })
}

/// Parameters that stay local to a member.
pub(crate) fn local_parameters(memory: u64) -> Map<String, Value> {
    let parameters = json!({
        // Until there is an archive: a command that succeeds, so that WAL is recycled and archive_mode may stay on.
        "archive_command": "/bin/true",
        "shared_buffers": format!("{}MB", (memory / 1_048_576 / 5).max(16)),
        "logging_collector": "on",
        "log_destination": "csvlog",
        "log_file_mode": "0644",
        "log_truncate_on_rotation": "on",
        "pg_stat_statements.track_utility": "off",
        "bg_mon.history_buckets": 120,
        "extwlist.extensions": "btree_gin,btree_gist,citext,extra_window_functions,first_last_agg,hll,hstore,hypopg,\
            intarray,ltree,pgcrypto,pgq,pgq_node,pg_trgm,postgres_fdw,roaringbitmap,tablefunc,uuid-ossp,vector",
        "extwlist.custom_path": "/scripts",
    });
    parameters.as_object().cloned().unwrap_or_default()
}

/// Where the log is, and how long one file lasts: a weekday, or an hour of it. A file of last week is overwritten.
pub(crate) fn logging(env: &Environment, facts: &Facts) -> Map<String, Value> {
    let directory = match env.get("PGLOG") {
        Some(path) => json!(facts.path(path)),
        None => json!("../pg_log"),
    };
    let (file, age) = if env.get("LOG_SHIP_HOURLY").is_some() {
        ("postgresql-%u-%H.log", "1h")
    } else {
        ("postgresql-%u.log", "1d")
    };
    let parameters = json!({
        "log_directory": directory,
        "log_filename": file,
        "log_rotation_age": age,
    });
    parameters.as_object().cloned().unwrap_or_default()
}
