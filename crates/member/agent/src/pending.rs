//! Which parameters wait for a restart.

use std::time::Duration;

use howdah_clock::now;
use howdah_config::Dynamic;
use howdah_http::sleep_until;
use howdah_postgres::{PendingRestart, Session, file_errors};
use serde_json::{Map, Value};

use crate::patience::READ_PATIENCE;

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

/// Parameters that wait for a restart, and what PostgreSQL could not read of its files.
pub(crate) struct Pending {
    /// The parameters, as Patroni's documents have them.
    pub(crate) parameters: Map<String, Value>,
    /// They are to be looked for.
    pub(crate) check: bool,
    /// Lines of PostgreSQL's own files that it could not read.
    pub(crate) file_errors: Vec<String>,
    /// When the server had last read its files, before it was told to read them again.
    pub(crate) loaded: Loaded,
}

impl Default for Pending {
    fn default() -> Self {
        Pending {
            parameters: Map::new(),
            check: true,
            file_errors: Vec::new(),
            loaded: Loaded::default(),
        }
    }
}

impl Pending {
    /// No server runs: the next one starts with everything.
    pub(crate) fn clear(&mut self) {
        self.parameters.clear();
        self.check = true;
    }

    pub(crate) async fn find(&mut self, session: &Session, dynamic: &Dynamic) {
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
        match PendingRestart::find(session, dynamic, now() + READ_PATIENCE).await {
            Ok(found) => {
                self.parameters = found.to_json();
                self.check = false;
            }
            Err(error) => tracing::debug!(%error, "parameters were not compared"),
        }
    }
}
