//! Logical slots: what takes longer than the loop may wait is done beside it, one job at a time.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_config::SlotKind;
use howdah_dcs::View;
use howdah_ha::{Postgres, Running, SlotChange, SlotReadiness, Snapshot, slot_on_leader};
use howdah_postgres::{Server, Source, advance_logical_slot, catalog_xmins, create_logical_slot};
use howdah_types::BootTime;
use tokio::task::JoinSet;

use crate::{repeated::Repeated, wake::Wake};

/// A slot is made when the transactions that run have ended; the next try waits for those that run then.
const CREATE: Duration = Duration::from_secs(60);

/// Moving a slot decodes the WAL that its consumer has confirmed.
const ADVANCE: Duration = Duration::from_secs(600);

/// Between two questions to the leader, and for its answer.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What a job has found.
enum Done {
    Changed(anyhow::Result<()>),
    Asked(anyhow::Result<CatalogXmins>),
}

/// `catalog_xmin` on the leader.
struct CatalogXmins {
    /// Of the slot that we stream through.
    streamed: Option<u32>,
    logical: BTreeMap<String, u32>,
}

/// The logical slots of this member.
#[derive(Default)]
pub(crate) struct LogicalSlots {
    /// One job at most; it ends with the agent.
    job: JoinSet<Done>,
    readiness: SlotReadiness,
    /// The postmaster of which the readiness is.
    postmaster: Option<u32>,
    next_question: Option<BootTime>,
    trouble: Repeated,
}

impl LogicalSlots {
    /// Creates and moves slots, unless another job is under way: the next decision asks again.
    pub(crate) fn change(&mut self, server: &Server, changes: Vec<SlotChange>, wake: &Wake) {
        if changes.is_empty() || !self.job.is_empty() {
            return;
        }
        let (server, wake) = (server.clone(), wake.clone());
        self.job.spawn(async move {
            let mut result = Ok(());
            for change in changes {
                // One that fails does not keep the others from their place.
                if let Err(error) = carry_out(&server, &change).await {
                    result = result.and(Err(error));
                }
            }
            wake.wake();
            Done::Changed(result)
        });
    }

    /// Takes what the job has found, and finds out whether copied slots can be used after a failover.
    pub(crate) fn watch(
        &mut self,
        server: &Server,
        snapshot: &Snapshot,
        view: &View,
        postmaster: Option<u32>,
        wake: &Wake,
    ) {
        let Postgres::Running(running) = &snapshot.postgres else {
            return;
        };
        let here = catalog(running);
        while let Some(done) = self.job.try_join_next() {
            match done {
                Ok(Done::Changed(result)) => self.tell(result),
                Ok(Done::Asked(Ok(answer))) => {
                    for name in self.readiness.hear(answer.streamed, &answer.logical, &here) {
                        tracing::info!("Logical slot {name} is safe to be used after a failover.");
                    }
                    self.tell(Ok(()));
                }
                Ok(Done::Asked(Err(error))) => self.tell(Err(error)),
                Err(error) if error.is_cancelled() => {}
                Err(error) => tracing::error!("A job for logical slots has failed: {error}."),
            }
        }
        if !running.in_recovery {
            self.readiness = SlotReadiness::default();
            self.postmaster = None;
            return;
        }
        if self.postmaster != postmaster {
            self.postmaster = postmaster;
            self.readiness.expect(here.keys().cloned());
        }
        let due = self.next_question.is_none_or(|at| now() >= at);
        if !self.readiness.is_settled() && due && self.job.is_empty() && running.streaming {
            self.next_question = Some(now() + ASK_EVERY);
            self.ask(server, snapshot, view, wake);
        }
    }

    fn ask(&mut self, server: &Server, snapshot: &Snapshot, view: &View, wake: &Wake) {
        let me = &snapshot.me;
        let leader = view.leader_member().and_then(|(_, member)| member.address());
        let (Some((host, port)), Some(slot)) = (leader, slot_on_leader(&me.name, &me.tags, view)) else {
            return;
        };
        let source = Source {
            host: host.to_owned(),
            port,
            remote: false,
        };
        let names: Vec<String> = self.readiness.waiting().cloned().chain([slot.clone()]).collect();
        let (server, wake) = (server.clone(), wake.clone());
        self.job.spawn(async move {
            let answer = ask_leader(&server, &source, &names, &slot).await;
            wake.wake();
            Done::Asked(answer)
        });
    }

    fn tell(&mut self, result: anyhow::Result<()>) {
        match result {
            Ok(()) => {
                self.trouble.over();
            }
            Err(error) => {
                if let Some(times) = self.trouble.happened() {
                    tracing::warn!(times, "Logical slots: {error:#}.");
                }
            }
        }
    }

    /// Says which slots their consumers should not trust, and moves no slot any more: a consumer may connect at any moment.
    pub(crate) fn before_promotion(&mut self) {
        self.job.abort_all();
        let waiting: Vec<&str> = self.readiness.waiting().map(String::as_str).collect();
        if !waiting.is_empty() {
            tracing::warn!(
                "Logical slots that may be unsafe to use after the promotion: {}.",
                waiting.join(", ")
            );
        }
    }
}

/// The slots that the agent looks after, with what they need of the catalogue.
fn catalog(running: &Running) -> BTreeMap<String, u32> {
    let decodes = running
        .slots
        .iter()
        .filter(|slot| matches!(slot.kind, SlotKind::Logical { .. }) && !slot.failover && !slot.lost);
    decodes
        .filter_map(|slot| Some((slot.name.clone(), slot.catalog_xmin?)))
        .collect()
}

async fn carry_out(server: &Server, change: &SlotChange) -> anyhow::Result<()> {
    match change {
        SlotChange::CreateLogical {
            name,
            database,
            plugin,
            failover,
        } => {
            let deadline = now() + CREATE;
            let create = async {
                let session = server.connect_database(database, deadline).await?;
                create_logical_slot(&session, name, plugin, *failover, deadline).await
            };
            create
                .await
                .with_context(|| format!("slot {name} of database {database} was not created"))?;
            tracing::info!("Created logical slot {name} of database {database}.");
            Ok(())
        }
        SlotChange::AdvanceLogical { name, database, to } => {
            let deadline = now() + ADVANCE;
            let advance = async {
                let session = server.connect_database(database, deadline).await?;
                advance_logical_slot(&session, name, *to, deadline).await
            };
            advance
                .await
                .with_context(|| format!("slot {name} of database {database} was not moved to {to}"))
        }
        SlotChange::Create(_) | SlotChange::Drop(_) | SlotChange::Advance(..) => Ok(()),
    }
}

async fn ask_leader(
    server: &Server,
    leader: &Source,
    names: &[String],
    slot: &str,
) -> anyhow::Result<CatalogXmins> {
    let deadline = now() + ASK_EVERY;
    let ask = async {
        let session = server.connect_to(leader, deadline).await?;
        catalog_xmins(&session, names, deadline).await
    };
    let mut logical = ask.await.context("the leader was not asked what it keeps")?;
    let streamed = logical.remove(slot);
    Ok(CatalogXmins { streamed, logical })
}
