//! PgBouncer's configuration from the environment that the operator gives a pooler.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use howdah_spilo::Environment;

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    host: String,
    port: u16,
    user: String,
    password: String,
    schema: String,
    mode: String,
    pub(super) listen: String,
    pub(super) listen_port: u16,
    /// Where metrics are.
    pub(super) metrics_port: u16,
    default_size: u32,
    min_size: u32,
    reserve_size: u32,
    max_client_conn: u32,
    max_db_conn: u32,
}

/// Files of a pooler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// The directory of everything that is written here.
    pub(super) dir: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: Option<PathBuf>,
}

impl Files {
    pub(super) fn ini(&self) -> PathBuf {
        self.dir.join("pgbouncer.ini")
    }

    pub(super) fn users(&self) -> PathBuf {
        self.dir.join("userlist.txt")
    }
}

fn required<'a>(env: &'a Environment, name: &str) -> anyhow::Result<&'a str> {
    let value = env.get(name).with_context(|| format!("{name} is not set"))?;
    ensure!(
        !value.contains(['\n', '\r', '\0']),
        "{name} has a line break in it"
    );
    Ok(value)
}

/// A value of a connection string or an unquoted setting.
fn word<'a>(env: &'a Environment, name: &str) -> anyhow::Result<&'a str> {
    let value = required(env, name)?;
    ensure!(
        !value.contains([' ', '\'', '"', '=', ';']),
        "{name}: '{value}' must be one word without quotes"
    );
    Ok(value)
}

fn number<T: std::str::FromStr>(env: &Environment, name: &str, default: T) -> anyhow::Result<T> {
    match env.get(name) {
        None | Some("") => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .with_context(|| format!("{name}: '{text}' is not a whole number that fits")),
    }
}

impl Config {
    pub(super) fn read(env: &Environment) -> anyhow::Result<Self> {
        let mode = env.or("CONNECTION_POOLER_MODE", "transaction").to_owned();
        ensure!(
            ["session", "transaction", "statement"].contains(&mode.as_str()),
            "CONNECTION_POOLER_MODE: '{mode}' must be session, transaction or statement"
        );
        let default_size = number(env, "CONNECTION_POOLER_DEFAULT_SIZE", 20)?;
        Ok(Config {
            host: word(env, "PGHOST")?.to_owned(),
            port: number(env, "PGPORT", 5432)?,
            user: word(env, "PGUSER")?.to_owned(),
            password: required(env, "PGPASSWORD")?.to_owned(),
            schema: word(env, "PGSCHEMA")?.to_owned(),
            mode,
            // The sandbox gives each pod a loopback address of its own.
            listen: env.or("HOWDAH_POD_IP", "*").to_owned(),
            listen_port: number(env, "CONNECTION_POOLER_PORT", 5432)?,
            metrics_port: number(env, "HOWDAH_POOLER_METRICS_PORT", 9127)?,
            default_size,
            min_size: number(env, "CONNECTION_POOLER_MIN_SIZE", 0)?,
            reserve_size: number(env, "CONNECTION_POOLER_RESERVE_SIZE", 0)?,
            max_client_conn: number(env, "CONNECTION_POOLER_MAX_CLIENT_CONN", 10_000)?,
            max_db_conn: number(env, "CONNECTION_POOLER_MAX_DB_CONN", 2 * default_size)?,
        })
    }

