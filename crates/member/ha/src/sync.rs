//! Synchronous modes: the standbys that have every acknowledged commit, and what is published of them.
//!
//! Two things must agree at every moment, whoever dies between two steps: the [`SyncRule`] in `synchronous_standby_names` by which
//! commits are acknowledged, and the state in the store (`/sync`) by which members take over ([`SyncRule::covers`]). In plain mode
//! each of the published standbys has everything: a name is in the setting *before* it appears in the store, and leaves the store
//! *before* it leaves the setting. In quorum mode commits wait for some of the standbys, and who takes over has met so many of the
//! others that one of them would have had what it lacks. One step is made at a time, and the store is written only on the revision
//! that was read.
//!
//! Whether commits wait at all is a flag in PostgreSQL's shared memory, which only the checkpointer sets when it reads a
//! changed setting; while it is busy with an immediate checkpoint, or hangs in an fsync, commits are acknowledged without
//! waiting although the setting is there. So the setting of every member, replicas too, always has a name in it
//! ([`NOBODY`] where none is chosen), a promotion begins with commits that wait, and only a leader that the mode allows to
//! go on alone empties it. After it was empty, a standby is published only once a commit was seen to wait.
//!
//! The processes that send WAL read a changed setting one by one, and what lets a commit through meanwhile is a mix of the settings
//! ([`mix`]). That mix must be covered too. Where it is not, a rule comes between that lets nothing through, with the standbys of both
//! in places of their own: once all are there, no process goes by the setting before.
//!
//! ```text
//!   empty ──► NOBODY ──► a commit was seen to wait ──► the standbys' rule ──► all processes go by it,
//!     ▲         │                                                              enough of them have everything ──► /sync
//!     └─────────┴── the mode allows it, and no member could be a standby for a moment
//! ```

use std::time::Duration;

use howdah_config::SyncMode;
use howdah_dcs::{Cond, Document, Key, Member, SyncState, View};
use howdah_types::{Lsn, MemberName};

use crate::{
    Effect, Plan, Reason, Running, Snapshot, SyncRule, WalSender,
    candidate::has_our_timeline,
    plan::SOON,
    sync_mix::{all_go_by, mix, places_apart},
    sync_rule::NOBODY,
    upstream::can_feed,
};

/// A standby that is about to stream gets this long before a leader that may go on alone does so.
const GO_ALONE: Duration = Duration::from_secs(2);

/// Before the second look.
const UNBOUND: Lsn = Lsn(u64::MAX);

/// What the mode wants of the standbys that are fit.
struct Target {
    rule: SyncRule,
    sync: SyncState,
}

pub(crate) fn as_leader(snapshot: &Snapshot, view: &View, running: &Running, plan: &mut Plan) {
    let me = snapshot.me.name.as_str();
    let current = SyncRule::parse(&running.sync_names);
    if current.is_empty() {
        plan.memory.commits_wait = false;
    }
    if plan.memory.sync_set.as_ref() == Some(&current) {
        plan.memory.sync_set = None;
    }
    // What waits already is let through when a standby reports, which one that has everything does only every
    // `wal_receiver_status_interval` (10 s): new WAL makes it report at once.
    if plan.memory.sync_nudge && !current.holds() && all_go_by(&current, &running.walsenders) {
        plan.memory.sync_nudge = false;
        plan.effect(Effect::NudgeStandby);
    }
    plan.memory.sync_put.retain(|(rev, _)| *rev == view.sync.rev);
    // Each standby has a place that no rule before gives, or none of them has one.
    let alone = plan.memory.sync_set.is_none() && current.holds();
    if alone && all_go_by(&current, &running.walsenders) {
        plan.memory.sync_known = true;
        plan.memory.sync_rules.clear();
    }
    if snapshot.config.synchronous_mode == SyncMode::Off {
        turn_off(snapshot, view, running, &current, plan);
        return;
    }
    let published = view.sync.value.as_ref().filter(|sync| sync.leader == me);
    let Some(published) = published else {
        return write(view, &SyncState::new(me, &[]), plan);
    };
    let fit = fit(snapshot, view, running, published);
    if !fit.is_empty() {
        plan.memory.no_standby_since = None;
    }
    let step = Step {
        snapshot,
        view,
        running,
        published,
        current,
        fit,
    };
    step.take(plan);
}

/// One look at what is published and what is set, and the step that follows from it.
struct Step<'a> {
    snapshot: &'a Snapshot,
    view: &'a View,
    running: &'a Running,
    published: &'a SyncState,
    current: SyncRule,
    /// The standbys that could be synchronous, the best first.
    fit: Vec<&'a WalSender>,
}

