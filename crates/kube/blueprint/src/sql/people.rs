use howdah_pgconf::sql_identifier;

use super::{Catalogue, Role, RoleFacts, Statement, statement};
use crate::{OtherRoles, Settings};

/// What becomes of the roles of people who have left their team, and of those who come back.
///
/// A person's role is one that logs in, belongs to the role of people, and has no password or the parameters that people's roles have:
/// people may give themselves a password. One that was made by hand and looks like that is taken for one.
#[must_use]
pub fn leavers(
    wanted: &[Role],
    others: &OtherRoles,
    have: &Catalogue,
    settings: &Settings,
) -> Vec<Statement> {
    let of = &settings.teams;
    let suffix = &of.role_deletion_suffix;
    if !of.enable_team_member_deprecation || !others.people_are_known || suffix.is_empty() {
        return Vec::new();
    }
    let mut out = Vec::new();
    for person in &others.people {
        let old = format!("{}{suffix}", person.name);
        if have.roles.contains_key(&old) && !have.roles.contains_key(&person.name) {
            let (old, name) = (sql_identifier(&old), sql_identifier(&person.name));
            out.push(statement(
                format!("ALTER ROLE {old} RENAME TO {name}; ALTER ROLE {name} LOGIN"),
                format!("{} has come back to a team: the role is as before", person.name),
            ));
        }
    }
    for (name, facts) in &have.roles {
        let is_person = facts.member_of.contains(&settings.pam_role_name)
            && facts.on.contains("LOGIN")
            && (!facts.has_password || has_parameters(facts, settings))
            && !name.ends_with(suffix.as_str());
        let is_wanted = wanted.iter().any(|role| role.name == *name);
        if !is_person || is_wanted || others.people.iter().any(|person| person.name == *name) {
            continue;
        }
        let new = format!("{name}{suffix}");
        let quoted = sql_identifier(name);
        // A person may have left before.
        let sql = if have.roles.contains_key(&new) || new.len() > 63 {
            format!("ALTER ROLE {quoted} NOLOGIN NOSUPERUSER")
        } else {
            let renamed = sql_identifier(&new);
            format!("ALTER ROLE {quoted} NOLOGIN NOSUPERUSER; ALTER ROLE {quoted} RENAME TO {renamed}")
        };
        out.push(statement(
            sql,
            format!("{name} has left the teams: the role cannot log in any more"),
        ));
    }
    out
}

fn has_parameters(facts: &RoleFacts, settings: &Settings) -> bool {
    let all = &settings.teams.team_api_role_configuration;
    !all.is_empty()
        && all
            .iter()
            .all(|(name, value)| facts.parameters.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Person;

    fn facts(member_of: &[&str], on: &[&str], has_password: bool) -> RoleFacts {
        RoleFacts {
            member_of: member_of.iter().map(|name| (*name).to_owned()).collect(),
            on: on.iter().map(|name| (*name).to_owned()).collect(),
            has_password,
            ..RoleFacts::default()
        }
    }

    fn catalogue() -> Catalogue {
        let person = || facts(&["zalandos"], &["LOGIN"], false);
        let mut have = Catalogue::default();
        for (name, of) in [
            ("here", person()),
            ("gone", person()),
            ("twice", person()),
            ("twice_deleted", facts(&["zalandos"], &[], false)),
            ("back_deleted", facts(&["zalandos"], &[], false)),
            ("robot", facts(&["zalandos"], &["LOGIN"], true)),
            ("app", facts(&[], &["LOGIN"], false)),
        ] {
            have.roles.insert(name.into(), of);
        }
        have
    }

    fn others(known: bool) -> OtherRoles {
        let person = |name: &str| Person {
            name: name.into(),
            is_superuser: false,
        };
        OtherRoles {
            people: vec![person("here"), person("back")],
            people_are_known: known,
            ..OtherRoles::default()
        }
    }

    #[test]
    fn who_left_cannot_log_in_and_who_comes_back_can() {
        let mut settings = Settings::default();
        settings.teams.enable_team_member_deprecation = true;
        let sql: Vec<String> = leavers(&[], &others(true), &catalogue(), &settings)
            .into_iter()
            .map(|statement| statement.sql)
            .collect();
        assert_eq!(
            sql,
            [
                r#"ALTER ROLE "back_deleted" RENAME TO "back"; ALTER ROLE "back" LOGIN"#,
                r#"ALTER ROLE "gone" NOLOGIN NOSUPERUSER; ALTER ROLE "gone" RENAME TO "gone_deleted""#,
                r#"ALTER ROLE "twice" NOLOGIN NOSUPERUSER"#,
            ]
        );
    }

    #[test]
    fn nothing_is_done_while_it_is_unknown_who_belongs_to_a_team() {
        let mut settings = Settings::default();
        assert!(leavers(&[], &others(true), &catalogue(), &settings).is_empty());
        settings.teams.enable_team_member_deprecation = true;
        assert!(leavers(&[], &others(false), &catalogue(), &settings).is_empty());
    }
}
