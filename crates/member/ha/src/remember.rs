//! What a decision notes for the next ones, whatever it decides.

use std::{collections::BTreeMap, time::Duration};

use howdah_dcs::View;
use howdah_types::{MemberName, Role};

use crate::{KnownMember, LastLeader, LeaseState, Plan, Postgres, Snapshot};

/// A server that has served for this long is no longer one that was just started.
const SETTLED: Duration = Duration::from_secs(60);

/// Keeps track of which member led, and since when there is no leader.
pub(crate) fn leader(snapshot: &Snapshot, view: &View, plan: &mut Plan) {
    let Some(leader) = &view.leader else {
        plan.memory.leaderless_since.get_or_insert(snapshot.now);
        return;
    };
    let ours = match view.members.get(&leader.name) {
        Some(member) => member.howdah.is_some(),
        // Without a record it stays what it was known to be.
        None => plan
            .memory
            .last_leader
            .as_ref()
            .is_some_and(|last| last.name == leader.name && last.ours),
    };
    plan.memory.last_leader = Some(LastLeader {
        name: leader.name.clone(),
        lease: leader.lease,
        ours,
    });
    plan.memory.leaderless_since = None;
    if leader.name != snapshot.me.name {
        plan.memory.yield_until = None;
    }
}

/// Keeps the members that the store knows, for the moment when it has forgotten them. A view that lacks our own record,
/// which we keep alive, or a cluster that was there, says nothing about who lives.
pub(crate) fn members(snapshot: &Snapshot, view: &View, plan: &mut Plan) {
    let memory = &mut plan.memory;
    if let Some(cluster) = &view.initialize {
        memory.store_empty_since = None;
        memory.cluster_known |= !cluster.is_empty();
        if let Some(sync) = &view.sync.value {
            memory.last_sync = Some(sync.clone());
        }
    } else if memory.cluster_known || !matches!(snapshot.postgres, Postgres::Missing) {
        memory.store_empty_since.get_or_insert(snapshot.now);
        memory.store_forgot = true;
    }
    let shown: BTreeMap<MemberName, KnownMember> = view
        .members
        .iter()
        .filter(|(name, member)| **name != snapshot.me.name && !member.tags.nofailover())
        .filter_map(|(name, member)| {
            let api = member.api_base()?.to_owned();
            Some((name.clone(), KnownMember { api, gone: None }))
        })
        .collect();
    let own_is_there = view.members.contains_key(&snapshot.me.name);
    memory.store_forgot |= !own_is_there && !memory.known.is_empty();
    let somebody_serves = view
        .leader_member()
        .is_some_and(|(_, member)| member.is_running() && member.role == Role::Primary);
    if !own_is_there || memory.store_forgot && !(somebody_serves && view.initialize.is_some()) {
        // Who is there is known from now on; who is not may live all the same.
        memory.known.extend(shown);
        return;
    }
    memory.store_forgot = false;
    // After an outage of the store that was longer than a lease no record is left, and they come back one by one.
    let lease = snapshot.config.timers.lease(view.all_ours());
    memory.known.retain(|name, member| {
        let gone = *member.gone.get_or_insert(snapshot.now);
        shown.contains_key(name) || view.leader.is_none() || snapshot.now < gone + lease
    });
    memory.known.extend(shown);
}

/// Keeps track of whether PostgreSQL serves.
pub(crate) fn postgres(snapshot: &Snapshot, plan: &mut Plan) {
    let memory = &mut plan.memory;
    if snapshot.lease == LeaseState::None {
        // Leadership that was handed over for it and comes back would be handed over at once, to and fro.
        memory.restarts = 0;
    }
    match &snapshot.postgres {
        Postgres::Unreadable { .. } => {
            memory.unreadable_since.get_or_insert(snapshot.now);
        }
        Postgres::Running(_)
        | Postgres::Starting { .. }
        | Postgres::Silent { .. }
        | Postgres::Stopped(_)
        | Postgres::Missing => memory.unreadable_since = None,
    }
    if let Postgres::Running(running) = &snapshot.postgres {
        let since = *memory.serving_since.get_or_insert(snapshot.now);
        memory.not_serving_since = None;
        memory.handed_over &= !running.in_recovery;
        // With the lease, a replica is one whose promotion is to come, or has failed.
        memory.start_failed &= running.in_recovery && snapshot.lease != LeaseState::None;
        if snapshot.now >= since + SETTLED {
            memory.restarts = 0;
        }
        // What it has that others lack counts again.
        memory.unfit_until = None;
        return;
    }
    memory.serving_since = None;
    memory.commits_wait = false;
    memory.sync_since = None;
    memory.sync_rules.clear();
    memory.sync_set = None;
    memory.sync_known = false;
    if snapshot.lease == LeaseState::None {
        memory.not_serving_since = None;
    } else {
        memory.not_serving_since.get_or_insert(snapshot.now);
    }
}
