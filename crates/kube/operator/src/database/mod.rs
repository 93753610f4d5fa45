//! Roles and databases, through the primary's Service.

mod catalogue;
mod connect;
mod scram;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use howdah_blueprint::sql::{self, Statement};
use howdah_clock::now;
use howdah_manifest::Manifest;

use crate::{
    OperatorError,
    context::{Context, DatabaseInput, DatabasePass},
};
use connect::Session;

/// Where a cluster's primary is, and how to get in.
pub(crate) struct Access<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) passwords: &'a BTreeMap<String, String>,
}

/// Makes roles and databases what the manifest says. `runs` gets the server's major, also when something fails after it is
/// known.
pub(crate) async fn sync(
    context: &Context,
    manifest: &Manifest,
    access: &Access<'_>,
    of: DatabaseInput,
    runs: &mut Option<String>,
) -> Result<Arc<DatabasePass>, OperatorError> {
    let settings = &context.settings;
    let session = open(context, access, "postgres").await?;
    let version = session.major().await?;
    *runs = Some(version.clone());
    // A commit here must not wait for a standby that is away.
    session.run("SET synchronous_commit = 'local'").await?;
    let wanted = sql::wanted_roles(manifest, settings);
    let have = catalogue::cluster(&session, access.passwords).await?;
    let mut verifiers = BTreeMap::new();
    for role in wanted.iter().filter(|role| role.login) {
        let matches = have
            .roles
            .get(&role.name)
            .is_some_and(|facts| facts.password_matches);
        if let Some(password) = access.passwords.get(&role.name).filter(|_| !matches) {
            verifiers.insert(role.name.clone(), scram::verifier(password.clone()).await?);
        }
    }
    carry_out(&session, manifest, &sql::roles(&wanted, &have, &verifiers)).await?;
    let (statements, mut skipped) = sql::databases(manifest, settings, &wanted, &have);
    let made = manifest.spec.databases.len().saturating_sub(skipped.len());
    skipped.extend(sql::passed_over(manifest, settings));
    skipped.extend(sql::more_rights(&wanted, &have));
    carry_out(&session, manifest, &statements).await?;
    let prepared = manifest.spec.prepared(&manifest.name);
    for (name, database) in &prepared {
        if !howdah_manifest::is_database_name(name) {
            continue;
        }
        let inside = open(context, access, name).await?;
        inside.run("SET synchronous_commit = 'local'").await?;
        let have = catalogue::database(&inside, &format!("{name}_owner")).await?;
        let statements = sql::prepared_database(name, database, &have);
        skipped.extend(carry_out(&inside, manifest, &statements).await?);
    }
    Ok(Arc::new(DatabasePass {
        of,
        at: now(),
        roles: wanted.len(),
        databases: made + prepared.len(),
        skipped,
        version,
    }))
}

/// Base backups under way: bytes sent, and bytes to send.
pub(crate) async fn copying(context: &Context, access: &Access<'_>) -> Option<(u64, u64)> {
    let session = open(context, access, "postgres").await.ok()?;
    let query = "SELECT sum(backup_streamed)::text, sum(backup_total)::text FROM pg_stat_progress_basebackup";
    let rows = session.rows(query).await.ok()?;
    let number = |column: usize| rows.first()?.get(column)?.as_ref()?.parse().ok();
    Some((number(0)?, number(1).unwrap_or(0)))
}

async fn open(context: &Context, access: &Access<'_>, database: &str) -> Result<Session, OperatorError> {
    let user = &context.settings.super_username;
    let password = access.passwords.get(user).map(String::as_str).unwrap_or_default();
    Session::open(access.address, user, password, database).await
}

/// Runs statements one by one, and returns what the server has refused of those that it may. Any other that fails is reported
/// with its purpose; those after it are not tried.
async fn carry_out(
    session: &Session,
    manifest: &Manifest,
    statements: &[Statement],
) -> Result<Vec<String>, OperatorError> {
    let mut refused = Vec::new();
    for statement in statements {
        tracing::info!(cluster = manifest.name, "{}", statement.what);
        match session.run_for(&statement.sql, &statement.what).await {
            // A server that stops or has lost its role at this moment says nothing about the statement.
            Err(error) if statement.optional && error.is_refusal() => {
                refused.push(error.in_one_line());
            }
            other => other?,
        }
    }
    Ok(refused)
}
