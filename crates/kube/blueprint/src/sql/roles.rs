use howdah_pgconf::{sql_identifier, sql_literal};
use std::collections::BTreeMap;

use howdah_manifest::{Flag, Manifest, role_flags};

use super::{Catalogue, RoleFacts, Statement, prepared_roles, statement, together};
use crate::{Settings, pooler_user};

/// A role that a cluster should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// May log in.
    pub login: bool,
    /// Attributes to set.
    pub flags: Vec<Flag>,
    /// Roles it is a member of.
    pub member_of: Vec<String>,
    /// The role that administers it, where that one exists when it is made.
    pub admin: Option<String>,
    /// Its `search_path`.
    pub search_path: Option<String>,
}

/// The roles of a manifest: its users, then those of prepared databases. A protected or system name is passed over.
#[must_use]
pub fn wanted_roles(manifest: &Manifest, settings: &Settings) -> Vec<Role> {
    let reserved = |name: &str| {
        name == settings.super_username
            || name == settings.replication_username
            || settings
                .protected_role_names
                .iter()
                .any(|protected| protected == name)
    };
    let mut out: Vec<Role> = prepared_roles(manifest);
    for (name, words) in &manifest.spec.users {
        let flags = role_flags(words).unwrap_or_default();
        // A prepared database's role of the same name wins, as upstream has it.
        if reserved(name) || out.iter().any(|role| role.name == *name) {
            continue;
        }
        out.push(Role {
            name: name.clone(),
            login: flags.iter().any(|flag| flag.name == "LOGIN" && flag.on),
            flags,
            ..Role::default()
        });
    }
    if let Some(user) = pooler_user(manifest, settings)
        && !out.iter().any(|role| role.name == user)
    {
        out.push(Role {
            flags: role_flags(&[]).unwrap_or_default(),
            login: true,
            name: user,
            ..Role::default()
        });
    }
    out
}

/// Users of a manifest for which no role is made, each a sentence.
#[must_use]
pub fn passed_over(manifest: &Manifest, settings: &Settings) -> Vec<String> {
    let users = manifest.spec.users.keys();
    users
        .filter_map(|name| {
            if *name == settings.super_username || *name == settings.replication_username {
                Some(format!(
                    "spec.users.{name}: the role is the operator's own, and its flags stay as they are"
                ))
            } else if settings.protected_role_names.contains(name) {
                Some(format!(
                    "spec.users.{name}: the name is protected, so neither role nor Secret is made: choose another"
                ))
            } else {
                None
            }
        })
        .collect()
}

/// Rights that roles have and the manifest does not give them, each a sentence. They stay: another client may have given
/// them.
#[must_use]
pub fn more_rights(wanted: &[Role], have: &Catalogue) -> Vec<String> {
    let mut out = Vec::new();
    for role in wanted {
        let facts = have.roles.get(&role.name);
        let more: Vec<&str> = facts
            .into_iter()
            .flat_map(|facts| &facts.on)
            .map(String::as_str)
            .filter(|flag| RIGHTS.contains(flag) && !role.flags.iter().any(|own| own.name == *flag))
            .collect();
        if !more.is_empty() {
            let names = more.join(", ");
            out.push(format!(
                "role {} has {names}, which the manifest does not give it and the operator does not take away: write NO{} to do so",
                role.name,
                more.join(", NO")
            ));
        }
    }
    out
}

/// Attributes that give a role more than its own objects.
const RIGHTS: &[&str] = &["SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS"];

/// Statements for the roles. `verifiers` has the SCRAM verifier of each login role's password.
#[must_use]
pub fn roles(wanted: &[Role], have: &Catalogue, verifiers: &BTreeMap<String, String>) -> Vec<Statement> {
    let mut out = Vec::new();
    for role in wanted {
        match have.roles.get(&role.name) {
            None => create(role, wanted, have, verifiers, &mut out),
            Some(facts) => alter(role, facts, verifiers, &mut out),
        }
    }
    for role in wanted {
        let facts = have.roles.get(&role.name);
        for group in &role.member_of {
            if !facts.is_some_and(|facts| facts.member_of.contains(group)) {
                out.push(statement(
                    format!(
                        "GRANT {} TO {}",
                        sql_identifier(group),
                        sql_identifier(&role.name)
                    ),
                    format!("make {} a member of {group}", role.name),
                ));
            }
        }
    }
    out
}

