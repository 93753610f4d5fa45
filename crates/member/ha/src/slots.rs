//! Replication slots: which of them exist here, and how far they are.
//!
//! Each member keeps the WAL that the others still need, also as a replica, so that they can go on streaming from it when it is
//! promoted. Permanent slots exist on every member that may lead: physical ones are made, logical ones are copied from the leader,
//! and all are moved along with what the leader publishes (`/status`).

use std::collections::BTreeMap;

use howdah_config::SlotKind;
use howdah_dcs::{Member, View};
use howdah_types::{Lsn, MemberName};

use crate::{
    Effect, Plan, Running, Slot, SlotChange, Snapshot, feedback::slot_on_leader, slot_copy::copy_missing,
    upstream::can_feed,
};

/// A slot that should exist here.
struct Wanted {
    kind: SlotKind,
    /// How far its consumer is, wherever that streams from.
    target: Option<Lsn>,
    /// Its consumer streams from us.
    used_here: bool,
}

/// Slots on the leader: for the other members, and the permanent ones.
pub(crate) fn leader(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    let wanted = wanted(snapshot, view, true);
    apply(snapshot, view, running, &wanted, plan);
}

/// Slots on a replica: the same, moved along with what the leader publishes.
pub(crate) fn replica(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    let wanted = wanted(snapshot, view, false);
    apply(snapshot, view, running, &wanted, plan);
    let lacks = |name: &String| !running.slots.iter().any(|slot| slot.name == *name);
    // Only what the leader has published exists there.
    let missing = wanted.into_iter().filter(|(name, wanted)| {
        matches!(wanted.kind, SlotKind::Logical { .. }) && wanted.target.is_some() && lacks(name)
    });
    let missing = missing.map(|(name, _)| name).collect();
    copy_missing(snapshot, view, running, missing, plan);
}

