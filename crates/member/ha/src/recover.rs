//! PostgreSQL does not run, or does not answer.

use std::time::Duration;

use howdah_dcs::View;
use howdah_pgconf::DbState;
use howdah_types::BootTime;

use crate::{
    Action, Effect, LeaseState, Plan, Reason, Request, Snapshot, Stopped,
    candidate::{has_forked, probed_candidate},
    follow::{self, own_name},
    handover,
    plan::{DECISION_LIFE, SOON},
    upstream::{desired_upstream, is_ready, remote, tells_its_timeline, upstream},
};

/// A primary that has served and does not answer any more, neither in the session that we have nor in a new one, gives way
/// after this long to a member that can take over. A look at it takes three seconds.
const SILENT: Duration = Duration::from_secs(10);

/// Where no member can take over, such a server is killed after this long and started in place.
const HOPELESS: Duration = Duration::from_secs(20);

/// A hung server whose member does not lead is killed after this long: only readers wait for it.
const HUNG: Duration = Duration::from_secs(60);

/// Members that could take over are asked this long before the limit: a look at a server that hangs takes three seconds,
/// and no decision is made meanwhile.
const ASK_EARLY: Duration = Duration::from_secs(4);

/// One that dies so often that it does not even come to an orderly handover.
const HOPELESS_RESTARTS: u32 = handover::RESTARTS * 2;

pub(crate) fn stopped(snapshot: &Snapshot, view: &View, stopped: &Stopped, plan: &mut Plan) {
    if snapshot.config.pause && !snapshot.memory.handed_over {
        return paused(snapshot, view, stopped, plan);
    }
    if let Some(request @ Request::Reinitialize { .. }) = &snapshot.request
        && snapshot.lease == LeaseState::None
    {
        follow::requested(snapshot, view, request, plan);
        return;
    }
    match snapshot.lease {
        LeaseState::Unsure => {
            plan.because(Reason::LeaseUnsure).wake(snapshot.now + SOON);
        }
        LeaseState::Held { .. } => holding(snapshot, view, stopped, plan),
        LeaseState::None => without_lease(snapshot, view, stopped, plan),
    }
}

/// Maintenance mode: what does not run is started only on request.
fn paused(snapshot: &Snapshot, view: &View, stopped: &Stopped, plan: &mut Plan) {
    match &snapshot.request {
        Some(request @ Request::Reinitialize { .. }) if snapshot.lease == LeaseState::None => {
            return follow::requested(snapshot, view, request, plan);
        }
        Some(Request::Restart) => return restart_paused(snapshot, view, stopped, plan),
        Some(Request::Reinitialize { .. } | Request::Shutdown) | None => {}
    }
    if !matches!(snapshot.lease, LeaseState::None) {
        plan.effect(Effect::Release);
    }
    plan.because(Reason::Paused {
        me: snapshot.me.name.clone(),
    });
}

/// A stopped primary needs the lease first; where another member leads by now, it follows.
fn restart_paused(snapshot: &Snapshot, view: &View, stopped: &Stopped, plan: &mut Plan) {
    plan.because(Reason::UserRequest { action: "restart" });
    match (snapshot.lease, &view.leader) {
        (LeaseState::Unsure, _) => {
            plan.because(Reason::LeaseUnsure).wake(snapshot.now + SOON);
        }
        (LeaseState::Held { .. }, _) => holding(snapshot, view, stopped, plan),
        (LeaseState::None, Some(_)) => without_lease(snapshot, view, stopped, plan),
        (LeaseState::None, None) if stopped.standby => {
            plan.begin(snapshot, Action::StartReplica { follow: None });
        }
        (LeaseState::None, None) => {
            plan.effect(Effect::Acquire {
                not_after: snapshot.now + DECISION_LIFE,
            })
            .wake(snapshot.now + SOON);
        }
    }
}

/// We lead and PostgreSQL has died: it starts in place, on the same timeline. When a start has failed, or the user prefers
/// a failover, a member that can serve takes over.
fn holding(snapshot: &Snapshot, view: &View, stopped: &Stopped, plan: &mut Plan) {
    let Some((term, not_after)) = snapshot.lease.held(snapshot.now) else {
        plan.because(Reason::LeaseUnsure).wake(snapshot.now + SOON);
        return;
    };
    if stopped.damaged {
        plan.because(Reason::Damaged).effect(Effect::Release);
        return;
    }
    if handover::while_down(snapshot, view, plan) {
        return;
    }
    if snapshot.watchdog_failed {
        plan.because(Reason::NoWatchdog);
        handover::give_way(snapshot, plan);
        return;
    }
    let cannot = snapshot.memory.start_failed || snapshot.memory.restarts >= HOPELESS_RESTARTS;
    if (cannot || snapshot.config.primary_start_timeout.is_zero())
        && let Some(candidate) = probed_candidate(snapshot, view, None, plan)
    {
        match candidate {
            Ok(candidate) => {
                plan.because(Reason::CannotServe { candidate });
                handover::give_way(snapshot, plan);
                return;
            }
            Err(reason) if reason == Reason::AskingPeers => {
                plan.because(reason);
                return;
            }
            Err(_) => {}
        }
    }
    if let Some(remote) = remote(&snapshot.config) {
        plan.because(Reason::StandbyLeading {
            me: snapshot.me.name.clone(),
        });
        // A former primary may have WAL that the other cluster never got.
        let action = if stopped.standby || remote.host.is_empty() {
            Action::StartReplica { follow: Some(remote) }
        } else {
            Action::Rejoin {
                leader: remote,
                copy: false,
            }
        };
        plan.begin(snapshot, action);
        return;
    }
    plan.because(Reason::LeadingInPlace { term });
    handover::forget_confirmed(view, plan);
    let was_primary = !stopped.standby
        && !matches!(
            stopped.state,
            DbState::ShutDownInRecovery | DbState::InArchiveRecovery
        );
    // What was no primary comes up as a replica without an upstream and is promoted then.
    let action = if was_primary {
        Action::StartPrimary { term, not_after }
    } else {
        Action::StartReplica { follow: None }
    };
    plan.begin(snapshot, action);
    if plan
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::Begin(_)))
    {
        plan.memory.restarts = plan.memory.restarts.saturating_add(1);
    }
}

