//! The connection pooler's section.

use crate::{ManifestError, PostgresqlSpec, is_reserved_role, is_role_name, is_schema_name};

/// Schemas in which others may make objects, or which everybody may use.
const OF_OTHERS: [&str; 2] = ["public", "information_schema"];
const MOST_PODS: u32 = 1000;
/// PostgreSQL's bound of `max_connections`.
const MOST_CONNECTIONS: u32 = 262_143;

/// Checks the section.
///
/// # Errors
/// The first value that is wrong.
pub(crate) fn check(spec: &PostgresqlSpec) -> Result<(), ManifestError> {
    let refuse = |field: &str, reason: String| {
        Err(ManifestError {
            path: format!("spec.connectionPooler.{field}"),
            reason,
        })
    };
    let Some(pooler) = &spec.connection_pooler else {
        return Ok(());
    };
    if let Some(user) = pooler.user.as_ref().filter(|user| !user.is_empty()) {
        if !is_role_name(user) {
            return refuse(
                "user",
                format!("'{user}' is not a role name: use a-z, 0-9, - and _"),
            );
        }
        if is_reserved_role(user) {
            return refuse(
                "user",
                format!("'{user}' is a name that PostgreSQL keeps for itself: choose another"),
            );
        }
        if spec.users.contains_key(user) {
            let reason = format!("'{user}' is a user of the manifest: the pooler needs a role of its own");
            return refuse("user", reason);
        }
    }
    if let Some(schema) = pooler.schema.as_ref().filter(|schema| !schema.is_empty())
        && (!is_schema_name(schema) || schema.starts_with("pg_") || OF_OTHERS.contains(&schema.as_str()))
    {
        let reason = format!(
            "'{schema}' cannot be the schema of the lookup function: use letters, digits and _, not beginning with pg_, and none that \
             others can write to"
        );
        return refuse("schema", reason);
    }
    let instances = pooler.number_of_instances.unwrap_or(1);
    if instances == 0 || instances > MOST_PODS {
        return refuse(
            "numberOfInstances",
            format!("{instances}: a pooler has 1 to {MOST_PODS} pods"),
        );
    }
    if let Some(connections) = pooler.max_db_connections.filter(|count| *count > 0)
        && (connections < instances || connections > MOST_CONNECTIONS)
    {
        let reason = format!(
            "{connections}: each of the {instances} pods needs one, and a server has at most {MOST_CONNECTIONS}"
        );
        return refuse("maxDBConnections", reason);
    }
    Ok(())
}
