//! Programs of the user's that hear of PostgreSQL's life: Patroni's `postgresql.callbacks`.

use std::time::Duration;

use howdah_clock::now;
use howdah_config::{Callback, Hooks};
use howdah_ha::Action;
use howdah_types::{BootTime, Role, Scope};
use tokio::task::JoinHandle;

/// How often the caller of [`Callbacks::finish`] is called back.
const TICK: Duration = Duration::from_millis(500);

/// The calls that run, and what was told already.
#[derive(Default)]
pub(crate) struct Callbacks {
    told: Told,
    running: Option<JoinHandle<()>>,
    /// A reload ends no other call.
    reload: Option<JoinHandle<()>>,
}

impl Callbacks {
    /// An action begins that stops or restarts PostgreSQL, or does neither.
    pub(crate) fn begins(&mut self, action: &Action) {
        self.told.expected = expected(action);
    }

    /// Calls who must hear of what was seen. A newer call ends one that still runs.
    pub(crate) fn look(&mut self, look: Look<'_>, hooks: &Hooks, scope: &Scope) {
        if let Some((callback, role)) = self.told.look(look) {
            let call = call(callback, role, hooks, scope);
            replace(&mut self.running, call);
        }
    }

    /// PostgreSQL was told to read its configuration again.
    pub(crate) fn reloaded(&mut self, hooks: &Hooks, scope: &Scope) {
        if let Some(role) = self.told.role {
            let call = call(Callback::Reload, role, hooks, scope);
            replace(&mut self.reload, call);
        }
    }

    /// Waits for the calls that run. `beat` is called meanwhile.
    pub(crate) async fn finish(&mut self, deadline: BootTime, beat: impl Fn()) {
        for call in [self.running.take(), self.reload.take()].into_iter().flatten() {
            let mut call = call;
            while !call.is_finished() && now() < deadline {
                beat();
                let _ = howdah_http::timeout_at(deadline.min(now() + TICK), &mut call).await;
            }
            if !call.is_finished() {
                tracing::warn!("A callback still runs: it is ended.");
            }
            call.abort();
        }
    }
}

fn replace(slot: &mut Option<JoinHandle<()>>, call: Option<JoinHandle<()>>) {
    if let Some(call) = call
        && let Some(old) = slot.replace(call)
    {
        old.abort();
    }
}

fn call(callback: Callback, role: Role, hooks: &Hooks, scope: &Scope) -> Option<JoinHandle<()>> {
    let script = hooks.on(callback)?.to_owned();
    let scope = scope.to_string();
    Some(tokio::spawn(async move {
        let args = [callback.name(), role.as_str(), scope.as_str()];
        if let Err(error) = howdah_postgres::run_script(&script, &args, None).await {
            tracing::warn!("{}: {error}.", callback.name());
        }
    }))
}

/// What is seen of PostgreSQL.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look<'a> {
    /// It takes connections.
    Serves {
        role: Role,
        /// When its postmaster was started, which tells one from another.
        started: &'a str,
        /// No action is under way.
        idle: bool,
    },
    /// It does not run.
    Ended {
        /// It was a primary without a lease: the guard has ended it, on purpose.
        fenced: bool,
    },
}

/// What an action does to PostgreSQL on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Restart,
    Stop,
}

fn expected(action: &Action) -> Option<Expected> {
    match action {
        Action::Restart { .. } | Action::CopySlots { .. } => Some(Expected::Restart),
        Action::HandOver { .. }
        | Action::DemoteCluster
        | Action::StopPrimary
        | Action::GiveUp
        | Action::KillServer
        | Action::Rejoin { .. }
        | Action::Reinitialize { .. }
        | Action::Shutdown { .. } => Some(Expected::Stop),
        Action::Bootstrap
        | Action::Clone { .. }
        | Action::StartReplica { .. }
        | Action::StartPrimary { .. }
        | Action::Promote { .. }
        | Action::Checkpoint => None,
    }
}

