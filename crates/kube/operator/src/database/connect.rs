use std::net::SocketAddr;

use howdah_clock::now;
use howdah_http::client_tls;
use howdah_sql::{Target, Tls};
use howdah_types::BootTime;

use crate::OperatorError;

/// A whole comparison of one database may take this long.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What owners of databases and roles may set does not hold for the superuser's sessions: a function or an operator of theirs
/// would run with its rights, or a lock of theirs hold it.
const SETTINGS: &str = "-c role=none -c search_path=pg_catalog,pg_temp -c default_transaction_read_only=off \
    -c lock_timeout=5s -c statement_timeout=0 -c exit_on_error=off -c standard_conforming_strings=on";

/// A row as texts.
pub(super) type Row = Vec<Option<String>>;

/// One connection, with a deadline for all that is done over it. TLS is required and the certificate not checked, as
/// upstream has it: members sign their own.
pub(super) struct Session {
    session: howdah_sql::Session,
    deadline: BootTime,
}

impl Session {
    pub(super) async fn open(
        address: SocketAddr,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Self, OperatorError> {
        let deadline = now() + PATIENCE;
        let target = Target {
            host: &address.ip().to_string(),
            port: address.port(),
            user,
            password: Some(password),
            database,
            application: "howdah operator",
            options: SETTINGS,
            tls: Tls::Require(client_tls(None, None, true)?),
        };
        let connected = howdah_sql::Session::connect(&target, deadline).await;
        let session = connected.map_err(OperatorError::database("connecting"))?;
        Ok(Session { session, deadline })
    }

    pub(super) async fn run(&self, sql: &str) -> Result<(), OperatorError> {
        self.run_for(sql, sql).await
    }

    /// Runs a statement; `what` is for the error, since the text may hold a password.
    pub(super) async fn run_for(&self, sql: &str, what: &str) -> Result<(), OperatorError> {
        let done = self.session.run(sql, self.deadline).await;
        done.map_err(OperatorError::database(what))
    }

    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<Row>, OperatorError> {
        let rows = self.session.rows(sql, self.deadline).await;
        let rows = rows.map_err(OperatorError::database("reading"))?;
        let texts = |row: &howdah_sql::SimpleQueryRow| {
            let columns = 0..row.len();
            columns.map(|column| row.get(column).map(str::to_owned)).collect()
        };
        Ok(rows.iter().map(texts).collect())
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
