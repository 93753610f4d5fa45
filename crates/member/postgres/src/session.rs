use std::{future::Future, path::Path, time::Duration};

use howdah_config::Account;
use howdah_http::{client_tls, timeout_at};
use howdah_types::BootTime;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::PgError;

/// One SQL connection of the agent. Statements have a timeout in the server and a deadline here.
pub struct Session {
    client: Client,
}

/// Whom to connect to.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Host, or the directory of a socket.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// Role and password.
    pub account: &'a Account,
    /// Database.
    pub database: &'a str,
}

/// A statement that takes longer is cut off by the server.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// No connection by `deadline`.
    pub async fn connect(target: Target<'_>, deadline: BootTime) -> Result<Self, PgError> {
        let mut config = Config::new();
        config
            .host(target.host)
            .port(target.port)
            .user(&target.account.username)
            .dbname(target.database)
            .application_name("Howdah")
            .options(format!(
                "-c statement_timeout={} -c search_path=pg_catalog -c synchronous_commit=local",
                STATEMENT_TIMEOUT.as_millis()
            ))
            .connect_timeout(Duration::from_secs(3));
        if let Some(password) = &target.account.password {
            config.password(password);
        }
        let client = match tls(&target)? {
            None => {
                let (client, connection) = timeout_at(deadline, config.connect(NoTls))
                    .await
                    .map_err(|_| PgError::Timeout("connecting"))??;
                drive(connection);
                client
            }
            Some((mode, tls)) => {
                config.ssl_mode(mode);
                let (client, connection) = timeout_at(deadline, config.connect(tls))
                    .await
                    .map_err(|_| PgError::Timeout("connecting"))??;
                drive(connection);
                client
            }
        };
        Ok(Session { client })
    }

    /// Whether the server has closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The first row of a query; all values are text.
    ///
    /// # Errors
    /// The query fails, has no row, or takes too long.
    pub async fn row(&self, sql: &str, deadline: BootTime) -> Result<SimpleQueryRow, PgError> {
        self.rows(sql, deadline)
            .await?
            .into_iter()
            .next()
            .ok_or_else(|| PgError::Sql("the query gave no row".to_owned()))
    }

    /// All rows of a query; all values are text.
    ///
    /// # Errors
    /// The query fails or takes too long.
    pub async fn rows(&self, sql: &str, deadline: BootTime) -> Result<Vec<SimpleQueryRow>, PgError> {
        let answer = timeout_at(deadline, self.client.simple_query(sql))
            .await
            .map_err(|_| PgError::Timeout("a query"))??;
        Ok(answer
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect())
    }

    /// Statements without a result.
    ///
    /// # Errors
    /// One fails, or it takes too long.
    pub async fn run(&self, sql: &str, deadline: BootTime) -> Result<(), PgError> {
        timeout_at(deadline, self.client.batch_execute(sql))
            .await
            .map_err(|_| PgError::Timeout("a statement"))??;
        Ok(())
    }
}

/// Runs a connection. It ends when the client is dropped or the server closes; the client then reports it as closed.
fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "SQL connection ended");
        }
    });
}

/// How to speak TLS, by libpq's `sslmode`; `None` for sockets and where it is off. As in libpq, certificates are checked
/// only with a mode that says so; `verify-ca` checks the name as well.
fn tls(target: &Target<'_>) -> Result<Option<(SslMode, MakeRustlsConnect)>, PgError> {
    let setting = |key: &str| target.account.ssl.get(key).map(String::as_str);
    let mode = setting("sslmode").unwrap_or("prefer");
    if target.host.starts_with('/') || mode == "disable" {
        return Ok(None);
    }
    let checked = mode.starts_with("verify-");
    let root = setting("sslrootcert").map(Path::new).filter(|_| checked);
    if checked && root.is_none() {
        return Err(PgError::Sql(format!("sslmode={mode} needs sslrootcert")));
    }
    let cert = setting("sslcert").zip(setting("sslkey"));
    let cert = cert.map(|(cert, key)| (Path::new(cert), Path::new(key)));
    let config = client_tls(root, cert, !checked).map_err(|error| PgError::Sql(error.to_string()))?;
    let mode = if matches!(mode, "prefer" | "allow") {
        SslMode::Prefer
    } else {
        SslMode::Require
    };
    Ok(Some((mode, MakeRustlsConnect::new((*config).clone()))))
}

/// A text as an SQL literal.
pub(crate) fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// A name as an SQL identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
