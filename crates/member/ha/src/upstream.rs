//! Whom to stream from, and whom to copy.

use howdah_config::Dynamic;
use howdah_dcs::{Member, View};
use howdah_types::{MemberName, Role};

use crate::{Snapshot, Upstream};

/// Where a member's PostgreSQL is reached; `None` when its record has no address.
pub(crate) fn upstream(name: &MemberName, member: &Member) -> Option<Upstream> {
    let (host, port) = member.address()?;
    Some(Upstream {
        name: name.clone(),
        remote: false,
        host: host.to_owned(),
        port,
    })
}

/// The server, or the archive, of the cluster that this one follows.
#[must_use]
pub fn remote(config: &Dynamic) -> Option<Upstream> {
    let standby = config.standby.as_ref()?;
    let host = standby.host.clone().unwrap_or_default();
    Some(Upstream {
        name: MemberName::new(host.as_str())
            .or_else(|_| MemberName::new("remote"))
            .ok()?,
        remote: true,
        host,
        port: standby.port,
    })
}

/// The member that this replica should stream from: `replicatefrom` where that member runs, else the leader.
pub(crate) fn desired_upstream(snapshot: &Snapshot, view: &View) -> Option<Upstream> {
    let wanted = snapshot.me.tags.replicatefrom().and_then(|name| {
        view.members
            .iter()
            .find(|(other, member)| other.as_str() == name && **other != snapshot.me.name && can_feed(member))
    });
    let (name, member) = wanted.or_else(|| view.leader_member())?;
    upstream(name, member)
}

/// The leader's record says what its promotion began: before that, the comparison of origins knows nothing of the timeline that would be
/// streamed. Of Patroni's leaders it is never known.
pub(crate) fn tells_its_timeline(view: &View) -> bool {
    let Some((_, member)) = view.leader_member() else {
        return true;
    };
    member.howdah.is_none() || matches!(member.role, Role::Primary | Role::StandbyLeader)
}

/// Whether other members can stream from this one: it runs, and gets WAL itself.
pub(crate) fn can_feed(member: &Member) -> bool {
    member.is_running() && !member.tags.nostream()
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

/// Whether a leader has been promoted and its timeline is in its control file: before that, no member can compare with it
/// or rewind against it. The leader of a cluster that follows another one is not promoted.
pub(crate) fn is_ready(leader: &Member) -> bool {
    leader.is_running()
        && matches!(leader.role, Role::Primary | Role::StandbyLeader)
        && leader.checkpoint_after_promote != Some(false)
}