impl Step<'_> {
    fn take(&self, plan: &mut Plan) {
        let any_published = self.published.standbys().next().is_some();
        // Changed from outside: commits went by it, and who is published may lack them. In plain mode a member of Patroni's does not
        // look at votes.
        let plain = !self.snapshot.config.synchronous_quorum;
        let unseen = plain && self.published.quorum > 0 && !self.view.all_ours();
        if (any_published && !self.current.covers(self.published)) || unseen {
            return self.publish_lost(Vec::new(), plan);
        }
        let Some(target) = self.target() else {
            if any_published {
                return self.publish_lost(Vec::new(), plan);
            }
            return self.alone(plan);
        };
        if plain
            && self.published.quorum == 0
            && let Some(left) = self.without_lost()
        {
            return self.publish_lost(left, plan);
        }
        if self.published.is_same(&target.sync) {
            plan.memory.sync_since = None;
            if !self.current.is_same(&target.rule) {
                // As it was in between, or mended if it was changed.
                self.set(&target.rule, plan);
            }
            return;
        }
        plan.wake(self.snapshot.now + SOON);
        plan.because(Reason::SyncChange {
            standbys: target.sync.standbys().map(str::to_owned).collect(),
        });
        // Whoever has published a standby has seen it, and the setting has named one since.
        if !plan.memory.commits_wait && !any_published {
            plan.memory.sync_since = None;
            if self.current.is_nobody() {
                plan.because(Reason::ProvingCommitsWait);
                plan.effect(Effect::ProveCommitsWait);
            } else {
                // A commit that a standby confirms at once cannot be seen to wait.
                self.note(&SyncRule::parse(NOBODY), plan);
            }
            return;
        }
        self.approach(&target, plan);
    }

    /// Publishes the target, if whoever would take over by it has everything; else comes nearer to where that is so.
    fn approach(&self, target: &Target, plan: &mut Plan) {
        let Some(mixed) = self.mixed(None, plan) else {
            plan.memory.sync_since = None;
            return;
        };
        // With a name that no member has, no standby confirms anything.
        let confirms = !self.current.is_nobody();
        // While nothing is let through, clients wait: what comes next is set first, where that may be.
        let may_set = self.current.holds() && target.rule.covers(self.published);
        if mixed.covers(&target.sync) && confirms && !may_set {
            return self.publish(target, plan);
        }
        plan.memory.sync_since = None;
        if self.current.holds() || !self.current.covers(&target.sync) {
            let published = self.published.standbys().map(str::to_owned);
            let both = published.filter(|name| !target.rule.names(name));
            let union = SyncRule::all(target.sync.standbys().map(str::to_owned).chain(both).collect());
            for rule in [&target.rule, &union] {
                if rule.covers(self.published) && !self.current.is_same(rule) {
                    return self.set(rule, plan);
                }
            }
            return self.publish_lost(Vec::new(), plan);
        }
        // Processes that go by another rule are in the way, or may: those that have read the setting cannot be told from them.
        self.hold(&self.current, plan);
    }

    /// What lets a commit through at this moment, or would once `next` is set too.
    fn mixed(&self, next: Option<&SyncRule>, plan: &Plan) -> Option<SyncRule> {
        let memory = &plan.memory;
        // Before this agent, or before PostgreSQL was seen again, any rule may have been set.
        let unknown = SyncRule::any(
            1,
            self.running
                .walsenders
                .iter()
                .map(|sender| sender.name.clone())
                .collect(),
        );
        let mut earlier = memory.sync_rules.clone();
        if !memory.sync_known {
            let places = self
                .running
                .walsenders
                .iter()
                .filter(|sender| sender.priority > 0);
            let one =
                places.map(|sender| SyncRule::holding(&[sender.name.as_str()], sender.priority as usize - 1));
            earlier.extend(one.map(SyncRule::weakened));
            earlier.push(unknown);
        }
        let certain: Vec<&SyncRule> = [Some(&self.current), memory.sync_set.as_ref(), next]
            .into_iter()
            .flatten()
            .collect();
        mix(&certain, &earlier, &self.running.walsenders)
    }

    /// All processes go by rules that cover the target. It is published once so many of its standbys have what was written before
    /// that: the others may lack it.
    fn publish(&self, target: &Target, plan: &mut Plan) {
        if self.published.implies(&target.sync) {
            plan.memory.sync_since = None;
            return self.write(&target.sync, plan);
        }
        let placed = |sender: &&WalSender| sender.priority == self.current.priority(&sender.name);
        let named = |sender: &&&WalSender| target.sync.includes(&sender.name);
        if !self.fit.iter().filter(named).all(placed) {
            // Some have not read the setting yet.
            plan.memory.sync_since = None;
            return;
        }
        let what = format!(
            "{} of {}",
            target.sync.quorum,
            target.sync.sync_standby.as_deref().unwrap_or_default()
        );
        match &plan.memory.sync_since {
            // The position of a look is read before its standbys: the bound is that of the second look.
            Some((name, since, at)) if *name == what && *since == UNBOUND => {
                plan.memory.sync_since = Some((what, self.running.lsn, *at));
            }
            Some((name, since, _)) if *name == what => {
                let has_all = |sender: &&&WalSender| {
                    sender.sync
                        && sender.priority > 0
                        && sender.reached(self.running.commit_level) >= *since
                        && target.sync.includes(&sender.name)
                };
                let needed = target.sync.standbys().count() - target.sync.quorum as usize;
                if self.fit.iter().filter(has_all).count() >= needed {
                    self.write(&target.sync, plan);
                }
            }
            _ => {
                // The rules hold since some moment before now: what is flushed by the next look is the bound.
                plan.memory.sync_since = Some((what, UNBOUND, self.snapshot.now));
            }
        }
    }

    /// Sets a rule that covers what is published, if the mix of it and those before does too; else first one that lets nothing through.
    fn set(&self, rule: &SyncRule, plan: &mut Plan) {
        match self.mixed(Some(rule), plan) {
            Some(mixed) if mixed.covers(self.published) => {
                let arrives = |(_, put): &(u64, SyncState)| !mixed.covers(put);
                if plan.memory.sync_put.iter().any(arrives) {
                    // What was written may still arrive, and would not be safe then: the present state is written once more.
                    return self.write(&self.published.clone(), plan);
                }
                self.note(rule, plan);
            }
            Some(_) => self.hold(rule, plan),
            None => {}
        }
    }

    /// Sets a rule that lets nothing through until all processes go by it, between the present one and `next`.
    fn hold(&self, next: &SyncRule, plan: &mut Plan) {
        plan.wake(self.snapshot.now + SOON);
        if self.current.holds() && !self.current.is_nobody() && plan.memory.sync_set.is_none() {
            if !all_go_by(&self.current, &self.running.walsenders) {
                return;
            }
        } else if plan.memory.sync_set.is_some() {
            return;
        }
        // A standby that is in only one of the two must not begin to count.
        let names: Vec<&str> = self.current.standbys().filter(|name| next.names(name)).collect();
        let mut from: Vec<&SyncRule> = plan.memory.sync_rules.iter().collect();
        from.push(&self.current);
        let seen: Vec<SyncRule> = self
            .running
            .walsenders
            .iter()
            .filter(|sender| sender.priority > 0)
            .map(|sender| SyncRule::holding(&[sender.name.as_str()], sender.priority as usize - 1))
            .collect();
        from.extend(&seen);
        let least = next.needed().max(self.current.needed());
        let mut places = places_apart(&names, &from);
        // As many must confirm as by either rule, and one that cannot.
        while names.len() + places < least {
            places += 1;
        }
        let rule = SyncRule::holding(&names, places);
        self.note(&rule, plan);
    }

    /// A process may go by the present rule from now on, and by the new one from when it has read it.
    fn note(&self, rule: &SyncRule, plan: &mut Plan) {
        if !plan.memory.sync_rules.contains(&self.current) {
            plan.memory.sync_rules.push(self.current.clone());
        }
        plan.memory.sync_set = Some(rule.clone());
        plan.memory.sync_nudge = true;
        plan.wake(self.snapshot.now + SOON);
        plan.effect(Effect::SetSyncNames(rule.setting()));
    }

    fn write(&self, state: &SyncState, plan: &mut Plan) {
        let put = (self.view.sync.rev, state.clone());
        if !plan.memory.sync_put.contains(&put) {
            plan.memory.sync_put.push(put);
        }
        write(self.view, state, plan);
    }

    fn publish_lost(&self, standbys: Vec<String>, plan: &mut Plan) {
        plan.because(Reason::SyncLostStandby)
            .wake(self.snapshot.now + SOON);
        plan.memory.sync_since = None;
        let me = self.snapshot.me.name.as_str();
        self.write(&SyncState::new(me, &standbys), plan);
    }

    /// In plain mode: who is published and still fit, if another one no longer is. Commits wait for it.
    fn without_lost(&self) -> Option<Vec<String>> {
        let is_fit = |name: &&str| {
            self.fit
                .iter()
                .any(|sender| sender.name.eq_ignore_ascii_case(name))
        };
        let left: Vec<String> = self
            .published
            .standbys()
            .filter(is_fit)
            .map(str::to_owned)
            .collect();
        (left.len() < self.published.standbys().count()).then_some(left)
    }

    /// `None`: no standby is fit.
    fn target(&self) -> Option<Target> {
        let me = self.snapshot.me.name.as_str();
        let wanted = self.snapshot.config.synchronous_nodes.max(1) as usize;
        let needed = wanted.min(self.fit.len());
        if needed == 0 {
            return None;
        }
        let quorum = self.snapshot.config.synchronous_quorum;
        let chosen = self.fit.iter().take(if quorum { self.fit.len() } else { needed });
        let mut names: Vec<String> = chosen.map(|sender| sender.name.clone()).collect();
        let mut sync = SyncState::new(me, &names);
        if quorum {
            names.sort();
            sync.quorum = u32::try_from(names.len() - needed).unwrap_or(u32::MAX);
            return Some(Target {
                rule: SyncRule::any(needed, names),
                sync,
            });
        }
        // New ones come first, so that every present one changes its place.
        names.sort_by_key(|name| self.current.priority(name));
        Some(Target {
            rule: SyncRule::all(names),
            sync,
        })
    }

    /// No standby is fit. Commits go on waiting, unless the mode allows to go on alone and no standby is about to come.
    fn alone(&self, plan: &mut Plan) {
        let (snapshot, view) = (self.snapshot, self.view);
        plan.memory.sync_since = None;
        let since = *plan.memory.no_standby_since.get_or_insert(snapshot.now);
        if snapshot.config.synchronous_mode != SyncMode::On {
            if !self.current.is_nobody() {
                plan.because(Reason::SyncChange { standbys: Vec::new() });
                self.note(&SyncRule::parse(NOBODY), plan);
            }
            return;
        }
        if self.current.is_empty() {
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
        let arrives = |(_, put): &(u64, SyncState)| put.standbys().next().is_some();
        if plan.memory.sync_put.iter().any(arrives) {
            // A standby that was about to be published may still appear in the store, and would lack what is committed without it.
            return self.write(&self.published.clone(), plan);
        }
        plan.because(Reason::SyncChange { standbys: Vec::new() });
        plan.memory.commits_wait = false;
        plan.effect(Effect::SetSyncNames(String::new()));
    }
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

fn turn_off(snapshot: &Snapshot, view: &View, running: &Running, current: &SyncRule, plan: &mut Plan) {
    let is_member = |name: &str| {
        view.members
            .keys()
            .any(|member| member.as_str().eq_ignore_ascii_case(name))
    };
    let is_ours = current.is_nobody() || (!current.is_empty() && current.standbys().all(is_member));
    let users = snapshot.config.parameters.get("synchronous_standby_names");
    let is_users = users.is_some_and(|users| *users == running.sync_names);
    if view.sync.value.is_some() {
        plan.effect(Effect::Delete {
            key: Key::Sync,
            cond: Cond::Rev(view.sync.rev),
        });
    } else if is_ours && !is_users {
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
    // A list of names has commas between them, and blanks around them count for nothing.
    let can_be_listed = !name.as_str().contains(',') && name.as_str().trim() == name.as_str();
    *name != snapshot.me.name
        && can_feed(member)
        && !member.tags.nosync()
        && !member.tags.nofailover()
        && can_be_listed
}

/// The standbys that stream within the limit, the best first: by priority, then the present ones, then by position (Patroni's
/// order). A name that two processes have does not count: PostgreSQL would take the word of either.
fn fit<'a>(
    snapshot: &Snapshot,
    view: &View,
    running: &'a Running,
    published: &SyncState,
) -> Vec<&'a WalSender> {
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
    let named = SyncRule::parse(&running.sync_names);
    let rank = |sender: &WalSender| {
        let priority = member_of(sender).map_or(0, |(_, member)| member.tags.sync_priority());
        let mut standbys = published.standbys();
        let present = standbys.any(|name| name.eq_ignore_ascii_case(&sender.name));
        // Without what was begun, positions that move would change the choice at every look.
        (
            priority,
            present,
            named.names(&sender.name),
            sender.reached(running.commit_level),
        )
    };
    let mut fit: Vec<&WalSender> = running.walsenders.iter().filter(fits).collect();
    fit.sort_by(|a, b| rank(b).cmp(&rank(a)).then_with(|| a.name.cmp(&b.name)));
    fit
}
