//! Failsafe mode: whom a leader would ask without the store (`/failsafe`), and what follows from a promise not to lead.

use std::borrow::Cow;

use howdah_dcs::{Cond, Document, HowdahMark, Key, LeaderKey, Member, Term, Topology, View};
use howdah_types::{MemberName, PgState, Role};

use crate::{Effect, LeaseState, Plan, Postgres, Reason, Snapshot, snapshot::Written};

/// The cluster with the leader that we have promised not to replace, where the store knows no other one.
pub(crate) fn with_promised_leader<'a>(snapshot: &Snapshot, view: &'a View) -> Cow<'a, View> {
    let Some(promise) = snapshot
        .promise
        .as_ref()
        .filter(|promise| view.leader.is_none() && snapshot.now < promise.until)
    else {
        return Cow::Borrowed(view);
    };
    let mut view = view.clone();
    view.leader = Some(LeaderKey {
        name: promise.leader.clone(),
        lease: None,
        term: Term(0),
    });
    // Its record has ended with its lease.
    view.members
        .entry(promise.leader.clone())
        .or_insert_with(|| Member {
            conn_url: promise.conn_url.clone(),
            api_url: promise.api_url.clone(),
            state: PgState::Running,
            role: Role::Primary,
            howdah: promise.asked.map(|_| HowdahMark::default()),
            ..Member::default()
        });
    Cow::Owned(view)
}

/// Says whose promise decides, and forgets one that the leader does not rely on.
pub(crate) fn as_member(snapshot: &Snapshot, view: &View, plan: &mut Plan) {
    let Some(promise) = &snapshot.promise else { return };
    let record = view.members.get(&promise.leader);
    let settled = record.and_then(|member| member.howdah.as_ref()?.settled);
    if let (Some(settled), Some(asked)) = (settled, promise.asked)
        && asked <= settled
    {
        plan.effect(Effect::ForgetPromise {
            leader: promise.leader.clone(),
            asked: settled,
        });
    } else if view.leader.is_none() {
        plan.because(Reason::Promised {
            leader: promise.leader.clone(),
            until: promise.until,
        });
        plan.wake(promise.until);
    }
}

/// A leader without the store would not ask this member: it must not lead.
///
/// Whatever the mode is by now: a leader that does not reach the store does not know that it was turned off. The next leader deletes the
/// topology then.
pub(crate) fn is_outside(view: &View, name: &MemberName) -> bool {
    let topology = view.failsafe.value.as_ref();
    topology.is_some_and(|topology| !topology.contains_key(name))
}

/// We hold the lease and are not promoted. A member that came after the last topology was written may have more WAL and could not
/// race: it is added, and the lease given back for a race of all. True when that is so.
pub(crate) fn admits(view: &View, plan: &mut Plan) -> bool {
    let members = addresses(view, plan);
    let passed_over = std::mem::take(&mut plan.memory.passed_over);
    let lacks = members.keys().any(|name| is_outside(view, name));
    if !(lacks || passed_over) {
        return false;
    }
    // The topology is written by every leader before anything else: see `as_leader`.
    plan.because(Reason::WidensTopology).effect(Effect::Release);
    true
}

/// All members that can be asked, with those that were there a moment ago: after an outage of the store they come back one by one.
fn addresses(view: &View, plan: &Plan) -> Topology {
    let known = plan.memory.known.iter();
    let known = known.map(|(name, member)| (name.clone(), format!("{}/patroni", member.api)));
    let with_address = view
        .members
        .iter()
        .filter(|(_, member)| member.api_base().is_some());
    known
        .chain(with_address.map(|(name, member)| (name.clone(), member.api_url.clone())))
        .collect()
}

/// Whether we are among those whom a leader without the store would ask.
///
/// # Errors
/// We are not: it does not know of us, and may lead.
pub(crate) fn is_asked(snapshot: &Snapshot, view: &View) -> Result<(), Reason> {
    if is_outside(view, &snapshot.me.name) {
        return Err(Reason::NotInTopology);
    }
    Ok(())
}

