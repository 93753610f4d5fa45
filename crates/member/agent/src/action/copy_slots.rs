//! Copying the leader's logical slots into a replica.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_guard::StopMode;
use howdah_ha::Upstream;
use howdah_postgres::read_slot_files;
use howdah_types::Lsn;

use super::{Outcome, start};
use crate::{
    blocking::blocking,
    outside::{Outside, source},
};

/// For both servers together.
const PATIENCE: Duration = Duration::from_secs(5);

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
    let files = read_slot_files(&primary, names, deadline)
        .await
        .context("reading the leader's slots")?;
    drop(primary);
    if files.is_empty() {
        tracing::info!("The leader has none of the logical slots that are to be copied.");
        return Ok(());
    }
    let local = outside.connect().await?;
    let sql = "SELECT current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots), \
               (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size')";
    let row = local.row(sql, deadline).await?;
    let number = |column| row.get(column).unwrap_or_default().parse::<u64>();
    let segment_size = number(1)?;
    let (ready, early): (BTreeMap<_, _>, BTreeMap<_, _>) = files.into_iter().partition(|(_, file)| {
        let first = Lsn(file.restart.0.saturating_add(1));
        outside
            .server
            .dir
            .newest_timeline_at(first, segment_size)
            .is_some()
    });
    for (name, file) in &early {
        tracing::info!(
            "Logical slot {name} is not copied yet: it needs WAL from {} on, which was removed here. It does not survive a failover to \
             this member before its consumer is further.",
            file.restart
        );
    }
    if ready.is_empty() {
        return Ok(());
    }
    let (free, needed) = (number(0).unwrap_or(0), ready.len());
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
    let dir = outside.server.dir.clone();
    let copied: Vec<String> = ready.keys().cloned().collect();
    let put = blocking("copying logical slots", move || {
        ready
            .iter()
            .try_for_each(|(name, file)| dir.put_slot_file(name, &file.state))
    });
    let put = put.await.and_then(|put| put.map_err(Into::into));
    start::replica(outside, Some(follow)).await?;
    put.context("copying logical slots")?;
    tracing::info!(
        "Logical slots were copied from {}: {}.",
        leader.name,
        copied.join(", ")
    );
    Ok(())
}
