use howdah_pgconf::sql_identifier;
use std::collections::BTreeMap;

use howdah_manifest::{Flag, Manifest, PreparedDatabase, is_database_name, is_schema_name};

use super::{Role, Statement, optional, statement, together};

/// What a prepared database has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Schemas and their owners.
    pub schemas: BTreeMap<String, String>,
    /// Extensions and their schemas.
    pub extensions: BTreeMap<String, String>,
    /// Default privileges for all schemas are set.
    pub has_default_privileges: bool,
}

/// Upstream's name of the role that administers owners.
const ADMIN: &str = "admin";

/// The roles of a manifest's prepared databases: owner, reader, writer; for the database and for each schema; and a
/// login role for each of them where asked for. Owners come first, since they administer the others.
#[must_use]
pub fn prepared_roles(manifest: &Manifest) -> Vec<Role> {
    let mut out = Vec::new();
    for (name, database) in manifest.spec.prepared(&manifest.name) {
        if !is_database_name(&name) {
            continue;
        }
        let first = out.len();
        let schemas = database.schemas();
        let all: Vec<&str> = schemas.keys().map(String::as_str).collect();
        roles_of(&name, ADMIN, database.default_users, &search_path(&all), &mut out);
        for (schema, settings) in schemas.iter().filter(|(schema, _)| is_schema_name(schema)) {
            if settings.default_roles.unwrap_or(true) {
                let prefix = format!("{name}_{schema}");
                let path = search_path(&[schema]);
                roles_of(
                    &prefix,
                    &format!("{name}_owner"),
                    settings.default_users,
                    &path,
                    &mut out,
                );
            }
        }
        let space = database.secret_namespace.filter(|space| !space.is_empty());
        for role in out.iter_mut().skip(first) {
            role.secret_namespace.clone_from(&space);
        }
    }
    out
}

fn search_path(schemas: &[&str]) -> String {
    let quoted: Vec<String> = [sql_identifier("$user")]
        .into_iter()
        .chain(schemas.iter().map(|s| sql_identifier(s)))
        .collect();
    quoted.join(", ")
}

fn roles_of(prefix: &str, admin: &str, users: bool, path: &str, out: &mut Vec<Role>) {
    let owner = format!("{prefix}_owner");
    for (kind, member_of) in [("owner", None), ("reader", None), ("writer", Some("reader"))] {
        out.push(Role {
            name: format!("{prefix}_{kind}"),
            login: false,
            flags: flags(false),
            member_of: member_of
                .map(|other| format!("{prefix}_{other}"))
                .into_iter()
                .collect(),
            admin: Some(if kind == "owner" {
                admin.to_owned()
            } else {
                owner.clone()
            }),
            search_path: Some(path.to_owned()),
            ..Role::default()
        });
    }
    if !users {
        return;
    }
    for kind in ["owner", "reader", "writer"] {
        out.push(Role {
            name: format!("{prefix}_{kind}_user"),
            login: true,
            flags: flags(true),
            member_of: vec![format!("{prefix}_{kind}")],
            admin: Some(if kind == "owner" {
                admin.to_owned()
            } else {
                owner.clone()
            }),
            search_path: Some(path.to_owned()),
            ..Role::default()
        });
    }
}

fn flags(login: bool) -> Vec<Flag> {
    vec![Flag {
        name: "LOGIN",
        on: login,
    }]
}

