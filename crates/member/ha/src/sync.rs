//! Plain synchronous mode: one standby that has every acknowledged commit.
//!
//! The rule that makes a failover lose nothing: a name is in `synchronous_standby_names` *before* it appears in the
//! store, and leaves the store *before* it leaves `synchronous_standby_names`. One step is made at a time, and the
//! store is written only on the revision that was read.
//!
//! Whether commits wait at all is a flag in PostgreSQL's shared memory, which only the checkpointer sets when it reads a
//! changed setting; while it is busy with an immediate checkpoint, or hangs in an fsync, commits are acknowledged without
//! waiting although the setting is there. So the setting of every member, replicas too, always has a name in it
//! ([`NOBODY`] where none is chosen), a promotion begins with commits that wait, and only a leader that the mode allows to
//! go on alone empties it. After it was empty, a standby is published only once a commit was seen to wait.
//!
//! ```text
//!   empty ──► NOBODY ──► a commit was seen to wait ──► the standby's name ──► its process alone takes its word,
//!     ▲         │                                                              and it has everything ──► /sync
//!     └─────────┴── the mode allows it, and no member could be a standby for a moment
//! ```

use std::time::Duration;

use howdah_config::SyncMode;
use howdah_dcs::{Cond, Document, Key, Member, SyncState, View};
use howdah_types::{Lsn, MemberName};

use crate::{
    Effect, Plan, Reason, Running, Snapshot, WalSender, candidate::has_our_timeline, plan::SOON,
    upstream::can_feed,
};

/// A standby that is about to stream gets this long before a leader that may go on alone does so.
const GO_ALONE: Duration = Duration::from_secs(2);

/// Before the second look.
const UNBOUND: Lsn = Lsn(u64::MAX);

/// `synchronous_standby_names` while no standby is chosen: a name that no member has. Patroni's `*` would also take the
/// word of a standby whose WAL has left our history.
pub const NOBODY: &str = "\"no standby is chosen yet\"";

pub(crate) fn as_leader(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    let me = snapshot.me.name.as_str();
    if running.sync_names.is_empty() {
        plan.memory.commits_wait = false;
    }
    if snapshot.config.synchronous_mode == SyncMode::Off {
        turn_off(view, running, plan);
        return;
    }
    let published = view.sync.value.as_ref().filter(|sync| sync.leader == me);
    let Some(published) = published else {
        return write(view, &SyncState::new(me, &[]), plan);
    };
    let current = published.standbys().next();
    let pick = choose(snapshot, view, running, current);
    if pick.is_some() {
        plan.memory.no_standby_since = None;
    }
    match (current, pick) {
        (Some(current), Some(pick))
            if current.eq_ignore_ascii_case(&pick.name) && !running.sync_names.is_empty() =>
        {
            // Mended if it was changed: it must contain the published standby.
            let names = quote_sync_name(&pick.name);
            if running.sync_names != names {
                plan.effect(Effect::SetSyncNames(names));
            }
        }
        (Some(_), _) => {
            plan.because(Reason::SyncLostStandby).wake(snapshot.now + SOON);
            plan.memory.sync_since = None;
            write(view, &SyncState::new(me, &[]), plan);
        }
        (None, Some(pick)) => promote_to_sync(snapshot, view, running, pick, plan),
        (None, None) => alone(snapshot, view, running, plan),
    }
}

/// First commits wait, then for this standby, then it has everything, then the store says so.
fn promote_to_sync(snapshot: &Snapshot, view: &View, running: &Running, pick: &WalSender, plan: &mut Plan) {
    plan.wake(snapshot.now + SOON);
    plan.because(Reason::SyncChange {
        standby: Some(pick.name.clone()),
    });
    let names = quote_sync_name(&pick.name);
    if !plan.memory.commits_wait {
        plan.memory.sync_since = None;
        if running.sync_names == NOBODY {
            plan.because(Reason::ProvingCommitsWait);
            plan.effect(Effect::ProveCommitsWait);
        } else {
            // A commit that a standby confirms at once cannot be seen to wait.
            plan.effect(Effect::SetSyncNames(NOBODY.to_owned()));
        }
        return;
    }
    if running.sync_names != names {
        plan.memory.sync_since = None;
        plan.effect(Effect::SetSyncNames(names));
        return;
    }
    // A process that has not read the changed setting may still take another standby's word.
    let others_confirm = running
        .walsenders
        .iter()
        .any(|other| other.confirms && !other.name.eq_ignore_ascii_case(&pick.name));
    if others_confirm || !pick.confirms {
        plan.memory.sync_since = None;
        return;
    }
    match &plan.memory.sync_since {
        // The position of a look is read before its standbys: the bound is that of the second look.
        Some((name, since, at)) if *name == pick.name && *since == UNBOUND => {
            plan.memory.sync_since = Some((name.clone(), running.lsn, *at));
        }
        Some((name, since, _)) if *name == pick.name => {
            if pick.sync && pick.reached(running.commit_level) >= *since {
                write(
                    view,
                    &SyncState::new(snapshot.me.name.as_str(), std::slice::from_ref(&pick.name)),
                    plan,
                );
            }
        }
        _ => {
            // Commits wait for it since some moment before now: what is flushed by the next look is the bound.
            plan.memory.sync_since = Some((pick.name.clone(), UNBOUND, snapshot.now));
            // Its process releases what waits when the standby reports, which one that has everything does only every
            // `wal_receiver_status_interval` (10 s): new WAL makes it report at once.
            plan.effect(Effect::NudgeStandby);
        }
    }
}