/// How far the slots of this cluster are, for replicas to move theirs. With it goes the leader's own position, for the slot that it will
/// need when it is a replica.
pub(crate) fn published(snapshot: &Snapshot, view: &View, running: &Running) -> BTreeMap<String, Lsn> {
    let retains = !snapshot.config.member_slots_ttl.is_zero();
    let wanted = wanted(snapshot, view, true);
    let retained = retained(snapshot, view, running);
    let position = |slot: &Slot| match (&slot.kind, wanted.get(&slot.name)) {
        (_, Some(wanted)) if wanted.kind != slot.kind => None,
        (SlotKind::Logical { .. }, wanted) => slot.confirmed_lsn.filter(|_| wanted.is_some()),
        (SlotKind::Physical, None) => slot.restart_lsn.filter(|_| retained.contains(&slot.name)),
        (SlotKind::Physical, Some(_)) => slot.restart_lsn,
    };
    let own = retains.then(|| (snapshot.me.name.slot_name(), running.lsn));
    running
        .slots
        .iter()
        .filter(|slot| !slot.failover && !slot.lost)
        .filter(|slot| retains || snapshot.config.permanent_slots.contains_key(&slot.name))
        .filter_map(|slot| Some((slot.name.clone(), position(slot)?)))
        .chain(own)
        .collect()
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

fn wanted(snapshot: &Snapshot, view: &View, leads: bool) -> BTreeMap<String, Wanted> {
    let (config, me) = (&snapshot.config, &snapshot.me);
    let mut wanted = BTreeMap::new();
    if !config.use_slots {
        return wanted;
    }
    let own = me.name.slot_name();
    let published = |slot: &str| view.status.slots.as_ref()?.get(slot).copied();
    for (name, member) in &view.members {
        if *name == me.name || member.tags.nostream() {
            continue;
        }
        let used_here = if leads {
            streams_from_leader(snapshot, view, name, member)
        } else {
            let is_leader = view.leader.as_ref().is_some_and(|leader| leader.name == *name);
            member.tags.replicatefrom() == Some(me.name.as_str()) && !is_leader
        };
        // A member that never leads keeps WAL for those alone that stream from it; without retention all do.
        if !used_here && (config.member_slots_ttl.is_zero() || me.tags.nofailover()) {
            continue;
        }
        let slot = name.slot_name();
        // What streams from another replica moves no slot of the leader: it says itself where it is.
        let own_word = member.tags.replicatefrom().and(member.xlog_location);
        let target = published(&slot).max(own_word);
        let kind = SlotKind::Physical;
        wanted.insert(
            slot,
            Wanted {
                kind,
                target,
                used_here,
            },
        );
    }
    if me.tags.nofailover() {
        return wanted;
    }
    let mut add = |name: &String, kind: SlotKind, used_here| {
        if *name != own && !wanted.contains_key(name) {
            let target = published(name);
            wanted.insert(
                name.clone(),
                Wanted {
                    kind,
                    target,
                    used_here,
                },
            );
        }
    };
    for (name, slot) in &config.permanent_slots {
        let decodes = matches!(slot.kind, SlotKind::Logical { .. });
        let possible =
            !decodes || (config.standby.is_none() && slot_on_leader(&me.name, &me.tags, view).is_some());
        if slot.cluster_type.includes(config.standby.is_some()) && possible {
            add(name, slot.kind.clone(), leads);
        }
    }
    if !leads {
        for name in view.status.retain_slots.iter().flatten() {
            add(name, SlotKind::Physical, false);
        }
    }
    wanted
}

/// A member whose upstream cannot feed it streams from the leader.
fn streams_from_leader(snapshot: &Snapshot, view: &View, name: &MemberName, member: &Member) -> bool {
    let me = &snapshot.me.name;
    let elsewhere = |from: &str| {
        let feeds = |(other, member): (&MemberName, &Member)| {
            other.as_str() == from && other != name && can_feed(member)
        };
        from != me.as_str() && view.members.iter().any(feeds)
    };
    !member.tags.replicatefrom().is_some_and(elsewhere)
}

fn apply(
    snapshot: &Snapshot,
    view: &View,
    running: &Running,
    wanted: &BTreeMap<String, Wanted>,
    plan: &mut Plan,
) {
    if !snapshot.config.use_slots {
        return;
    }
    for name in view.members.keys().map(MemberName::slot_name) {
        if wanted.contains_key(&name) {
            plan.memory.slots_seen.insert(name, snapshot.now);
        }
    }
    for slot in running.slots.iter().filter(|slot| slot.active) {
        // The time of a consumer that is away begins when it has gone.
        if let Some(seen) = plan.memory.slots_seen.get_mut(&slot.name) {
            *seen = snapshot.now;
        }
    }
    remember_permanent(running, wanted, plan);
    let mut changes = Vec::new();
    let config = &snapshot.config;
    // Where there is not room for all, members come first: replication rests on theirs.
    let is_extra = |name: &String| config.permanent_slots.contains_key(name);
    let (extra, members): (Vec<_>, Vec<_>) = wanted.iter().partition(|(name, _)| is_extra(name));
    for (name, wanted) in members.into_iter().chain(extra) {
        if running.slots.iter().any(|slot| slot.name == *name) {
            continue;
        }
        match &wanted.kind {
            SlotKind::Physical => changes.push(SlotChange::Create(name.clone())),
            // A replica copies the leader's.
            SlotKind::Logical { .. } if running.in_recovery => {}
            SlotKind::Logical { database, plugin } => changes.push(SlotChange::CreateLogical {
                name: name.clone(),
                database: database.clone(),
                plugin: plugin.clone(),
                failover: running.syncs_slots,
            }),
        }
    }
    for slot in running.slots.iter().filter(|slot| !slot.active) {
        let mut ignored = config.ignore_slots.iter();
        let is_kept = config.unreadable_slots.contains(&slot.name)
            || ignored.any(|matcher| matcher.matches(&slot.name, &slot.kind));
        let change = if slot.failover && running.in_recovery {
            let permanent = config.permanent_slots.contains_key(&slot.name);
            synchronized_by_postgres(running, slot).filter(|_| permanent)
        } else if let Some(wanted) = wanted.get(&slot.name) {
            adjust(running, slot, wanted, view.leader.is_some())
        } else {
            unwanted(snapshot, running, slot, plan)
        };
        let change = change.filter(|change| !(is_kept && matches!(change, SlotChange::Drop(_))));
        changes.extend(change);
    }
    if snapshot.config.pause {
        // Patroni drops none in maintenance mode, and makes those that are needed.
        changes.retain(|change| !matches!(change, SlotChange::Drop(_)));
    }
    if !changes.is_empty() {
        plan.effect(Effect::Slots(changes));
    }
}

/// Which logical slots here are permanent: after they have left the configuration they are dropped on the primary, too.
fn remember_permanent(running: &Running, wanted: &BTreeMap<String, Wanted>, plan: &mut Plan) {
    let exists = |name: &String| running.slots.iter().any(|slot| slot.name == *name);
    let decodes = |(_, wanted): &(&String, &Wanted)| matches!(wanted.kind, SlotKind::Logical { .. });
    let memory = &mut plan.memory;
    let permanent = wanted.iter().filter(decodes).map(|(name, _)| name.clone());
    memory.slots_permanent.extend(permanent);
    memory.slots_permanent.retain(exists);
    // A slot that comes later under the same name is another one.
    memory
        .slots_seen
        .retain(|name, _| wanted.contains_key(name) || exists(name));
}

/// PostgreSQL 17 copies slots with `failover` itself. One of a former primary stands in the way of the copy.
fn synchronized_by_postgres(running: &Running, slot: &Slot) -> Option<SlotChange> {
    let stands_in_the_way = running.syncs_slots && !slot.synced;
    stands_in_the_way.then(|| SlotChange::Drop(slot.name.clone()))
}

/// A slot that should exist and that no consumer uses.
fn adjust(running: &Running, slot: &Slot, wanted: &Wanted, has_leader: bool) -> Option<SlotChange> {
    let drop = || Some(SlotChange::Drop(slot.name.clone()));
    if slot.kind != wanted.kind {
        return drop();
    }
    match &slot.kind {
        SlotKind::Physical => {
            // What a consumer that is elsewhere by now has said of rows that it needs would keep them for ever.
            let stale = slot.has_xmin && !wanted.used_here && has_leader;
            let Some(at) = slot.restart_lsn.filter(|_| !slot.lost && !stale) else {
                return drop();
            };
            let target = wanted.target.filter(|_| !wanted.used_here)?;
            let behind = target > at && target <= running.lsn;
            behind.then(|| SlotChange::Advance(slot.name.clone(), target))
        }
        // The consumer of a lost slot must hear of it: a new one in its place would hide that changes are missing.
        SlotKind::Logical { .. } if !running.in_recovery => None,
        SlotKind::Logical { .. } if slot.lost => drop(),
        SlotKind::Logical { database, .. } => {
            let (at, target) = (slot.confirmed_lsn?, wanted.target?);
            let to = target.min(running.replayed);
            (to > at).then(|| SlotChange::AdvanceLogical {
                name: slot.name.clone(),
                database: database.clone(),
                to,
            })
        }
    }
}

/// A slot that is neither a member's nor permanent.
fn unwanted(snapshot: &Snapshot, running: &Running, slot: &Slot, plan: &mut Plan) -> Option<SlotChange> {
    let drop = || Some(SlotChange::Drop(slot.name.clone()));
    if matches!(slot.kind, SlotKind::Logical { .. }) {
        // On a primary they are their users', but for one that was permanent. On a former primary they keep WAL for ever.
        let was_permanent = plan.memory.slots_permanent.contains(&slot.name);
        return if running.in_recovery || was_permanent {
            drop()
        } else {
            None
        };
    }
    let seen = plan
        .memory
        .slots_seen
        .entry(slot.name.clone())
        .or_insert(snapshot.now);
    let forgotten = snapshot.now.since(*seen) >= snapshot.config.member_slots_ttl;
    if forgotten || slot.name == snapshot.me.name.slot_name() {
        plan.memory.slots_seen.remove(&slot.name);
        return drop();
    }
    None
}
