use serde_json::{Map, Value};

/// `PATRONI_<suffix>` → path, for the variables whose path is not the suffix in lower case below its section.
const EXACT: &[(&str, &str)] = &[
    ("NAME", "name"),
    ("NAMESPACE", "namespace"),
    ("SCOPE", "scope"),
    ("THREAD_POOL_SIZE", "thread_pool_size"),
    ("THREAD_STACK_SIZE", "thread_stack_size"),
    ("LOGLEVEL", "log.level"),
    ("LOGFORMAT", "log.format"),
    ("LOG_DATEFMT", "log.dateformat"),
    ("RESTAPI_USERNAME", "restapi.authentication.username"),
    ("RESTAPI_PASSWORD", "restapi.authentication.password"),
    ("CTL_USERNAME", "ctl.authentication.username"),
    ("CTL_PASSWORD", "ctl.authentication.password"),
];

/// Section prefixes: `PATRONI_<prefix>_<KEY>` → `<section>.<key>`.
const SECTIONS: &[(&str, &str, &[&str])] = &[
    (
        "LOG_",
        "log",
        &[
            "TYPE",
            "LEVEL",
            "TRACEBACK_LEVEL",
            "FORMAT",
            "DATEFORMAT",
            "STATIC_FIELDS",
            "MAX_QUEUE_SIZE",
            "DIR",
            "MODE",
            "FILE_SIZE",
            "FILE_NUM",
            "LOGGERS",
            "DEDUPLICATE_HEARTBEAT_LOGS",
        ],
    ),
    (
        "RESTAPI_",
        "restapi",
        &[
            "LISTEN",
            "CONNECT_ADDRESS",
            "CERTFILE",
            "KEYFILE",
            "KEYFILE_PASSWORD",
            "CAFILE",
            "CIPHERS",
            "VERIFY_CLIENT",
            "HTTP_EXTRA_HEADERS",
            "HTTPS_EXTRA_HEADERS",
            "ALLOWLIST",
            "ALLOWLIST_INCLUDE_MEMBERS",
            "REQUEST_QUEUE_SIZE",
            "SERVER_TOKENS",
        ],
    ),
    (
        "CTL_",
        "ctl",
        &["INSECURE", "CACERT", "CERTFILE", "KEYFILE", "KEYFILE_PASSWORD"],
    ),
    (
        "POSTGRESQL_BIN_",
        "postgresql.bin_name",
        &[
            "PG_CTL",
            "INITDB",
            "PG_CONTROLDATA",
            "PG_BASEBACKUP",
            "POSTGRES",
            "PG_ISREADY",
            "PG_REWIND",
        ],
    ),
    (
        "POSTGRESQL_",
        "postgresql",
        &[
            "LISTEN",
            "CONNECT_ADDRESS",
            "PROXY_ADDRESS",
            "CONFIG_DIR",
            "DATA_DIR",
            "PGPASS",
            "BIN_DIR",
        ],
    ),
    ("SUPERUSER_", "postgresql.authentication.superuser", ACCOUNT),
    ("REPLICATION_", "postgresql.authentication.replication", ACCOUNT),
    ("REWIND_", "postgresql.authentication.rewind", ACCOUNT),
    ("ETCD3_", "etcd3", ETCD),
    ("ETCD_", "etcd", ETCD),
    (
        "CONSUL_",
        "consul",
        &[
            "HOST",
            "URL",
            "PORT",
            "SCHEME",
            "TOKEN",
            "VERIFY",
            "CACERT",
            "CERT",
            "KEY",
            "DC",
            "CONSISTENCY",
            "CHECKS",
            "REGISTER_SERVICE",
            "SERVICE_TAGS",
            "SERVICE_CHECK_INTERVAL",
            "SERVICE_CHECK_TLS_SERVER_NAME",
        ],
    ),
    (
        "ZOOKEEPER_",
        "zookeeper",
        &[
            "HOSTS",
            "USE_SSL",
            "CACERT",
            "CERT",
            "KEY",
            "KEY_PASSWORD",
            "VERIFY",
            "SET_ACLS",
            "AUTH_DATA",
        ],
    ),
    ("EXHIBITOR_", "exhibitor", &["HOSTS", "PORT"]),
    (
        "RAFT_",
        "raft",
        &["SELF_ADDR", "BIND_ADDR", "PARTNER_ADDRS", "DATA_DIR", "PASSWORD"],
    ),
    ("CITUS_", "citus", &["GROUP", "DATABASE"]),
    (
        "KUBERNETES_",
        "kubernetes",
        &[
            "LABELS",
            "NAMESPACE",
            "CONTEXT",
            "SCOPE_LABEL",
            "ROLE_LABEL",
            "LEADER_LABEL_VALUE",
            "FOLLOWER_LABEL_VALUE",
            "STANDBY_LEADER_LABEL_VALUE",
            "TMP_ROLE_LABEL",
            "USE_ENDPOINTS",
            "POD_IP",
            "PORTS",
            "CACERT",
            "BYPASS_API_SERVICE",
            "RETRIABLE_HTTP_CODES",
            "BOOTSTRAP_LABELS",
        ],
    ),
];

