use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_sql::{Dsn, Session, Target, Tls};
use serde_json::{Map, Value, json};

use super::{Here, password, quoted};

/// For the whole conversation.
const PATIENCE: Duration = Duration::from_secs(10);

/// What stays with the member: commands that run as its user.
const LOCAL: &[&str] = &[
    "archive_command",
    "restore_command",
    "archive_cleanup_command",
    "recovery_end_command",
    "ssl_passphrase_command",
];

/// A configuration for a PostgreSQL that runs on this machine, to be taken over with its data. `dsn`: how to connect to it as superuser, where the
/// variables of libpq do not say it.
///
/// # Errors
/// It does not answer, or the role is no superuser.
pub fn from_running(dsn: Option<&str>) -> anyhow::Result<String> {
    let dsn = Dsn::parse(dsn.unwrap_or_default()).context("the connection string")?;
    anyhow::ensure!(
        !dsn.needs_tls,
        "sslmode is not acted on here: connect over the socket (host=/var/run/postgresql)"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ask(&dsn))
}

async fn ask(dsn: &Dsn) -> anyhow::Result<String> {
    let deadline = now() + PATIENCE;
    let target = Target {
        host: &dsn.host,
        port: dsn.port,
        user: &dsn.user,
        password: dsn.password.as_deref(),
        database: &dsn.database,
        application: "Howdah",
        options: "-c search_path=pg_catalog",
        tls: Tls::Off,
    };
    let session = Session::connect(&target, deadline).await.with_context(|| {
        format!(
            "connecting to PostgreSQL at {}, port {}, as {}",
            dsn.host, dsn.port, dsn.user
        )
    })?;
    let superuser = session
        .row("SELECT current_setting('is_superuser')", deadline)
        .await?;
    anyhow::ensure!(
        superuser.get(0) == Some("on"),
        "{} is no superuser: name one with --dsn 'user=postgres …'",
        dsn.user
    );
    // Settings of extensions that are not loaded are in the files alone.
    let sql = "SELECT name, current_setting(name) FROM pg_settings WHERE context <> 'internal' \
        AND source IN ('configuration file', 'command line', 'environment variable') \
        AND category <> 'Write-Ahead Log / Recovery Target' AND setting <> '(disabled)' \
        OR name IN ('data_directory', 'hba_file', 'ident_file', 'port', 'listen_addresses', 'cluster_name') \
        UNION SELECT name, setting FROM pg_file_settings WHERE name LIKE '%.%' AND error IS NULL";
    let rows = session.rows(sql, deadline).await?;
    let pair = |row: &howdah_sql::SimpleQueryRow| Some((row.get(0)?.to_owned(), row.get(1)?.to_owned()));
    let settings: BTreeMap<String, String> = rows.iter().filter_map(pair).collect();
    let setting = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    let data_dir = setting("data_directory");
    let pid_file = fs::read_to_string(format!("{data_dir}/postmaster.pid")).with_context(|| {
        format!(
            "reading {data_dir}/postmaster.pid: run this on the server's machine, as the owner of its data"
        )
    })?;
    anyhow::ensure!(
        pid_file.lines().nth(3) == Some(setting("port")),
        "the server that answers is not the one in {data_dir} on this machine"
    );
    let mut lines = BTreeMap::new();
    for (key, name) in [("pg_hba", "hba_file"), ("pg_ident", "ident_file")] {
        let path = setting(name);
        let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        lines.insert(key, lines_of(&text));
    }
    Ok(render(
        &settings,
        &lines,
        dsn,
        &Here::look(),
        &[password()?, password()?],
    ))
}

