//! We hold the lease of a cluster that follows another one: we stay in recovery and stream from that, and the other members from us.

use std::time::Duration;

use howdah_dcs::{Cond, Document, View};

use crate::{
    Action, Effect, Plan, Reason, Request, Running, Snapshot, candidate::probed_candidate, handover,
    plan::SOON, slots, status, upstream::remote,
};

/// Nothing has come from the other cluster for this long: its history is compared with ours.
const SUSPICIOUS: Duration = Duration::from_secs(10);

/// And again after this long: it may not have been there.
const CHECK_AGAIN: Duration = Duration::from_secs(30);

pub(crate) fn holding(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    let Some(remote) = remote(&snapshot.config) else {
        return;
    };
    plan.because(Reason::StandbyLeading {
        me: snapshot.me.name.clone(),
    });
    if view.initialize.as_deref() != Some(running.system_id.to_string().as_str()) {
        plan.effect(Effect::Put {
            document: Document::initialize(running.system_id),
            cond: Cond::Always,
        });
    }
    if view.config.value.is_none() {
        plan.effect(Effect::RestoreConfig);
    }
    match &snapshot.request {
        Some(Request::Restart) => {
            plan.because(Reason::UserRequest { action: "restart" });
            plan.effect(Effect::Begin(Action::Restart {
                primary: None,
                follow: Some(remote),
            }));
            return;
        }
        Some(Request::Reinitialize { .. }) => {
            plan.because(Reason::RequestRefused {
                why: "I am the leader, can not reinitialize",
            });
        }
        Some(Request::Shutdown) | None => {}
    }
    if hands_over(snapshot, view, plan) {
        return;
    }
    let wanted = (!remote.host.is_empty()).then(|| (remote.host.clone(), remote.port));
    if running.upstream != wanted {
        plan.effect(Effect::Follow(Some(remote.clone())));
        plan.wake(snapshot.now + SOON * 5);
    }
    slots::leader(snapshot, view, running, plan);
    status::publish(snapshot, view, running, plan);
    // Its control file learns of a timeline by a restartpoint, which needs a checkpoint of the other cluster: one try in a while.
    let due = plan.memory.status_at == Some(snapshot.now);
    if due && running.streaming && running.checkpoint_timeline < running.timeline {
        plan.begin(snapshot, Action::Checkpoint);
    }
    if running.streaming || remote.host.is_empty() || snapshot.config.pause {
        plan.memory.not_streaming_since = None;
        return;
    }
    let since = *plan.memory.not_streaming_since.get_or_insert(snapshot.now);
    let checked = plan
        .memory
        .checked_at
        .is_some_and(|at| snapshot.now < at + CHECK_AGAIN);
    if snapshot.now >= since + SUSPICIOUS && !checked {
        plan.memory.checked_at = Some(snapshot.now);
        plan.because(Reason::CheckingTimeline {
            leader: remote.name.clone(),
        });
        plan.begin(
            snapshot,
            Action::Rejoin {
                leader: remote,
                copy: false,
            },
        );
    }
}

/// A switchover, or a failover by hand: nothing is written here, so the lease is simply given back. True when that is done, or about to
/// be known.
fn hands_over(snapshot: &Snapshot, view: &View, plan: &mut Plan) -> bool {
    let Some(request) = handover::due_request(snapshot, view) else {
        return false;
    };
    match probed_candidate(snapshot, view, Some(request), plan) {
        Some(Ok(candidate)) => {
            plan.because(Reason::HandingOver {
                candidate: Some(candidate),
            });
            plan.memory.yield_until = Some(snapshot.now + snapshot.config.timers.loop_wait);
            plan.effect(Effect::Release);
            true
        }
        Some(Err(Reason::AskingPeers)) => {
            plan.because(Reason::AskingPeers);
            true
        }
        Some(Err(_)) | None => {
            plan.because(Reason::NoGoodCandidate);
            plan.effect(Effect::Put {
                document: Document::failover(None),
                cond: Cond::Rev(view.failover.rev),
            });
            false
        }
    }
}
