use howdah_config::{Account, PostgresConfig};
use howdah_types::BootTime;

use howdah_pgconf::{sql_identifier, sql_literal};

use crate::{PgError, Session};

/// Creates, or brings up to date, the roles that agents use. For pg_rewind it grants the four functions it needs.
pub(crate) async fn create_roles(
    session: &Session,
    local: &PostgresConfig,
    deadline: BootTime,
) -> Result<(), PgError> {
    // Passwords do not belong in the log.
    session
        .run("SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic'", deadline)
        .await?;
    role(session, &local.superuser, "SUPERUSER", deadline).await?;
    role(session, &local.replication, "REPLICATION", deadline).await?;
    if let Some(rewind) = &local.rewind
        && !rewind.username.is_empty()
        && rewind.username != local.superuser.username
    {
        role(session, rewind, "", deadline).await?;
        for function in [
            "pg_ls_dir(text, boolean, boolean)",
            "pg_stat_file(text, boolean)",
            "pg_read_binary_file(text)",
            "pg_read_binary_file(text, bigint, bigint, boolean)",
        ] {
            let grant = format!(
                "GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {}",
                sql_identifier(&rewind.username)
            );
            session.run(&grant, deadline).await?;
        }
    }
    let sql = "RESET log_statement; RESET log_min_duration_statement; RESET log_min_error_statement";
    Ok(session.run(sql, deadline).await?)
}

async fn role(session: &Session, account: &Account, kind: &str, deadline: BootTime) -> Result<(), PgError> {
    let name = sql_literal(&account.username);
    let exists = format!("SELECT count(*) FROM pg_roles WHERE rolname = {name}");
    let verb = match session.row(&exists, deadline).await?.get(0) {
        Some("0") => "CREATE",
        _ => "ALTER",
    };
    let password = account
        .password
        .as_ref()
        .map_or_else(String::new, |p| format!(" PASSWORD {}", sql_literal(p)));
    let sql = format!(
        "{verb} ROLE {} WITH LOGIN {kind}{password}",
        sql_identifier(&account.username)
    );
    Ok(session.run(&sql, deadline).await?)
}
