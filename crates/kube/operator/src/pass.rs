use std::{collections::BTreeSet, time::Duration};

use howdah_blueprint::{Credential, Observed, OtherRoles};
use howdah_manifest::Manifest;

use crate::{
    context::{Context, Memory},
    objects::ClusterKey,
    pace::Wake,
};

/// A restart or switchover whose effect is not seen yet is not asked for again before this time.
pub(crate) const ASKED: Duration = Duration::from_secs(30);

/// One pass over a cluster: what it works on, and what it has seen so far.
pub(crate) struct Pass<'a> {
    pub(crate) context: &'a Context,
    pub(crate) key: &'a ClusterKey,
    pub(crate) manifest: &'a Manifest,
    pub(crate) memory: &'a mut Memory,
    pub(crate) observed: Observed,
    /// The major that the status named before.
    pub(crate) version_before: Option<String>,
    /// The version of the pod template that the status named before; 0: none.
    pub(crate) template_before: u32,
    /// And the version that is used.
    pub(crate) template_now: u32,
    pub(crate) wake: Wake,
    /// Troubles that this pass has found.
    pub(crate) troubles: BTreeSet<String>,
    /// Roles that do not come from the manifest.
    pub(crate) others: OtherRoles,
    /// Roles' Secrets.
    pub(crate) credentials: Vec<Credential>,
    /// Time until a primary may be moved for maintenance; zero: it may.
    pub(crate) window: Duration,
}
