//! Which parameters wait for a restart.

use std::time::Duration;

use howdah_clock::now;
use howdah_ha::{Postgres, Snapshot};
use howdah_http::sleep_until;
use howdah_postgres::{PendingRestart, Session, file_errors};

use crate::agent::{Agent, READ_PATIENCE};

/// A server reads its files within milliseconds of being told; it does not tell when it has.
const RELOAD: Duration = Duration::from_millis(500);
/// How often it is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// When the server had last read its files.
#[derive(Default)]
pub(crate) struct Loaded {
    last: Option<String>,
    /// It was told to read them again, and has not as far as we know.
    expected: bool,
}

impl Loaded {
    /// The server is about to be told to read its files.
    pub(crate) fn expect(&mut self) {
        self.expected = true;
    }

    /// Waits until the server has read its files, half a second at most: a parameter that needs a restart is not known
    /// before.
    async fn wait(&mut self, session: &Session) {
        let deadline = now() + RELOAD;
        loop {
            let rows = session
                .rows("SELECT pg_conf_load_time()", now() + READ_PATIENCE)
                .await;
            let time = rows.ok().and_then(|rows| rows.first()?.get(0).map(str::to_owned));
            let is_new = self.last.is_some() && time != self.last;
            if !self.expected || is_new || now() >= deadline {
                self.last = time;
                self.expected = false;
                return;
            }
            sleep_until(now() + LOOK).await;
        }
    }
}

impl Agent {
    /// Looks which parameters wait for a restart, after the server has read its files again.
    pub(crate) async fn find_pending(&mut self, snapshot: &Snapshot) {
        let Postgres::Running(_) = snapshot.postgres else {
            self.pending.clear();
            self.check_pending = true;
            return;
        };
        let Some(session) = self.observer.session().filter(|_| self.check_pending) else {
            return;
        };
        self.loaded.wait(session).await;
        match file_errors(session, now() + READ_PATIENCE).await {
            Ok(errors) => {
                for error in errors.iter().filter(|error| !self.file_errors.contains(error)) {
                    tracing::error!("{error}.");
                }
                self.file_errors = errors;
            }
            Err(error) => tracing::debug!(%error, "PostgreSQL's files were not looked at"),
        }
        match PendingRestart::find(session, &self.dynamic, now() + READ_PATIENCE).await {
            Ok(found) => {
                self.pending = found.to_json();
                self.check_pending = false;
            }
            Err(error) => tracing::debug!(%error, "parameters were not compared"),
        }
    }
}
