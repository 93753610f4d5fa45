//! What other members say of their positions, compared with ours.

use std::time::Duration;

use howdah_dcs::View;
use howdah_types::{BootTime, MemberName};

use crate::{Effect, Peer, Plan, Reason, Running, Snapshot, failsafe};

/// The member that led last and is being started may have WAL that no other member has: it is waited for this long.
pub(crate) const STARTING_LEADER: Duration = Duration::from_secs(30);

/// Any other member that is being started.
const STARTING: Duration = Duration::from_secs(5);

/// The others must have been asked after the leader was gone, and a moment ago.
pub(crate) fn asked_since(
    snapshot: &Snapshot,
    since: BootTime,
    names: &[MemberName],
    plan: &mut Plan,
) -> Result<(), Reason> {
    if names.is_empty() {
        return Ok(());
    }
    let fresh = snapshot
        .peers
        .asked_at
        .is_some_and(|asked| asked >= since && snapshot.now.since(asked) < Duration::from_secs(3))
        && names.iter().all(|name| snapshot.peers.asked.contains(name));
    if !fresh {
        plan.effect(Effect::ProbePeers(names.to_vec()));
        return Err(Reason::AskingPeers);
    }
    if !snapshot.peers.complete {
        return Err(Reason::AskingPeers);
    }
    Ok(())
}

/// No member that answered may be a primary, be ahead of us, or be equal with a higher priority. A later timeline is ahead
/// wherever it ends: who is on an earlier one has nothing of what the last leader has written. Who does not answer has no
/// veto: with two members that is what makes a failover possible. Who answers that it is starting is waited for, since
/// after a power cut the last leader has rows that no other member has.
pub(crate) fn compare(
    snapshot: &Snapshot,
    view: &View,
    running: &Running,
    voters: &[MemberName],
    sync_leader: Option<&str>,
    by_priority: bool,
) -> Result<(), Reason> {
    let answers = voters
        .iter()
        .filter_map(|name| Some((name, snapshot.peers.answers.get(name)?)));
    for (name, peer) in answers {
        if peer.primary {
            return Err(Reason::PeerIsPrimary { peer: name.clone() });
        }
        // Who is outside of the failsafe topology cannot lead before a leader adds it, which is the first thing that one does.
        if peer.nofailover || failsafe::is_outside(view, name) {
            continue;
        }
        if !peer.running {
            let waited_for = peer.system_id.is_some() && is_waited_for(snapshot, view, name, peer);
            if sync_leader.is_none() && waited_for {
                return Err(Reason::PeerIsStarting { peer: name.clone() });
            }
            continue;
        }
        match peer.timeline {
            Some(theirs) if theirs > running.timeline => {
                return Err(Reason::PeerHasLaterTimeline { peer: name.clone() });
            }
            Some(theirs) if theirs < running.timeline => continue,
            _ => {}
        }
        let former_leader = sync_leader == Some(snapshot.me.name.as_str());
        let bytes = peer.lsn.ahead_of(running.lsn);
        if bytes > 0 && !former_leader {
            return Err(Reason::PeerIsAhead {
                peer: name.clone(),
                bytes,
            });
        }
        if by_priority && peer.lsn == running.lsn && peer.priority > snapshot.me.tags.failover_priority() {
            return Err(Reason::PeerHasPriority { peer: name.clone() });
        }
    }
    Ok(())
}

/// Whether a member that answers and whose PostgreSQL does not run yet is worth waiting for: not when it could not be
/// started. In synchronous mode no member is:
/// every member that may race has every acknowledged commit.
fn is_waited_for(snapshot: &Snapshot, view: &View, name: &MemberName, peer: &Peer) -> bool {
    if peer.start_failed {
        return false;
    }
    let Some(since) = snapshot.memory.leaderless_since else {
        return false;
    };
    // Where no member here has seen which one led, the history may say it.
    let in_history = || Some(view.history.as_ref()?.last()?.new_leader.as_deref()? == name.as_str());
    let led_last = match &snapshot.memory.last_leader {
        Some(last) => Some(last.name == *name),
        None => in_history(),
    };
    let patience = if led_last.unwrap_or(peer.starting) {
        STARTING_LEADER.min(snapshot.config.primary_start_timeout)
    } else if peer.starting {
        STARTING
    } else {
        return false;
    };
    snapshot.now < since + patience
}
