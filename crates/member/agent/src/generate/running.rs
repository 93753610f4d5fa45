use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_sql::{Dsn, Session, Target, Tls};
use serde_json::{Map, Value, json};

use super::{Here, password, quoted};

/// For the whole conversation.
const PATIENCE: Duration = Duration::from_secs(10);

/// What stays with the member: commands that run as its user, and its own files.
const LOCAL: &[&str] = &[
    "archive_command",
    "restore_command",
    "archive_cleanup_command",
    "recovery_end_command",
    "ssl_passphrase_command",
    "hba_file",
    "ident_file",
    "config_file",
];

/// A configuration for a PostgreSQL that runs on this machine, to be taken over with its data. `dsn`: how to connect to it as superuser, where the
/// variables of libpq do not say it.
///
/// # Errors
/// It does not answer, or the role is no superuser.
pub fn from_running(dsn: Option<&str>) -> anyhow::Result<String> {
    let dsn = Dsn::parse(dsn.unwrap_or_default()).context("the connection string")?;
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
    let sql = "SELECT name, current_setting(name) FROM pg_settings WHERE context <> 'internal' \
        AND source IN ('configuration file', 'command line', 'environment variable') \
        AND category <> 'Write-Ahead Log / Recovery Target' AND setting <> '(disabled)' \
        OR name IN ('data_directory', 'hba_file', 'ident_file', 'port', 'listen_addresses', 'cluster_name')";
    let rows = session.rows(sql, deadline).await?;
    let pair = |row: &howdah_sql::SimpleQueryRow| Some((row.get(0)?.to_owned(), row.get(1)?.to_owned()));
    let settings: BTreeMap<String, String> = rows.iter().filter_map(pair).collect();
    Ok(render(
        &settings,
        dsn,
        &Here::look(),
        &|path| fs::read_to_string(path).ok(),
        &[password()?, password()?],
    ))
}

fn render(
    settings: &BTreeMap<String, String>,
    dsn: &Dsn,
    here: &Here,
    file: &dyn Fn(&str) -> Option<String>,
    passwords: &[String; 2],
) -> String {
    let setting = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    let data_dir = setting("data_directory");
    let port = setting("port");
    let [mut everywhere, mut here_only] = [Map::new(), Map::new()];
    for (name, value) in settings {
        let own = ["data_directory", "port", "listen_addresses", "cluster_name"];
        if own.contains(&name.as_str()) || howdah_pgconf::AGENT_OWNED.contains(&name.as_str()) {
            continue;
        }
        let is_local = LOCAL.contains(&name.as_str());
        // The agent writes these files where they are by default.
        let is_default = ["hba_file", "ident_file", "config_file"].contains(&name.as_str())
            && value.starts_with(&format!("{data_dir}/"));
        if is_default {
            continue;
        }
        let section = if is_local { &mut here_only } else { &mut everywhere };
        section.insert(name.clone(), json!(value));
    }
    let lines = |name: &str| -> Vec<String> {
        let text = file(setting(name)).unwrap_or_default();
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    let listen = match setting("listen_addresses") {
        "" => "127.0.0.1",
        addresses => addresses,
    };
    let address = here.address;
    let connect = if address.is_ipv6() {
        format!("[{address}]")
    } else {
        address.to_string()
    };
    let known = dsn.password.as_deref();
    let superuser = known.unwrap_or("FIXME: the password of this role");
    let scope = match setting("cluster_name") {
        "" => "main",
        name => name,
    };
    let mut out = format!(
        "# One member of a cluster, for the PostgreSQL that runs in {data_dir}.\n\
         # Make the roles of `authentication` before the agent starts, and disable PostgreSQL's own service: the agent takes over the\n\
         # server that runs, and starts it from now on.\n\
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
    for (key, name) in [("pg_hba", "hba_file"), ("pg_ident", "ident_file")] {
        let lines = lines(name);
        if let (Some(section), false) = (postgresql.as_object_mut(), lines.is_empty()) {
            section.insert(key.to_owned(), json!(lines));
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
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn what_a_server_has_is_taken_over() {
        let settings = [
            ("data_directory", "/data/one"),
            ("port", "5433"),
            ("listen_addresses", "*"),
            ("cluster_name", "billing"),
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
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        };
        let hba =
            |path: &str| (path == "/etc/pg/pg_hba.conf").then(|| "# c\nlocal  all all\ttrust\n".to_owned());
        let text = render(&settings, &dsn, &here, &hba, &["r".to_owned(), "w".to_owned()]);
        let config = howdah_config::load(&[howdah_config::Source {
            file: "generated".into(),
            text: text.clone(),
        }]);
        let config = Value::Object(config.unwrap());
        assert_eq!(config["scope"], "billing", "{text}");
        let parameters = &config["bootstrap"]["dcs"]["postgresql"]["parameters"];
        assert_eq!(*parameters, json!({"shared_buffers": "1GB"}), "{text}");
        let postgresql = &config["postgresql"];
        assert_eq!(postgresql["listen"], "*:5433");
        assert_eq!(postgresql["connect_address"], "10.0.0.1:5433");
        assert_eq!(postgresql["parameters"]["archive_command"], "cp '%p' /a/%f");
        assert_eq!(postgresql["pg_hba"], json!(["local all all trust"]));
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
