//! Switchover and failover on request, seen from the leader.

use std::time::Duration;

use howdah_config::SyncMode;
use howdah_dcs::{Cond, Document, FailoverRequest, View};
use howdah_types::{BootTime, MemberName};

use crate::{Action, Effect, Plan, Reason, Snapshot, candidate::probed_candidate, plan::SOON};

/// A request for which no member can take over is dropped after this long.
const GIVE_UP: Duration = Duration::from_secs(5);

/// A server that was started in place this often without serving for a minute is likely to die again: leadership is to go
/// elsewhere.
pub(crate) const RESTARTS: u32 = 3;

/// A member that could not serve as leader does not take part in races for this long, unless no other member can lead.
const UNFIT: Duration = Duration::from_secs(60);

/// What becomes of leadership when no other member confirms that it has everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unconfirmed {
    /// It is kept, and PostgreSQL starts again: a switchover loses nothing.
    Keep,
    /// It is given away: a failover was asked for.
    GiveAway,
    /// The lease runs out, unless no other member is there at all. This member is ending, and may be back before that with what
    /// the others lack; they take over if it is not.
    RunOut,
}

/// Who has received the last record of a primary that was stopped in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// This member.
    By(MemberName),
    /// None of those that answer.
    Lacking,
    /// No other member is there.
    Alone,
}

/// What is done with the lease of a primary that was stopped in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterStop {
    /// It is given back.
    Release,
    /// It is kept, and PostgreSQL starts again.
    Keep,
    /// It is neither given back nor renewed.
    RunOut,
}

/// What is done with the lease once it is known who has received everything.
#[must_use]
pub fn after_stop(received: &Received, unconfirmed: Unconfirmed) -> AfterStop {
    match (received, unconfirmed) {
        (Received::Lacking | Received::Alone, Unconfirmed::Keep) => AfterStop::Keep,
        (Received::Lacking, Unconfirmed::RunOut) => AfterStop::RunOut,
        (Received::By(_), _) | (Received::Lacking, Unconfirmed::GiveAway) | (Received::Alone, _) => {
            AfterStop::Release
        }
    }
}

/// Handles the failover key. True when the plan is complete.
pub(crate) fn as_leader(snapshot: &Snapshot, view: &View, plan: &mut Plan) -> bool {
    let Some(request) = &view.failover.value else {
        plan.memory.no_candidate_since = None;
        return false;
    };
    let drop_it = |plan: &mut Plan, reason: Reason| {
        plan.because(reason);
        plan.effect(Effect::Put {
            document: Document::failover(None),
            cond: Cond::Rev(view.failover.rev),
        });
        false
    };
    if let Some(leader) = request
        .leader
        .as_ref()
        .filter(|leader| **leader != snapshot.me.name)
    {
        return drop_it(
            plan,
            Reason::RequestForOtherLeader {
                leader: leader.clone(),
            },
        );
    }
    if request.candidate.as_ref() == Some(&snapshot.me.name) {
        return drop_it(plan, Reason::CandidateIsMe);
    }
    if let Some(at) = &request.scheduled_at {
        let Ok(moment) = at.parse::<jiff::Timestamp>() else {
            return drop_it(plan, Reason::ScheduleMissed { at: at.clone() });
        };
        let ahead = moment.as_second() - snapshot.wall;
        let slack = i64::try_from(snapshot.config.timers.loop_wait.as_secs()).unwrap_or(10);
        if ahead > 0 || snapshot.config.pause {
            plan.because(Reason::ScheduledFor { at: at.clone() });
            plan.wake(snapshot.now + Duration::from_secs(ahead.max(1).unsigned_abs()));
            return false;
        }
        if ahead < -(slack * 3 / 2) {
            return drop_it(plan, Reason::ScheduleMissed { at: at.clone() });
        }
    }
    if snapshot.config.pause && request.candidate.is_none() {
        return drop_it(
            plan,
            Reason::Paused {
                me: snapshot.me.name.clone(),
            },
        );
    }
    match probed_candidate(snapshot, view, Some(request), plan) {
        Some(Ok(_)) => {
            plan.because(Reason::HandingOver {
                candidate: request.candidate.clone(),
            });
            handed_over(snapshot, plan);
            plan.effect(Effect::Begin(Action::HandOver {
                candidate: request.candidate.clone(),
                may_lose: !request.is_switchover(),
            }));
            true
        }
        Some(Err(Reason::AskingPeers)) => {
            plan.because(Reason::AskingPeers);
            true
        }
        Some(Err(_)) | None => {
            // Who lags, or restarts, may be fit in a moment.
            let since = *plan.memory.no_candidate_since.get_or_insert(snapshot.now);
            if snapshot.now < since + GIVE_UP {
                plan.because(Reason::AskingPeers).wake(snapshot.now + SOON * 2);
                return true;
            }
            drop_it(plan, Reason::NoGoodCandidate)
        }
    }
}

