//! One session with a PostgreSQL: connecting with or without TLS, and statements with absolute deadlines.
//!
//! All values are texts (the simple protocol), so that one query may ask for anything and no type is looked up. Dropping a
//! session sends Terminate and closes its connection within a second.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod dsn;
mod error;

use std::{sync::Arc, time::Duration};

pub use dsn::Dsn;
pub use error::SqlError;
use howdah_http::{ClientConfig, sleep_until, timeout_at};
use howdah_types::BootTime;
use tokio::sync::oneshot;
pub use tokio_postgres::SimpleQueryRow;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Limit of one try to reach an address, below the caller's deadline.
const CONNECT: Duration = Duration::from_secs(3);

/// How long a dropped session has to send Terminate. PostgreSQL counts one that does not as abandoned
/// (`pg_stat_database.sessions_abandoned`).
const GOODBYE: Duration = Duration::from_secs(1);

/// Whom to connect to, and as whom.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// A host, or the directory of a socket.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// The role.
    pub user: &'a str,
    /// Its password; `None` where none is asked for.
    pub password: Option<&'a str>,
    /// The database.
    pub database: &'a str,
    /// Shown in `pg_stat_activity`.
    pub application: &'a str,
    /// Settings of the session, as `-c name=value -c name=value`.
    pub options: &'a str,
    /// Encryption.
    pub tls: Tls,
}

/// How a connection is encrypted.
#[derive(Clone, Debug)]
pub enum Tls {
    /// It is not.
    Off,
    /// If the server can.
    Prefer(Arc<ClientConfig>),
    /// Else there is no connection.
    Require(Arc<ClientConfig>),
}

/// One connection.
pub struct Session {
    client: Client,
    /// Closed with the session: its connection ends soon after.
    _ends: oneshot::Sender<()>,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// No connection by `deadline`, or the server refuses it.
    pub async fn connect(target: &Target<'_>, deadline: BootTime) -> Result<Self, SqlError> {
        let mut config = Config::new();
        config
            .host(target.host)
            .port(target.port)
            .user(target.user)
            .dbname(target.database)
            .application_name(target.application)
            .options(target.options)
            .connect_timeout(CONNECT);
        if let Some(password) = target.password {
            config.password(password);
        }
        let late = |_| SqlError::Timeout("connecting");
        let (client, ends) = match &target.tls {
            Tls::Off => {
                let connecting = timeout_at(deadline, config.connect(NoTls));
                let (client, connection) = connecting.await.map_err(late)??;
                (client, drive(connection))
            }
            Tls::Prefer(tls) | Tls::Require(tls) => {
                config.ssl_mode(match &target.tls {
                    Tls::Prefer(_) => SslMode::Prefer,
                    Tls::Off | Tls::Require(_) => SslMode::Require,
                });
                let tls = MakeRustlsConnect::new((**tls).clone());
                let connecting = timeout_at(deadline, config.connect(tls));
                let (client, connection) = connecting.await.map_err(late)??;
                (client, drive(connection))
            }
        };
        Ok(Session { client, _ends: ends })
    }

    /// Whether the server has closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The first row of a query.
    ///
    /// # Errors
    /// The query fails, has no row, or takes too long.
    pub async fn row(&self, sql: &str, deadline: BootTime) -> Result<SimpleQueryRow, SqlError> {
        let rows = self.rows(sql, deadline).await?;
        rows.into_iter().next().ok_or(SqlError::NoRow)
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// The query fails or takes too long.
    pub async fn rows(&self, sql: &str, deadline: BootTime) -> Result<Vec<SimpleQueryRow>, SqlError> {
        let answer = timeout_at(deadline, self.client.simple_query(sql))
            .await
            .map_err(|_| SqlError::Timeout("a query"))??;
        let rows = answer.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// All rows of a query, with the names of its columns; those of the last result where there are several.
    ///
    /// # Errors
    /// The query fails or takes too long.
    pub async fn table(
        &self,
        sql: &str,
        deadline: BootTime,
    ) -> Result<(Vec<String>, Vec<SimpleQueryRow>), SqlError> {
        let answer = timeout_at(deadline, self.client.simple_query(sql))
            .await
            .map_err(|_| SqlError::Timeout("a query"))??;
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        for message in answer {
            match message {
                SimpleQueryMessage::RowDescription(described) => {
                    columns = described.iter().map(|column| column.name().to_owned()).collect();
                    rows.clear();
                }
                SimpleQueryMessage::Row(row) => rows.push(row),
                _ => {}
            }
        }
        Ok((columns, rows))
    }

    /// Statements without a result.
    ///
    /// # Errors
    /// One fails, or they take too long.
    pub async fn run(&self, sql: &str, deadline: BootTime) -> Result<(), SqlError> {
        timeout_at(deadline, self.client.batch_execute(sql))
            .await
            .map_err(|_| SqlError::Timeout("a statement"))??;
        Ok(())
    }
}

/// Runs a connection until the server ends it, or a second after the end of its session at the latest.
fn drive(
    connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
) -> oneshot::Sender<()> {
    let (ends, ended) = oneshot::channel();
    tokio::spawn(async move {
        let limit = async {
            let _ = ended.await;
            sleep_until(howdah_clock::now() + GOODBYE).await;
        };
        tokio::select! {
            biased;
            result = connection => {
                if let Err(error) = result {
                    tracing::trace!(%error, "SQL connection ended");
                }
            }
            () = limit => {}
        }
    });
    ends
}
