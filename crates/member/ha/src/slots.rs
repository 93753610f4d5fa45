//! Physical replication slots: each member keeps the WAL that the others still need, also as a replica, so that they
//! can go on streaming from it when it is promoted.

use std::collections::BTreeMap;

use howdah_dcs::{Member, View};
use howdah_types::{Lsn, MemberName};

use crate::{Effect, Plan, Running, SlotChange, Snapshot, upstream::can_feed};

/// Slots on the leader: one for every member that streams from it.
pub(crate) fn leader(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    // A member whose upstream cannot feed it streams from us.
    let streams_here = |name: &MemberName, member: &Member| {
        let elsewhere = member.tags.replicatefrom().is_some_and(|from| {
            from != snapshot.me.name.as_str()
                && view
                    .members
                    .iter()
                    .any(|(other, member)| other.as_str() == from && other != name && can_feed(member))
        });
        *name != snapshot.me.name && !member.tags.nostream() && !elsewhere
    };
    let wanted: Vec<String> = view
        .members
        .iter()
        .filter(|(name, member)| streams_here(name, member))
        .map(|(name, _)| name.slot_name())
        .collect();
    apply(snapshot, running, &wanted, &BTreeMap::new(), plan);
}

/// Slots on a replica: for every other member, moved along with what the leader publishes.
pub(crate) fn replica(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    let positions = view.status.slots.clone().unwrap_or_default();
    // A member that never leads keeps WAL for those alone that stream from it.
    let needs_us = |member: &Member| {
        !snapshot.me.tags.nofailover() || member.tags.replicatefrom() == Some(snapshot.me.name.as_str())
    };
    let wanted: Vec<String> = view
        .members
        .iter()
        .filter(|(name, member)| **name != snapshot.me.name && !member.tags.nostream() && needs_us(member))
        .map(|(name, _)| name.slot_name())
        .collect();
    apply(snapshot, running, &wanted, &positions, plan);
}

/// Slots of members that have gone and are not forgotten yet.
pub(crate) fn retained(snapshot: &Snapshot, view: &View, running: &Running) -> Vec<String> {
    let present: Vec<String> = view.members.keys().map(MemberName::slot_name).collect();
    running
        .slots
        .iter()
        .map(|slot| slot.name.clone())
        .filter(|name| snapshot.memory.slots_seen.contains_key(name) && !present.contains(name))
        .collect()
}

fn apply(
    snapshot: &Snapshot,
    running: &Running,
    wanted: &[String],
    positions: &BTreeMap<String, Lsn>,
    plan: &mut Plan,
) {
    if !snapshot.config.use_slots {
        return;
    }
    for name in wanted {
        plan.memory.slots_seen.insert(name.clone(), snapshot.now);
    }
    let own = snapshot.me.name.slot_name();
    let none = Vec::new();
    let permanent = if snapshot.me.tags.nofailover() {
        &none
    } else {
        &snapshot.config.permanent_slots
    };
    let exists = |name: &String| running.slots.iter().any(|slot| slot.name == *name);
    let mut changes: Vec<SlotChange> = wanted
        .iter()
        .chain(permanent.iter().filter(|name| **name != own))
        .filter(|name| !exists(name))
        .map(|name| SlotChange::Create(name.clone()))
        .collect();
    let ignored = &snapshot.config.ignore_slots;
    for slot in running
        .slots
        .iter()
        .filter(|slot| !slot.active && !ignored.contains(&slot.name))
    {
        if slot.logical {
            // On a primary they are their users'. On a former one they keep WAL for ever.
            if running.in_recovery && !snapshot.config.logical_slots.contains(&slot.name) {
                changes.push(SlotChange::Drop(slot.name.clone()));
            }
            continue;
        }
        let needed = wanted.contains(&slot.name) || (permanent.contains(&slot.name) && slot.name != own);
        let target = positions
            .get(&slot.name)
            .copied()
            .filter(|target| *target <= running.lsn);
        if needed {
            if let (Some(target), Some(at)) = (target, slot.restart_lsn)
                && target > at
            {
                changes.push(SlotChange::Advance(slot.name.clone(), target));
            }
            continue;
        }
        let seen = plan
            .memory
            .slots_seen
            .entry(slot.name.clone())
            .or_insert(snapshot.now);
        let forgotten = snapshot.now.since(*seen) >= snapshot.config.member_slots_ttl;
        if forgotten || slot.name == own {
            plan.memory.slots_seen.remove(&slot.name);
            changes.push(SlotChange::Drop(slot.name.clone()));
        }
    }
    if snapshot.config.pause {
        // Patroni drops none in maintenance mode, and makes those that are needed.
        changes.retain(|change| !matches!(change, SlotChange::Drop(_)));
    }
    if !changes.is_empty() {
        plan.effect(Effect::Slots(changes));
    }
}
