//! The agent's SQL sessions: whom they are by, and how they are encrypted.

use std::{path::Path, time::Duration};

use howdah_config::Account;
use howdah_http::client_tls;
use howdah_sql::{Session, Target, Tls};
use howdah_types::BootTime;

use crate::PgError;

/// A statement that takes longer is cut off by the server.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects as `account`. Commits of the session wait for no standby.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    account: &Account,
    database: &str,
    deadline: BootTime,
) -> Result<Session, PgError> {
    let options = format!(
        "-c statement_timeout={} -c search_path=pg_catalog -c synchronous_commit=local",
        STATEMENT_TIMEOUT.as_millis()
    );
    let target = Target {
        host,
        port,
        user: &account.username,
        password: account.password.as_deref(),
        database,
        application: "Howdah",
        options: &options,
        tls: tls(host, account)?,
    };
    Ok(Session::connect(&target, deadline).await?)
}

/// How to speak TLS, by libpq's `sslmode`; not at all over sockets. As in libpq, certificates are checked only with a mode
/// that says so; `verify-ca` checks the name as well.
fn tls(host: &str, account: &Account) -> Result<Tls, PgError> {
    let setting = |key: &str| account.libpq.get(key).map(String::as_str);
    let mode = setting("sslmode").unwrap_or("prefer");
    if host.starts_with('/') || mode == "disable" {
        return Ok(Tls::Off);
    }
    let checked = mode.starts_with("verify-");
    let root = setting("sslrootcert").map(Path::new).filter(|_| checked);
    if checked && root.is_none() {
        return Err(PgError::NoRootCertificate(mode.to_owned()));
    }
    let cert = setting("sslcert").zip(setting("sslkey"));
    let cert = cert.map(|(cert, key)| (Path::new(cert), Path::new(key)));
    let config = client_tls(root, cert, !checked)?;
    Ok(match mode {
        "prefer" | "allow" => Tls::Prefer(config),
        _ => Tls::Require(config),
    })
}
