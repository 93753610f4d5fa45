use howdah_types::{BootTime, Lsn};

use howdah_pgconf::sql_literal;

use crate::{PgError, Session};

/// Creates a physical slot that keeps WAL from now on.
///
/// # Errors
/// PostgreSQL refuses.
pub async fn create_slot(session: &Session, name: &str, deadline: BootTime) -> Result<(), PgError> {
    let name = sql_literal(name);
    let sql = format!(
        "SELECT pg_create_physical_replication_slot({name}, true) \
         WHERE NOT EXISTS (SELECT 1 FROM pg_replication_slots WHERE slot_name = {name})"
    );
    session.rows(&sql, deadline).await?;
    Ok(())
}

/// Drops a slot that is not in use.
///
/// # Errors
/// PostgreSQL refuses.
pub async fn drop_slot(session: &Session, name: &str, deadline: BootTime) -> Result<(), PgError> {
    let name = sql_literal(name);
    let sql = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {name} AND NOT active"
    );
    session.rows(&sql, deadline).await?;
    Ok(())
}

/// Moves a slot forward.
///
/// # Errors
/// PostgreSQL refuses.
pub async fn advance_slot(session: &Session, name: &str, to: Lsn, deadline: BootTime) -> Result<(), PgError> {
    let sql = format!(
        "SELECT pg_replication_slot_advance({}, '{to}')",
        sql_literal(name)
    );
    session.rows(&sql, deadline).await?;
    Ok(())
}