/// No standby is fit. Commits go on waiting, unless the mode allows to go on alone and no standby is about to come.
fn alone(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    plan.memory.sync_since = None;
    let since = *plan.memory.no_standby_since.get_or_insert(snapshot.now);
    let may = snapshot.config.synchronous_mode == SyncMode::On;
    if running.sync_names.is_empty() {
        if !may {
            plan.because(Reason::SyncChange { standby: None });
            plan.effect(Effect::SetSyncNames(NOBODY.to_owned()));
        }
        return;
    }
    if !may {
        if running.sync_names != NOBODY {
            plan.because(Reason::SyncChange { standby: None });
            plan.effect(Effect::SetSyncNames(NOBODY.to_owned()));
        }
        return;
    }
    let comes = view
        .members
        .iter()
        .any(|(name, member)| could_be_standby(snapshot, name, member));
    if comes && snapshot.now < since + GO_ALONE {
        plan.because(Reason::WaitingForStandby).wake(since + GO_ALONE);
        return;
    }
    plan.because(Reason::SyncChange { standby: None });
    plan.memory.commits_wait = false;
    plan.effect(Effect::SetSyncNames(String::new()));
}

/// A promotion begins with commits that wait: no member may take over without them.
pub(crate) fn before_promotion(snapshot: &Snapshot, running: &Running, plan: &mut Plan) {
    as_replica(snapshot, running, plan);
}

/// A replica carries a name too, so that its checkpointer has the flag set long before a promotion.
pub(crate) fn as_replica(snapshot: &Snapshot, running: &Running, plan: &mut Plan) {
    let wanted = match snapshot.config.synchronous_mode {
        SyncMode::Off if running.sync_names == NOBODY => "",
        SyncMode::Off => return,
        SyncMode::On | SyncMode::Strict => NOBODY,
    };
    if running.sync_names != wanted {
        plan.effect(Effect::SetSyncNames(wanted.to_owned()));
    }
}

fn turn_off(view: &View, running: &Running, plan: &mut Plan) {
    let is_ours = running.sync_names == NOBODY
        || view
            .members
            .keys()
            .any(|name| running.sync_names == quote_sync_name(name.as_str()));
    if view.sync.value.is_some() {
        plan.effect(Effect::Delete {
            key: Key::Sync,
            cond: Cond::Rev(view.sync.rev),
        });
    } else if is_ours {
        plan.effect(Effect::SetSyncNames(String::new()));
        plan.memory.sync_since = None;
    }
}

fn write(view: &View, state: &SyncState, plan: &mut Plan) {
    plan.effect(Effect::Put {
        document: Document::sync(state),
        cond: Cond::Rev(view.sync.rev),
    });
}

/// Whether a member may be a synchronous standby: it could take over.
fn could_be_standby(snapshot: &Snapshot, name: &MemberName, member: &Member) -> bool {
    *name != snapshot.me.name && can_feed(member) && !member.tags.nosync() && !member.tags.nofailover()
}

/// The best standby that streams within the limit: by priority, then the present one, then by position (Patroni's order).
/// A name that two processes have does not count: PostgreSQL would take the word of either.
fn choose<'a>(
    snapshot: &Snapshot,
    view: &View,
    running: &'a Running,
    current: Option<&str>,
) -> Option<&'a WalSender> {
    let member_of = |sender: &WalSender| {
        view.members
            .iter()
            .find(|(name, _)| name.as_str().eq_ignore_ascii_case(&sender.name))
    };
    let is_alone = |sender: &WalSender| {
        let same = |other: &&WalSender| other.name.eq_ignore_ascii_case(&sender.name);
        running.walsenders.iter().filter(same).count() == 1
    };
    let fits = |sender: &&WalSender| {
        let lag = running.lsn.ahead_of(sender.reached(running.commit_level));
        sender.streaming
            && is_alone(sender)
            && member_of(sender).is_some_and(|(name, member)| {
                could_be_standby(snapshot, name, member) && has_our_timeline(member, running)
            })
            && snapshot
                .config
                .maximum_lag_on_syncnode
                .is_none_or(|limit| lag <= limit)
    };
    let rank = |sender: &WalSender| {
        let priority = member_of(sender).map_or(0, |(_, member)| member.tags.sync_priority());
        let present = current.is_some_and(|name| name.eq_ignore_ascii_case(&sender.name));
        (priority, present, sender.reached(running.commit_level))
    };
    running
        .walsenders
        .iter()
        .filter(fits)
        .max_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| b.name.cmp(&a.name)))
}

/// A member's name as `synchronous_standby_names` takes it.
#[must_use]
pub fn quote_sync_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
