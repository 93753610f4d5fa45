use howdah_ha::{Dcs, Plan, Snapshot};
use howdah_types::{Role, Scope};
use tokio::task::JoinHandle;

use crate::{member::Publisher, publish::Published};

/// What the agent has told others: the log, the record in the store, the REST thread, the user's script.
pub(crate) struct Voice {
    pub(crate) publisher: Publisher,
    pub(crate) published: Published,
    /// Lines that the log could not take.
    pub(crate) log_lost: fn() -> u64,
    sentence: String,
    /// The role that the user's script has heard of.
    role: Role,
    callback: Option<JoinHandle<()>>,
}

impl Voice {
    /// Nothing was said yet.
    pub(crate) fn new(published: Published, log_lost: fn() -> u64) -> Self {
        Voice {
            publisher: Publisher::default(),
            published,
            log_lost,
            sentence: String::new(),
            role: Role::Uninitialized,
            callback: None,
        }
    }

    /// Logs why the plan is as it is, when that is not what was logged last.
    pub(crate) fn say(&mut self, plan: &Plan, snapshot: &Snapshot) {
        let reasons: Vec<String> = plan.reasons.iter().map(ToString::to_string).collect();
        let sentence = reasons.join("; ");
        // An agent that begins while the store is down has said so already.
        let begun = matches!(snapshot.dcs, Dcs::Fresh(_)) || !self.sentence.is_empty();
        if begun && !sentence.is_empty() && sentence != self.sentence {
            tracing::info!("{sentence}");
            self.sentence = sentence;
        }
    }

    /// Calls the user's script when the role has changed. A newer call ends one that still runs.
    pub(crate) fn role_is(&mut self, role: Role, script: Option<&String>, scope: &Scope) {
        let settled = matches!(role, Role::Primary | Role::Replica | Role::StandbyLeader);
        if !settled || role == self.role {
            return;
        }
        let first = self.role == Role::Uninitialized;
        self.role = role;
        let Some(script) = script.filter(|_| !first).cloned() else {
            return;
        };
        let scope = scope.to_string();
        if let Some(old) = self.callback.take() {
            old.abort();
        }
        self.callback = Some(tokio::spawn(async move {
            let args = ["on_role_change", role.as_str(), scope.as_str()];
            if let Err(error) = howdah_postgres::run_script(&script, &args, None).await {
                tracing::warn!("on_role_change: {error}.");
            }
        }));
    }
}
