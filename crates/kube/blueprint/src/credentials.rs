use howdah_manifest::{Manifest, role_flags};

use crate::{Names, Settings, pooler_user, sql};

/// A login role's Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The role.
    pub role: String,
    /// The Secret's name.
    pub secret: String,
    /// Superuser or replication role: the pods read these when they start.
    pub system: bool,
}

/// The Secrets a cluster has: for the two system roles, each login role of the manifest, and the login roles of
/// prepared databases.
#[must_use]
pub fn credentials(manifest: &Manifest, settings: &Settings) -> Vec<Credential> {
    let names = Names(&manifest.name);
    let system = [&settings.super_username, &settings.replication_username];
    let mut out: Vec<Credential> = system
        .iter()
        .map(|role| Credential {
            role: (*role).clone(),
            secret: names.secret(role),
            system: true,
        })
        .collect();
    let from_users = manifest
        .spec
        .users
        .iter()
        .filter(|(_, flags)| {
            role_flags(flags).is_ok_and(|flags| flags.iter().any(|f| f.name == "LOGIN" && f.on))
        })
        .map(|(role, _)| role.clone());
    let from_prepared = sql::prepared_roles(manifest)
        .into_iter()
        .filter(|role| role.login)
        .map(|role| role.name);
    let of_pooler = pooler_user(manifest, settings);
    for role in from_users.chain(from_prepared).chain(of_pooler) {
        let known = out.iter().any(|credential| credential.role == role);
        if !known && !settings.protected_role_names.contains(&role) {
            out.push(Credential {
                secret: names.secret(&role),
                role,
                system: false,
            });
        }
    }
    out
}
