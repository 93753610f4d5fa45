//! The store knows no cluster, and we are a replica of one: it was wiped, or its objects were deleted.

use std::time::Duration;

use howdah_config::SyncMode;
use howdah_dcs::{Cond, Document, SyncState, View};
use howdah_types::MemberName;

use crate::{
    Effect, Plan, Reason, Running, Snapshot,
    compare::{STARTING_LEADER, asked_since, compare},
};

/// Beside the length of a lease: the time in which a primary that still runs by its own clock has stopped, or has written
/// the cluster back itself.
const SLACK: Duration = Duration::from_secs(1);

/// Writes the cluster back when no primary has done so in the length of a lease, and no member that can be reached is ahead of
/// us. In synchronous mode all members must answer, or a request names the one that is to lead. The race that follows then decides who leads.
///
/// # Errors
/// Why not, or not yet.
pub(crate) fn may_adopt(
    snapshot: &Snapshot,
    view: &View,
    running: &Running,
    plan: &mut Plan,
) -> Result<Reason, Reason> {
    let me = &snapshot.me.name;
    if snapshot.config.pause || snapshot.me.tags.nofailover() {
        return Err(Reason::WaitingForBootstrap);
    }
    if !view.members.contains_key(me) {
        // Whoever races once the cluster is named asks the members that the store shows. Our lease may have been forgotten too.
        plan.effect(Effect::VerifyLease);
        return Err(Reason::OwnRecordMissing);
    }
    let Some(since) = plan.memory.store_empty_since else {
        return Err(Reason::WaitingForBootstrap);
    };
    let lease = snapshot.config.timers.lease(view.all_ours());
    if snapshot.now < since + lease + SLACK {
        return Err(Reason::WaitingForBootstrap);
    }
    let present = view
        .members
        .iter()
        .filter(|(_, member)| member.api_base().is_some() && !member.tags.nofailover())
        .map(|(name, _)| name);
    let mut others: Vec<MemberName> = present
        .chain(plan.memory.known.keys())
        .filter(|name| *name != me)
        .cloned()
        .collect();
    others.sort();
    others.dedup();
    asked_since(snapshot, since, &others, plan)?;
    let answers = &snapshot.peers.answers;
    let ours = running.system_id.to_string();
    let foreign = answers
        .values()
        .filter_map(|peer| peer.system_id.clone())
        .find(|theirs| *theirs != ours);
    if let Some(cluster) = foreign {
        return Err(Reason::OtherSystem { ours, cluster });
    }
    let request = view.failover.value.as_ref();
    let forced = request.is_some_and(|r| !r.is_switchover() && r.candidate.as_ref() == Some(me));
    if snapshot.config.synchronous_mode != SyncMode::Off && !forced {
        // What stands in /sync by now may be the late write of a leader that was frozen while the store was wiped.
        // Who has every acknowledged commit was written in the store. What we saw of it may be old: only all members
        // together have everything for sure, and an agent that was started since then does not know who they are.
        let all_run = !others.is_empty()
            && others
                .iter()
                .all(|name| answers.get(name).is_some_and(|peer| peer.running));
        // Nor does one that has never seen which members were synchronous.
        let is_asked = |name: &MemberName| name == me || others.contains(name);
        let told = plan.memory.last_sync.as_ref().is_some_and(|sync| {
            let names = std::iter::once(sync.leader.as_str()).chain(sync.standbys());
            names
                .filter_map(|name| MemberName::new(name).ok())
                .all(|name| is_asked(&name))
        });
        if !(plan.memory.cluster_known && all_run && told) {
            return Err(Reason::SyncForgotten);
        }
    }
    // Which member led last may not be known any more: every member that answers and has data is waited for.
    let waits = snapshot.now < since + lease + SLACK + STARTING_LEADER;
    let comes = answers
        .iter()
        .find(|(_, peer)| waits && !peer.running && !peer.start_failed && peer.system_id.is_some());
    if let Some((peer, _)) = comes {
        return Err(Reason::PeerIsStarting { peer: peer.clone() });
    }
    compare(snapshot, view, running, &others, None, true)?;
    write_back(snapshot, view, running, plan);
    Ok(Reason::AdoptingData)
}

/// Names the cluster in a store that does not know it: in synchronous mode first that only we have every commit, so that
/// a member that sees the cluster again sees that too.
pub(crate) fn write_back(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    let alone = SyncState::new(snapshot.me.name.as_str(), &[]);
    if snapshot.config.synchronous_mode != SyncMode::Off && view.sync.value.as_ref() != Some(&alone) {
        plan.effect(Effect::Put {
            document: Document::sync(&alone),
            cond: Cond::Rev(view.sync.rev),
        });
    }
    plan.effect(Effect::Put {
        document: Document::initialize(running.system_id),
        cond: Cond::Absent,
    });
}
