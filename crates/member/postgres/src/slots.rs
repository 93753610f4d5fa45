use std::collections::BTreeMap;

use howdah_pgconf::sql_literal;
use howdah_types::{BootTime, Lsn};

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

/// Creates a logical slot on a primary, in the session's database. It waits for the transactions that run, and takes no notice of the
/// session's limit for statements. `failover`: PostgreSQL 17 and later copy it to standbys.
///
/// # Errors
/// PostgreSQL refuses, or is not done by `deadline`.
pub async fn create_logical_slot(
    session: &Session,
    name: &str,
    plugin: &str,
    failover: bool,
    deadline: BootTime,
) -> Result<(), PgError> {
    let (name, plugin) = (sql_literal(name), sql_literal(plugin));
    let failover = if failover { ", failover => true" } else { "" };
    session.run("SET statement_timeout = 0", deadline).await?;
    // A replica of PostgreSQL 16 and later would take it, too.
    let sql = format!(
        "SELECT pg_create_logical_replication_slot({name}, {plugin}{failover}) WHERE NOT pg_is_in_recovery() \
         AND NOT EXISTS (SELECT 1 FROM pg_replication_slots WHERE slot_name = {name})"
    );
    session.rows(&sql, deadline).await?;
    Ok(())
}

/// Moves a logical slot of the session's database forward on a replica. It decodes the WAL up to there, which may take long. A slot that
/// cannot be moved any more is dropped, for a new copy to take its place.
///
/// # Errors
/// PostgreSQL refuses, or is not done by `deadline`.
pub async fn advance_logical_slot(
    session: &Session,
    name: &str,
    to: Lsn,
    deadline: BootTime,
) -> Result<(), PgError> {
    session.run("SET statement_timeout = 0", deadline).await?;
    let moved = advance_slot(session, name, to, deadline).await;
    if let Err(PgError::Sql(error)) = &moved
        && error.code().is_some_and(|code| USELESS.contains(&code))
    {
        let name = sql_literal(name);
        let sql = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
             WHERE slot_name = {name} AND NOT active AND pg_is_in_recovery() \
             AND (wal_status = 'lost' OR confirmed_flush_lsn < '{to}')"
        );
        session.rows(&sql, deadline).await?;
    }
    moved
}

/// The WAL file that it needs is gone; it is invalid, or further than that.
const USELESS: [&str; 2] = ["58P01", "55000"];

/// `catalog_xmin` of these slots on a primary; one that has none is not in it.
///
/// # Errors
/// It does not answer by `deadline`.
pub async fn catalog_xmins(
    session: &Session,
    names: &[String],
    deadline: BootTime,
) -> Result<BTreeMap<String, u32>, PgError> {
    let sql = format!(
        "SELECT slot_name, catalog_xmin FROM pg_replication_slots \
         WHERE NOT pg_is_in_recovery() AND catalog_xmin IS NOT NULL AND slot_name IN ({})",
        literals(names)
    );
    let rows = session.rows(&sql, deadline).await?;
    let pair = |row: &howdah_sql::SimpleQueryRow| Some((row.get(0)?.to_owned(), row.get(1)?.parse().ok()?));
    Ok(rows.iter().filter_map(pair).collect())
}

pub(crate) fn literals(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| sql_literal(name)).collect();
    names.join(", ")
}