/// What the scripts have heard of.
#[derive(Debug, Default)]
struct Told {
    role: Option<Role>,
    /// The postmaster that they believe to run.
    started: Option<String>,
    expected: Option<Expected>,
}

impl Told {
    /// What they must hear of now, and the role that is told. A change of role is told instead of the start or restart that
    /// comes with it; an end that nobody wanted is not told, but the start after it is.
    fn look(&mut self, look: Look<'_>) -> Option<(Callback, Role)> {
        match look {
            Look::Serves { role, .. }
                if !matches!(role, Role::Primary | Role::Replica | Role::StandbyLeader) =>
            {
                None
            }
            Look::Serves { role, started, idle } => {
                let before = self.role.replace(role);
                let same = self.started.as_deref() == Some(started);
                let expected = self.expected;
                if !same {
                    self.started = Some(started.to_owned());
                }
                if !same || idle {
                    self.expected = None;
                }
                match before {
                    Some(before) if before != role => Some((Callback::RoleChange, role)),
                    _ if same => None,
                    Some(_) if expected == Some(Expected::Restart) => Some((Callback::Restart, role)),
                    _ => Some((Callback::Start, role)),
                }
            }
            Look::Ended { fenced } => {
                let on_purpose = fenced || self.expected == Some(Expected::Stop);
                self.started.take_if(|_| on_purpose)?;
                Some((Callback::Stop, self.role?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serves(told: &mut Told, role: Role, started: &str) -> Option<Callback> {
        let look = Look::Serves {
            role,
            started,
            idle: true,
        };
        told.look(look).map(|(callback, _)| callback)
    }

    fn ended(told: &mut Told) -> Option<(Callback, Role)> {
        told.look(Look::Ended { fenced: false })
    }

    #[test]
    fn each_event_is_told_once() {
        let mut told = Told::default();
        assert_eq!(ended(&mut told), None, "it never ran");
        assert_eq!(serves(&mut told, Role::Replica, "1"), Some(Callback::Start));
        assert_eq!(serves(&mut told, Role::Replica, "1"), None);
        assert_eq!(serves(&mut told, Role::Promoted, "1"), None, "not yet");
        assert_eq!(serves(&mut told, Role::Primary, "1"), Some(Callback::RoleChange));
        told.expected = Some(Expected::Restart);
        assert_eq!(ended(&mut told), None, "a restart is one event");
        assert_eq!(serves(&mut told, Role::Primary, "2"), Some(Callback::Restart));
        told.expected = Some(Expected::Stop);
        assert_eq!(ended(&mut told), Some((Callback::Stop, Role::Primary)));
        assert_eq!(ended(&mut told), None);
        assert_eq!(
            serves(&mut told, Role::Replica, "3"),
            Some(Callback::RoleChange),
            "instead of the start"
        );
    }

    #[test]
    fn a_crash_is_no_stop_and_what_follows_is_a_start() {
        let mut told = Told::default();
        serves(&mut told, Role::Primary, "1");
        assert_eq!(ended(&mut told), None);
        assert_eq!(serves(&mut told, Role::Primary, "2"), Some(Callback::Start));
        assert_eq!(
            told.look(Look::Ended { fenced: true }),
            Some((Callback::Stop, Role::Primary)),
            "the guard ends one on purpose"
        );
    }

    #[test]
    fn an_action_that_stopped_nothing_leaves_no_expectation() {
        let mut told = Told::default();
        serves(&mut told, Role::Primary, "1");
        told.expected = Some(Expected::Stop);
        let look = Look::Serves {
            role: Role::Primary,
            started: "1",
            idle: false,
        };
        assert_eq!(told.look(look), None);
        assert_eq!(told.expected, Some(Expected::Stop), "the action is under way");
        serves(&mut told, Role::Primary, "1");
        assert_eq!(ended(&mut told), None, "it crashed later");
    }
}
