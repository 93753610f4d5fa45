//! Another member leads.

use std::time::Duration;

use howdah_dcs::View;

use crate::{
    Action, Effect, Plan, Reason, Request, Running, Snapshot,
    candidate::has_forked,
    feedback::{Feeding, needs_feedback},
    plan::SOON,
    slots, sync,
    upstream::{desired_upstream, is_ready, source, tells_its_timeline, upstream},
};

/// A replica that has not streamed for this long looks whether its WAL belongs to the leader's history.
const SUSPICIOUS: Duration = Duration::from_secs(3);

/// And looks again after this long: the last look may have failed for a reason that is gone.
const CHECK_AGAIN: Duration = Duration::from_secs(10);

/// When this many looks, with the rewinds that they led to, have not made it stream, only a copy helps.
const CHECKS: u32 = 3;

/// PostgreSQL may not take a file that has an error elsewhere.
const FEEDBACK_AGAIN: Duration = Duration::from_secs(10);

pub(crate) fn follow(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    let Some(leader) = &view.leader else { return };
    if leader.name == snapshot.me.name {
        own_name(snapshot, view, plan);
        let other_life = plan.reasons.contains(&Reason::OwnNameOtherLife);
        if other_life && !running.in_recovery && !snapshot.config.pause {
            plan.begin(snapshot, Action::StopPrimary);
        }
        return;
    }
    if !running.in_recovery {
        if snapshot.config.pause {
            plan.because(Reason::Paused {
                me: snapshot.me.name.clone(),
            });
        } else {
            plan.because(Reason::NotLeaderAnyMore);
            plan.begin(snapshot, Action::StopPrimary);
        }
        return;
    }
    if let Some(request) = &snapshot.request {
        requested(snapshot, view, request, plan);
        return;
    }
    let Some(wanted) = desired_upstream(snapshot, view) else {
        plan.because(Reason::LeaderHasNoAddress {
            leader: leader.name.clone(),
        });
        return;
    };
    plan.because(Reason::Following {
        me: snapshot.me.name.clone(),
        leader: leader.name.clone(),
    });
    let pointed = running
        .upstream
        .as_ref()
        .is_some_and(|(host, port)| *host == wanted.host && *port == wanted.port);
    let forked = view
        .leader_member()
        .is_some_and(|(_, member)| has_forked(member, &running.origins));
    let feedback = needs_feedback(&Feeding {
        config: &snapshot.config,
        me: &snapshot.me.name,
        tags: &snapshot.me.tags,
        view,
    });
    let tried = plan.memory.feedback_written;
    let silent = feedback && !running.feedback && tried.is_none_or(|at| snapshot.now >= at + FEEDBACK_AGAIN);
    if silent {
        plan.memory.feedback_written = Some(snapshot.now);
    }
    if (!pointed || silent) && !forked && !snapshot.me.tags.nostream() && tells_its_timeline(view) {
        plan.effect(Effect::Follow(Some(wanted)));
        plan.wake(snapshot.now + SOON * 5);
    }
    watch_streaming(snapshot, view, running, forked, plan);
    sync::as_replica(snapshot, running, plan);
    if snapshot.action.is_none() && !snapshot.config.pause {
        slots::replica(snapshot, view, running, plan);
    }
}

/// A replica that does not stream may have WAL that the leader has not. So may one that seems to stream and does not come
/// to the leader's timeline: its receiver gets the end of the old timeline again and again, and breaks off each time.
///
/// So may one of which a timeline has the number of one of the leader's and is another one (`forked`): PostgreSQL goes by numbers and
/// streams on, into rows that are not the leader's.
fn watch_streaming(snapshot: &Snapshot, view: &View, running: &Running, forked: bool, plan: &mut Plan) {
    let leaders = view.leader_member().and_then(|(_, member)| member.timeline);
    let elsewhere = leaders.is_some_and(|timeline| running.timeline != timeline);
    if (running.streaming && !elsewhere && !forked) || snapshot.me.tags.nostream() {
        plan.memory.not_streaming_since = None;
        plan.memory.checked_at = None;
        plan.memory.checks = 0;
        return;
    }
    let since = *plan.memory.not_streaming_since.get_or_insert(snapshot.now);
    plan.wake(snapshot.now + SOON * 5);
    let Some((name, member)) = view.leader_member() else {
        return;
    };
    let checked = plan
        .memory
        .checked_at
        .is_some_and(|at| snapshot.now < at + CHECK_AGAIN);
    let early = snapshot.now < since + SUSPICIOUS && !forked;
    if snapshot.config.pause || (checked && !forked) || early || !is_ready(member) {
        return;
    }
    if let Some(leader) = upstream(name, member) {
        plan.memory.checked_at = Some(snapshot.now);
        plan.because(Reason::CheckingTimeline { leader: name.clone() });
        let copy =
            plan.memory.checks >= CHECKS && leaders.is_some_and(|timeline| running.timeline > timeline);
        plan.memory.checks = plan.memory.checks.saturating_add(1);
        plan.begin(snapshot, Action::Rejoin { leader, copy });
    }
}

/// The leader key has our name. A name is not a leadership: if it belongs to another life, its lease ends by itself. If it
/// is ours, the keeper has not heard the store's answer yet.
pub(crate) fn own_name(snapshot: &Snapshot, view: &View, plan: &mut Plan) {
    let ours = view
        .leader
        .as_ref()
        .is_some_and(|leader| leader.lease.is_some() && leader.lease == snapshot.me.lease);
    if ours {
        plan.because(Reason::LeaseUnsure).wake(snapshot.now + SOON);
        plan.effect(Effect::VerifyLease);
    } else if let Some(leader) = view
        .leader
        .as_ref()
        .filter(|leader| leader.name != snapshot.me.name)
    {
        plan.because(Reason::LeaderHasNoAddress {
            leader: leader.name.clone(),
        })
        .wake(snapshot.now + SOON * 5);
    } else {
        plan.because(Reason::OwnNameOtherLife)
            .wake(snapshot.now + SOON * 5);
    }
}

pub(crate) fn requested(snapshot: &Snapshot, view: &View, request: &Request, plan: &mut Plan) {
    match request {
        Request::Restart => {
            plan.because(Reason::UserRequest { action: "restart" });
            plan.effect(Effect::Begin(Action::Restart {
                primary: None,
                follow: desired_upstream(snapshot, view),
            }));
        }
        Request::Reinitialize { from_leader } => match source(snapshot, view) {
            Some((preferred, follow)) => {
                let from = if *from_leader { follow.clone() } else { preferred };
                plan.because(Reason::UserRequest {
                    action: "reinitialize",
                });
                plan.effect(Effect::Begin(Action::Reinitialize {
                    from_leader: *from_leader,
                    from,
                    follow,
                }));
            }
            None => {
                plan.because(Reason::RequestRefused {
                    why: "Cluster has no leader, can not reinitialize",
                });
            }
        },
        Request::Shutdown => {}
    }
}
