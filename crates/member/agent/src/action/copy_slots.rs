//! Copying the leader's logical slots into a replica.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_config::SlotKind;
use howdah_dcs::View;
use howdah_guard::StopMode;
use howdah_ha::{Upstream, another_moves};
use howdah_postgres::{Session, SlotFile, read_slot_files};
use howdah_types::Lsn;

use super::{Outcome, start};
use crate::{
    blocking::blocking,
    outside::{Outside, source},
};

/// For each of both servers.
const PATIENCE: Duration = Duration::from_secs(2);

/// No other action begins meanwhile, not even a promotion. PostgreSQL goes on with a checkpoint that was not waited for.
const CHECKPOINT: Duration = Duration::from_secs(3);

/// PostgreSQL is not stopped later than this after the beginning: the turn of the next replica comes.
const STOP_WITHIN: Duration = Duration::from_secs(4);

/// Reads the slots before it stops anything, and starts the replica again whatever becomes of the copy. An error: PostgreSQL was not stopped, or
/// did not come back.
pub(crate) async fn copy_slots(
    outside: &Outside,
    leader: &Upstream,
    follow: &Upstream,
    names: &[String],
) -> Outcome {
    let begun = now();
    let deadline = now() + PATIENCE;
    let primary = outside
        .server
        .connect_to(&source(leader), deadline)
        .await
        .context("connecting to the leader")?;
    let mut files = read_slot_files(&primary, names, deadline)
        .await
        .context("reading the leader's slots")?;
    drop(primary);
    files.retain(|name, file| is_configured(outside, name, file));
    if files.is_empty() {
        return Err(anyhow::anyhow!(
            "the leader does not have these slots, or not as they are configured: {}",
            names.join(", ")
        )
        .into());
    }
    let local = outside.connect().await?;
    let files = usable(outside, &local, files).await?;
    // What it removes is removed now, and stopping takes less time.
    howdah_http::timeout_at(now() + CHECKPOINT, start::checkpoint(outside))
        .await
        .context("the checkpoint took longer than 3 s; the copy will be retried")??;
    let files = usable(outside, &local, files).await?;
    let sql =
        "SELECT current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots)";
    let row = local.row(sql, now() + PATIENCE).await?;
    let free = row.get(0).unwrap_or_default().parse::<usize>().unwrap_or(0);
    if free < files.len() {
        // PostgreSQL would not start.
        return Err(anyhow::anyhow!(
            "{} logical slots are to be copied and max_replication_slots leaves room for {free}: raise it",
            files.len()
        )
        .into());
    }
    drop(local);
    let view = still_led(outside, leader).await?;
    if another_moves(&view, &outside.config.name) || now() > begun + STOP_WITHIN {
        return Err(anyhow::anyhow!(
            "another member stops or starts, or the turn is over; the copy will be retried"
        )
        .into());
    }
    outside
        .stop(StopMode::Fast, outside.dynamic.stop_patience(false))
        .await?;
    let put = match still_led(outside, leader).await {
        Ok(_) => put(outside, files).await,
        Err(error) => Err(error),
    };
    start::replica(outside, Some(follow)).await?;
    match put {
        Ok(copied) => tracing::info!(
            "Logical slots were copied from {}: {}.",
            leader.name,
            copied.join(", ")
        ),
        Err(error) => tracing::warn!("Logical slots were not copied: {error:#}."),
    }
    Ok(())
}

/// The store says that the leader whose slots were read leads on.
async fn still_led(outside: &Outside, leader: &Upstream) -> anyhow::Result<View> {
    let view = outside.store.read(now() + PATIENCE).await?;
    let term = |view: &View| {
        view.leader
            .as_ref()
            .map(|leader| (leader.name.clone(), leader.term))
    };
    anyhow::ensure!(
        term(&view) == term(&outside.view) && view.leader.as_ref().is_some_and(|now| now.name == leader.name),
        "another member leads by now"
    );
    Ok(view)
}

/// The leader may have it in another form, while its consumer keeps it from being made again.
fn is_configured(outside: &Outside, name: &str, file: &SlotFile) -> bool {
    let wanted = outside.dynamic.permanent_slots.get(name);
    wanted.is_some_and(|slot| {
        matches!(&slot.kind, SlotKind::Logical { database, plugin }
            if *database == file.database && *plugin == file.plugin)
    })
}

/// Those that can be used here. One that is ahead of what this member has replayed would skip what comes after a failover.
///
/// # Errors
/// None of them can; why not.
async fn usable(
    outside: &Outside,
    local: &Session,
    mut files: BTreeMap<String, SlotFile>,
) -> anyhow::Result<BTreeMap<String, SlotFile>> {
    let sql =
        "SELECT pg_last_wal_replay_lsn(), (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size')";
    let row = local.row(sql, now() + PATIENCE).await?;
    let replayed = row.get(0).unwrap_or_default().parse::<Lsn>();
    let replayed = replayed.map_err(anyhow::Error::msg)?;
    let segment_size = row.get(1).unwrap_or_default().parse()?;
    let dir = outside.server.dir.clone();
    let wal = blocking("looking for WAL", move || dir.wal_files(segment_size)).await?;
    let mut why = Vec::new();
    files.retain(|name, file| {
        let reason = if file.confirmed > replayed || file.restart > replayed {
            "is ahead of what this member has replayed"
        } else if !wal.covers(file.restart, replayed) {
            "needs WAL that this member no longer has; the copy is made when its consumer has caught up"
        } else {
            return true;
        };
        why.push(format!("{name} {reason}"));
        false
    });
    anyhow::ensure!(!files.is_empty(), "not yet: {}", why.join(", "));
    Ok(files)
}

/// Puts the slots in place, as far as the stop has not removed their WAL. Returns their names.
async fn put(outside: &Outside, files: BTreeMap<String, SlotFile>) -> anyhow::Result<Vec<String>> {
    let dir = outside.server.dir.clone();
    blocking("copying logical slots", move || {
        let restartpoint = dir.control()?.checkpoint;
        let mut copied = Vec::new();
        for (name, file) in files {
            let wal = dir.wal_files(file.segment_size);
            if wal.covers(file.restart, restartpoint.max(file.confirmed)) {
                dir.put_slot_file(&name, &file.state)?;
                copied.push(name);
            }
        }
        anyhow::ensure!(!copied.is_empty(), "stopping has removed the WAL that they need");
        Ok(copied)
    })
    .await?
}
