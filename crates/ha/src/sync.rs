//! Plain synchronous mode: one standby that has every acknowledged commit.
//!
//! The rule that makes a failover lose nothing: a name is in `synchronous_standby_names` *before* it appears in the
//! store, and leaves the store *before* it leaves `synchronous_standby_names`. One step is made at a time, and the
//! store is written only on the revision that was read.

use std::time::Duration;

use howdah_config::SyncMode;
use howdah_dcs::{Cond, Key, Member, SyncState, View};

use crate::{Effect, Plan, Reason, Running, Snapshot, WalSender, decide::SOON};

/// PostgreSQL's processes read a changed setting one by one: commits that another process began may not wait yet
/// (Patroni waits as long).
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) fn as_leader(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    let me = snapshot.me.name.as_str();
    let none = without_standby(snapshot.config.synchronous_mode);
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
    match (current, pick) {
        (Some(current), Some(pick)) if current.eq_ignore_ascii_case(&pick.name) => {
            // Mended if somebody changed it: it must contain who is published.
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
        (None, None) => {
            plan.memory.sync_since = None;
            if running.sync_names != none {
                plan.because(Reason::SyncChange { standby: None });
                plan.effect(Effect::SetSyncNames(none.to_owned()));
            }
        }
    }
}

/// First PostgreSQL waits for it, then it has everything, then the store says so.
fn promote_to_sync(snapshot: &Snapshot, view: &View, running: &Running, pick: &WalSender, plan: &mut Plan) {
    plan.wake(snapshot.now + SOON);
    plan.because(Reason::SyncChange {
        standby: Some(pick.name.clone()),
    });
    let names = quote_sync_name(&pick.name);
    let since = match &plan.memory.sync_since {
        Some((name, since, at)) if *name == pick.name && running.sync_names == names => {
            if snapshot.now < *at + SETTLE {
                return;
            }
            *since
        }
        _ if running.sync_names == names => {
            // Commits wait for it since some moment before now: what is flushed by now is the bound.
            plan.memory.sync_since = Some((pick.name.clone(), running.lsn, snapshot.now));
            return;
        }
        _ => {
            plan.memory.sync_since = None;
            plan.effect(Effect::SetSyncNames(names));
            return;
        }
    };
    if pick.sync && pick.lsn >= since {
        write(
            view,
            &SyncState::new(snapshot.me.name.as_str(), std::slice::from_ref(&pick.name)),
            plan,
        );
    }
}

fn turn_off(view: &View, running: &Running, plan: &mut Plan) {
    if view.sync.value.is_some() {
        plan.effect(Effect::Delete {
            key: Key::Sync,
            cond: Cond::Rev(view.sync.rev),
        });
    } else if !running.sync_names.is_empty() && plan.memory.sync_since.is_some() {
        plan.effect(Effect::SetSyncNames(String::new()));
        plan.memory.sync_since = None;
    }
}

fn write(view: &View, state: &SyncState, plan: &mut Plan) {
    plan.effect(Effect::Put {
        key: Key::Sync,
        value: serde_json::to_string(state).unwrap_or_default(),
        cond: Cond::Rev(view.sync.rev),
    });
}

/// The best standby: the present one while it streams within the limit, else by priority, then by position.
fn choose<'a>(
    snapshot: &Snapshot,
    view: &View,
    running: &'a Running,
    current: Option<&str>,
) -> Option<&'a WalSender> {
    let fits = |sender: &&WalSender| {
        let member = view
            .members
            .iter()
            .find(|(name, _)| name.as_str().eq_ignore_ascii_case(&sender.name));
        let lag = running.lsn.ahead_of(sender.lsn);
        sender.streaming
            && member.is_some_and(|(name, member)| {
                *name != snapshot.me.name
                    && has_our_timeline(member, running)
                    && member.is_running()
                    && !member.tags.nosync()
                    && !member.tags.nofailover()
            })
            && snapshot
                .config
                .maximum_lag_on_syncnode
                .is_none_or(|limit| lag <= limit)
    };
    let priority = |sender: &WalSender| {
        let member = view
            .members
            .iter()
            .find(|(name, _)| name.as_str().eq_ignore_ascii_case(&sender.name));
        member.map_or(0, |(_, member)| member.tags.sync_priority())
    };
    let present = |sender: &WalSender| current.is_some_and(|name| name.eq_ignore_ascii_case(&sender.name));
    running.walsenders.iter().filter(fits).max_by(|a, b| {
        (present(a), priority(a), a.lsn, &b.name).cmp(&(present(b), priority(b), b.lsn, &a.name))
    })
}

/// Whether a member says that it has come to our timeline. Until then its WAL may have left our history, and PostgreSQL
/// takes the positions that it reports for confirmations all the same.
pub(crate) fn has_our_timeline(member: &Member, running: &Running) -> bool {
    member
        .timeline
        .is_some_and(|timeline| timeline >= running.timeline)
}

/// `synchronous_standby_names` while no standby is chosen. In strict mode commits wait for a name that nobody has: Patroni
/// writes `*`, which also takes the word of a standby whose WAL has left our history.
#[must_use]
pub fn without_standby(mode: SyncMode) -> &'static str {
    match mode {
        SyncMode::Strict => "\"no standby is chosen yet\"",
        SyncMode::Off | SyncMode::On => "",
    }
}

/// A member's name as `synchronous_standby_names` takes it.
#[must_use]
pub fn quote_sync_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
