//! There is no leader.

use std::time::Duration;

use howdah_config::SyncMode;
use howdah_dcs::{SyncState, View};
use howdah_types::{BootTime, MemberName};

use crate::{
    Effect, Plan, Reason, Running, Snapshot, adopt,
    compare::{asked_since, compare},
    failsafe, follow,
    plan::{DECISION_LIFE, SOON},
};

/// A leader that is not one of ours does not stop before its lease ends: it gets this long after it, unless it says
/// itself that it is no primary.
const FOREIGN_GRACE: Duration = Duration::from_secs(5);

pub(crate) fn leaderless(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    plan.wake(snapshot.now + SOON);
    if !running.in_recovery {
        return primary(snapshot, view, running, plan);
    }
    if let Some(request) = &snapshot.request {
        follow::requested(snapshot, view, request, plan);
        return;
    }
    if gives_votes(snapshot, view) && (running.streaming || running.upstream.is_some()) {
        // A vote for another member is worth nothing while the one that led may come back and be confirmed.
        plan.effect(Effect::Follow(None));
        plan.because(Reason::HoldingReceiver);
        return;
    }
    match may_race(snapshot, view, running, plan) {
        Ok(reason) => {
            plan.because(reason);
            plan.effect(Effect::Acquire {
                not_after: snapshot.now + DECISION_LIFE,
            });
        }
        Err(reason) => {
            plan.because(reason);
        }
    }
}

/// In quorum mode the other standbys say whether a member has every commit.
fn gives_votes(snapshot: &Snapshot, view: &View) -> bool {
    let sync = view.sync.value.as_ref();
    let me = snapshot.me.name.as_str();
    snapshot.config.synchronous_mode != SyncMode::Off
        && !snapshot.config.pause
        && sync.is_some_and(|sync| sync.quorum > 0 && sync.is_standby(me))
}

/// A running primary whose lease is free: after pause, after our own bootstrap, or one that was running before the
/// agent came. Its data is the cluster's, unless the cluster has moved on without it.
fn primary(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    if view.timeline().is_some_and(|cluster| running.timeline < cluster) {
        plan.because(Reason::OldTimeline);
        if !snapshot.config.pause {
            plan.begin(snapshot, crate::Action::StopPrimary);
        }
        return;
    }
    if let Err(reason) = failsafe::is_asked(snapshot, view) {
        plan.because(reason);
        return;
    }
    plan.because(Reason::PrimaryWithoutLeader);
    if view.initialize.is_none() {
        plan.because(Reason::AdoptingData);
        adopt::write_back(snapshot, view, running, plan);
    }
    plan.effect(Effect::Acquire {
        not_after: snapshot.now + DECISION_LIFE,
    });
}

