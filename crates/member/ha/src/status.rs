use std::time::Duration;

use howdah_config::SlotKind;
use howdah_dcs::{Cond, Document, LITTLE_WAL, Status, View};
use howdah_types::Lsn;

use crate::{Effect, Plan, Running, Snapshot, slots};

/// Publishes our position, at most once a `loop_wait` (replicas of Patroni wake at every change), and the slots that
/// other members should keep WAL for.
pub(crate) fn publish(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    let due = plan
        .memory
        .status_at
        .is_none_or(|at| snapshot.now >= at + snapshot.config.timers.loop_wait.min(Duration::from_secs(10)));
    if !due {
        return;
    }
    let slots = slots::published(snapshot, view, running);
    let retained = slots::retained(snapshot, view, running);
    let status = Status {
        optime: Some(running.lsn),
        slots: Some(slots).filter(|slots| !slots.is_empty()),
        retain_slots: (!retained.is_empty()).then_some(retained),
    };
    // What the consumer of a logical slot has confirmed must not come a second time after a failover.
    let confirmed = running
        .slots
        .iter()
        .filter(|slot| matches!(slot.kind, SlotKind::Logical { .. }))
        .all(|slot| at(&status, &slot.name) == at(&view.status, &slot.name));
    if !confirmed || !status.is_near(&view.status, LITTLE_WAL) {
        plan.effect(Effect::Put {
            document: Document::status(&status),
            cond: Cond::Always,
        });
    }
    plan.memory.status_at = Some(snapshot.now);
}

fn at(status: &Status, slot: &str) -> Option<Lsn> {
    status.slots.as_ref()?.get(slot).copied()
}
