//! We hold the lease and PostgreSQL runs.

use howdah_config::SyncMode;
use howdah_dcs::{Cond, Document, SyncState, View};

use crate::{
    Action, Effect, Plan, Reason, Request, Running, Snapshot, candidate::probed_candidate, failsafe,
    handover, plan::SOON, slots, standby_leader, status, sync,
};

pub(crate) fn holding(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    let Some((term, stop_at)) = snapshot.lease.held(snapshot.now) else {
        plan.because(Reason::LeaseUnsure).wake(snapshot.now + SOON);
        return;
    };
    if view.leader.as_ref().is_none_or(|leader| leader.term != term) {
        // Older than our leadership, or of a store that was wiped, or the key was deleted. In any of these cases
        // what we would write could invite another member to lead while we do.
        plan.because(Reason::NotInView { term }).wake(snapshot.now + SOON);
        plan.effect(Effect::VerifyLease);
        return;
    }
    if snapshot.config.standby.is_some() && !running.in_recovery && !snapshot.config.pause {
        plan.because(Reason::DemotingCluster);
        plan.begin(snapshot, Action::DemoteCluster);
        return;
    }
    if running.in_recovery && snapshot.config.standby.is_some() {
        return standby_leader::holding(snapshot, view, running, plan);
    }
    if running.in_recovery {
        return become_primary(snapshot, view, running, plan);
    }
    plan.because(Reason::Leading {
        me: snapshot.me.name.clone(),
        term,
    });
    handover::forget_confirmed(view, plan);
    match &snapshot.request {
        Some(Request::Restart) => {
            plan.because(Reason::UserRequest { action: "restart" });
            plan.effect(Effect::Begin(Action::Restart {
                primary: Some((term, stop_at)),
                follow: None,
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
    if view.initialize.as_deref() != Some(running.system_id.to_string().as_str()) {
        // Absent after the store was wiped, or still empty after our own bootstrap.
        plan.effect(Effect::Put {
            document: Document::initialize(running.system_id),
            cond: Cond::Always,
        });
    }
    if view.config.value.is_none() {
        plan.effect(Effect::RestoreConfig);
    }
    if handover::as_leader(snapshot, view, plan) || handover::after_crashes(snapshot, view, plan) {
        return;
    }
    sync::as_leader(snapshot, view, running, plan);
    slots::leader(snapshot, view, running, plan);
    status::publish(snapshot, view, running, plan);
    history(view, running, plan);
    if running.checkpoint_timeline < running.timeline {
        plan.begin(snapshot, Action::Checkpoint);
    }
}

/// We have won the race, or were asked to take over. Conditions are looked at again with a view that is newer than
/// our leadership: between the decision to acquire and its effect any time may have passed.
fn become_primary(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    let Some((term, not_after)) = snapshot.lease.held(snapshot.now) else {
        return;
    };
    if view.initialize.is_none() {
        // The decision to acquire was made in a store that knew the cluster. Its primary may not have noticed yet.
        plan.because(Reason::WaitingForBootstrap).effect(Effect::Release);
        return;
    }
    if failsafe::admits(view, plan) {
        return;
    }
    if snapshot.watchdog_failed {
        plan.because(Reason::NoWatchdog);
        handover::give_way(snapshot, plan);
        return;
    }
    if snapshot.memory.start_failed {
        // Its promotion has failed: who can serve takes over.
        match probed_candidate(snapshot, view, None, plan) {
            Some(Ok(candidate)) => {
                plan.because(Reason::CannotServe { candidate });
                handover::give_way(snapshot, plan);
                return;
            }
            Some(Err(Reason::AskingPeers)) => {
                plan.because(Reason::AskingPeers);
                return;
            }
            Some(Err(_)) | None => {}
        }
    }
    let me = snapshot.me.name.as_str();
    let requested = view.failover.value.as_ref();
    let forced =
        requested.is_some_and(|r| !r.is_switchover() && r.candidate.as_ref() == Some(&snapshot.me.name));
    if snapshot.config.synchronous_mode != SyncMode::Off {
        let sync = view.sync.value.as_ref();
        // Votes count for the state by which they were given.
        let confirmed = requested.is_some_and(|request| request.confirmed);
        let voted = confirmed || snapshot.memory.sync_voted == Some(view.sync.rev);
        let may = |sync: &SyncState| sync.includes(me) && (sync.quorum == 0 || sync.leader == me || voted);
        if sync.is_some_and(|sync| !may(sync)) && !forced {
            plan.because(Reason::NotSynchronous).effect(Effect::Release);
            return;
        }
        // First no other member may take over; then commits may be acknowledged.
        let alone = SyncState::new(me, &[]);
        if view.sync.value.as_ref() != Some(&alone) {
            plan.effect(Effect::Put {
                document: Document::sync(&alone),
                cond: Cond::Rev(view.sync.rev),
            });
        }
    }
    sync::before_promotion(snapshot, running, plan);
    if requested.is_some() {
        plan.effect(Effect::Put {
            document: Document::failover(None),
            cond: Cond::Rev(view.failover.rev),
        });
    }
    plan.because(Reason::Promoting { term });
    plan.memory.sync_since = None;
    plan.memory.sync_rules.clear();
    plan.memory.sync_set = None;
    plan.memory.sync_known = false;
    plan.memory.commits_wait = false;
    plan.memory.no_standby_since = None;
    plan.begin(snapshot, Action::Promote { term, not_after });
}

/// Adds the row of the newest timeline when it is missing.
fn history(view: &View, running: &Running, plan: &mut Plan) {
    let known = view
        .history
        .as_ref()
        .and_then(|rows| rows.last())
        .map(|row| row.timeline.0);
    let wanted = running.timeline.0.checked_sub(1).filter(|previous| *previous > 0);
    if known != wanted || view.history.is_none() {
        plan.effect(Effect::WriteHistory);
    }
}
