//! Roles and databases, through the primary's Service.

mod catalogue;
mod connect;
mod scram;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use howdah_blueprint::{
    Login, outdated, pooler_schema, pooler_user,
    sql::{self, Role, Statement},
};
use howdah_clock::now;
use howdah_http::timeout_at;
use howdah_manifest::Manifest;
use howdah_pgconf::{sql_identifier, sql_literal};
use jiff::Timestamp;

use crate::{
    OperatorError,
    context::{Context, DatabaseInput, DatabasePass},
};
use connect::Session;

/// A name is resolved within this time.
const LOOKUP: Duration = Duration::from_secs(5);

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
    wanted: &[Role],
    runs: &mut Option<String>,
) -> Result<Arc<DatabasePass>, OperatorError> {
    let settings = &context.settings;
    let session = open(context, access, "postgres").await?;
    let version = session.major().await?;
    *runs = Some(version.clone());
    // A commit here must not wait for a standby that is away.
    session.run("SET synchronous_commit = 'local'").await?;
    let mut have = catalogue::cluster(&session, access.passwords).await?;
    let leaving = sql::leavers(wanted, &of.others, &have, settings);
    if !leaving.is_empty() {
        carry_out(&session, manifest, &leaving).await?;
        have = catalogue::cluster(&session, access.passwords).await?;
    }
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
    let refused = carry_out(&session, manifest, &sql::roles(wanted, &have, &verifiers)).await?;
    let (statements, mut skipped) = sql::databases(manifest, settings, wanted, &have);
    let made = manifest.spec.databases.len().saturating_sub(skipped.len());
    skipped.extend(refused);
    skipped.extend(sql::passed_over(manifest, settings, &of.others));
    skipped.extend(sql::impossible_memberships(wanted, &have));
    skipped.extend(sql::withheld(wanted, &have));
    skipped.extend(sql::more_rights(wanted, &have));
    carry_out(&session, manifest, &statements).await?;
    let prepared = manifest.spec.prepared(&manifest.name);
    for (name, database) in &prepared {
        if !howdah_manifest::is_database_name(name) {
            continue;
        }
        let prepare = async {
            let inside = open(context, access, name).await?;
            inside.run("SET synchronous_commit = 'local'").await?;
            let have = catalogue::database(&inside, &format!("{name}_owner")).await?;
            let statements = sql::prepared_database(name, database, &have);
            carry_out(&inside, manifest, &statements).await
        };
        match prepare.await {
            Ok(refused) => skipped.extend(refused),
            Err(error) if error.is_passing() => return Err(error),
            // Its owner may have closed it: that is no reason to leave the others as they are.
            Err(error) => skipped.push(format!("database {name}: {}", error.in_one_line())),
        }
    }
    if let Some(user) = pooler_user(manifest, settings) {
        let schema = pooler_schema(manifest, settings);
        skipped.extend(lookups(context, manifest, access, &session, &user, &schema).await?);
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

/// Makes the connection pooler's lookup function in every database that takes connections. Returns what could not be done.
async fn lookups(
    context: &Context,
    manifest: &Manifest,
    access: &Access<'_>,
    session: &Session,
    user: &str,
    schema: &str,
) -> Result<Vec<String>, OperatorError> {
    let query =
        "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";
    let names = session.rows(query).await?;
    let mut failed = Vec::new();
    for name in names.into_iter().flatten().flatten() {
        let made = async {
            let inside = open(context, access, &name).await?;
            let have = catalogue::lookup(&inside, schema, user).await?;
            let statement = match sql::lookup(&name, schema, user, &have) {
                Ok(Some(statement)) => statement,
                Ok(None) => return Ok(None),
                Err(why) => return Ok(Some(why)),
            };
            inside.run("SET synchronous_commit = 'local'").await?;
            carry_out(&inside, manifest, &[statement]).await?;
            Ok::<_, OperatorError>(None)
        };
        let why = match made.await {
            Ok(None) => continue,
            Ok(Some(why)) => why,
            Err(error) => {
                // A server that ends, or is no primary any more, is another matter than one database of many.
                let primary = open(context, access, "postgres").await?;
                let here = primary.rows("SELECT pg_is_in_recovery()").await?;
                if here
                    .first()
                    .and_then(|row| row.first())
                    .is_none_or(|answer| answer.as_deref() != Some("f"))
                {
                    return Err(error);
                }
                error.in_one_line()
            }
        };
        failed.push(format!(
            "database {name}: the connection pooler has no lookup function there: {why}"
        ));
    }
    Ok(failed)
}

/// Gives a role a new password, or makes a newer role that is a member of it. Either way the server takes it before the Secret has it.
pub(crate) async fn change_password(
    context: &Context,
    manifest: &Manifest,
    access: &Access<'_>,
    base: Option<&Role>,
    role: &str,
    login: &Login,
) -> Result<(), OperatorError> {
    let session = open(context, access, "postgres").await?;
    session.run("SET synchronous_commit = 'local'").await?;
    let verifier = scram::verifier(login.password.clone()).await?;
    let have = catalogue::cluster(&session, &BTreeMap::new()).await?;
    let verifiers = BTreeMap::from([(login.username.clone(), verifier)]);
    // One that is there may have been made by a role that would be a member of the newer one, with all that it may do.
    if login.username != role && have.roles.contains_key(&login.username) {
        return Err(OperatorError::Taken(login.username.clone()));
    }
    let mut wanted = base.cloned().unwrap_or_else(|| Role {
        name: role.to_owned(),
        ..Role::default()
    });
    if login.username == role {
        // The password alone: all else was compared.
        wanted.login = true;
        (wanted.flags, wanted.member_of, wanted.parameters) = (Vec::new(), Vec::new(), BTreeMap::new());
    } else {
        wanted = sql::dated_role(&wanted, &login.username);
        let own = have.roles.get(role).map(|facts| facts.parameters.clone());
        wanted.parameters.extend(own.unwrap_or_default());
        wanted.search_path = None;
    }
    let statements = sql::roles(std::slice::from_ref(&wanted), &have, &verifiers);
    if login.username == role {
        carry_out(&session, manifest, &statements).await?;
        return Ok(());
    }
    // All of it or nothing: a newer role that is there already is not taken over.
    let texts: Vec<&str> = statements
        .iter()
        .map(|statement| statement.sql.as_str())
        .collect();
    let what = format!("make role {}", login.username);
    tracing::info!(cluster = manifest.name, "{what}");
    session.run_for(&texts.join("; "), &what).await
}

/// Drops a newer role that was just made, since its Secret could not be written.
pub(crate) async fn take_back(
    context: &Context,
    manifest: &Manifest,
    access: &Access<'_>,
    newer: &str,
) -> Result<(), OperatorError> {
    let session = open(context, access, "postgres").await?;
    session.run("SET synchronous_commit = 'local'").await?;
    let what = format!("drop role {newer}, since its Secret could not be written");
    tracing::info!(cluster = manifest.name, "{what}");
    session
        .run_for(&format!("DROP ROLE {}", sql_identifier(newer)), &what)
        .await
}

/// Drops the dated roles of a base that are old enough and have no session here. Returns which of them stay, and why. Only members of
/// the base that no manifest and no configuration names are dropped.
pub(crate) async fn drop_outdated(
    context: &Context,
    manifest: &Manifest,
    access: &Access<'_>,
    base: &str,
    present: &str,
    others: &[&str],
    at: Timestamp,
) -> Result<Vec<String>, OperatorError> {
    let session = open(context, access, "postgres").await?;
    session.run("SET synchronous_commit = 'local'").await?;
    let rows = session
        .rows(&format!(
            "SELECT DISTINCT r.rolname, EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid) \
                 FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_auth_members m ON m.member = r.oid \
                 JOIN pg_catalog.pg_roles b ON b.oid = m.roleid WHERE b.rolname = {}",
            sql_literal(base)
        ))
        .await?;
    let all: Vec<(String, bool)> = rows
        .into_iter()
        .filter_map(|row| {
            let mut row = row.into_iter();
            let (name, is_used) = (row.next()??, row.next()??);
            Some((name, is_used == "t"))
        })
        .collect();
    let names: Vec<&str> = all
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| *name == present || !others.contains(name))
        .collect();
    let mut kept = Vec::new();
    for name in outdated(base, present, &names, &context.settings, at) {
        if all.iter().any(|(other, is_used)| other == name && *is_used) {
            kept.push(format!(
                "role {name} is old enough to be dropped and stays: it is logged in"
            ));
            continue;
        }
        let drop = Statement {
            sql: format!("DROP ROLE {}", sql_identifier(name)),
            what: format!("drop role {name}, which newer ones have replaced"),
            optional: true,
        };
        let refused = carry_out(&session, manifest, &[drop]).await?;
        kept.extend(
            refused
                .into_iter()
                .map(|why| format!("role {name} is old enough to be dropped and stays: {why}")),
        );
    }
    Ok(kept)
}

/// The system identifier of another cluster, by one of its hosts.
///
/// # Errors
/// Why none of them says.
pub(crate) async fn system_identifier(
    context: &Context,
    hosts: &str,
    port: u16,
    passwords: &BTreeMap<String, String>,
) -> Result<String, String> {
    let mut last = "it has no address".to_owned();
    for host in hosts.split(',').map(str::trim) {
        let deadline = now() + LOOKUP;
        let found = timeout_at(deadline, tokio::net::lookup_host((host, port))).await;
        let addresses = match found {
            Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
            Ok(Err(error)) => {
                last = error.to_string();
                continue;
            }
            Err(_) => {
                last = format!("its name is not resolved within {} s", LOOKUP.as_secs());
                continue;
            }
        };
        for address in addresses {
            let access = Access { address, passwords };
            let asked = async {
                let session = open(context, &access, "postgres").await?;
                session
                    .rows("SELECT system_identifier::text FROM pg_catalog.pg_control_system()")
                    .await
            };
            match asked.await {
                Ok(rows) => {
                    if let Some(Some(identifier)) = rows.into_iter().flatten().next() {
                        return Ok(identifier);
                    }
                }
                Err(error) => last = error.in_one_line(),
            }
        }
    }
    Err(last)
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