/// Statements to run inside a prepared database: schemas, privileges by default, extensions.
#[must_use]
pub fn prepared_database(name: &str, database: &PreparedDatabase, have: &DatabaseFacts) -> Vec<Statement> {
    let mut out = Vec::new();
    let owner = format!("{name}_owner");
    if !have.has_default_privileges {
        let mut parts = Vec::new();
        default_privileges(&owner, name, None, &mut parts);
        out.push(together(
            &parts,
            format!("privileges by default for what {owner} makes"),
        ));
    }
    for (schema, settings) in database.schemas() {
        if !is_schema_name(&schema) || have.schemas.contains_key(&schema) {
            continue;
        }
        let own_roles = settings.default_roles.unwrap_or(true);
        let schema_owner = if own_roles {
            format!("{name}_{schema}_owner")
        } else {
            owner.clone()
        };
        let mut parts = vec![statement(
            format!(
                "CREATE SCHEMA {} AUTHORIZATION {}",
                sql_identifier(&schema),
                sql_identifier(&schema_owner)
            ),
            format!("create schema {schema} in {name}"),
        )];
        // Privileges by default speak of what is made later; the schema itself is there already.
        let mut may_use = vec![name.to_owned()];
        if own_roles {
            may_use.push(format!("{name}_{schema}"));
            default_privileges(
                &schema_owner,
                &format!("{name}_{schema}"),
                Some(&schema),
                &mut parts,
            );
            default_privileges(&schema_owner, name, Some(&schema), &mut parts);
        }
        for prefix in may_use {
            parts.push(statement(
                format!(
                    "GRANT USAGE ON SCHEMA {} TO {}, {}",
                    sql_identifier(&schema),
                    sql_identifier(&format!("{prefix}_reader")),
                    sql_identifier(&format!("{prefix}_writer"))
                ),
                format!("let {prefix}'s roles use schema {schema}"),
            ));
        }
        out.push(together(
            &parts,
            format!("create schema {schema} in {name}, and let its roles use it"),
        ));
    }
    for (extension, schema) in &database.extensions {
        match have.extensions.get(extension) {
            None => out.push(optional(
                format!(
                    "CREATE EXTENSION IF NOT EXISTS {} SCHEMA {}",
                    sql_identifier(extension),
                    sql_identifier(schema)
                ),
                format!("create extension {extension} in {name}"),
            )),
            Some(now) if now != schema => out.push(optional(
                format!(
                    "ALTER EXTENSION {} SET SCHEMA {}",
                    sql_identifier(extension),
                    sql_identifier(schema)
                ),
                format!("move extension {extension} in {name} to schema {schema}"),
            )),
            Some(_) => {}
        }
    }
    out
}

/// What readers and writers may do with everything that `owner` makes, in one schema or in all.
fn default_privileges(owner: &str, prefix: &str, schema: Option<&str>, out: &mut Vec<Statement>) {
    let (reader, writer) = (format!("{prefix}_reader"), format!("{prefix}_writer"));
    let scope = schema
        .map(|schema| format!(" IN SCHEMA {}", sql_identifier(schema)))
        .unwrap_or_default();
    let head = format!(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {}{scope}",
        sql_identifier(owner)
    );
    let both = format!("{}, {}", sql_identifier(&reader), sql_identifier(&writer));
    let mut grants = vec![
        ("SELECT ON TABLES", sql_identifier(&reader)),
        ("SELECT ON SEQUENCES", sql_identifier(&reader)),
        ("INSERT, UPDATE, DELETE ON TABLES", sql_identifier(&writer)),
        ("USAGE, UPDATE ON SEQUENCES", sql_identifier(&writer)),
        ("EXECUTE ON FUNCTIONS", both.clone()),
        ("USAGE ON TYPES", both.clone()),
    ];
    if schema.is_none() {
        grants.insert(0, ("USAGE ON SCHEMAS", both));
    }
    for (what, to) in grants {
        out.push(statement(
            format!("{head} GRANT {what} TO {to}"),
            format!("privileges by default for what {owner} makes"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_prepared_database_has_roles_for_itself_and_its_schema() {
        let spec = json!({"teamId": "a", "numberOfInstances": 1, "volume": {"size": "1Gi"},
            "postgresql": {"version": "15"}, "preparedDatabases": {"bar": {"defaultUsers": true}}});
        let manifest = Manifest::read(&Manifest::object("x", spec.as_object().cloned().unwrap())).unwrap();
        let roles = prepared_roles(&manifest);
        let names: Vec<&str> = roles.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "bar_owner",
                "bar_reader",
                "bar_writer",
                "bar_owner_user",
                "bar_reader_user",
                "bar_writer_user",
                "bar_data_owner",
                "bar_data_reader",
                "bar_data_writer"
            ]
        );
        assert_eq!(roles[2].member_of, ["bar_reader"]);
        assert_eq!(roles[6].admin.as_deref(), Some("bar_owner"));
        assert_eq!(roles[0].search_path.as_deref(), Some("\"$user\", \"data\""));
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let database: PreparedDatabase =
            serde_json::from_value(json!({"extensions": {"pg_trgm": "data", "hstore": "x"}})).unwrap();
        let have = DatabaseFacts {
            schemas: BTreeMap::from([("data".to_owned(), "bar_data_owner".to_owned())]),
            extensions: BTreeMap::from([("hstore".to_owned(), "public".to_owned())]),
            has_default_privileges: true,
        };
        let sql: Vec<String> = prepared_database("bar", &database, &have)
            .into_iter()
            .map(|s| s.sql)
            .collect();
        assert_eq!(
            sql,
            [
                r#"ALTER EXTENSION "hstore" SET SCHEMA "x""#,
                r#"CREATE EXTENSION IF NOT EXISTS "pg_trgm" SCHEMA "data""#
            ]
        );
    }
}
