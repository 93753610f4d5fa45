use std::{collections::HashSet, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_http::sleep_until;
use howdah_testkit::{Fault, Lab, LabOptions, Verdict, World, Writers, digest, judge, rows, strike, until};
use serde_json::json;

/// How long a cluster may take to deal with one fault.
const PATIENCE: Duration = Duration::from_secs(60);

/// What many runs of one fault have shown.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The verdict of each run.
    pub verdicts: Vec<Verdict>,
}

impl Tally {
    /// Outages in milliseconds: smallest, median, largest.
    #[must_use]
    pub fn outages(&self) -> (u128, u128, u128) {
        let mut all: Vec<u128> = self
            .verdicts
            .iter()
            .map(|verdict| verdict.outage.as_millis())
            .collect();
        all.sort_unstable();
        let at = |i: usize| all.get(i).copied().unwrap_or(0);
        (at(0), at(all.len() / 2), at(all.len().saturating_sub(1)))
    }

    /// The longest time that two members acknowledged, in milliseconds.
    #[must_use]
    pub fn overlap(&self) -> u128 {
        self.verdicts
            .iter()
            .map(|verdict| verdict.overlap.as_millis())
            .max()
            .unwrap_or(0)
    }

    /// Rows lost in all.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.verdicts.iter().map(|verdict| verdict.lost).sum()
    }
}

/// Whether processes of this one may mount.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What no process of the primary's machine can cover in asynchronous mode: docs/safety.md says so.
#[must_use]
pub fn is_excused(fault: Fault, world: World) -> bool {
    fault == Fault::BothFrozen && !world.sync
}

/// A healthy cluster in that world. On pods the lease is that of manifests.
///
/// # Errors
/// It does not come up.
pub async fn lab_in(world: World, members: usize, ttl: u64) -> anyhow::Result<Lab> {
    if world.pods {
        return Lab::in_sandbox(members, world.sync).await;
    }
    let mode = if world.quorum {
        json!("quorum")
    } else {
        json!(world.sync)
    };
    let dynamic = json!({"loop_wait": 5, "howdah": {"ttl": ttl}, "synchronous_mode": mode});
    let mut options = LabOptions::howdah(members)?.dynamic(dynamic);
    options.linked = true;
    options.small_disks = world.small_disks;
    Lab::running(options).await
}

/// A primary whose server has died three times in a minute hands over, and what was begun there fails.
async fn on_primary<T>(lab: &Lab, work: impl AsyncFn(&Lab, usize) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = now() + PATIENCE;
    loop {
        let primary = lab.wait_primary(PATIENCE).await?;
        match work(lab, primary).await {
            Err(error) if now() >= deadline => return Err(error),
            Err(_) => sleep_until(now() + Duration::from_millis(200)).await,
            done => return done,
        }
    }
}

/// One fault against a healthy cluster: writers begin before it, and the cluster is healthy again after it.
///
/// # Errors
/// The cluster does not recover.
pub async fn run_fault(lab: &mut Lab, fault: Fault, sync: bool) -> anyhow::Result<Verdict> {
    lab.wait_healthy(PATIENCE).await?;
    if sync {
        lab.wait_sync(PATIENCE).await?;
    }
    let addresses = lab.addresses();
    let (mut writers, mut acks) = on_primary(lab, async |lab, primary| {
        Writers::on_empty_table(&lab.addresses(), primary).await
    })
    .await?;
    let struck = now();
    strike(lab, fault, PATIENCE).await?;
    // Until the cluster is whole, and writes are acknowledged after that.
    lab.wait_healthy(PATIENCE).await?;
    writers.drain(&mut acks);
    writers
        .wait_all(&mut acks, now(), Duration::from_secs(20))
        .await?;
    acks.extend(writers.stop().await);
    let found = on_primary(lab, async |lab, primary| {
        rows(&lab.members[primary].address()).await
    })
    .await?;
    let verdict = judge(&acks, struck, &found);
    // Writers write no longer, when their servers have noticed: each member must come to the same rows.
    until("all members have the same rows", PATIENCE, async || {
        let mut digests = HashSet::new();
        for address in &addresses {
            digests.insert(digest(address).await.ok());
        }
        digests.len() == 1 && !digests.contains(&None)
    })
    .await
    .with_context(|| lab.logs())?;
    Ok(verdict)
}
