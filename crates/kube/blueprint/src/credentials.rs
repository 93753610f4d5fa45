use howdah_manifest::{Manifest, role_flags};

use crate::{InfrastructureRole, Person, Settings, pooler_user, sql};

/// Roles that come from elsewhere than the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherRoles {
    /// Robots that every cluster has.
    pub infrastructure: Vec<InfrastructureRole>,
    /// People of the cluster's teams.
    pub people: Vec<Person>,
    /// It is known who belongs to the teams: those who are not among `people` have left.
    pub people_are_known: bool,
}

/// Why a role has a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Superuser or replication role: the pods read these when they start.
    System,
    /// A user of the manifest.
    Manifest,
    /// A login role of a prepared database.
    Prepared,
    /// The role of connection poolers.
    Pooler,
    /// A robot of the operator's configuration.
    Infrastructure,
}

/// A login role's Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The role.
    pub role: String,
    /// The Secret's name.
    pub secret: String,
    /// Where the Secret is, if not beside the cluster.
    pub namespace: Option<String>,
    /// Why it has one.
    pub origin: Origin,
    /// It owns a database.
    pub is_owner: bool,
    /// The password that it must have.
    pub password: Option<String>,
}

impl Credential {
    /// Where the Secret is: its name, and before it the namespace if that is not the cluster's.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.secret),
            None => self.secret.clone(),
        }
    }

    /// Superuser or replication role.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.origin == Origin::System
    }
}

/// The Secrets a cluster has: for the two system roles, each login role of the manifest, the login roles of prepared databases,
/// the poolers' and the robots of the operator's configuration.
#[must_use]
pub fn credentials(manifest: &Manifest, settings: &Settings, others: &OtherRoles) -> Vec<Credential> {
    let crosses = settings.objects.enable_cross_namespace_secret;
    let owners = || manifest.spec.databases.values();
    let of = |role: &str, origin: Origin, namespace: Option<String>| Credential {
        secret: settings.secret_name(&manifest.name, role),
        namespace: namespace.filter(|namespace| crosses && *namespace != manifest.namespace),
        is_owner: owners().any(|owner| owner == role),
        password: None,
        role: role.to_owned(),
        origin,
    };
    let mut out: Vec<Credential> = [&settings.super_username, &settings.replication_username]
        .map(|role| of(role, Origin::System, None))
        .to_vec();
    let from_prepared = sql::prepared_roles(manifest)
        .into_iter()
        .filter(|role| role.login)
        .map(|role| of(&role.name, Origin::Prepared, role.secret_namespace));
    let of_pooler = pooler_user(manifest, settings).map(|role| of(&role, Origin::Pooler, None));
    let robots = others.infrastructure.iter().map(|role| Credential {
        password: Some(role.password.clone()),
        ..of(&role.name, Origin::Infrastructure, None)
    });
    let users = manifest.spec.users.iter().filter(|(_, flags)| {
        role_flags(flags).is_ok_and(|flags| flags.iter().any(|f| f.name == "LOGIN" && f.on))
    });
    let from_users = users.map(|(role, _)| {
        let namespace = role.split_once('.').map(|(namespace, _)| namespace.to_owned());
        of(role, Origin::Manifest, namespace)
    });
    // Of two with one name the first counts, in upstream's order.
    for credential in of_pooler
        .into_iter()
        .chain(from_prepared)
        .chain(robots)
        .chain(from_users)
    {
        // People log in without a Secret; and two roles have no Secret in common.
        let is_person = others.people.iter().any(|person| person.name == credential.role);
        let known = out
            .iter()
            .any(|other| other.role == credential.role || other.place() == credential.place());
        let is_person = is_person && credential.origin == Origin::Manifest;
        if !known && !is_person && !settings.protected_role_names.contains(&credential.role) {
            out.push(credential);
        }
    }
    out
}
