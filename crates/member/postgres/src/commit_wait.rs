//! Whether commits wait for a standby: a flag in PostgreSQL's shared memory that no view shows.

use std::time::Duration;

use howdah_clock::now;
use howdah_http::{sleep_until, timeout_at};
use howdah_types::BootTime;

use crate::{PgError, Server, Session};

/// Between two looks at the commit.
const LOOK: Duration = Duration::from_millis(5);

/// A message for logical decoding: the least that a transaction can write. Its prefix says whose it is.
const MESSAGE: &str = "SELECT pg_logical_emit_message(true, 'howdah', '')";

/// Commits a transaction that writes a little WAL, flushes it, and waits for no standby.
///
/// # Errors
/// The server does not answer by `deadline`.
pub async fn write_wal(session: &Session, deadline: BootTime) -> Result<(), PgError> {
    session.row(MESSAGE, deadline).await?;
    Ok(())
}

impl Server {
    /// Makes a commit that changes no table, in a session of its own, and sees whether it waits for a standby. Then it
    /// is cancelled. True only if it was *seen* to wait: `synchronous_standby_names` must hold a name that no standby has.
    ///
    /// # Errors
    /// The server does not answer by `deadline`, or the commit neither waits nor ends by then: a disk hangs.
    pub async fn commits_wait(&self, session: &Session, deadline: BootTime) -> Result<bool, PgError> {
        let commit = self.connect(deadline).await?;
        let pid = commit.row("SELECT pg_backend_pid()", deadline).await?;
        let pid: u32 = pid.get(0).and_then(|pid| pid.parse().ok()).unwrap_or_default();
        // The agent's sessions wait for no standby. Only a transaction that has written WAL before its commit record waits.
        let sql = format!("SET synchronous_commit = on; SET statement_timeout = 0; {MESSAGE}");
        let ends = timeout_at(deadline, commit.run(&sql, deadline));
        tokio::pin!(ends);
        let query = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}");
        let waits = loop {
            tokio::select! {
                biased;
                ended = &mut ends => {
                    break match ended {
                        Ok(ended) => ended.map(|()| false).map_err(PgError::from),
                        Err(_) => Err(PgError::Timeout("a commit")),
                    };
                }
                () = sleep_until(now() + LOOK) => {
                    match session.row(&query, deadline).await {
                        Ok(row) if row.get(0) == Some("SyncRep") => break Ok(true),
                        Ok(_) => {}
                        Err(error) => break Err(error.into()),
                    }
                }
            }
        };
        if !matches!(waits, Ok(false)) {
            // A backend that waits for a standby, or hangs in an fsync, does not notice that its client is gone.
            let _ = session
                .row(
                    &format!("SELECT pg_terminate_backend({pid})"),
                    now() + Duration::from_secs(1),
                )
                .await;
        }
        waits
    }
}
