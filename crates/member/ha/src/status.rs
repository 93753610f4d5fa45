use std::{collections::BTreeMap, time::Duration};

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
    let slots: BTreeMap<String, Lsn> = running
        .slots
        .iter()
        .filter_map(|slot| Some((slot.name.clone(), slot.restart_lsn?)))
        .chain([(snapshot.me.name.slot_name(), running.lsn)])
        .collect();
    let retained = slots::retained(snapshot, view, running);
    let status = Status {
        optime: Some(running.lsn),
        slots: Some(slots),
        retain_slots: (!retained.is_empty()).then_some(retained),
    };
    if !status.is_near(&view.status, LITTLE_WAL) {
        plan.effect(Effect::Put {
            document: Document::status(&status),
            cond: Cond::Always,
        });
    }
    plan.memory.status_at = Some(snapshot.now);
}
