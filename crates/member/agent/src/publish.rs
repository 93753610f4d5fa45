//! What the REST thread answers from.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use howdah_dcs::View;
use howdah_member_api::{MemberFacts, ScheduledRestart};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::{reported::Reported, watching::Watching};

/// The facts of the last look, and a way to ask the loop for something.
#[derive(Clone)]
pub(crate) struct Published {
    facts: Arc<ArcSwapOption<MemberFacts>>,
    cluster: Arc<ArcSwapOption<Shown>>,
    watching: Watching,
    pub(crate) archive: Reported,
    pub(crate) commands: mpsc::Sender<ApiCommand>,
}

/// A view, and the document that is made of it once.
pub(crate) struct Shown {
    view: Arc<View>,
    document: OnceLock<String>,
}

impl Shown {
    /// The document; `make` is called once.
    pub(crate) fn document(&self, make: impl FnOnce(&View) -> String) -> String {
        self.document.get_or_init(|| make(&self.view)).clone()
    }
}

/// What the API asks of the loop.
#[derive(Debug)]
pub(crate) enum ApiCommand {
    /// Restart PostgreSQL; answered when it is done.
    Restart(oneshot::Sender<Result<(), String>>),
    /// Restart PostgreSQL at its time; answered whether it was noted: false if another one waits.
    Schedule(ScheduledRestart, oneshot::Sender<bool>),
    /// Forget the restart that waits; answered whether there was one.
    Flush(oneshot::Sender<bool>),
    /// Copy again; answered when it has begun.
    Reinitialize {
        /// From the leader.
        from_leader: bool,
        /// Cancel what is running.
        force: bool,
        /// The answer.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Read the configuration file again.
    Reload,
    /// Look at the world now, and answer when that is published.
    Refresh(oneshot::Sender<()>),
}

impl Published {
    pub(crate) fn new(commands: mpsc::Sender<ApiCommand>, watching: Watching) -> Self {
        Published {
            facts: Arc::new(ArcSwapOption::empty()),
            cluster: Arc::new(ArcSwapOption::empty()),
            watching,
            archive: Reported::default(),
            commands,
        }
    }

    /// The loop has read the cluster.
    pub(crate) fn show(&self, view: Arc<View>) {
        self.cluster.store(Some(Arc::new(Shown {
            view,
            document: OnceLock::new(),
        })));
    }

    /// The cluster as the loop has read it last, if the watch says that nothing has changed since.
    pub(crate) fn shown(&self) -> Option<Arc<Shown>> {
        self.cluster.load_full().filter(|_| self.watching.is_quiet())
    }

    /// The last facts; `None` before the first look.
    pub(crate) fn facts(&self) -> Option<Arc<MemberFacts>> {
        self.facts.load_full()
    }

    pub(crate) fn publish(&self, facts: MemberFacts) {
        self.facts.store(Some(Arc::new(facts)));
    }
}

/// A row of `pg_stat_replication` in the form of the status document.
pub(crate) fn replication_row(sender: &howdah_postgres::Sender) -> Value {
    serde_json::to_value(sender).unwrap_or_default()
}
