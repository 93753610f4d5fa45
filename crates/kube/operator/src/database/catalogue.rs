use std::collections::BTreeMap;

use howdah_blueprint::sql::{Catalogue, DatabaseFacts, LOOKUP_BODY, LOOKUP_SETTING, LookupFacts, RoleFacts};

use super::{connect::Session, scram};
use crate::OperatorError;

/// Lists come as JSON: a name or a value may have any letter in it, a line break too.
const ROLES: &str = "SELECT r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, \
     r.rolreplication, r.rolbypassrls, r.rolpassword, \
     (SELECT json_agg(g.rolname)::text FROM pg_catalog.pg_auth_members m \
       JOIN pg_catalog.pg_authid g ON g.oid = m.roleid WHERE m.member = r.oid), \
     (SELECT to_json(d.setconfig)::text FROM pg_catalog.pg_db_role_setting d \
       WHERE d.setrole = r.oid AND d.setdatabase = 0) \
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
        let has_password = !stored.is_empty();
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
                member_of: list(&column(9)).into_iter().collect(),
                password_matches,
                has_password,
                parameters: list(&column(10))
                    .iter()
                    .filter_map(|line| line.split_once('='))
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
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

/// A list of texts, as JSON.
fn list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_default()
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

/// The connection pooler's lookup function in the database that the session is in.
pub(super) async fn lookup(
    session: &Session,
    schema: &str,
    user: &str,
) -> Result<LookupFacts, OperatorError> {
    let (schema, user) = (literal(schema), literal(user));
    let schemas = session
        .rows(&format!(
            "SELECT (SELECT pg_catalog.string_agg(DISTINCT r.rolname, ', ') FROM pg_catalog.pg_roles r \
               WHERE r.rolname <> CURRENT_USER AND (r.oid = n.nspowner OR r.oid IN (SELECT a.grantee \
                 FROM pg_catalog.aclexplode(n.nspacl) a WHERE a.privilege_type = 'CREATE')) \
             ), EXISTS (SELECT FROM pg_catalog.aclexplode(n.nspacl) a WHERE a.privilege_type = 'CREATE' AND a.grantee = 0), \
             pg_catalog.has_schema_privilege({user}, n.oid, 'USAGE') \
             AND pg_catalog.has_database_privilege({user}, pg_catalog.current_database(), 'CONNECT') \
             FROM pg_catalog.pg_namespace n WHERE n.nspname = {schema}"
        ))
        .await?;
    let Some(of_schema) = schemas.first() else {
        return Ok(LookupFacts::default());
    };
    let is_public = column(of_schema, 1) == "t";
    let rows = session
        .rows(&format!(
            "SELECT p.prosrc, p.proconfig[1], p.prosecdef AND l.lanname = 'sql' AND r.rolname = CURRENT_USER \
               AND pg_catalog.array_length(p.proconfig, 1) = 1, \
             pg_catalog.has_function_privilege({user}, p.oid, 'EXECUTE'), \
             EXISTS (SELECT FROM pg_catalog.aclexplode(COALESCE(p.proacl, pg_catalog.acldefault('f', p.proowner))) a \
               LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee \
               WHERE a.grantee <> p.proowner AND (g.rolname IS NULL OR g.rolname <> {user})) \
             FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
             JOIN pg_catalog.pg_language l ON l.oid = p.prolang JOIN pg_catalog.pg_roles r ON r.oid = p.proowner \
             WHERE n.nspname = {schema} AND p.proname = 'user_lookup' AND p.proargtypes = '25'"
        ))
        .await?;
    let function = rows.first();
    let shows = |index: usize, wanted: &str| function.is_some_and(|row| column(row, index).trim() == wanted);
    Ok(LookupFacts {
        has_schema: true,
        schema_of: Some(column(of_schema, 0))
            .filter(|owner| !owner.is_empty())
            .or_else(|| is_public.then(|| "PUBLIC".to_owned())),
        has_function: shows(0, LOOKUP_BODY) && shows(1, LOOKUP_SETTING) && shows(2, "t") && shows(4, "f"),
        may_use: shows(3, "t") && column(of_schema, 2) == "t",
    })
}

/// Text in SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn column(row: &super::connect::Row, index: usize) -> String {
    row.get(index).and_then(Clone::clone).unwrap_or_default()
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
