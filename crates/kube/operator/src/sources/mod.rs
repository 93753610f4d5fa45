//! What the operator's configuration names beside the clusters' own objects: variables of pods, robots, the people of teams.
//!
//! All clusters share it, so it is read once in a while and not in every pass.

mod environment;
mod infrastructure;
mod people;

use howdah_blueprint::OtherRoles;
use howdah_manifest::Manifest;

use crate::context::Context;

pub(crate) use environment::environment;

/// The roles of a cluster that do not come from its manifest, and what could not be read.
pub(crate) async fn other_roles(context: &Context, manifest: &Manifest) -> (OtherRoles, Vec<String>) {
    let (infrastructure, mut notes) = infrastructure::roles(context).await;
    let (people, people_are_known, more) = people::people(context, &manifest.spec.team_id).await;
    notes.extend(more);
    let others = OtherRoles {
        infrastructure,
        people,
        people_are_known,
    };
    (others, notes)
}

/// `NAMESPACE/NAME`, or a name in the operator's namespace.
fn place<'a>(context: &'a Context, name: &'a str) -> (&'a str, &'a str) {
    name.split_once('/').unwrap_or((&context.home, name))
}