    /// The text of `pgbouncer.ini`, for this version of `PgBouncer`.
    pub(super) fn ini(&self, files: &Files, version: (u32, u32)) -> String {
        let shown = |path: &Path| path.display().to_string();
        let number = |number: u32| number.to_string();
        let mut settings: Vec<(&str, String)> = vec![
            ("pool_mode", self.mode.clone()),
            ("listen_addr", self.listen.clone()),
            ("listen_port", self.listen_port.to_string()),
            ("unix_socket_dir", shown(&files.dir)),
            // Verifiers of both kinds are taken: md5 stands for SCRAM too where the server has that.
            ("auth_type", "md5".into()),
            ("auth_file", shown(&files.users())),
            (
                "auth_query",
                format!("SELECT uname, phash FROM \"{}\".user_lookup($1)", self.schema),
            ),
            // Of the console, for metrics.
            ("stats_users", self.user.clone()),
            ("default_pool_size", number(self.default_size)),
            ("min_pool_size", number(self.min_size)),
            ("reserve_pool_size", number(self.reserve_size)),
            ("max_client_conn", number(self.max_client_conn)),
            ("max_db_connections", number(self.max_db_conn)),
            ("client_tls_sslmode", "require".into()),
            ("client_tls_cert_file", shown(&files.certificate)),
            ("client_tls_key_file", shown(&files.key)),
            ("server_tls_sslmode", "require".into()),
            // A new primary is found at once, and a dead one is given up: the defaults are 15 s and never.
            ("server_login_retry", "1".into()),
            ("server_connect_timeout", "5".into()),
            ("tcp_user_timeout", "10000".into()),
            ("server_fast_close", "1".into()),
            ("idle_transaction_timeout", "600".into()),
            ("ignore_startup_parameters", "extra_float_digits,options".into()),
            ("log_connections", "0".into()),
            ("log_disconnections", "0".into()),
        ];
        if let Some(ca) = &files.ca {
            settings.push(("client_tls_ca_file", shown(ca)));
        }
        if version >= (1, 21) {
            settings.push(("max_prepared_statements", "200".into()));
        }
        let mut out = format!(
            "[databases]\n* = host={} port={} auth_user={}\n\n[pgbouncer]\n",
            self.host, self.port, self.user
        );
        for (name, value) in settings {
            out.push_str(&format!("{name} = {value}\n"));
        }
        out
    }

    /// The text of the file with the one role that looks the others up.
    pub(super) fn users(&self) -> String {
        format!("\"{}\" \"{}\"\n", self.user, self.password.replace('"', "\"\""))
    }
}

/// The version in what `pgbouncer --version` says.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let word = text.split_whitespace().nth(1)?;
    let mut parts = word.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(more: &[(&str, &str)]) -> Environment {
        let given = [
            ("PGHOST", "acid-x"),
            ("PGUSER", "pooler"),
            ("PGPASSWORD", "a\"b"),
            ("PGSCHEMA", "pooler"),
        ];
        given
            .iter()
            .chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn files() -> Files {
        Files {
            dir: "/run/pgbouncer".into(),
            certificate: "/tls/tls.crt".into(),
            key: "/tls/tls.key".into(),
            ca: None,
        }
    }

    #[test]
    fn the_environment_becomes_pgbouncers_configuration() {
        let config = Config::read(&env(&[
            ("CONNECTION_POOLER_MAX_DB_CONN", "30"),
            ("CONNECTION_POOLER_MODE", "session"),
        ]))
        .unwrap();
        let ini = config.ini(&files(), (1, 18));
        for line in [
            "* = host=acid-x port=5432 auth_user=pooler",
            "pool_mode = session",
            "max_db_connections = 30",
            "auth_query = SELECT uname, phash FROM \"pooler\".user_lookup($1)",
            "client_tls_sslmode = require",
        ] {
            assert!(ini.lines().any(|have| have == line), "{line}: {ini}");
        }
        assert!(!ini.contains("max_prepared_statements") && !ini.contains("a\"b"));
        assert!(
            config
                .ini(&files(), (1, 21))
                .contains("max_prepared_statements = 200")
        );
        assert_eq!(config.users(), "\"pooler\" \"a\"\"b\"\n");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (name, value, part) in [
            ("CONNECTION_POOLER_MODE", "both", "must be session"),
            ("PGHOST", "a b", "one word"),
            ("CONNECTION_POOLER_MIN_SIZE", "-1", "not a whole number"),
        ] {
            let error = Config::read(&env(&[(name, value)])).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(part), "{error}");
        }
        let nothing: Environment = std::iter::empty::<(String, String)>().collect();
        assert!(
            Config::read(&nothing)
                .unwrap_err()
                .to_string()
                .contains("PGHOST is not set")
        );
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(version("PgBouncer 1.18.0\nlibevent 2.1\n"), Some((1, 18)));
        assert_eq!(version("something else"), None);
    }
}
