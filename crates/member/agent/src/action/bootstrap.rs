//! Making a new cluster.

use std::time::Duration;

use anyhow::Context;
use howdah_clock::now;
use howdah_dcs::{Cond, Document, Key, KeyOp};
use howdah_guard::{StartMode, StopMode};
use howdah_ha::{Upstream, remote};
use howdah_postgres::{PgError, initdb, run_script};

use super::{Failure, Outcome, copy, restored};
use crate::{blocking::blocking, note::Note, outside::Outside};

/// A new primary has no lease before the cluster exists; the guard ends it if it has none by then.
const LIMIT: Duration = Duration::from_secs(600);

/// Makes the cluster. If that fails, the data is set aside, the store is cleaned so that another member may try, and
/// the agent ends: the same would most likely fail again.
pub(crate) async fn bootstrap(outside: &Outside) -> Outcome {
    let Err(error) = make(outside).await else {
        return Ok(());
    };
    tracing::error!("Bootstrap failed: {error:#}.");
    let _ = outside.stop(StopMode::Immediate, Duration::from_secs(5)).await;
    // One failed try is kept for diagnosis; a member that is started again and again must not fill the disk.
    let mut failed = outside.server.dir.path().as_os_str().to_owned();
    failed.push(".failed");
    let dir = outside.server.dir.clone();
    let by_program = is_by_program(outside);
    let kept = blocking("keeping the failed data directory", move || {
        if by_program {
            dir.forget_links(&[])?;
        }
        if std::path::Path::new(&failed).exists() {
            #[expect(clippy::disallowed_methods, reason = "in blocking()")]
            std::fs::remove_dir_all(&failed).map_err(|cause| PgError::File {
                path: failed.into(),
                cause,
            })?;
        }
        dir.set_aside("failed")
    })
    .await;
    match kept.and_then(|kept| kept.map_err(Into::into)) {
        Ok(path) => {
            tracing::error!("The data directory is kept as {}.", path.display());
            let _ = Note::half_copy(&outside.server).clear();
        }
        Err(error) => tracing::error!("{error:#}."),
    }
    let clean = KeyOp::Delete {
        key: Key::Initialize,
        cond: Cond::Always,
    };
    if let Err(error) = still_ours(outside).await {
        tracing::warn!("Another member bootstraps now: {error:#}.");
    } else if let Err(error) = outside.write(&clean).await {
        tracing::error!("The key 'initialize' is left in the store, remove it by hand: {error:#}.");
    }
    Err(Failure::Fatal(error.context("bootstrap failed")))
}

/// Whether a program of the user's fills the directory. Links that it makes may lead to what another server uses.
fn is_by_program(outside: &Outside) -> bool {
    let bootstrap = outside.config.bootstrap.as_ref();
    bootstrap.is_some_and(|bootstrap| bootstrap.custom.is_some())
}

/// Claims the bootstrap again, which does nothing while the claim is ours. A lease that ran out, or was granted again with
/// another length, has ended the claim; its present holder makes the cluster.
async fn still_ours(outside: &Outside) -> anyhow::Result<()> {
    let lease = outside.keeper.status().lease.context("the lease was lost")?;
    outside
        .write(&KeyOp::Claim { lease })
        .await
        .context("another member has taken the bootstrap over")
}

async fn make(outside: &Outside) -> anyhow::Result<()> {
    if let Some(remote) = remote(&outside.dynamic) {
        return follow_another(outside, &remote).await;
    }
    let server = &outside.server;
    let bootstrap = outside.config.bootstrap.clone().unwrap_or_default();
    let incomplete = Note::half_copy(server);
    let begun = incomplete.is_marked();
    let by_program = is_by_program(outside);
    let dir = server.dir.clone();
    blocking("making the data directory", move || {
        dir.create()?;
        if begun && by_program {
            dir.forget_links(&[])?;
        }
        // What an earlier try has left is half of a cluster that was never used.
        if begun { dir.wipe() } else { Ok(()) }
    })
    .await??;
    incomplete.mark(&[])?;
    match &bootstrap.custom {
        None => {
            initdb(&server.local, &server.programs, &bootstrap.initdb).await?;
            let not_after = now() + LIMIT;
            let ended = outside.start(StartMode::Bootstrap { not_after }, None).await?;
            outside.wait_ready(ended, not_after).await?;
        }
        Some(custom) => restored::start(outside, custom).await?,
    }
    let session = outside.connect().await.context("connecting to the new server")?;
    server
        .create_roles(&session, now() + Duration::from_secs(30))
        .await
        .context("creating roles")?;
    if bootstrap.custom.is_some() {
        restored::close(outside).await?;
    }
    if let Some(script) = &bootstrap.post_bootstrap {
        run_script(script, &[&server.script_conninfo()], Some(&server.local.pgpass)).await?;
    }
    write_config(outside).await?;
    let done = KeyOp::Put {
        document: Document::initialize(server.dir.control()?.system_id),
        cond: Cond::Always,
    };
    still_ours(outside).await?;
    // First it is whole: a mark that is left behind would hide the data of a cluster that the store names.
    incomplete.clear()?;
    outside
        .write(&done)
        .await
        .context("publishing the system identifier")?;
    Ok(())
}

/// A cluster that follows another one begins as a copy of that, and its first member stays in recovery.
async fn follow_another(outside: &Outside, remote: &Upstream) -> anyhow::Result<()> {
    let standby = outside.dynamic.standby.as_ref();
    let methods = standby.map(|standby| standby.methods.clone()).unwrap_or_default();
    copy::fill(outside, remote, &methods, None)
        .await
        .context("copying the cluster that this one follows")?;
    write_config(outside).await?;
    let done = KeyOp::Put {
        document: Document::initialize(outside.server.dir.control()?.system_id),
        cond: Cond::Always,
    };
    still_ours(outside).await?;
    outside
        .write(&done)
        .await
        .context("publishing the system identifier")
}

async fn write_config(outside: &Outside) -> anyhow::Result<()> {
    let bootstrap = outside.config.bootstrap.clone().unwrap_or_default();
    if outside.view.config.value.is_some() {
        return Ok(());
    }
    let config = KeyOp::Put {
        document: Document::config(&bootstrap.dcs),
        cond: Cond::Absent,
    };
    outside.write(&config).await.context("writing the configuration")
}
