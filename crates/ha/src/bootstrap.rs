//! No data directory: make a cluster, or copy one.

use howdah_dcs::{Member, View};
use howdah_types::MemberName;

use crate::{Action, Effect, LeaseState, Plan, Reason, Snapshot, Upstream, decide::SOON};

pub(crate) fn missing(snapshot: &Snapshot, view: &View, plan: &mut Plan) {
    if !matches!(snapshot.lease, LeaseState::None) {
        plan.effect(Effect::Release).wake(snapshot.now + SOON);
        return;
    }
    if snapshot.config.pause {
        plan.because(Reason::Paused);
        return;
    }
    match (view.initialize.as_deref(), &view.leader) {
        // An empty key may be our own, from a claim whose answer was lost: claiming again finds out.
        (None | Some(""), None) => make(snapshot, view, plan),
        (Some(""), Some(_)) => {
            plan.because(Reason::BootstrapRuns);
        }
        (_, Some(_)) => match source(snapshot, view) {
            Some((from, follow)) => {
                plan.because(Reason::Copying {
                    from: from.name.clone(),
                });
                plan.begin(snapshot, Action::Clone { from, follow });
            }
            None => {
                plan.because(Reason::NoLeaderToCopy);
            }
        },
        (Some(_), None) => {
            plan.because(Reason::NoLeaderToCopy);
        }
    }
}

fn make(snapshot: &Snapshot, view: &View, plan: &mut Plan) {
    if !snapshot.me.may_bootstrap {
        plan.because(Reason::MayNotBootstrap);
    } else if snapshot.me.tags.nofailover() {
        plan.because(Reason::WaitingForBootstrap);
    } else {
        plan.because(if view.initialize.is_some() {
            Reason::BootstrapRuns
        } else {
            Reason::Bootstrapping
        });
        let failed = snapshot.memory.retry_at.get(Action::Bootstrap.name());
        if failed.is_none_or(|at| snapshot.now >= *at) {
            plan.effect(Effect::Claim);
        }
        plan.begin(snapshot, Action::Bootstrap);
    }
}

/// Whom to copy and whom to follow then: a running member tagged `clonefrom` that is not the leader (the first by
/// name), else the leader. The leader must run as primary.
pub(crate) fn source(snapshot: &Snapshot, view: &View) -> Option<(Upstream, Upstream)> {
    let (name, member) = view.leader_member()?;
    if !member.is_running() || *name == snapshot.me.name {
        return None;
    }
    let leader = upstream(name, member)?;
    let preferred = view
        .members
        .iter()
        .filter(|(other, member)| {
            **other != snapshot.me.name && *other != name && member.is_running() && member.tags.clonefrom()
        })
        .find_map(|(other, member)| upstream(other, member));
    Some((preferred.unwrap_or_else(|| leader.clone()), leader))
}

pub(crate) fn upstream(name: &MemberName, member: &Member) -> Option<Upstream> {
    let (host, port) = member.address()?;
    Some(Upstream {
        name: name.clone(),
        host: host.to_owned(),
        port,
    })
}
