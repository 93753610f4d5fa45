//! No data directory: make a cluster, or copy one.

use std::time::Duration;

use howdah_dcs::View;
use howdah_types::{MemberName, Role};

use crate::{Action, Effect, LeaseState, Plan, Reason, Snapshot, plan::SOON, upstream::source};

/// A store that has forgotten its cluster gets it back from a member with data after the length of a lease. When no member has
/// written it back after twice that length and this, the data is gone, and a new cluster may be made.
const FORGOTTEN: Duration = Duration::from_secs(10);

pub(crate) fn missing(snapshot: &Snapshot, view: &View, plan: &mut Plan) {
    if !matches!(snapshot.lease, LeaseState::None) {
        plan.effect(Effect::Release).wake(snapshot.now + SOON);
        return;
    }
    if snapshot.config.pause {
        plan.because(Reason::Paused {
            me: snapshot.me.name.clone(),
        });
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
    } else if snapshot.watchdog_failed {
        plan.because(Reason::NoWatchdog);
    } else if let Some(member) = has_data(snapshot, view) {
        plan.because(Reason::DataElsewhere { member })
            .wake(snapshot.now + SOON);
    } else if let Some(until) = forgotten_until(snapshot, view, plan)
        && snapshot.now < until
    {
        plan.because(Reason::ForgottenCluster { until }).wake(until);
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

/// Another member that lives and has data: the cluster is not new, whatever the store says.
fn has_data(snapshot: &Snapshot, view: &View) -> Option<MemberName> {
    let other = view
        .members
        .iter()
        .find(|(name, member)| **name != snapshot.me.name && member.role != Role::Uninitialized);
    other.map(|(name, _)| name.clone())
}

fn forgotten_until(snapshot: &Snapshot, view: &View, plan: &Plan) -> Option<howdah_types::BootTime> {
    let since = plan.memory.store_empty_since?;
    let lease = snapshot.config.timers.lease(view.all_ours());
    Some(since + lease * 2 + FORGOTTEN)
}
