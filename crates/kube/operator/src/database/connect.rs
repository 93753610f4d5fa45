use std::{net::SocketAddr, time::Duration};

use howdah_clock::now;
use howdah_http::{client_tls, timeout_at};
use howdah_types::BootTime;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, SimpleQueryMessage, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::OperatorError;

/// A whole comparison of one database may take this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A row as texts.
pub(super) type Row = Vec<Option<String>>;

/// One connection. TLS is required and the certificate not checked, as upstream has it: members sign their own.
pub(super) struct Session {
    client: Client,
    connection: JoinHandle<()>,
    deadline: BootTime,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    pub(super) async fn open(
        address: SocketAddr,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Self, OperatorError> {
        let deadline = now() + PATIENCE;
        let mut config = Config::new();
        config
            .host(address.ip().to_string())
            .port(address.port())
            .user(user)
            .password(password)
            .dbname(database)
            .application_name("howdah operator")
            .connect_timeout(Duration::from_secs(5))
            .ssl_mode(SslMode::Require);
        let tls = MakeRustlsConnect::new((*client_tls(None, None, true)?).clone());
        let connected = timeout_at(deadline, config.connect(tls)).await;
        let (client, connection) = connected
            .map_err(|_| OperatorError::Timeout(PATIENCE.as_secs()))?
            .map_err(OperatorError::database("connecting"))?;
        // Ends with the client, or is ended with the session.
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a database has ended");
            }
        });
        Ok(Session {
            client,
            connection,
            deadline,
        })
    }

    pub(super) async fn run(&self, sql: &str) -> Result<(), OperatorError> {
        self.run_for(sql, sql).await
    }

    /// Runs a statement; `what` is for the error, since the text may hold a password.
    pub(super) async fn run_for(&self, sql: &str, what: &str) -> Result<(), OperatorError> {
        match timeout_at(self.deadline, self.client.batch_execute(sql)).await {
            Ok(result) => result.map_err(OperatorError::database(what)),
            Err(_) => Err(OperatorError::Timeout(PATIENCE.as_secs())),
        }
    }

    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<Row>, OperatorError> {
        let answer = timeout_at(self.deadline, self.client.simple_query(sql))
            .await
            .map_err(|_| OperatorError::Timeout(PATIENCE.as_secs()))?
            .map_err(OperatorError::database("reading"))?;
        Ok(answer
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(
                    (0..row.len())
                        .map(|column| row.get(column).map(str::to_owned))
                        .collect(),
                ),
                _ => None,
            })
            .collect())
    }

    /// The server's major.
    pub(super) async fn major(&self) -> Result<String, OperatorError> {
        let rows = self.rows("SHOW server_version_num").await?;
        let number = rows
            .first()
            .and_then(|row| row.first()?.as_ref()?.parse::<u32>().ok());
        Ok(number
            .map(|number| (number / 10_000).to_string())
            .unwrap_or_default())
    }
}
