//! A new cluster from a backup, or from whatever `bootstrap.method` restores.

use std::time::Duration;

use anyhow::Context;
use howdah_clock::now;
use howdah_config::CustomBootstrap;
use howdah_postgres::{Recovery, Session, run_script};
use howdah_types::BootTime;

use crate::{
    blocking::{blocking, writing},
    outside::Outside,
};

/// Recovery may replay the WAL of days. The guard ends a primary that has no lease by then.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How often recovery is looked at, and how often that is logged.
const LOOK: Duration = Duration::from_millis(200);
const TELL: Duration = Duration::from_secs(10);

/// An answer about it comes within this, or the session is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Restores, starts, and waits until recovery has ended.
pub(crate) async fn start(outside: &Outside, custom: &CustomBootstrap) -> anyhow::Result<()> {
    let server = &outside.server;
    let (name, data_dir) = (&custom.method.name, server.dir.path().display().to_string());
    let scope = outside.config.scope.to_string();
    tracing::info!(method = name, "Running the custom bootstrap method.");
    let args = custom
        .method
        .arguments(&[("scope", &scope), ("datadir", &data_dir)]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    run_script(&custom.method.command, &args, None)
        .await
        .with_context(|| format!("bootstrap.{name}.command"))?;
    let dir = server.dir.clone();
    blocking("looking at what was restored", move || dir.control())
        .await?
        .with_context(|| format!("bootstrap.{name}.command has made no data directory of PostgreSQL"))?;
    server.forget_configurations()?;

    let recovery = if custom.keep_existing_recovery_conf {
        Recovery::AsRestored
    } else {
        Recovery::To(custom.recovery_conf.clone())
    };
    let not_after = now() + LIMIT;
    let ended = outside.start_restored(not_after, recovery).await?;
    outside.wait_ready(ended, not_after).await?;
    wait_recovered(outside, ended, not_after).await
}

/// Says how far it is. A server that ends has reached a target that is not in the WAL, or lacks some. One that does not answer is
/// asked again: replay may hold a catalogue, and end sessions.
async fn wait_recovered(outside: &Outside, ended_before: u64, deadline: BootTime) -> anyhow::Result<()> {
    let sql = "SELECT pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn()::text, '-'), \
        coalesce(pg_last_xact_replay_timestamp()::text, '-')";
    let mut session: Option<Session> = None;
    let mut tell_at = now() + TELL;
    loop {
        anyhow::ensure!(
            outside.guard.ended().times == ended_before,
            "PostgreSQL ended before recovery had reached its target: its log says why"
        );
        anyhow::ensure!(
            now() < deadline,
            "recovery did not end within {} hours",
            LIMIT.as_secs() / 3600
        );
        if session.is_none() {
            session = outside.connect().await.ok();
        }
        let row = match &session {
            Some(session) => session.row(sql, now() + PATIENCE).await.ok(),
            None => None,
        };
        let told = now() >= tell_at;
        match &row {
            Some(row) if row.get(0) == Some("f") => return Ok(()),
            Some(row) if told => {
                let (lsn, time) = (row.get(1).unwrap_or("-"), row.get(2).unwrap_or("-"));
                tracing::info!(lsn, time, "Recovering.");
            }
            Some(_) => {}
            None => {
                session = None;
                if told {
                    tracing::warn!("Recovering; PostgreSQL does not answer just now.");
                }
            }
        }
        if told {
            tell_at = now() + TELL;
        }
        howdah_http::sleep_until(now() + LOOK).await;
    }
}

/// From now on passwords are asked for, and replicas follow the leader and no target.
pub(crate) async fn close(outside: &Outside) -> anyhow::Result<()> {
    let (server, dynamic, sync_names) = (
        outside.server.clone(),
        outside.dynamic.clone(),
        outside.sync_names.clone(),
    );
    writing(move || server.write_conf(&dynamic, None, sync_names, false, Recovery::Replica)).await??;
    outside.server.reload();
    Ok(())
}
