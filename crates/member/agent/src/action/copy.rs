//! Copying a running member.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_config::ReplicaMethod;
use howdah_guard::{StartMode, StopMode};
use howdah_ha::Upstream;
use howdah_postgres::{base_backup, empty, is_empty, replication_conninfo, run_script};

use super::{Outcome, start};
use crate::{
    blocking::blocking,
    note::Note,
    outside::{Outside, source},
};

/// How a copy is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ways {
    /// As `create_replica_methods` says.
    Configured,
    /// By pg_basebackup alone.
    BaseBackup,
}

/// Copies and starts as replica.
pub(crate) async fn copy(outside: &Outside, from: &Upstream, follow: &Upstream, ways: Ways) -> Outcome {
    let methods = match ways {
        Ways::Configured => outside.dynamic.replica_methods.clone(),
        Ways::BaseBackup => vec![ReplicaMethod::BaseBackup],
    };
    let cluster = outside.view.initialize.clone().unwrap_or_default();
    fill(outside, from, &methods, Some(&cluster)).await?;
    let ended = outside.start(StartMode::Replica, Some(follow)).await?;
    start::settle(outside, ended).await
}

/// Fills the data directory with a copy, in the first of these ways that succeeds. `cluster`: the system identifier that a program's
/// copy must have.
pub(crate) async fn fill(
    outside: &Outside,
    from: &Upstream,
    methods: &[ReplicaMethod],
    cluster: Option<&str>,
) -> anyhow::Result<()> {
    let server = &outside.server;
    let tablespaces = if from.host.is_empty() {
        // There is an archive alone, which does not tell.
        Vec::new()
    } else {
        tablespaces(outside, from).await?
    };
    // One whose data is gone may still run.
    if outside.guard.seen().server_runs() {
        outside.stop(StopMode::Immediate, Duration::from_secs(10)).await?;
    }
    let incomplete = Note::half_copy(server);
    // What an earlier try has left of them is ours to remove; what lies there before the first try is not. After a try, a link
    // in the data directory proves nothing: a program of the user's may have made it.
    let mut ours: Vec<PathBuf> = incomplete.lines().iter().map(PathBuf::from).collect();
    let dir = server.dir.clone();
    let waldir = server
        .local
        .basebackup
        .iter()
        .filter_map(|option| option.strip_prefix("--waldir="));
    let wanted: Vec<PathBuf> = tablespaces
        .iter()
        .map(String::as_str)
        .chain(waldir)
        .map(PathBuf::from)
        .collect();
    let (looked_at, known, begun) = (wanted.clone(), ours.clone(), incomplete.is_marked());
    let (own, foreign) = blocking("looking at the directories to fill", move || {
        let own = if begun { Vec::new() } else { dir.outside() };
        let foreign = looked_at
            .into_iter()
            .find(|path| !known.contains(path) && !own.contains(path) && !is_empty(path));
        (own, foreign)
    })
    .await?;
    if let Some(path) = foreign {
        // It may be the source's own, on this machine: a second try would take it for what the first has left.
        let why = "holds files that this member has not made: empty it, or map it by 'basebackup: tablespace-mapping'";
        anyhow::bail!("the directory {} {why}", path.display());
    }
    let paths = own.into_iter().chain(wanted);
    for path in paths {
        if !ours.contains(&path) {
            ours.push(path);
        }
    }
    let lines: Vec<String> = ours.iter().map(|path| path.display().to_string()).collect();
    incomplete.mark(&lines)?;
    Note::half_rewind(server).clear()?;
    // The password file is written with the configuration, which needs the directory.
    server.write_pgpass()?;
    let mut last = anyhow::anyhow!("create_replica_methods names no method");
    for method in methods {
        match by_method(outside, method, from, ours.clone(), cluster).await {
            Ok(()) => {
                server.set_standby(true)?;
                return Ok(incomplete.clear()?);
            }
            Err(error) => {
                tracing::warn!("The replica was not made by {}: {error:#}.", method.name());
                last = error;
            }
        }
    }
    Err(last)
}

/// Where the source's tablespaces lie here. What we have is not thrown away for a source that is not there.
async fn tablespaces(outside: &Outside, from: &Upstream) -> anyhow::Result<Vec<String>> {
    let server = &outside.server;
    let deadline = now() + Duration::from_secs(5);
    let session = server
        .connect_to(&source(from), deadline)
        .await
        .context("reaching the source")?;
    let sql = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''";
    let rows = session
        .rows(sql, now() + Duration::from_secs(5))
        .await
        .context("reading the source's tablespaces")?;
    let locations = rows.iter().filter_map(|row| row.get(0));
    Ok(locations
        .map(|location| server.local_tablespace(location))
        .collect())
}

/// Fills the data directory in one way. What another way has left is removed first.
async fn by_method(
    outside: &Outside,
    method: &ReplicaMethod,
    from: &Upstream,
    ours: Vec<PathBuf>,
    cluster: Option<&str>,
) -> anyhow::Result<()> {
    let server = &outside.server;
    let keeps = matches!(method, ReplicaMethod::Custom(method) if method.keep_data);
    let dir = server.dir.clone();
    blocking("emptying the data directory", move || {
        dir.create()?;
        if keeps {
            return Ok(());
        }
        dir.forget_links(&ours)?;
        dir.wipe()?;
        ours.iter().try_for_each(|tablespace| empty(tablespace))
    })
    .await??;
    tracing::info!(from = %from.name, method = method.name(), "Copying the data.");
    let ReplicaMethod::Custom(custom) = method else {
        anyhow::ensure!(
            !from.host.is_empty(),
            "standby_cluster has no host: name a method in its create_replica_methods that restores a backup"
        );
        return Ok(base_backup(&server.local, &server.programs, &source(from)).await?);
    };
    let (scope, data_dir) = (
        outside.config.scope.to_string(),
        server.dir.path().display().to_string(),
    );
    let conninfo = if from.host.is_empty() {
        String::new()
    } else {
        replication_conninfo(&server.local, &source(from))
    };
    let args = custom.arguments(&[
        ("scope", &scope),
        ("role", "replica"),
        ("datadir", &data_dir),
        ("connstring", &conninfo),
    ]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    run_script(&custom.command, &args, Some(&server.local.pgpass)).await?;
    let dir = server.dir.clone();
    blocking("looking at what was copied", move || dir.control())
        .await?
        .context("it has made no data directory of PostgreSQL")
        .and_then(|control| {
            anyhow::ensure!(
                cluster.is_none_or(|cluster| control.system_id.to_string() == cluster),
                "it has made a copy of another cluster, {}",
                control.system_id
            );
            Ok(())
        })
}
