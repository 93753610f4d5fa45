//! Who can take over from us.

use std::time::Duration;

use howdah_config::SyncMode;
use howdah_dcs::{FailoverRequest, Member, View};
use howdah_types::{Lsn, MemberName, Origins, have_forked};

use crate::{Effect, Peer, Plan, Postgres, Reason, Running, Snapshot, plan::SOON};

/// Answers older than this say nothing about who can take over. A look at a server that hangs takes three seconds, and
/// the answers to questions that were asked before it must still count after it.
const FRESH: Duration = Duration::from_secs(5);

/// The member that could take over, judged by answers that are fresh; asks for answers where they are not. `None`
/// when no member comes into question.
pub(crate) fn probed_candidate(
    snapshot: &Snapshot,
    view: &View,
    request: Option<&FailoverRequest>,
    plan: &mut Plan,
) -> Option<Result<MemberName, Reason>> {
    let names: Vec<MemberName> = candidates(snapshot, view, request)
        .map(|(name, _)| name.clone())
        .collect();
    if names.is_empty() {
        return None;
    }
    let asked = snapshot.peers.asked_at.filter(|at| {
        snapshot.now.since(*at) < FRESH && names.iter().all(|name| snapshot.peers.asked.contains(name))
    });
    let answered = |name: &MemberName| snapshot.peers.answers.contains_key(name);
    if asked.is_none() || (!snapshot.peers.complete && !names.iter().all(answered)) {
        if asked.is_none() {
            plan.effect(Effect::ProbePeers(names));
        }
        plan.wake(snapshot.now + SOON);
        return Some(Err(Reason::AskingPeers));
    }
    let forced = request.is_some_and(|request| !request.is_switchover());
    // Who takes over without our word that it has everything has to meet so many others.
    let quorum = view
        .sync
        .value
        .as_ref()
        .filter(|_| request.is_none() && snapshot.config.synchronous_mode != SyncMode::Off)
        .map_or(0, |sync| sync.quorum as usize);
    let running = |name: &&MemberName| snapshot.peers.answers.get(*name).is_some_and(|peer| peer.running);
    if quorum > 0 && names.iter().filter(running).count() <= quorum {
        return Some(Err(Reason::NoGoodCandidate));
    }
    let best = names
        .into_iter()
        .filter_map(|name| {
            let peer = snapshot.peers.answers.get(&name)?;
            let fit = eligible(snapshot, view, peer, forced).is_ok()
                && (forced || request.is_none() || receives(snapshot, view, &name));
            fit.then_some((peer.lsn, peer.priority, name))
        })
        .max_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    Some(best.map(|(_, _, name)| name).ok_or(Reason::NoGoodCandidate))
}

/// Whether a member gets what we write at this moment. One that does not will lack the end when we have stopped, however
/// little that is. We cannot see replicas of other replicas; they are judged when we have stopped.
fn receives(snapshot: &Snapshot, view: &View, name: &MemberName) -> bool {
    let Postgres::Running(running) = &snapshot.postgres else {
        return true;
    };
    let Some(member) = view.members.get(name) else {
        return false;
    };
    let sends = running
        .walsenders
        .iter()
        .any(|sender| sender.streaming && sender.name.eq_ignore_ascii_case(name.as_str()));
    has_our_timeline(member, running) && (sends || member.tags.replicatefrom().is_some())
}

/// The members that may be asked whether they take over: not us, reachable by REST, not `nofailover`, the named one
/// if one is named, and in synchronous mode only synchronous standbys (unless it is a failover, which may lose data).
pub fn candidates<'a>(
    snapshot: &'a Snapshot,
    view: &'a View,
    request: Option<&'a FailoverRequest>,
) -> impl Iterator<Item = (&'a MemberName, &'a Member)> {
    let named = request.and_then(|request| request.candidate.as_ref());
    let forced = request.is_some_and(|request| !request.is_switchover());
    let sync = view
        .sync
        .value
        .as_ref()
        .filter(|_| snapshot.config.synchronous_mode != SyncMode::Off && !forced);
    view.members.iter().filter(move |(name, member)| {
        **name != snapshot.me.name
            && member.api_base().is_some()
            && !member.tags.nofailover()
            && named.is_none_or(|named| named == *name)
            && sync.is_none_or(|sync| sync.is_standby(name.as_str()))
    })
}

/// Whether a member that answered can take over.
///
/// # Errors
/// Why not.
pub fn eligible(snapshot: &Snapshot, view: &View, peer: &Peer, forced: bool) -> Result<(), Reason> {
    if peer.nofailover || !peer.running || peer.primary {
        return Err(Reason::NoFailover);
    }
    let optime = match &snapshot.postgres {
        Postgres::Running(running) if !running.in_recovery => running.lsn,
        Postgres::Running(_)
        | Postgres::Starting { .. }
        | Postgres::Silent { .. }
        | Postgres::Stopped(_)
        | Postgres::Unreadable { .. }
        | Postgres::Missing => view.status.optime.unwrap_or(Lsn(0)),
    };
    let limit = snapshot.config.maximum_lag_on_failover;
    let bytes = optime.ahead_of(peer.lsn);
    if bytes > limit && !forced {
        return Err(Reason::Lagging { bytes, limit });
    }
    if snapshot.config.check_timeline
        && let (Some(cluster), Some(theirs)) = (view.timeline(), peer.timeline)
        && theirs < cluster
    {
        return Err(Reason::OldTimeline);
    }
    Ok(())
}

/// Whether a member says that it has come to our timeline, and that none of its timelines is another one of the same number.
/// Otherwise its WAL may have left our history, and PostgreSQL takes the positions that it reports for confirmations all the same.
pub(crate) fn has_our_timeline(member: &Member, running: &Running) -> bool {
    member
        .timeline
        .is_some_and(|timeline| timeline >= running.timeline)
        && !has_forked(member, &running.origins)
}

/// Whether a timeline of a member's has the number of one of ours and is another one.
pub(crate) fn has_forked(member: &Member, ours: &Origins) -> bool {
    member.origins().is_some_and(|origins| have_forked(ours, origins))
}
