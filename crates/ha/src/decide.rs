use std::time::Duration;

use howdah_dcs::View;
use howdah_types::BootTime;

use crate::{
    Action, Dcs, Effect, LastLeader, LeaseState, Plan, Postgres, Reason, Request, Snapshot, bootstrap,
    follow, lead, race, recover,
};

/// Waits this long when nothing wakes it earlier and something is in motion.
pub(crate) const SOON: Duration = Duration::from_millis(100);

/// A decision to acquire is stale after this.
pub(crate) const DECISION_LIFE: Duration = Duration::from_secs(2);

impl Plan {
    pub(crate) fn because(&mut self, reason: Reason) -> &mut Self {
        self.reasons.push(reason);
        self
    }

    pub(crate) fn effect(&mut self, effect: Effect) -> &mut Self {
        self.effects.push(effect);
        self
    }

    pub(crate) fn wake(&mut self, at: BootTime) -> &mut Self {
        self.next_wake = self.next_wake.min(at);
        self
    }

    /// Begins a long action, unless the same failed a moment ago.
    pub(crate) fn begin(&mut self, snapshot: &Snapshot, action: Action) -> &mut Self {
        if snapshot.action.is_some() {
            return self;
        }
        match snapshot
            .memory
            .retry_at
            .get(action.name())
            .filter(|at| snapshot.now < **at)
        {
            Some(&until) => {
                self.because(Reason::ActionPaused {
                    action: action.name(),
                    until,
                });
                self.wake(until)
            }
            None => self.effect(Effect::Begin(action)),
        }
    }
}

/// Decides what a member does now. Total and deterministic.
#[must_use]
pub fn decide(snapshot: &Snapshot) -> Plan {
    let mut plan = Plan {
        next_wake: snapshot.now + snapshot.config.timers.loop_wait,
        memory: snapshot.memory.clone(),
        ..Plan::default()
    };
    let view = match &snapshot.dcs {
        Dcs::Fresh(view) => view,
        Dcs::Down { since } => {
            store_down(snapshot, *since, &mut plan);
            return plan;
        }
    };
    remember_leader(snapshot, view, &mut plan);

    if let Some(running) = &snapshot.action {
        plan.because(Reason::ActionRuns {
            action: running.action.name(),
        });
        // A checkpoint takes minutes on a large server; a leader must not be blind for so long.
        if running.action != Action::Checkpoint {
            return plan;
        }
    }
    if snapshot.request == Some(Request::Shutdown) {
        shutdown(snapshot, &mut plan);
        return plan;
    }
    if system_differs(snapshot, view, &mut plan) {
        return plan;
    }
    match &snapshot.postgres {
        Postgres::Unreadable => {
            // Whoever can read its data may lead; the guard lets go only when PostgreSQL does not run.
            plan.because(Reason::Unreadable).wake(snapshot.now + SOON * 10);
            if !matches!(snapshot.lease, LeaseState::None) {
                plan.effect(Effect::Release);
            }
        }
        Postgres::Missing => bootstrap::missing(snapshot, view, &mut plan),
        Postgres::Stopped(stopped) => recover::stopped(snapshot, view, stopped, &mut plan),
        Postgres::Starting { since } => recover::starting(snapshot, view, *since, &mut plan),
        Postgres::Running(running) => match snapshot.lease {
            LeaseState::Unsure => {
                // Whether it is held will be known in a moment; until then the guard keeps the time.
                plan.because(Reason::LeaseUnsure).wake(snapshot.now + SOON);
            }
            LeaseState::Held { .. } => lead::holding(snapshot, view, running, &mut plan),
            LeaseState::None if view.leader.is_some() => follow::follow(snapshot, view, running, &mut plan),
            LeaseState::None => race::leaderless(snapshot, view, running, &mut plan),
        },
    }
    refuse_unserved(snapshot, &mut plan);
    plan
}

