//! When a replica copies the leader's logical slots. PostgreSQL is stopped for that, so one replica does so after the other.

use std::time::Duration;

use howdah_dcs::View;
use howdah_types::{BootTime, MemberName, PgState};

use crate::{
    Action, Plan, Running, Snapshot,
    copied::{COPY_AGAIN, Copied},
    upstream::{desired_upstream, is_ready, upstream},
};

/// Logical slots are copied by one replica after the other, which is stopped for that: each has a turn of this many seconds in a round, by the
/// time of day.
const TURN: i64 = 10;

/// And begins in the first seconds of it.
const BEGINS: i64 = 5;

/// Another member is waited for no longer than this: it may replay for hours.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(300);

/// Logical slots that the leader has and we lack are copied, for which PostgreSQL is stopped.
pub(crate) fn copy_missing(
    snapshot: &Snapshot,
    view: &View,
    running: &Running,
    names: Vec<String>,
    plan: &mut Plan,
) {
    if names.is_empty() {
        return;
    }
    let Some((leader, record)) = view.leader_member() else {
        return;
    };
    let due: Vec<(String, BootTime)> = names
        .into_iter()
        .map(|name| {
            let copies = plan.memory.slot_copies.get(&name);
            let again = copies.map_or(snapshot.now, Copied::again);
            (name, again)
        })
        .collect();
    let tried = plan.memory.slots_tried_at.map(|at| at + COPY_AGAIN);
    let earliest = due
        .iter()
        .map(|(_, at)| *at)
        .min()
        .max(tried)
        .unwrap_or(snapshot.now);
    if snapshot.now < earliest {
        plan.wake(earliest);
        return;
    }
    let names: Vec<String> = due
        .into_iter()
        .filter(|(_, at)| snapshot.now >= *at)
        .map(|(name, _)| name)
        .collect();
    let replicas: Vec<&MemberName> = view.members.keys().filter(|name| *name != leader).collect();
    let rank = replicas.iter().position(|name| **name == snapshot.me.name);
    let wait = until_turn(snapshot.wall, rank.unwrap_or(0), replicas.len());
    if wait > Duration::ZERO {
        plan.wake(snapshot.now + wait);
        return;
    }
    if !running.streaming || !is_ready(record) {
        return;
    }
    if another_moves(view, &snapshot.me.name) {
        let since = *plan.memory.slots_wait_since.get_or_insert(snapshot.now);
        if snapshot.now < since + WAIT_FOR_OTHERS {
            return;
        }
    } else {
        plan.memory.slots_wait_since = None;
    }
    if let (Some(leader), Some(follow)) = (upstream(leader, record), desired_upstream(snapshot, view)) {
        let before = plan.effects.len();
        plan.begin(
            snapshot,
            Action::CopySlots {
                leader,
                follow,
                names,
            },
        );
        if plan.effects.len() > before {
            plan.memory.slots_tried_at = Some(snapshot.now);
        }
    }
}

/// Whether another member that may take over stops or starts at this moment: it is waited for, since somebody must be able to.
#[must_use]
pub fn another_moves(view: &View, me: &MemberName) -> bool {
    view.members.iter().any(|(name, member)| {
        let moves = matches!(
            member.state,
            PgState::Starting | PgState::Restarting | PgState::Stopping
        );
        moves && name != me && !member.tags.nofailover()
    })
}

/// How long until the replica of this rank may begin.
fn until_turn(wall: i64, rank: usize, replicas: usize) -> Duration {
    let (rank, replicas) = (
        i64::try_from(rank).unwrap_or(0),
        i64::try_from(replicas).unwrap_or(1).max(1),
    );
    let round = TURN * replicas;
    let into = (wall - TURN * rank).rem_euclid(round);
    if into < BEGINS {
        Duration::ZERO
    } else {
        Duration::from_secs(u64::try_from(round - into).unwrap_or(1))
    }
}
