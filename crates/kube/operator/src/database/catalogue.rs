use std::collections::BTreeMap;

use howdah_blueprint::sql::{Catalogue, DatabaseFacts, RoleFacts};

use super::{connect::Session, scram};
use crate::OperatorError;

const ROLES: &str = "SELECT r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, \
     r.rolreplication, r.rolbypassrls, r.rolpassword, \
     (SELECT string_agg(g.rolname, E'\\n') FROM pg_catalog.pg_auth_members m \
       JOIN pg_catalog.pg_authid g ON g.oid = m.roleid WHERE m.member = r.oid) \
     FROM pg_catalog.pg_authid r";

/// The flags in the order of the query's columns, after the name.
const FLAGS: [&str; 7] = [
    "SUPERUSER",
    "INHERIT",
    "CREATEROLE",
    "CREATEDB",
    "LOGIN",
    "REPLICATION",
    "BYPASSRLS",
];

/// Roles and databases as they are.
pub(super) async fn cluster(
    session: &Session,
    passwords: &BTreeMap<String, String>,
) -> Result<Catalogue, OperatorError> {
    let mut out = Catalogue::default();
    for row in session.rows(ROLES).await? {
        let column = |index: usize| row.get(index).and_then(Clone::clone).unwrap_or_default();
        let name = column(0);
        let stored = column(8);
        let password_matches = match passwords.get(&name) {
            Some(password) => scram::matches(stored, password.clone()).await?,
            None => false,
        };
        out.roles.insert(
            name,
            RoleFacts {
                on: FLAGS
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| column(index + 1) == "t")
                    .map(|(_, flag)| (*flag).to_owned())
                    .collect(),
                member_of: column(9).lines().map(str::to_owned).collect(),
                password_matches,
            },
        );
    }
    let databases = session
        .rows(
            "SELECT d.datname, r.rolname FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba",
        )
        .await?;
    out.databases = pairs(databases);
    Ok(out)
}

/// Schemas and extensions of the database that the session is in.
pub(super) async fn database(session: &Session, owner: &str) -> Result<DatabaseFacts, OperatorError> {
    let schemas = session
        .rows("SELECT n.nspname, r.rolname FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner")
        .await?;
    let extensions = session
        .rows("SELECT e.extname, n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace")
        .await?;
    let privileges = session
        .rows(&format!(
            "SELECT 1 FROM pg_catalog.pg_default_acl a JOIN pg_catalog.pg_roles r ON r.oid = a.defaclrole \
             WHERE r.rolname = '{}' AND a.defaclnamespace = 0 LIMIT 1",
            owner.replace('\'', "''")
        ))
        .await?;
    Ok(DatabaseFacts {
        schemas: pairs(schemas),
        extensions: pairs(extensions),
        has_default_privileges: !privileges.is_empty(),
    })
}

fn pairs(rows: Vec<super::connect::Row>) -> BTreeMap<String, String> {
    rows.into_iter()
        .filter_map(|mut row| {
            let second = row.pop()??;
            let first = row.pop()??;
            Some((first, second))
        })
        .collect()
}
