//! The store names another cluster than our data.

use std::time::Duration;

use howdah_dcs::{Cond, Document, View};
use howdah_types::MemberName;

use crate::{Effect, LeaseState, Plan, Postgres, Reason, Snapshot, compare::asked_since};

/// Members that start together need a moment before they answer each other.
const PATIENCE: Duration = Duration::from_secs(10);

/// Data of another cluster must not be started here, nor deleted. But what is wrong may be the key: a leader writes it
/// back, a replica that streams has been accepted by the leader's PostgreSQL, which compares the identifiers, and members
/// that agree with each other are not ended by what a stranger wrote. True when the plan is complete.
pub(crate) fn differs(snapshot: &Snapshot, view: &View, plan: &mut Plan) -> bool {
    let ours = match &snapshot.postgres {
        Postgres::Stopped(stopped) => stopped.system_id,
        Postgres::Running(running) => running.system_id,
        Postgres::Missing
        | Postgres::Unreadable { .. }
        | Postgres::Starting { .. }
        | Postgres::Silent { .. } => return false,
    };
    let ours = ours.to_string();
    let cluster = view.initialize.as_ref().filter(|id| !id.is_empty());
    let Some(cluster) = cluster.filter(|cluster| **cluster != ours) else {
        plan.memory.other_system_since = None;
        return false;
    };
    let reason = Reason::OtherSystem {
        ours: ours.clone(),
        cluster: cluster.clone(),
    };
    if snapshot.config.pause {
        plan.because(reason);
        if !matches!(snapshot.lease, LeaseState::None) {
            plan.effect(Effect::Release);
        }
        return true;
    }
    if snapshot.lease.held(snapshot.now).is_some() {
        // We lead: our data is the cluster. With a server that runs, `lead` writes the key back.
        return false;
    }
    if let Postgres::Running(running) = &snapshot.postgres
        && running.in_recovery
        && running.streaming
        && view.leader.is_some()
    {
        return false;
    }
    let since = *plan.memory.other_system_since.get_or_insert(snapshot.now);
    let others: Vec<MemberName> = view
        .members
        .iter()
        .filter(|(name, member)| **name != snapshot.me.name && member.api_base().is_some())
        .map(|(name, _)| name.clone())
        .collect();
    let mut asking = plan.clone();
    if let Err(wait) = asked_since(snapshot, since, &others, &mut asking) {
        *plan = asking;
        plan.because(reason)
            .because(wait)
            .wake(snapshot.now + crate::plan::SOON);
        return true;
    }
    let said = |id: &str| {
        let answers = snapshot.peers.answers.values();
        answers
            .filter_map(|peer| peer.system_id.as_deref())
            .any(|theirs| theirs == id)
    };
    if said(cluster) {
        plan.because(reason.clone());
        plan.effect(Effect::Fatal(reason));
        return true;
    }
    if said(&ours) {
        // The key is wrong. Where there is a leader, the leader mends it.
        plan.because(Reason::WrongIdentifier {
            cluster: cluster.clone(),
        });
        if view.leader.is_none() {
            plan.effect(Effect::Put {
                document: Document::initialize(ours),
                cond: Cond::Always,
            });
        }
        return false;
    }
    plan.because(reason.clone());
    if snapshot.now < since + PATIENCE {
        plan.effect(Effect::ProbePeers(others))
            .wake(snapshot.now + crate::plan::SOON * 5);
    } else {
        plan.effect(Effect::Fatal(reason));
    }
    true
}
