//! One member of a cluster, by name or by role.

use anyhow::Context as _;
use howdah_dcs::Member;
use howdah_types::{MemberName, Role};

use crate::{cli::OneMember, context::Cluster};

/// The first member that fits; the leader, unless the arguments say otherwise.
pub(crate) fn one<'a>(
    cluster: &'a Cluster,
    which: &OneMember,
) -> anyhow::Result<(&'a MemberName, &'a Member)> {
    let leader = cluster.leader();
    let fits = |name: &MemberName, member: &Member| match (&which.member, which.role.as_deref()) {
        (Some(wanted), _) => name.as_str() == wanted,
        (None, Some("any")) => true,
        (None, Some("replica" | "standby")) => Some(name) != leader,
        (None, Some("primary")) => Some(name) == leader && member.role != Role::StandbyLeader,
        (None, Some("standby-leader")) => Some(name) == leader && member.role == Role::StandbyLeader,
        (None, _) => Some(name) == leader,
    };
    let mut members = cluster.view.members.iter();
    members
        .find(|(name, member)| fits(name, member))
        .context("Can not find a suitable member")
}

/// Where its PostgreSQL is reached.
pub(crate) fn address<'a>(name: &MemberName, member: &'a Member) -> anyhow::Result<(&'a str, u16)> {
    member
        .address()
        .with_context(|| format!("the record of {name} has no address of its PostgreSQL"))
}