fn create(
    role: &Role,
    wanted: &[Role],
    have: &Catalogue,
    verifiers: &BTreeMap<String, String>,
    out: &mut Vec<Statement>,
) {
    let mut sql = format!("CREATE ROLE {}", sql_identifier(&role.name));
    for flag in &role.flags {
        sql.push_str(if flag.on { " " } else { " NO" });
        sql.push_str(flag.name);
    }
    // Prepared roles administer one another: the owner is made before them.
    let earlier = |name: &String| {
        have.roles.contains_key(name)
            || wanted
                .iter()
                .take_while(|other| other.name != role.name)
                .any(|other| other.name == *name)
    };
    if let Some(admin) = role.admin.as_ref().filter(|admin| earlier(admin)) {
        sql.push_str(&format!(" ADMIN {}", sql_identifier(admin)));
    }
    if let Some(verifier) = verifiers.get(&role.name).filter(|_| role.login) {
        sql.push_str(&format!(" PASSWORD {}", sql_literal(verifier)));
    }
    let mut parts = vec![statement(sql, String::new())];
    if let Some(path) = &role.search_path {
        let set = format!(
            "ALTER ROLE {} SET search_path TO {path}",
            sql_identifier(&role.name)
        );
        parts.push(statement(set, String::new()));
    }
    out.push(together(&parts, format!("create role {}", role.name)));
}

fn alter(role: &Role, facts: &RoleFacts, verifiers: &BTreeMap<String, String>, out: &mut Vec<Statement>) {
    let differing: Vec<&Flag> = role
        .flags
        .iter()
        .filter(|flag| facts.on.contains(flag.name) != flag.on)
        .collect();
    if !differing.is_empty() {
        let words: Vec<String> = differing
            .iter()
            .map(|flag| format!("{}{}", if flag.on { "" } else { "NO" }, flag.name))
            .collect();
        let words = words.join(" ");
        out.push(statement(
            format!("ALTER ROLE {} {words}", sql_identifier(&role.name)),
            format!("alter role {}: {words}", role.name),
        ));
    }
    if let Some(verifier) = verifiers
        .get(&role.name)
        .filter(|_| role.login && !facts.password_matches)
    {
        out.push(statement(
            format!(
                "ALTER ROLE {} PASSWORD {}",
                sql_identifier(&role.name),
                sql_literal(verifier)
            ),
            format!("set the password of {} to that of its Secret", role.name),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn role(name: &str, words: &[&str]) -> Role {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let flags = role_flags(&words).unwrap();
        Role {
            name: name.into(),
            login: flags.iter().any(|f| f.name == "LOGIN" && f.on),
            flags,
            ..Role::default()
        }
    }

    #[test]
    fn rights_beyond_the_manifest_are_named() {
        let mut have = Catalogue::default();
        let on = ["LOGIN", "INHERIT", "SUPERUSER", "CREATEDB"].map(str::to_owned);
        have.roles.insert(
            "a".into(),
            RoleFacts {
                on: BTreeSet::from(on),
                ..RoleFacts::default()
            },
        );
        assert_eq!(
            more_rights(&[role("a", &["createdb"]), role("new", &[])], &have),
            [
                "role a has SUPERUSER, which the manifest does not give it and the operator does not take away: write \
                 NOSUPERUSER to do so"
            ]
        );
        assert!(more_rights(&[role("a", &["createdb", "nosuperuser"])], &have).is_empty());
    }

    #[test]
    fn what_is_missing_is_made_and_what_is_there_is_left_alone() {
        let wanted = [role("a", &["createdb"]), role("b", &[])];
        let mut have = Catalogue::default();
        have.roles.insert(
            "b".into(),
            RoleFacts {
                on: BTreeSet::from(["LOGIN".to_owned(), "SUPERUSER".to_owned()]),
                password_matches: true,
                ..RoleFacts::default()
            },
        );
        let verifiers = BTreeMap::from([("a".to_owned(), "SCRAM-SHA-256$it's".to_owned())]);
        let sql: Vec<String> = roles(&wanted, &have, &verifiers)
            .into_iter()
            .map(|s| s.sql)
            .collect();
        assert_eq!(
            sql,
            [r#"CREATE ROLE "a" CREATEDB LOGIN PASSWORD 'SCRAM-SHA-256$it''s'"#]
        );
    }

    #[test]
    fn flags_memberships_and_passwords_are_added_never_taken() {
        let mut b = role("b", &["superuser", "nocreatedb"]);
        b.member_of = vec!["readers".into()];
        let mut have = Catalogue::default();
        have.roles.insert(
            "b".into(),
            RoleFacts {
                on: BTreeSet::from(["LOGIN", "CREATEDB", "CREATEROLE"].map(str::to_owned)),
                ..RoleFacts::default()
            },
        );
        let verifiers = BTreeMap::from([("b".to_owned(), "v".to_owned())]);
        let sql: Vec<String> = roles(&[b], &have, &verifiers)
            .into_iter()
            .map(|s| s.sql)
            .collect();
        assert_eq!(
            sql,
            [
                r#"ALTER ROLE "b" NOCREATEDB SUPERUSER"#,
                r#"ALTER ROLE "b" PASSWORD 'v'"#,
                r#"GRANT "readers" TO "b""#
            ]
        );
    }
}