/// Whether we are the one to take the lease; what for, or why not. Patroni's order of questions.
fn may_race(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) -> Result<Reason, Reason> {
    let me = &snapshot.me.name;
    let Some(since) = plan.memory.leaderless_since else {
        return Err(Reason::AskingPeers);
    };
    if view.initialize.is_none() {
        return adopt::may_adopt(snapshot, view, running, plan);
    }
    if !view.members.contains_key(me) {
        // We write it before each decision, as soon as we have a lease.
        return Err(Reason::OwnRecordMissing);
    }
    // A switchover from a member that did not lead last does not concern this race.
    let is_from_last = |leader: &MemberName| {
        let last = plan.memory.last_leader.as_ref();
        last.is_none_or(|last| last.name == *leader)
    };
    let request =
        view.failover.value.as_ref().filter(|request| {
            request.scheduled_at.is_none() && request.leader.as_ref().is_none_or(is_from_last)
        });
    let candidate = request.and_then(|request| request.candidate.as_ref());
    if snapshot.config.pause && candidate != Some(me) {
        return Err(Reason::Paused {
            me: snapshot.me.name.clone(),
        });
    }
    if snapshot.me.tags.nofailover() {
        return Err(Reason::NoFailover);
    }
    if snapshot.watchdog_failed {
        return Err(Reason::NoWatchdog);
    }
    let forced = request.is_some_and(|request| !request.is_switchover());
    if !(forced && candidate == Some(me)) {
        failsafe::is_asked(snapshot, view)?;
    }
    let sync = view
        .sync
        .value
        .as_ref()
        .filter(|_| snapshot.config.synchronous_mode != SyncMode::Off);
    if sync.is_some_and(|sync| !sync.includes(me.as_str())) && !(forced && candidate == Some(me)) {
        return Err(Reason::NotSynchronous);
    }
    foreign_leader(snapshot, view, since, plan)?;
    if candidate == Some(me) {
        if snapshot.config.pause && !request.is_some_and(|request| request.force) {
            unfenced_leader(snapshot, since, plan)?;
        }
        let confirmed = forced || request.is_some_and(|request| request.confirmed);
        if !confirmed {
            // The leader has not said that we have everything: it may have died before it looked.
            compare_with_voters(snapshot, view, running, since, sync, false, plan)?;
        }
        return Ok(Reason::CandidateIsMe);
    }
    if snapshot
        .memory
        .yield_until
        .is_some_and(|until| snapshot.now < until)
    {
        return Err(Reason::Yielding);
    }
    if running.streaming {
        // Two replicas that compare positions while WAL still comes refuse each other.
        plan.effect(Effect::Follow(None));
        return Err(Reason::HoldingReceiver);
    }
    // The named candidate has a moment, if it can be reached; then the best member takes over.
    let waits = snapshot.now < since + snapshot.config.timers.loop_wait;
    if let Some(named) = candidate.filter(|_| waits) {
        asked_since(snapshot, since, std::slice::from_ref(named), plan)?;
        let answer = snapshot.peers.answers.get(named);
        if answer.is_some_and(|peer| peer.running && !peer.nofailover) {
            return Err(Reason::WaitingForCandidate {
                candidate: named.clone(),
            });
        }
    }
    let limit = snapshot.config.maximum_lag_on_failover;
    let bytes = view
        .status
        .optime
        .map_or(0, |optime| optime.ahead_of(running.lsn));
    if bytes > limit {
        return Err(Reason::Lagging { bytes, limit });
    }
    let check_timeline = snapshot.config.check_timeline && snapshot.config.standby.is_none();
    if check_timeline && view.timeline().is_some_and(|cluster| running.timeline < cluster) {
        return Err(Reason::OldTimeline);
    }
    compare_with_voters(snapshot, view, running, since, sync, true, plan)?;
    Ok(Reason::Healthiest)
}

/// Asks all who might take over, and compares with those who answer.
fn compare_with_voters(
    snapshot: &Snapshot,
    view: &View,
    running: &Running,
    since: howdah_types::BootTime,
    sync: Option<&SyncState>,
    by_priority: bool,
    plan: &mut Plan,
) -> Result<(), Reason> {
    if !running.is_at_end {
        return Err(Reason::Replaying);
    }
    let voters = voters(snapshot, view, sync, plan);
    asked_since(snapshot, since, &voters, plan)?;
    let sync_leader = sync.map(|sync| sync.leader.as_str());
    let by_votes = sync.is_some_and(|sync| sync.quorum > 0);
    // In quorum mode another member of Patroni's leads for a moment before it says so in `/sync`.
    let exempt = sync_leader.filter(|_| !by_votes || led_last(snapshot, view));
    compare(snapshot, view, running, &voters, exempt, by_priority)?;
    plan.memory.passed_over = voters.iter().any(|name| failsafe::is_outside(view, name));
    let Some(sync) = sync.filter(|_| by_votes && exempt != Some(snapshot.me.name.as_str())) else {
        return Ok(());
    };
    has_votes(snapshot, running, sync, &voters, plan)?;
    plan.memory.sync_voted = Some(view.sync.rev);
    Ok(())
}

/// No other member is known to have led since we did.
fn led_last(snapshot: &Snapshot, view: &View) -> bool {
    let me = &snapshot.me.name;
    let history = view.history.as_ref().and_then(|rows| rows.last());
    let last = history.and_then(|row| row.new_leader.as_deref());
    let seen = snapshot.memory.last_leader.as_ref();
    seen.is_none_or(|seen| seen.name == *me) && last.is_none_or(|last| last == me.as_str())
}

