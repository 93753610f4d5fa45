use std::collections::BTreeMap;

use howdah_manifest::{Flag, Manifest, in_secret_name, role_flags};

use super::{Role, prepared_roles};
use crate::{OtherRoles, Settings, pooler_user};

/// The roles of a cluster, the most important source of each name first, in upstream's order: the poolers', those of prepared
/// databases, people, robots, the manifest's users. `rotated`: newer roles by the role that they are members of.
///
/// A protected or system name is passed over.
#[must_use]
pub fn wanted_roles(
    manifest: &Manifest,
    settings: &Settings,
    others: &OtherRoles,
    rotated: &BTreeMap<String, String>,
) -> Vec<Role> {
    let mut out: Vec<Role> = prepared_roles(manifest);
    let mut add = |role: Role| {
        // A prepared database's role of the same name wins, as upstream has it.
        if !is_reserved(&role.name, settings) && out.iter().all(|other| other.name != role.name) {
            out.push(role);
        }
    };
    if let Some(name) = pooler_user(manifest, settings) {
        add(login_role(name));
    }
    for person in &others.people {
        add(Role {
            name: person.name.clone(),
            login: true,
            flags: person_flags(person.is_superuser, others.people_are_known),
            member_of: person_groups(person.is_superuser, others.people_are_known, settings),
            parameters: settings.teams.team_api_role_configuration.clone(),
            ..Role::default()
        });
    }
    for robot in &others.infrastructure {
        add(Role {
            name: robot.name.clone(),
            login: logs_in(&robot.flags),
            flags: robot.flags.clone(),
            member_of: robot.member_of.clone(),
            parameters: robot.parameters.clone(),
            ..Role::default()
        });
    }
    for (name, words) in &manifest.spec.users {
        let flags = role_flags(words).unwrap_or_default();
        add(Role {
            name: name.clone(),
            login: logs_in(&flags),
            flags,
            ..Role::default()
        });
    }
    let owners: Vec<&String> = manifest.spec.databases.values().collect();
    let prepared = manifest.spec.prepared(&manifest.name);
    for role in &mut out {
        let owns = owners.contains(&&role.name)
            || role
                .name
                .strip_suffix("_owner")
                .is_some_and(|database| prepared.contains_key(database));
        if owns {
            let more = settings
                .additional_owner_roles
                .iter()
                .filter(|group| **group != role.name);
            role.member_of.extend(more.cloned());
        }
    }
    let newer: Vec<Role> = rotated
        .iter()
        .filter_map(|(base, name)| Some(dated_role(out.iter().find(|role| role.name == *base)?, name)))
        .filter(|role| out.iter().all(|other| other.name != role.name))
        .collect();
    out.extend(newer);
    out
}

/// The newer role of a role whose password changes: it may do what that one may.
#[must_use]
pub fn dated_role(base: &Role, name: &str) -> Role {
    Role {
        name: name.to_owned(),
        login: true,
        flags: base.flags.clone(),
        member_of: vec![base.name.clone()],
        parameters: base.parameters.clone(),
        search_path: base.search_path.clone(),
        ..Role::default()
    }
}

fn is_reserved(name: &str, settings: &Settings) -> bool {
    name == settings.super_username
        || name == settings.replication_username
        || settings
            .protected_role_names
            .iter()
            .any(|protected| protected == name)
}

fn login_role(name: String) -> Role {
    Role {
        flags: role_flags(&[]).unwrap_or_default(),
        login: true,
        name,
        ..Role::default()
    }
}

fn logs_in(flags: &[Flag]) -> bool {
    flags.iter().any(|flag| flag.name == "LOGIN" && flag.on)
}

/// `is_known`: all teams have been heard of. Before that a person may be a superuser through another one.
fn person_flags(is_superuser: bool, is_known: bool) -> Vec<Flag> {
    let mut flags = role_flags(&[]).unwrap_or_default();
    if is_superuser || is_known {
        // Who has left the superusers' team is none any more.
        flags.push(Flag {
            name: "SUPERUSER",
            on: is_superuser,
        });
    }
    flags
}

fn person_groups(is_superuser: bool, is_known: bool, settings: &Settings) -> Vec<String> {
    let of = &settings.teams;
    let is_admin = !is_superuser && is_known && of.enable_admin_role_for_users;
    let admin = Some(&of.team_admin_role).filter(|role| is_admin && !role.is_empty());
    [&settings.pam_role_name]
        .into_iter()
        .chain(admin)
        .cloned()
        .collect()
}