/// Nobody waits for ever: a request that this decision does not begin is answered.
fn refuse_unserved(snapshot: &Snapshot, plan: &mut Plan) {
    let served = |effect: &Effect| {
        matches!(
            (&snapshot.request, effect),
            (Some(Request::Restart), Effect::Begin(Action::Restart { .. }))
                | (
                    Some(Request::Reinitialize { .. }),
                    Effect::Begin(Action::Reinitialize { .. })
                )
        )
    };
    let waits = matches!(
        snapshot.request,
        Some(Request::Restart | Request::Reinitialize { .. })
    );
    let refused = plan
        .reasons
        .iter()
        .any(|reason| matches!(reason, Reason::RequestRefused { .. }));
    let in_doubt = plan.reasons.contains(&Reason::LeaseUnsure);
    if waits && !refused && !in_doubt && !plan.effects.iter().any(served) {
        plan.because(Reason::RequestRefused {
            why: "the member's state does not allow it now: see GET /patroni",
        });
    }
}

/// The store does not answer: nothing new is begun, and the guard ends what the lease no longer covers.
fn store_down(snapshot: &Snapshot, since: BootTime, plan: &mut Plan) {
    plan.wake(snapshot.now + Duration::from_secs(1));
    if snapshot.request == Some(Request::Shutdown) && snapshot.action.is_none() {
        return shutdown(snapshot, plan);
    }
    match (&snapshot.lease, &snapshot.postgres) {
        (LeaseState::Held { stop_at, .. }, _) => {
            plan.because(Reason::StoreDownLeading { until: *stop_at });
        }
        (_, Postgres::Stopped(stopped))
            if !stopped.damaged && snapshot.action.is_none() && !snapshot.config.pause =>
        {
            // The guard has stopped it; as a replica it can at least be read.
            plan.because(Reason::StoreDown { since });
            plan.begin(snapshot, Action::StartReplica { follow: None });
        }
        _ => {
            plan.because(Reason::StoreDown { since });
        }
    }
}

/// Keeps track of who led, and since when nobody does.
fn remember_leader(snapshot: &Snapshot, view: &View, plan: &mut Plan) {
    match &view.leader {
        Some(leader) => {
            let ours = match view.members.get(&leader.name) {
                Some(member) => member.howdah.is_some(),
                // Without a record it stays what it was known to be.
                None => plan
                    .memory
                    .last_leader
                    .as_ref()
                    .is_some_and(|last| last.name == leader.name && last.ours),
            };
            plan.memory.last_leader = Some(LastLeader {
                name: leader.name.clone(),
                lease: leader.lease,
                ours,
            });
            plan.memory.leaderless_since = None;
            if leader.name != snapshot.me.name {
                plan.memory.yield_until = None;
            }
        }
        None => {
            plan.memory.leaderless_since.get_or_insert(snapshot.now);
        }
    }
}

fn shutdown(snapshot: &Snapshot, plan: &mut Plan) {
    plan.because(Reason::ShuttingDown);
    let leads = !matches!(snapshot.lease, LeaseState::None);
    plan.effect(Effect::Begin(Action::Shutdown {
        hand_over: leads && !snapshot.config.pause,
    }));
}

/// Data of another cluster must not be started here, nor deleted.
fn system_differs(snapshot: &Snapshot, view: &View, plan: &mut Plan) -> bool {
    let ours = match &snapshot.postgres {
        Postgres::Stopped(stopped) => stopped.system_id,
        Postgres::Running(running) => running.system_id,
        Postgres::Missing | Postgres::Unreadable | Postgres::Starting { .. } => return false,
    };
    let Some(cluster) = view.initialize.as_ref().filter(|id| !id.is_empty()) else {
        return false;
    };
    if *cluster == ours.to_string() {
        return false;
    }
    let reason = Reason::OtherSystem {
        ours: ours.to_string(),
        cluster: cluster.clone(),
    };
    plan.because(reason.clone());
    if snapshot.config.pause {
        if !matches!(snapshot.lease, LeaseState::None) {
            plan.effect(Effect::Release);
        }
    } else {
        plan.effect(Effect::Fatal(reason));
    }
    true
}
