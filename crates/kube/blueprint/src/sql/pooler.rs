//! What a connection pooler needs in each database: a function by which it looks up the verifier of a role's password.
//!
//! The function runs with the superuser's rights. Whoever can replace it decides who gets in, so neither it nor its schema may
//! belong to anybody else.

use howdah_pgconf::sql_identifier;

use super::{Statement, statement, together};

/// A database as a pooler finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookupFacts {
    /// The schema is there.
    pub has_schema: bool,
    /// Another role owns the schema, or may make objects in it.
    pub schema_of: Option<String>,
    /// The function is there as it should be: its text, settings and owner, and the pooler's role alone may call it.
    pub has_function: bool,
    /// The pooler's role may connect and use the schema.
    pub may_use: bool,
}

/// The body of the function, by which an older one is told from it.
pub const LOOKUP_BODY: &str =
    "SELECT usename::text, passwd::text FROM pg_catalog.pg_shadow WHERE usename = i_username";

/// Its setting, as the catalogue shows it.
pub const LOOKUP_SETTING: &str = "search_path=pg_catalog, pg_temp";

/// The statement that makes and grants what is missing, as one transaction: without the grants everybody could call the function.
///
/// # Errors
/// Why the function is not made.
pub fn lookup(
    database: &str,
    schema: &str,
    user: &str,
    have: &LookupFacts,
) -> Result<Option<Statement>, String> {
    if let Some(owner) = &have.schema_of {
        return Err(format!(
            "schema {schema} is in the hands of {owner}, who could replace the function: take it away, or name another one in \
             connectionPooler.schema"
        ));
    }
    let (quoted, role, of) = (
        sql_identifier(schema),
        sql_identifier(user),
        sql_identifier(database),
    );
    let function = format!("{quoted}.user_lookup(pg_catalog.text)");
    let mut parts = Vec::new();
    let mut add = |sql: String| parts.push(statement(sql, String::new()));
    if !have.has_schema {
        // One that somebody else makes at this moment is an error, and not ours.
        add(format!("CREATE SCHEMA {quoted}"));
    }
    if !have.has_function {
        add(format!("DROP FUNCTION IF EXISTS {function}"));
        add(format!(
            "CREATE FUNCTION {quoted}.user_lookup(IN i_username pg_catalog.text, OUT uname pg_catalog.text, OUT phash pg_catalog.text) \
             RETURNS record LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
             AS $function${LOOKUP_BODY}$function$"
        ));
        add(format!("REVOKE ALL ON FUNCTION {function} FROM PUBLIC"));
    }
    if !have.has_function || !have.may_use {
        add(format!("GRANT EXECUTE ON FUNCTION {function} TO {role}"));
        add(format!("GRANT USAGE ON SCHEMA {quoted} TO {role}"));
        add(format!("GRANT CONNECT ON DATABASE {of} TO {role}"));
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let what = format!("let the connection pooler's role {user} look roles up in {database}");
    Ok(Some(together(&parts, what)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(have: &LookupFacts) -> String {
        lookup("foo", "pooler", "pooler", have)
            .unwrap()
            .map(|statement| statement.sql)
            .unwrap_or_default()
    }

    #[test]
    fn all_is_one_statement_and_nothing_is_done_twice() {
        let all = made(&LookupFacts::default());
        for part in [
            "CREATE SCHEMA",
            "SECURITY DEFINER SET search_path",
            "FROM PUBLIC",
            "GRANT CONNECT ON DATABASE",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
        let schema = LookupFacts {
            has_schema: true,
            ..LookupFacts::default()
        };
        assert!(!made(&schema).contains("CREATE SCHEMA"));
        let function = LookupFacts {
            has_function: true,
            ..schema
        };
        assert!(!made(&function).contains("CREATE") && made(&function).contains("GRANT"));
        let whole = LookupFacts {
            may_use: true,
            ..function
        };
        assert_eq!(made(&whole), "");
    }

    #[test]
    fn a_schema_of_somebody_else_is_left_alone() {
        let have = LookupFacts {
            has_schema: true,
            schema_of: Some("app".into()),
            ..LookupFacts::default()
        };
        let why = lookup("foo", "pooler", "pooler", &have).unwrap_err();
        assert!(why.contains("in the hands of app"), "{why}");
    }
}