/// In quorum mode: of the other voters so many must have answered, and have no more than we, that one of them would have what we
/// lack (Patroni's rule). What a member has answered in another race counts for nothing: only those
/// are counted who were asked in this one.
fn has_votes(
    snapshot: &Snapshot,
    running: &Running,
    sync: &SyncState,
    asked: &[MemberName],
    plan: &mut Plan,
) -> Result<(), Reason> {
    let me = snapshot.me.name.as_str();
    let needed = sync.quorum as usize;
    let answers = asked
        .iter()
        .filter_map(|name| Some((name, snapshot.peers.answers.get(name)?)));
    let mut attached = false;
    let have = answers
        .filter(|(name, peer)| {
            let votes = name.as_str() != me && sync.is_standby(name.as_str()) && peer.running;
            attached |= votes && peer.attached;
            votes
                && !peer.attached
                && match peer.timeline {
                    Some(theirs) if theirs != running.timeline => theirs < running.timeline,
                    _ => peer.lsn <= running.lsn,
                }
        })
        .count();
    if have >= needed {
        return Ok(());
    }
    let again = snapshot
        .peers
        .asked_at
        .is_none_or(|at| snapshot.now >= at + SOON * 5);
    if attached && again {
        // They let go as soon as they see that no member leads.
        plan.effect(Effect::ProbePeers(asked.to_vec()));
    }
    Err(Reason::TooFewVoters { have, needed })
}

/// Whom to ask before taking over: all who might, and in synchronous mode have every acknowledged commit.
fn voters(snapshot: &Snapshot, view: &View, sync: Option<&SyncState>, plan: &Plan) -> Vec<MemberName> {
    let has_all = |name: &MemberName| sync.is_none_or(|sync| sync.includes(name.as_str()));
    let mut voters: Vec<MemberName> = view
        .members
        .iter()
        .filter(|(name, member)| {
            **name != snapshot.me.name
                && member.api_base().is_some()
                // Who may not take over still tells what it has where votes count.
                && (!member.tags.nofailover() || sync.is_some_and(|sync| sync.quorum > 0))
                && has_all(name)
        })
        .map(|(name, _)| name.clone())
        .collect();
    // Members that the store does not show have one lease to come back to it. Who does not reach it for longer must not keep the others
    // from leading.
    let lease = snapshot.config.timers.lease(view.all_ours());
    let memory = &plan.memory;
    let has_time = |since: Option<BootTime>| {
        let since = since.max(memory.store_since);
        memory.store_forgot || since.is_none_or(|since| snapshot.now < since + lease)
    };
    let known = memory.known.iter();
    let known = known.filter(|(_, member)| member.gone.is_none() || has_time(member.gone));
    let in_topology = view.failsafe.value.iter().flat_map(|topology| topology.keys());
    let in_topology = in_topology.filter(|_| has_time(memory.leaderless_since));
    voters.extend(
        known
            .map(|(name, _)| name)
            .chain(in_topology)
            .filter(|name| **name != snapshot.me.name && !view.members.contains_key(*name) && has_all(name))
            .cloned(),
    );
    voters.sort();
    voters.dedup();
    voters
}

/// In maintenance mode no guard stops the member that led: it must say itself that it is no primary.
fn unfenced_leader(
    snapshot: &Snapshot,
    since: howdah_types::BootTime,
    plan: &mut Plan,
) -> Result<(), Reason> {
    let Some(last) = plan.memory.last_leader.clone().map(|last| last.name) else {
        return Ok(());
    };
    if last == snapshot.me.name {
        return Ok(());
    }
    asked_since(snapshot, since, std::slice::from_ref(&last), plan)?;
    match snapshot.peers.answers.get(&last) {
        Some(peer) if !peer.primary && !peer.starting => Ok(()),
        Some(_) => Err(Reason::PeerIsPrimary { peer: last }),
        None => Err(Reason::UnfencedLeader { leader: last }),
    }
}

fn foreign_leader(
    snapshot: &Snapshot,
    view: &View,
    since: howdah_types::BootTime,
    plan: &mut Plan,
) -> Result<(), Reason> {
    let last = match plan.memory.last_leader.clone() {
        Some(last) if !last.ours && last.name != snapshot.me.name => last.name,
        Some(_) => return Ok(()),
        // We have not seen who led. If a member is not ours, it may have been that one.
        None => match view.members.iter().find(|(_, member)| member.howdah.is_none()) {
            Some((name, _)) => name.clone(),
            None => return Ok(()),
        },
    };
    let stopped = snapshot.peers.asked_at.is_some_and(|asked| asked >= since)
        && snapshot
            .peers
            .answers
            .get(&last)
            .is_some_and(|peer| !peer.primary);
    if stopped || snapshot.now >= since + FOREIGN_GRACE {
        return Ok(());
    }
    asked_since(snapshot, since, std::slice::from_ref(&last), plan)?;
    plan.effect(Effect::ProbePeers(vec![last.clone()]));
    Err(Reason::GraceForForeignLeader { leader: last })
}
