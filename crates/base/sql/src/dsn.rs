use tokio_postgres::config::{Host, SslMode};

/// How to connect to a server, as libpq's connection string and variables say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    /// A host, or the directory of a socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The role.
    pub user: String,
    /// Its password, where one is given.
    pub password: Option<String>,
    /// The database.
    pub database: String,
    /// `sslmode` asks for TLS.
    pub needs_tls: bool,
}

impl Dsn {
    /// Reads a connection string, `key=value …` or `postgresql://…`; what it does not say is in `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD` and
    /// `PGDATABASE`, or libpq's default. Of several hosts the first counts.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, tokio_postgres::Error> {
        let config: tokio_postgres::Config = text.parse()?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = config.get_hosts().first().map(|host| match host {
            Host::Tcp(host) => host.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        let port = config.get_ports().first().copied();
        let user = config.get_user().map(str::to_owned);
        let password = config.get_password();
        let user = user
            .or_else(|| variable("PGUSER"))
            .unwrap_or_else(|| "postgres".to_owned());
        Ok(Dsn {
            host: host
                .or_else(|| variable("PGHOST"))
                .unwrap_or_else(|| "/var/run/postgresql".to_owned()),
            port: port.or_else(|| variable("PGPORT")?.parse().ok()).unwrap_or(5432),
            password: password
                .map(|password| String::from_utf8_lossy(password).into_owned())
                .or_else(|| variable("PGPASSWORD")),
            database: config
                .get_dbname()
                .map(str::to_owned)
                .or_else(|| variable("PGDATABASE"))
                .unwrap_or_else(|| "postgres".to_owned()),
            user,
            needs_tls: config.get_ssl_mode() == SslMode::Require,
        })
    }
}