/// As leader, whether PostgreSQL serves or not: writes the topology. First the keeper is told whom to ask; then the store may name whom the
/// keeper asks, and was asked for every promise that counts. Whoever may be in the stored one is asked: that is what a write of ours may
/// have put there, in whichever order answers were lost.
pub(crate) fn as_leader(snapshot: &Snapshot, view: &View, plan: &mut Plan) {
    let Some((term, _)) = snapshot.lease.held(snapshot.now) else {
        return;
    };
    if view.leader.as_ref().is_none_or(|leader| leader.term != term) {
        return;
    }
    let stored = &view.failsafe;
    let me = &snapshot.me.name;
    let fresh = || Written {
        term,
        found: stored.rev,
        put: None,
        members: Topology::new(),
    };
    let mut written = plan
        .memory
        .topology
        .take()
        .filter(|written| written.term == term)
        .unwrap_or_else(fresh);
    let wanted = addresses(view, plan);
    if !snapshot.config.failsafe_mode || !wanted.contains_key(me) {
        tell(snapshot, term, None, plan);
        // While promises count no member may lead that has given none.
        if !snapshot.config.failsafe_mode && stored.value.is_some() && snapshot.failsafe.idle {
            written.put = Some(stored.rev);
            plan.effect(Effect::Delete {
                key: Key::Failsafe,
                cond: Cond::Rev(stored.rev),
            });
        }
        plan.memory.topology = Some(written);
        return;
    }
    // What an earlier leader has sent is conditional on a revision that is past; so is what we have sent before the last time.
    let ours = stored.rev > written.found;
    let settled = written.put.is_none_or(|rev| stored.rev > rev);
    if ours && settled && stored.value.as_ref() == Some(&wanted) {
        written.members.clear();
        tell(snapshot, term, Some(wanted), plan);
    } else {
        let mut asked = stored.value.clone().unwrap_or_default();
        asked.extend(written.members.clone());
        asked.extend(wanted.clone());
        tell(snapshot, term, ours.then_some(asked), plan);
        let covered = &snapshot.failsafe.covered;
        // At first none is asked, so that all may be named; but not while promises count that were given under an earlier term.
        let first = !ours && snapshot.failsafe.idle;
        let stands = |name: &MemberName| {
            stored
                .value
                .as_ref()
                .is_some_and(|stored| stored.contains_key(name))
        };
        let may = |name: &MemberName| first || name == me || covered.contains_key(name) || stands(name);
        let put: Topology = wanted.into_iter().filter(|(name, _)| may(name)).collect();
        if !ours || !settled || stored.value.as_ref() != Some(&put) {
            written.put = Some(stored.rev);
            written.members.extend(put.clone());
            plan.effect(Effect::Put {
                document: Document::failsafe(&put),
                cond: Cond::Rev(stored.rev),
            });
        }
    }
    plan.memory.topology = Some(written);
}

fn tell(snapshot: &Snapshot, term: Term, topology: Option<Topology>, plan: &mut Plan) {
    let members = topology.map(|mut topology| {
        topology.remove(&snapshot.me.name);
        topology
    });
    if snapshot.failsafe.asks != members {
        plan.effect(Effect::Failsafe { term, members });
    }
}

/// A leader that the store does not answer, and that leads on.
pub(crate) fn without_store(snapshot: &Snapshot, plan: &mut Plan) {
    let LeaseState::Held { stop_at, .. } = snapshot.lease else {
        return;
    };
    let serves = matches!(&snapshot.postgres, Postgres::Running(running) if !running.in_recovery);
    plan.because(if snapshot.failsafe.leads && serves {
        Reason::LeadingByPromises { until: stop_at }
    } else {
        Reason::StoreDownLeading { until: stop_at }
    });
}
