//! Copying the leader's logical slots into a replica.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_config::SlotKind;
use howdah_dcs::View;
use howdah_guard::StopMode;
use howdah_ha::Upstream;
use howdah_postgres::{SlotFile, read_slot_files};
use howdah_types::Lsn;

use super::{Outcome, start};
use crate::{
    blocking::blocking,
    outside::{Outside, source},
};

/// For both servers together.
const PATIENCE: Duration = Duration::from_secs(5);

/// No other action begins meanwhile, not even a promotion. PostgreSQL goes on with a checkpoint that was not waited for.
const CHECKPOINT: Duration = Duration::from_secs(5);

/// Reads the slots before it stops anything, and starts the replica again whatever becomes of the copy.
pub(crate) async fn copy_slots(
    outside: &Outside,
    leader: &Upstream,
    follow: &Upstream,
    names: &[String],
) -> Outcome {
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
        return Err(anyhow::anyhow!("the leader does not have these slots yet: {}", names.join(", ")).into());
    }
    // What it removes is removed now, and stopping takes less time.
    let limit = now() + CHECKPOINT;
    howdah_http::timeout_at(limit, start::checkpoint(outside))
        .await
        .context("a checkpoint takes long: slots are copied after it")??;
    let deadline = now() + PATIENCE;
    let local = outside.connect().await?;
    let sql = "SELECT current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots), \
               (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'), pg_last_wal_replay_lsn()";
    let row = local.row(sql, deadline).await?;
    let number = |column| row.get(column).unwrap_or_default().parse::<u64>();
    let segment_size = number(1)?;
    let replayed: Lsn = row
        .get(2)
        .unwrap_or_default()
        .parse()
        .map_err(anyhow::Error::msg)?;
    let mut early = Vec::new();
    files.retain(|name, file| {
        let why = not_yet(outside, file, replayed, segment_size);
        early.extend(why.map(|why| format!("{name} {why}")));
        why.is_none()
    });
    if files.is_empty() {
        return Err(anyhow::anyhow!("not yet: {}", early.join(", ")).into());
    }
    let (free, needed) = (number(0).unwrap_or(0), files.len());
    if free < needed as u64 {
        // PostgreSQL would not start.
        return Err(anyhow::anyhow!(
            "{needed} logical slots are to be copied and max_replication_slots leaves room for {free}: raise it"
        )
        .into());
    }
    drop(local);
    outside
        .stop(StopMode::Fast, outside.dynamic.stop_patience(false))
        .await?;
    let put = put(outside, leader, files, segment_size, replayed).await;
    start::replica(outside, Some(follow)).await?;
    let copied = put.context("putting the slots in place")?;
    if copied.is_empty() {
        return Err(anyhow::anyhow!("the WAL of these slots is gone: {}", names.join(", ")).into());
    }
    tracing::info!(
        "Logical slots were copied from {}: {}.",
        leader.name,
        copied.join(", ")
    );
    Ok(())
}

/// The leader may have it in another form, while its consumer keeps it from being made again.
fn is_configured(outside: &Outside, name: &str, file: &SlotFile) -> bool {
    let wanted = outside.dynamic.permanent_slots.get(name);
    wanted.is_some_and(|slot| {
        matches!(&slot.kind, SlotKind::Logical { database, plugin }
            if *database == file.database && *plugin == file.plugin)
    })
}

/// Why a slot cannot be used here. One that is further than this member has replayed would skip what comes after a failover.
fn not_yet(outside: &Outside, file: &SlotFile, replayed: Lsn, segment_size: u64) -> Option<&'static str> {
    if file.confirmed > replayed || file.restart > replayed {
        Some("is further than this member has replayed")
    } else if !outside.server.dir.has_wal(file.restart, replayed, segment_size) {
        Some("needs WAL that this member does not have any more; it is copied when its consumer is further")
    } else {
        None
    }
}

/// Puts the slots in place, if their leader still leads, and as far as the stop has not removed their WAL. Returns their names.
async fn put(
    outside: &Outside,
    leader: &Upstream,
    files: BTreeMap<String, SlotFile>,
    segment_size: u64,
    replayed: Lsn,
) -> anyhow::Result<Vec<String>> {
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
    let dir = outside.server.dir.clone();
    blocking("copying logical slots", move || {
        let mut copied = Vec::new();
        for (name, file) in files {
            if dir.has_wal(file.restart, replayed, segment_size) {
                dir.put_slot_file(&name, &file.state)?;
                copied.push(name);
            }
        }
        Ok(copied)
    })
    .await?
}
