use howdah_pgconf::{sql_identifier, sql_literal};
use std::collections::{BTreeMap, BTreeSet};

use howdah_manifest::Flag;

use super::{Catalogue, RoleFacts, Statement, optional, statement, together};
use crate::dated_part;

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
    /// Its other parameters.
    pub parameters: BTreeMap<String, String>,
    /// Where its Secret goes, if not beside the cluster.
    pub secret_namespace: Option<String>,
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
            Some(facts) => {
                let is_alone = members(role, wanted, have).is_empty();
                alter(role, facts, is_alone, verifiers, &mut out);
                // What a rotation has left may do what the role may, and no more.
                for (name, older) in left_by_rotation(role, wanted, have) {
                    let flags = role.flags.iter().filter(|flag| flag.name != "LOGIN");
                    let older_role = Role {
                        name: name.to_owned(),
                        flags: flags.copied().collect(),
                        ..Role::default()
                    };
                    alter(&older_role, older, is_alone, &BTreeMap::new(), &mut out);
                }
            }
        }
    }
    for role in wanted {
        let facts = have.roles.get(&role.name);
        for group in role
            .member_of
            .iter()
            .filter(|group| refused(role, group, wanted, have).is_none())
        {
            if !facts.is_some_and(|facts| facts.member_of.contains(group)) {
                out.push(optional(
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

/// Memberships that cannot be, each a sentence.
#[must_use]
pub fn impossible_memberships(wanted: &[Role], have: &Catalogue) -> Vec<String> {
    let pairs = wanted
        .iter()
        .flat_map(|role| role.member_of.iter().map(move |group| (role, group)));
    pairs
        .filter_map(|(role, group)| {
            let why = refused(role, group, wanted, have)?;
            Some(format!("role {} is no member of {group}: {why}", role.name))
        })
        .collect()
}

fn refused(role: &Role, group: &str, wanted: &[Role], have: &Catalogue) -> Option<&'static str> {
    let is_wanted = wanted.iter().any(|other| other.name == group);
    match have.roles.get(group) {
        Some(facts) if facts.member_of.contains(&role.name) => Some("that one is a member of it"),
        None if !is_wanted => Some("there is no such role"),
        _ => None,
    }
}

/// Parameters of which each part is quoted by itself.
const LISTS: [&str; 5] = [
    "search_path",
    "session_preload_libraries",
    "local_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

fn set(role: &Role, name: &str, value: &str) -> Statement {
    let value = if LISTS.contains(&name) {
        // An empty list is written as an empty text.
        let parts: Vec<String> = list_parts(value)
            .iter()
            .map(|part| sql_identifier(part))
            .collect();
        Some(parts.join(", "))
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| "''".to_owned())
    } else {
        sql_literal(value)
    };
    // The name of an extension's parameter has a dot: each part is a name.
    let names: Vec<String> = name.split('.').map(sql_identifier).collect();
    let (quoted, names) = (sql_identifier(&role.name), names.join("."));
    optional(
        format!("ALTER ROLE {quoted} SET {names} TO {value}"),
        format!("set {name} of role {}", role.name),
    )
}

/// The parts of a list, as PostgreSQL reads it: commas and quotes inside quotes count as letters.
fn list_parts(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(std::mem::take(&mut part)),
            letter if letter.is_whitespace() && !quoted => {}
            letter => part.push(letter),
        }
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
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
    out.extend(role.parameters.iter().map(|(name, value)| set(role, name, value)));
}

/// Roles without a superuser's rights that may become a role, directly or through others, and are not to be: they could do all that it
/// may do. What a rotation has left, and roles that cannot log in, are no strangers.
fn members<'a>(role: &Role, wanted: &[Role], have: &'a Catalogue) -> Vec<&'a str> {
    if have
        .roles
        .get(&role.name)
        .is_some_and(|facts| facts.on.contains("SUPERUSER"))
    {
        return Vec::new();
    }
    let is_asked_for = |name: &str, group: &str| {
        let mut all = wanted.iter();
        all.any(|other| other.name == name && other.member_of.iter().any(|of| of == group))
    };
    let (mut reached, mut next, mut out) = (
        BTreeSet::from([role.name.as_str()]),
        vec![role.name.as_str()],
        Vec::new(),
    );
    while let Some(group) = next.pop() {
        for (name, facts) in have
            .roles
            .iter()
            .filter(|(_, facts)| facts.member_of.contains(group))
        {
            if facts.on.contains("SUPERUSER") || !reached.insert(name) {
                continue;
            }
            let is_ours = is_asked_for(name, group) || dated_part(group, name).is_some();
            if facts.on.contains("LOGIN") && !is_ours {
                out.push(name.as_str());
            }
            next.push(name);
        }
    }
    out
}

/// The older roles of a role whose password changes.
fn left_by_rotation<'a>(role: &Role, wanted: &[Role], have: &'a Catalogue) -> Vec<(&'a str, &'a RoleFacts)> {
    let all = have.roles.iter().filter(|(name, facts)| {
        dated_part(&role.name, name).is_some()
            && facts.member_of.contains(&role.name)
            && wanted.iter().all(|other| other.name != **name)
    });
    all.map(|(name, facts)| (name.as_str(), facts)).collect()
}

