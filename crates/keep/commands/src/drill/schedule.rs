//! Drills by a schedule: of all members one runs it, as a process of its own.

use std::{path::PathBuf, process::Stdio, time::Duration};

use howdah_archive::{ArchiveError, catalogue, claim_backup};
use howdah_clock::now;
use howdah_http::sleep_until;
use jiff::Timestamp;
use tokio::{process::Command, sync::Notify};

use crate::{cli::ArchiverArgs, scheduled::wait_until, soon};

/// A member that does not lead goes first: the leader has more to do.
const LEADER: Duration = Duration::from_secs(30);

/// How often a drill is tried, and how long it may take before another member tries.
const ATTEMPTS: u32 = 3;
const AGAIN: Duration = Duration::from_secs(1800);

/// Runs drills until it is dropped; `changed` is told of each.
pub(crate) async fn forever(args: &ArchiverArgs, changed: &Notify) {
    let Some(schedule) = &args.drill_schedule else {
        return std::future::pending().await;
    };
    loop {
        let Some(next) = schedule.next(Timestamp::now()) else {
            tracing::error!("The schedule of drills has no next moment.");
            return std::future::pending().await;
        };
        tracing::info!("The next drill is due at {next}.");
        wait_until(next).await;
        if !args.pgdata.join("standby.signal").exists() {
            sleep_until(now() + LEADER).await;
        }
        attempts(args, next).await;
        changed.notify_one();
    }
}

/// A member that cannot run it leaves it to another one.
async fn attempts(args: &ArchiverArgs, moment: Timestamp) {
    for attempt in 1..=ATTEMPTS {
        match run(args, moment, attempt).await {
            Ok(Some(true)) => {
                return tracing::info!("The drill has proved that the newest backup can be restored.");
            }
            Ok(Some(false)) => {
                return tracing::error!("The drill has failed: the newest backup is not proved.");
            }
            // Another member's, or there is a result already.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("The drill that was due at {moment} was not run: {error}.");
            }
        }
        sleep_until(now() + AGAIN).await;
    }
}

/// Whether it was proved; `None` if another member runs it, or has run it.
async fn run(args: &ArchiverArgs, moment: Timestamp, attempt: u32) -> Result<Option<bool>, ArchiveError> {
    let (store, settings) = super::open(&args.sources)?;
    let found = catalogue(&store, &settings, soon()).await?;
    let is_done = found.health().proof.is_some_and(|proof| proof.at >= moment);
    if is_done || !claim_backup(&store, &format!("drill-{moment}-{attempt}"), soon()).await? {
        return Ok(None);
    }
    let said = |error: std::io::Error| ArchiveError::Refused(error.to_string());
    let mut command = Command::new(std::env::current_exe().map_err(said)?);
    command.args(["backup", "drill", "--with-parent"]);
    if let Some(dir) = &args.sources.env_dir {
        command.arg("--env-dir").arg(dir);
    }
    if let Some(file) = &args.sources.config {
        command.arg("--config").arg(file);
    }
    // Beside the data: there is the room that a copy of it needs, if anywhere.
    let beside: Option<PathBuf> = args.pgdata.parent().map(PathBuf::from);
    if let Some(dir) = beside {
        command.arg("--scratch").arg(dir);
    }
    // It is not killed with this: it ends by itself then, and takes away what it has made.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().await.map_err(said)?;
    match status.code() {
        Some(0) => Ok(Some(true)),
        Some(3) => Ok(Some(false)),
        _ => Err(ArchiveError::Refused(format!("it has ended with {status}"))),
    }
}