const ACCOUNT: &[&str] = &[
    "USERNAME",
    "PASSWORD",
    "SSLMODE",
    "SSLCERT",
    "SSLKEY",
    "SSLPASSWORD",
    "SSLROOTCERT",
    "SSLCRL",
    "SSLCRLDIR",
    "GSSENCMODE",
    "CHANNEL_BINDING",
    "SSLNEGOTIATION",
];

const ETCD: &[&str] = &[
    "HOST",
    "HOSTS",
    "URL",
    "PROXY",
    "SRV",
    "SRV_SUFFIX",
    "PROTOCOL",
    "USE_PROXIES",
    "CACERT",
    "CERT",
    "KEY",
    "USERNAME",
    "PASSWORD",
];

/// Values that are texts even where they look like something else.
const ALWAYS_TEXT: &[&str] = &["PASSWORD", "USERNAME", "NAME", "SCOPE", "TOKEN"];

/// The layer of `PATRONI_*` variables, to be merged over the local file. Unknown ones are ignored, as by Patroni.
#[must_use]
pub fn env_layer(variables: impl IntoIterator<Item = (String, String)>) -> Map<String, Value> {
    let mut layer = Map::new();
    for (name, text) in variables {
        let Some(suffix) = name.strip_prefix("PATRONI_") else {
            continue;
        };
        if let Some(path) = path_of(suffix) {
            let key = suffix.rsplit('_').next().unwrap_or(suffix);
            insert(&mut layer, &path, typed(&text, ALWAYS_TEXT.contains(&key)));
        }
    }
    layer
}

fn path_of(suffix: &str) -> Option<String> {
    if let Some((_, path)) = EXACT.iter().find(|(name, _)| *name == suffix) {
        return Some((*path).to_owned());
    }
    SECTIONS.iter().find_map(|(prefix, section, keys)| {
        let key = suffix.strip_prefix(prefix)?;
        keys.contains(&key)
            .then(|| format!("{section}.{}", key.to_lowercase()))
    })
}

fn typed(text: &str, is_text: bool) -> Value {
    let trimmed = text.trim();
    let structured = trimmed.starts_with(['[', '{']) || trimmed.starts_with("- ");
    if !is_text
        && structured
        && let Ok(value) = serde_saphyr::from_str::<Value>(text)
    {
        return value;
    }
    Value::String(text.to_owned())
}

fn insert(map: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            map.insert(path.to_owned(), value);
        }
        Some((head, rest)) => {
            let entry = map.entry(head).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_become_paths() {
        let layer = env_layer(
            [
                ("PATRONI_NAME", "7"),
                ("PATRONI_RESTAPI_PASSWORD", "[x]"),
                ("PATRONI_POSTGRESQL_BIN_PG_CTL", "ctl"),
                ("PATRONI_POSTGRESQL_DATA_DIR", "/d"),
                ("PATRONI_ETCD3_HOSTS", "[a:1, b:2]"),
                ("PATRONI_REPLICATION_USERNAME", "standby"),
                ("PATRONI_NONSENSE", "x"),
                ("HOME", "/"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        let wanted = json!({
            "name": "7",
            "restapi": {"authentication": {"password": "[x]"}},
            "postgresql": {
                "bin_name": {"pg_ctl": "ctl"}, "data_dir": "/d",
                "authentication": {"replication": {"username": "standby"}},
            },
            "etcd3": {"hosts": ["a:1", "b:2"]},
        });
        assert_eq!(Value::Object(layer), wanted);
    }
}