fn without_lease(snapshot: &Snapshot, view: &View, stopped: &Stopped, plan: &mut Plan) {
    let leader = view
        .leader_member()
        .filter(|(name, _)| **name != snapshot.me.name);
    match leader.and_then(|(name, member)| Some((upstream(name, member)?, member))) {
        Some((leader, member)) => {
            // Streaming would write the leader's WAL over ours where both have one number, and with it what tells them apart.
            let forked = has_forked(member, &stopped.origins);
            if let Some(until) = handover::closed_until(snapshot, view, plan) {
                plan.because(Reason::Closed { until }).wake(until);
            } else if stopped.standby && !stopped.damaged && !forked {
                // Also when the leader is not ready: a leader that never is gives way only to members that run.
                let follow = desired_upstream(snapshot, view).unwrap_or(leader);
                plan.because(Reason::Following {
                    me: snapshot.me.name.clone(),
                    leader: follow.name.clone(),
                });
                let follow = Some(follow).filter(|_| tells_its_timeline(view));
                plan.begin(snapshot, Action::StartReplica { follow });
            } else if !is_ready(member) {
                plan.because(Reason::LeaderNotReady { leader: leader.name })
                    .wake(snapshot.now + SOON);
            } else {
                // A former primary may have WAL that the leader never got.
                plan.because(Reason::CheckingTimeline {
                    leader: leader.name.clone(),
                });
                plan.begin(snapshot, Action::Rejoin { leader, copy: false });
            }
        }
        None if view.leader.is_some() => own_name(snapshot, view, plan),
        None => {
            if snapshot
                .memory
                .yield_until
                .is_some_and(|until| snapshot.now < until)
            {
                // The candidate takes over in a moment; only then it is known whom to follow.
                plan.because(Reason::Yielding).wake(snapshot.now + SOON);
                return;
            }
            if stopped.damaged {
                plan.because(Reason::Damaged);
                return;
            }
            // Also where the store was wiped: a primary that still runs by its own clock may be out of reach, so a replica
            // without an upstream waits for its end before it writes the cluster back.
            plan.because(Reason::FollowingNobody);
            plan.begin(snapshot, Action::StartReplica { follow: None });
        }
    }
}

/// The postmaster lives and takes no connections yet.
pub(crate) fn starting(snapshot: &Snapshot, view: &View, since: BootTime, plan: &mut Plan) {
    plan.wake(snapshot.now + SOON);
    plan.because(Reason::Starting);
    if snapshot.lease == LeaseState::None {
        if let Some(request @ Request::Reinitialize { .. }) = &snapshot.request {
            return follow::requested(snapshot, view, request, plan);
        }
        // A replica may wait for WAL that only another leader has by now.
        if let Some(wanted) = desired_upstream(snapshot, view)
            && wanted.name != snapshot.me.name
            && snapshot.told_upstream.as_ref() != Some(&(wanted.host.clone(), wanted.port))
        {
            plan.effect(Effect::Follow(Some(wanted)));
        }
    }
    // Counted from when we last served: a server that dies and is started again and again does not serve either.
    let since = plan.memory.not_serving_since.unwrap_or(since).min(since);
    let timeout = snapshot.config.primary_start_timeout;
    give_up(snapshot, view, since + timeout, plan);
}

/// It has served, and does not answer any more.
pub(crate) fn silent(snapshot: &Snapshot, view: &View, since: BootTime, plan: &mut Plan) {
    plan.wake(snapshot.now + SOON);
    plan.because(Reason::Silent { since });
    if snapshot.lease == LeaseState::None
        && let Some(request @ Request::Reinitialize { .. }) = &snapshot.request
    {
        return follow::requested(snapshot, view, request, plan);
    }
    // Where no member can take over, it may serve again once it is started in place.
    let limit = match snapshot.lease {
        LeaseState::Held { .. } => HOPELESS,
        LeaseState::None => HUNG,
        LeaseState::Unsure => return,
    };
    if !give_up(snapshot, view, since + SILENT, plan)
        && snapshot.now >= since + limit
        && !snapshot.config.pause
    {
        plan.begin(snapshot, Action::KillServer);
    }
}

/// From `limit` on, or at once on request, leadership goes to a member that can take over.
/// True when that is begun, or about to be known.
fn give_up(snapshot: &Snapshot, view: &View, limit: BootTime, plan: &mut Plan) -> bool {
    if snapshot.config.pause || snapshot.lease.held(snapshot.now).is_none() {
        return false;
    }
    let asked = view
        .failover
        .value
        .as_ref()
        .filter(|request| request.scheduled_at.is_none());
    if snapshot.now < limit && asked.is_none() {
        plan.wake(limit);
        if snapshot.now + ASK_EARLY >= limit {
            // When the time is over the answers are there.
            let _ = probed_candidate(snapshot, view, None, plan);
        }
        return false;
    }
    match probed_candidate(snapshot, view, asked, plan) {
        Some(Ok(candidate)) => {
            plan.because(Reason::CannotServe { candidate });
            handover::stand_aside(snapshot, plan);
            plan.begin(snapshot, Action::GiveUp);
            true
        }
        Some(Err(reason)) => reason == Reason::AskingPeers,
        None => false,
    }
}