fn handed_over(snapshot: &Snapshot, plan: &mut Plan) {
    plan.memory.yield_until = Some(snapshot.now + snapshot.config.timers.loop_wait * 2);
    plan.memory.handed_over = true;
    // Counted from when it is down.
    plan.memory.closed_until = None;
}

/// Until when a former primary stays down, so that load balancers notice: one that looks every few seconds would send it
/// sessions that want to write, and a closed port is easier to deal with than a read-only one. With two members in
/// synchronous mode commits would wait for it.
pub(crate) fn closed_until(snapshot: &Snapshot, view: &View, plan: &mut Plan) -> Option<BootTime> {
    let leader = view.leader.as_ref().map(|leader| &leader.name);
    let another_standby = view
        .members
        .iter()
        .any(|(name, member)| *name != snapshot.me.name && Some(name) != leader && !member.tags.nosync());
    let closed_for = snapshot.config.closed_after_handover;
    if snapshot.memory.handed_over && plan.memory.closed_until.is_none() && !closed_for.is_zero() {
        plan.memory.closed_until = Some(snapshot.now + closed_for);
    }
    let waited_for = snapshot.config.synchronous_mode != SyncMode::Off && !another_standby;
    plan.memory
        .closed_until
        .filter(|until| snapshot.now < *until && !waited_for)
}

/// A server that dies again and again and serves in between hands over in order: what only it has would be lost otherwise.
/// True when that is begun, or about to be known.
pub(crate) fn after_crashes(snapshot: &Snapshot, view: &View, plan: &mut Plan) -> bool {
    if snapshot.memory.restarts < RESTARTS || snapshot.config.pause {
        return false;
    }
    // As a switchover chooses: who gets what we write at this moment.
    let to_anybody = FailoverRequest {
        leader: Some(snapshot.me.name.clone()),
        candidate: None,
        scheduled_at: None,
        force: false,
        confirmed: false,
    };
    match probed_candidate(snapshot, view, Some(&to_anybody), plan) {
        Some(Ok(candidate)) => {
            plan.because(Reason::DiesAgain {
                candidate: candidate.clone(),
            });
            handed_over(snapshot, plan);
            plan.begin(
                snapshot,
                Action::HandOver {
                    candidate: Some(candidate),
                    may_lose: false,
                },
            );
            true
        }
        Some(Err(_)) | None => {
            plan.wake(snapshot.now + SOON * 2);
            false
        }
    }
}

/// We lead and PostgreSQL does not serve: a request is carried out by giving the lease back, since there is nothing to
/// stop. The key stays, so that the named candidate takes over. True when that was done, or is about to be known.
pub(crate) fn while_down(snapshot: &Snapshot, view: &View, plan: &mut Plan) -> bool {
    let Some(request) = due_request(snapshot, view) else {
        return false;
    };
    match probed_candidate(snapshot, view, Some(request), plan) {
        Some(Ok(candidate)) => {
            plan.because(Reason::HandingOver {
                candidate: Some(candidate),
            });
            give_way(snapshot, plan);
            true
        }
        Some(Err(Reason::AskingPeers)) => {
            plan.because(Reason::AskingPeers);
            true
        }
        Some(Err(_)) | None => false,
    }
}

/// A request that is not scheduled, and asks this leader to give leadership to another member.
pub(crate) fn due_request<'a>(snapshot: &Snapshot, view: &'a View) -> Option<&'a FailoverRequest> {
    view.failover.value.as_ref().filter(|request| {
        let ours = |name: &MemberName| *name == snapshot.me.name;
        request.scheduled_at.is_none()
            && request.leader.as_ref().is_none_or(ours)
            && !request.candidate.as_ref().is_some_and(ours)
    })
}

/// A handover that was given up has named its successor as one that has everything. What we write from now on it has not.
pub(crate) fn forget_confirmed(view: &View, plan: &mut Plan) {
    if view
        .failover
        .value
        .as_ref()
        .is_some_and(|request| request.confirmed)
    {
        plan.effect(Effect::Put {
            document: Document::failover(None),
            cond: Cond::Rev(view.failover.rev),
        });
    }
}

/// Gives the lease back, and lets others race without waiting for us.
pub(crate) fn give_way(snapshot: &Snapshot, plan: &mut Plan) {
    stand_aside(snapshot, plan);
    plan.effect(Effect::Release);
}

/// Others need not wait for us: we could not serve.
pub(crate) fn stand_aside(snapshot: &Snapshot, plan: &mut Plan) {
    plan.memory.yield_until = Some(snapshot.now + snapshot.config.timers.loop_wait);
    plan.memory.unfit_until = Some(snapshot.now + UNFIT);
}