/// The lines of `pg_hba.conf` or `pg_ident.conf` as they are, but for comments; those that are continued are joined.
fn lines_of(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// What the agent has keys of its own for.
const OWN: &[&str] = &[
    "data_directory",
    "port",
    "listen_addresses",
    "cluster_name",
    "hba_file",
    "ident_file",
    "config_file",
];

fn render(
    settings: &BTreeMap<String, String>,
    lines: &BTreeMap<&str, Vec<String>>,
    dsn: &Dsn,
    here: &Here,
    passwords: &[String; 2],
) -> String {
    let setting = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    let (data_dir, port) = (setting("data_directory"), setting("port"));
    let [mut everywhere, mut here_only] = [Map::new(), Map::new()];
    for (name, value) in settings {
        let of = |names: &[&str]| names.contains(&name.as_str());
        if of(OWN) || of(howdah_pgconf::AGENT_OWNED) {
            continue;
        }
        let section = if of(LOCAL) {
            &mut here_only
        } else {
            &mut everywhere
        };
        section.insert(name.clone(), json!(value));
    }
    let listen = match setting("listen_addresses") {
        "" => "127.0.0.1",
        addresses => addresses,
    };
    let connect = &here.address;
    let known = dsn.password.as_deref();
    let superuser = known.unwrap_or("FIXME: the password of this role");
    // Debian names its clusters '15/main'.
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let named: String = setting("cluster_name")
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect();
    let scope = if named.is_empty() { "main" } else { &named };
    let mut out = format!(
        "# One member of a cluster, for the PostgreSQL that runs in {data_dir}.\n\
         #\n\
         # Before the agent starts: make the roles replicator (REPLICATION LOGIN) and rewind (LOGIN) with the passwords below, see that\n\
         # pg_hba lets both in from all members and that postgresql.listen is an address that they reach, and disable PostgreSQL's own\n\
         # service. The agent takes over the server that runs, and starts it from now on.\n\
         scope: {}\nname: {}\n\n",
        quoted(scope),
        quoted(&here.name)
    );
    let rest = json!({"restapi": {"listen": "0.0.0.0:8008", "connect_address": format!("{connect}:8008")}});
    let store = json!({"etcd3": {"hosts": ["127.0.0.1:2379"]}});
    let bootstrap = json!({"bootstrap": {"dcs": {
        "ttl": 30, "loop_wait": 10, "retry_timeout": 10, "maximum_lag_on_failover": 1_048_576,
        "postgresql": {"use_pg_rewind": true, "parameters": everywhere},
    }}});
    let [replication, rewind] = passwords;
    let mut postgresql = json!({
        "listen": format!("{listen}:{port}"),
        "connect_address": format!("{connect}:{port}"),
        "data_dir": data_dir,
        "authentication": {
            "superuser": {"username": dsn.user, "password": superuser},
            "replication": {"username": "replicator", "password": replication},
            "rewind": {"username": "rewind", "password": rewind},
        },
        "parameters": here_only,
    });
    for (key, lines) in lines.iter().filter(|(_, lines)| !lines.is_empty()) {
        if let Some(section) = postgresql.as_object_mut() {
            section.insert((*key).to_owned(), json!(lines));
        }
    }
    for section in [rest, store, bootstrap, json!({"postgresql": postgresql})] {
        write_yaml(&section, 0, &mut out);
        out.push('\n');
    }
    out
}

/// Maps and lists in block style, texts in quotes.
fn write_yaml(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                let key = if plain { key.clone() } else { quoted(key) };
                let is_block = match value {
                    Value::Object(map) => !map.is_empty(),
                    Value::Array(list) => !list.is_empty(),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
                };
                if is_block {
                    out.push_str(&format!("{indent}{key}:\n"));
                    write_yaml(value, depth + 1, out);
                } else {
                    out.push_str(&format!("{indent}{key}: {value}\n"));
                }
            }
        }
        Value::Array(list) => {
            for item in list {
                out.push_str(&format!("{indent}- {item}\n"));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&format!("{indent}{value}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_a_server_has_is_taken_over() {
        let settings = [
            ("data_directory", "/data/one"),
            ("port", "5433"),
            ("listen_addresses", "*"),
            ("cluster_name", "15/billing"),
            ("shared_buffers", "1GB"),
            ("archive_command", "cp '%p' /a/%f"),
            ("hba_file", "/etc/pg/pg_hba.conf"),
            ("primary_conninfo", "host=x"),
        ];
        let settings = settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let dsn = Dsn::parse("host=/tmp user=admin password='a b'").unwrap();
        let here = Here {
            name: "n1".to_owned(),
            address: "10.0.0.1".to_owned(),
        };
        let hba = lines_of("# c\nlocal  all \\\n  all trust\n\n");
        let lines = [("pg_hba", hba), ("pg_ident", Vec::new())].into();
        let text = render(&settings, &lines, &dsn, &here, &["r".to_owned(), "w".to_owned()]);
        let config = howdah_config::load(&[howdah_config::Source {
            file: "generated".into(),
            text: text.clone(),
        }]);
        let config = Value::Object(config.unwrap());
        assert_eq!(config["scope"], "15-billing", "{text}");
        let places = howdah_config::Places::default();
        let local = config.as_object().unwrap();
        assert!(howdah_config::LocalConfig::from_value(local, &places, std::path::Path::new("/")).is_ok());
        let parameters = &config["bootstrap"]["dcs"]["postgresql"]["parameters"];
        assert_eq!(*parameters, json!({"shared_buffers": "1GB"}), "{text}");
        let postgresql = &config["postgresql"];
        assert_eq!(postgresql["listen"], "*:5433");
        assert_eq!(postgresql["connect_address"], "10.0.0.1:5433");
        assert_eq!(postgresql["parameters"]["archive_command"], "cp '%p' /a/%f");
        assert_eq!(postgresql["pg_hba"], json!(["local  all    all trust"]));
        assert_eq!(postgresql["authentication"]["superuser"]["password"], "a b");
    }

    #[test]
    fn a_sample_is_usable_as_it_is() {
        let text = super::super::sample().unwrap();
        let config = howdah_config::load(&[howdah_config::Source {
            file: "sample".into(),
            text,
        }])
        .unwrap();
        let places = howdah_config::Places::default();
        let local =
            howdah_config::LocalConfig::from_value(&config, &places, std::path::Path::new("/")).unwrap();
        assert_eq!(local.scope.as_str(), "main");
        assert_eq!(howdah_config::key_report(&config).warning(), None);
    }
}
