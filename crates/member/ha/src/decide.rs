use std::time::Duration;

use howdah_dcs::View;

use crate::{
    Action, Dcs, Effect, LeaseState, Plan, Postgres, Reason, Request, Snapshot, bootstrap, failsafe, follow,
    identity, lead, plan::SOON, race, recover, remember,
};

/// Decides what a member does now. Total and deterministic.
#[must_use]
pub fn decide(snapshot: &Snapshot) -> Plan {
    let mut plan = Plan {
        next_wake: snapshot.now + snapshot.config.timers.loop_wait,
        memory: snapshot.memory.clone(),
        ..Plan::default()
    };
    remember::postgres(snapshot, &mut plan);
    let view = match &snapshot.dcs {
        Dcs::Fresh(view) => view,
        Dcs::Down { since } => {
            // What it has had meanwhile is not known.
            plan.memory.store_empty_since = None;
            plan.memory.store_since = None;
            store_down(snapshot, *since, &mut plan);
            return plan;
        }
    };
    plan.memory.store_since.get_or_insert(snapshot.now);
    failsafe::as_member(snapshot, view, &mut plan);
    let view = &*failsafe::with_promised_leader(snapshot, view);
    remember::leader(snapshot, view, &mut plan);
    remember::members(snapshot, view, &mut plan);

    if let Some(running) = &snapshot.action {
        plan.because(Reason::ActionRuns {
            action: running.action.name(),
        });
        // A checkpoint takes minutes on a large server; a leader must not be blind for that long.
        if running.action != Action::Checkpoint {
            return plan;
        }
    }
    if adopts(snapshot, &mut plan) {
        return plan;
    }
    if snapshot.request == Some(Request::Shutdown) {
        shutdown(snapshot, &mut plan);
        return plan;
    }
    if identity::differs(snapshot, view, &mut plan) {
        return plan;
    }
    failsafe::as_leader(snapshot, view, &mut plan);
    match &snapshot.postgres {
        Postgres::Unreadable { why } => unreadable(snapshot, view, why, &mut plan),
        Postgres::Missing if snapshot.server_runs => {
            plan.because(Reason::DataGone);
            plan.begin(snapshot, Action::KillServer);
        }
        Postgres::Missing => bootstrap::missing(snapshot, view, &mut plan),
        Postgres::Stopped(stopped) => recover::stopped(snapshot, view, stopped, &mut plan),
        Postgres::Starting { since } => recover::starting(snapshot, view, *since, &mut plan),
        Postgres::Silent { since } => recover::silent(snapshot, view, *since, &mut plan),
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

/// No request waits for ever: one that this decision does not begin is answered.
fn refuse_unserved(snapshot: &Snapshot, plan: &mut Plan) {
    let served = |effect: &Effect| match (&snapshot.request, effect) {
        (Some(Request::Restart), Effect::Begin(action)) => action.starts_postgres(),
        // The lease is needed first.
        (Some(Request::Restart), Effect::Acquire { .. }) => true,
        (Some(Request::Reinitialize { .. }), Effect::Begin(Action::Reinitialize { .. })) => true,
        _ => false,
    };
    let waits = matches!(
        snapshot.request,
        Some(Request::Restart | Request::Reinitialize { .. })
    );
    let refused = plan
        .reasons
        .iter()
        .any(|reason| matches!(reason, Reason::RequestRefused { .. }));
    let in_doubt = plan
        .reasons
        .iter()
        .any(|reason| matches!(reason, Reason::LeaseUnsure | Reason::LeaderNotReady { .. }));
    if waits && !refused && !in_doubt && !plan.effects.iter().any(served) {
        plan.because(Reason::RequestRefused {
            why: "the member's state does not allow it now: see GET /patroni",
        });
    }
}

/// The store does not answer: nothing new is begun, and the guard ends what the lease no longer covers.
fn store_down(snapshot: &Snapshot, since: howdah_types::BootTime, plan: &mut Plan) {
    plan.wake(snapshot.now + Duration::from_secs(1));
    if snapshot.action.is_none() {
        if adopts(snapshot, plan) {
            return;
        }
        if snapshot.request == Some(Request::Shutdown) {
            return shutdown(snapshot, plan);
        }
        if snapshot.postgres == Postgres::Missing && snapshot.server_runs {
            plan.because(Reason::DataGone);
            plan.begin(snapshot, Action::KillServer);
            return;
        }
    }
    match (&snapshot.lease, &snapshot.postgres) {
        (LeaseState::Held { .. }, _) => failsafe::without_store(snapshot, plan),
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

/// Before anything else the guard must be able to fence what runs.
fn adopts(snapshot: &Snapshot, plan: &mut Plan) -> bool {
    let Some(server) = snapshot.unguarded else {
        return false;
    };
    plan.because(Reason::Unguarded { pid: server.pid })
        .effect(Effect::Adopt(server))
        .wake(snapshot.now + SOON);
    true
}

/// A member that can read its data may lead; the guard lets go only when PostgreSQL does not run.
fn unreadable(snapshot: &Snapshot, view: &View, why: &str, plan: &mut Plan) {
    plan.because(Reason::Unreadable { why: why.to_owned() })
        .wake(snapshot.now + SOON * 10);
    if snapshot.lease == LeaseState::None
        && let Some(request @ Request::Reinitialize { .. }) = &snapshot.request
    {
        return follow::requested(snapshot, view, request, plan);
    }
    if !plan.memory.data_is_lost(snapshot.now) {
        return;
    }
    if snapshot.server_runs {
        plan.because(Reason::DataGone);
        plan.begin(snapshot, Action::KillServer);
    } else if !matches!(snapshot.lease, LeaseState::None) {
        plan.effect(Effect::Release);
    }
}

fn shutdown(snapshot: &Snapshot, plan: &mut Plan) {
    plan.because(Reason::ShuttingDown);
    let leads = !matches!(snapshot.lease, LeaseState::None);
    plan.effect(Effect::Begin(Action::Shutdown {
        hand_over: leads && !snapshot.config.pause,
    }));
}
