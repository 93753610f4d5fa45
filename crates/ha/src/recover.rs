//! PostgreSQL does not run, or not yet.

use howdah_dcs::{Cond, Key, Member, View};
use howdah_pgconf::DbState;
use howdah_types::{BootTime, Role};

use crate::{
    Action, Effect, LeaseState, Plan, Reason, Request, Snapshot, Stopped,
    bootstrap::upstream,
    decide::SOON,
    follow::{self, desired_upstream},
    handover,
};

pub(crate) fn stopped(snapshot: &Snapshot, view: &View, stopped: &Stopped, plan: &mut Plan) {
    if snapshot.config.pause {
        if !matches!(snapshot.lease, LeaseState::None) {
            plan.effect(Effect::Release);
        }
        plan.because(Reason::Paused);
        return;
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

/// We lead and PostgreSQL has died: it starts in place, on the same timeline, unless the user prefers a failover.
fn holding(snapshot: &Snapshot, view: &View, stopped: &Stopped, plan: &mut Plan) {
    let Some((term, not_after)) = snapshot.lease.held(snapshot.now) else {
        plan.because(Reason::LeaseUnsure).wake(snapshot.now + SOON);
        return;
    };
    if stopped.damaged {
        plan.because(Reason::Damaged).effect(Effect::Release);
        return;
    }
    let was_primary = !stopped.standby
        && !matches!(
            stopped.state,
            DbState::ShutDownInRecovery | DbState::InArchiveRecovery
        );
    if !was_primary {
        // Comes up as replica of nobody and is promoted then.
        plan.because(Reason::LeadingInPlace { term });
        plan.begin(snapshot, Action::StartReplica { follow: None });
        return;
    }
    if snapshot.config.primary_start_timeout.is_zero()
        && let Some(candidate) = handover::probed_candidate(snapshot, view, None, plan)
    {
        match candidate {
            Ok(name) => {
                plan.because(Reason::StartTimeout { candidate: name });
                plan.memory.yield_until = Some(snapshot.now + snapshot.config.timers.loop_wait);
                plan.effect(Effect::Release);
                return;
            }
            Err(reason) if reason == Reason::AskingPeers => {
                plan.because(reason);
                return;
            }
            Err(_) => {}
        }
    }
    plan.because(Reason::LeadingInPlace { term });
    plan.begin(snapshot, Action::StartPrimary { term, not_after });
}

fn without_lease(snapshot: &Snapshot, view: &View, stopped: &Stopped, plan: &mut Plan) {
    let leader = view
        .leader_member()
        .filter(|(name, _)| **name != snapshot.me.name);
    match leader.and_then(|(name, member)| Some((upstream(name, member)?, member))) {
        Some((leader, member)) => {
            if !is_ready(member) {
                plan.because(Reason::LeaderNotReady { leader: leader.name })
                    .wake(snapshot.now + SOON);
            } else if stopped.standby && !stopped.damaged {
                let follow = desired_upstream(snapshot, view).unwrap_or(leader);
                plan.because(Reason::Following {
                    leader: follow.name.clone(),
                });
                plan.begin(snapshot, Action::StartReplica { follow: Some(follow) });
            } else {
                // A former primary may have WAL that the leader never got.
                plan.because(Reason::CheckingTimeline {
                    leader: leader.name.clone(),
                });
                plan.begin(snapshot, Action::Rejoin { leader });
            }
        }
        None if view.leader.is_some() => {
            // Our own name from another life, or a leader without a record: it will end or show itself.
            plan.because(Reason::OwnNameOtherLife)
                .wake(snapshot.now + SOON * 5);
        }
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
            if !stopped.standby && view.initialize.is_none() {
                // The store was wiped, and we were its primary: our data is the cluster.
                plan.because(Reason::AdoptingData);
                plan.effect(Effect::Put {
                    key: Key::Initialize,
                    value: stopped.system_id.to_string(),
                    cond: Cond::Absent,
                });
            }
            plan.because(Reason::FollowingNobody);
            plan.begin(snapshot, Action::StartReplica { follow: None });
        }
    }
}

/// Whether a leader has been promoted and its timeline is in its control file: before that, nobody can compare with it
/// or rewind against it.
pub(crate) fn is_ready(leader: &Member) -> bool {
    leader.is_running() && leader.role == Role::Primary && leader.checkpoint_after_promote != Some(false)
}

/// The postmaster lives and does not answer yet.
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
    let timeout = snapshot.config.primary_start_timeout;
    if snapshot.config.pause || snapshot.lease.held(snapshot.now).is_none() || snapshot.now < since + timeout
    {
        return;
    }
    if let Some(Ok(candidate)) = handover::probed_candidate(snapshot, view, None, plan) {
        plan.because(Reason::StartTimeout { candidate });
        let action = Action::HandOver {
            candidate: None,
            may_lose: true,
        };
        plan.begin(snapshot, action);
    }
}