/// Rights that roles do not get, because others are members of them, each a sentence.
#[must_use]
pub fn withheld(wanted: &[Role], have: &Catalogue) -> Vec<String> {
    let mut out = Vec::new();
    for role in wanted {
        let Some(facts) = have.roles.get(&role.name) else {
            continue;
        };
        let rights: Vec<&str> = role
            .flags
            .iter()
            .filter(|flag| flag.on && RIGHTS.contains(&flag.name) && !facts.on.contains(flag.name))
            .map(|flag| flag.name)
            .collect();
        let members = members(role, wanted, have);
        if !rights.is_empty() && !members.is_empty() {
            out.push(format!(
                "role {} does not get {}, because {} could become it: revoke the membership first",
                role.name,
                rights.join(", "),
                members.join(", ")
            ));
        }
    }
    out
}

fn alter(
    role: &Role,
    facts: &RoleFacts,
    is_alone: bool,
    verifiers: &BTreeMap<String, String>,
    out: &mut Vec<Statement>,
) {
    let differing: Vec<&Flag> = role
        .flags
        .iter()
        .filter(|flag| facts.on.contains(flag.name) != flag.on)
        .filter(|flag| is_alone || !flag.on || !RIGHTS.contains(&flag.name))
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
    for (name, value) in &role.parameters {
        let have = facts
            .parameters
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        let is_same = |have: &str| {
            have == value || (LISTS.contains(&name.as_str()) && list_parts(have) == list_parts(value))
        };
        if have.is_none_or(|(_, have)| !is_same(have)) {
            out.push(set(role, name, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_manifest::role_flags;

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
    fn a_role_that_others_can_become_gets_no_rights() {
        // Whoever may make roles has made this one beforehand, and granted it to itself.
        let chief = role("chief", &["superuser", "createdb"]);
        let facts = |member_of: &[&str], on: &[&str]| RoleFacts {
            member_of: member_of.iter().map(|name| (*name).to_owned()).collect(),
            on: on.iter().map(|name| (*name).to_owned()).collect(),
            ..RoleFacts::default()
        };
        let mut have = Catalogue::default();
        have.roles.insert("chief".into(), facts(&[], &[]));
        have.roles
            .insert("mallory".into(), facts(&["chief"], &["LOGIN", "CREATEROLE"]));
        let sql = |wanted: &[Role], have: &Catalogue| {
            let all = roles(wanted, have, &BTreeMap::new());
            all.into_iter().map(|statement| statement.sql).collect::<Vec<_>>()
        };
        assert_eq!(
            sql(std::slice::from_ref(&chief), &have),
            [r#"ALTER ROLE "chief" LOGIN"#]
        );
        let told = withheld(std::slice::from_ref(&chief), &have);
        assert!(
            told[0].contains("SUPERUSER") && told[0].contains("mallory could become it"),
            "{told:?}"
        );
        // Through another role as well; but not what a rotation has left, and none that cannot log in.
        have.roles.insert("robot".into(), facts(&["chief"], &[]));
        have.roles.insert("mallory".into(), facts(&["robot"], &["LOGIN"]));
        assert!(withheld(std::slice::from_ref(&chief), &have)[0].contains("mallory"));
        have.roles.insert("mallory".into(), facts(&[], &["LOGIN"]));
        have.roles
            .insert("chief261101".into(), facts(&["chief"], &["LOGIN", "CREATEROLE"]));
        let given = sql(std::slice::from_ref(&chief), &have);
        assert_eq!(given[0], r#"ALTER ROLE "chief" CREATEDB LOGIN SUPERUSER"#);
        assert_eq!(given[1], r#"ALTER ROLE "chief261101" CREATEDB SUPERUSER"#);
        // One that is a member because it was asked for is another matter.
        have.roles
            .insert("mallory".into(), facts(&["chief"], &["LOGIN", "CREATEROLE"]));
        let mut asked = role("mallory", &["createrole"]);
        asked.member_of = vec!["chief".into()];
        let both = [chief, asked];
        assert!(
            sql(&both, &have).iter().any(|sql| sql.contains("SUPERUSER"))
                && withheld(&both, &have).is_empty()
        );
    }

    #[test]
    fn parameters_are_set_as_postgresql_stores_them_and_once() {
        let mut a = role("a", &[]);
        let pairs = [
            ("search_path", "\"\""),
            ("TimeZone", "UTC"),
            ("work_mem", "8MB"),
            ("ext.x", "it's"),
        ];
        a.parameters = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let mut have = Catalogue::default();
        let sql = |have: &Catalogue| {
            let all = roles(std::slice::from_ref(&a), have, &BTreeMap::new());
            all.into_iter().map(|statement| statement.sql).collect::<Vec<_>>()
        };
        let made = sql(&have);
        for part in [
            r#"ALTER ROLE "a" SET "search_path" TO ''"#,
            r#"ALTER ROLE "a" SET "ext"."x" TO 'it''s'"#,
            r#"ALTER ROLE "a" SET "TimeZone" TO 'UTC'"#,
        ] {
            assert!(made.iter().any(|sql| sql == part), "{part}: {made:?}");
        }
        let pairs = [
            ("search_path", "\"\""),
            ("timezone", "UTC"),
            ("work_mem", "8MB"),
            ("ext.x", "it's"),
        ];
        let facts = RoleFacts {
            on: ["LOGIN".to_owned()].into(),
            parameters: pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..RoleFacts::default()
        };
        have.roles.insert("a".into(), facts);
        assert_eq!(sql(&have), Vec::<String>::new());
        assert_eq!(
            list_parts(r#""$user", "a, ""b""", C"#),
            ["$user", "a, \"b\"", "C"]
        );
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
        have.roles.insert("readers".into(), RoleFacts::default());
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