/// Users of a manifest for which no role is made, each a sentence.
#[must_use]
pub fn passed_over(manifest: &Manifest, settings: &Settings, others: &OtherRoles) -> Vec<String> {
    let users = manifest.spec.users.keys();
    let mut out: Vec<String> = users
        .filter_map(|name| {
            if *name == settings.super_username || *name == settings.replication_username {
                Some(format!(
                    "spec.users.{name}: the role is the operator's own, and its flags stay as they are"
                ))
            } else if settings.protected_role_names.contains(name) {
                Some(format!(
                    "spec.users.{name}: the name is protected, so neither role nor Secret is made: choose another"
                ))
            } else if others.infrastructure.iter().any(|robot| robot.name == *name) {
                Some(format!(
                    "spec.users.{name}: the operator's configuration has a role of this name, which counts"
                ))
            } else if let Some(robot) = (others.infrastructure.iter())
                .find(|robot| in_secret_name(&robot.name) == in_secret_name(name))
            {
                Some(format!(
                    "spec.users.{name}: no Secret is made, because it would be that of {}, a role of the operator's configuration",
                    robot.name
                ))
            } else if others.people.iter().any(|person| person.name == *name) {
                Some(format!("spec.users.{name}: a person of the team has this name, and counts"))
            } else {
                None
            }
        })
        .collect();
    if !settings.objects.enable_cross_namespace_secret {
        let asks = manifest
            .spec
            .prepared(&manifest.name)
            .into_iter()
            .filter_map(|(name, database)| {
                database
                    .secret_namespace
                    .filter(|space| !space.is_empty())
                    .map(|_| name)
            });
        out.extend(asks.map(|name| {
            format!(
                "spec.preparedDatabases.{name}.secretNamespace: the operator's configuration has no \
                 enable_cross_namespace_secret, so the Secrets are beside the cluster"
            )
        }));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{InfrastructureRole, Person};

    #[test]
    fn of_two_sources_of_a_name_the_more_important_one_counts() {
        let object = json!({
            "metadata": {"name": "acid-a"},
            "spec": {
                "teamId": "acid", "numberOfInstances": 1, "volume": {"size": "1Gi"}, "postgresql": {"version": "18"},
                "users": {"robot": ["superuser"], "ann": ["createdb"], "app": [], "postgres": []}, "databases": {"shop": "app"},
                "preparedDatabases": {"bar": {}},
            },
        });
        let manifest = Manifest::read(&object).unwrap();
        let settings = Settings {
            additional_owner_roles: vec!["cron_admin".into()],
            ..Settings::default()
        };
        let others = OtherRoles {
            infrastructure: vec![InfrastructureRole {
                name: "robot".into(),
                flags: role_flags(&[]).unwrap(),
                member_of: vec!["pg_monitor".into()],
                ..InfrastructureRole::default()
            }],
            people: vec![
                Person {
                    name: "ann".into(),
                    is_superuser: false,
                },
                Person {
                    name: "bob".into(),
                    is_superuser: true,
                },
            ],
            people_are_known: true,
        };
        let rotated = BTreeMap::from([("app".to_owned(), "app261128".to_owned())]);
        let all = wanted_roles(&manifest, &settings, &others, &rotated);
        let role = |name: &str| all.iter().find(|role| role.name == name).unwrap();
        assert_eq!(role("robot").member_of, ["pg_monitor"]);
        assert!(!role("robot").flags.iter().any(|flag| flag.name == "SUPERUSER"));
        assert_eq!(role("ann").member_of, ["zalandos", "admin"]);
        assert_eq!(role("ann").parameters["log_statement"], "all");
        assert_eq!(role("bob").member_of, ["zalandos"]);
        assert_eq!(role("app").member_of, ["cron_admin"]);
        assert_eq!(role("bar_owner").member_of, ["cron_admin"]);
        assert_eq!(role("app261128").member_of, ["app"]);
        assert!(all.iter().all(|role| role.name != "postgres"));
        let told = passed_over(&manifest, &settings, &others);
        assert_eq!(told.len(), 3, "{told:?}");
    }
}
