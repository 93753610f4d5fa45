//! How each fault is made. Every function strikes the primary, waits until the cluster has dealt with it, and sets right what
//! only the test has broken.
//!
//! ```text
//!   processes.rs    killed and frozen processes     server.rs   a PostgreSQL that cannot start, or serve
//!   store.rs        what happens to the store       wal.rs      who has which WAL when the power fails
//!   users.rs        what users ask for
//! ```

mod processes;
mod server;
mod store;
mod users;
mod wal;

use std::time::Duration;

use anyhow::Context;
use howdah_clock::now;
use howdah_http::{Method, sleep_until};

use crate::{Fault, Lab, Member};

/// Beyond the lease, for what must have ended with it.
const SLACK: Duration = Duration::from_secs(2);

/// Strikes the primary, waits until the cluster has dealt with it, and sets right what only the test has broken.
///
/// # Errors
/// The cluster does not recover in time.
pub async fn strike(lab: &mut Lab, fault: Fault, patience: Duration) -> anyhow::Result<()> {
    let scene = &mut Scene {
        lease: lab.lease().await?,
        primary: lab
            .primary()
            .await
            .context("no member is primary before the fault")?,
        lab,
        patience,
    };
    match fault {
        Fault::Postmaster => processes::postmaster_killed(scene),
        Fault::Backend => processes::backend_killed(scene),
        Fault::Agent => processes::agent_killed(scene),
        Fault::AgentFrozen => processes::agent_frozen(scene),
        Fault::Guard => processes::guard_killed(scene).await,
        Fault::BothFrozen => processes::both_frozen(scene).await,
        Fault::Node => processes::node_killed(scene).await,
        Fault::Terminate => processes::terminated(scene).await,
        Fault::GuardFrozen => processes::guard_frozen(scene).await,
        Fault::GuardAndStoreFrozen => processes::guard_and_store_frozen(scene).await,
        Fault::Crowd => processes::crowd(scene).await,
        Fault::StoreFrozen => store::frozen(scene).await,
        Fault::StoreWiped => store::wiped(scene).await,
        Fault::StoreLost => store::lost(scene).await,
        Fault::LeaderKeyDeleted => store::leader_key_deleted(scene).await,
        Fault::ForeignLease => store::foreign_lease(scene).await,
        Fault::LeaderCut => store::leader_cut(scene).await,
        Fault::StoreSlow => store::bad_link(scene, Duration::from_millis(500), 0).await,
        Fault::StoreLossy => store::bad_link(scene, Duration::ZERO, 30).await,
        Fault::StoreGarbled => store::garbled(scene).await,
        Fault::CannotStart => server::cannot_start(scene).await,
        Fault::PortTaken => server::port_taken(scene).await,
        Fault::DiskFull => server::disk_full(scene).await,
        Fault::PostgresFrozen => server::postgres_frozen(scene).await,
        Fault::PostmasterFrozen => server::postmaster_frozen(scene).await,
        Fault::DataRemoved => server::data_removed(scene).await,
        Fault::CheckpointerFrozen => wal::checkpointer_frozen(scene).await,
        Fault::CheckpointerStuck => wal::checkpointer_stuck(scene).await,
        Fault::WalSenders => wal::senders_killed(scene),
        Fault::PowerCut => wal::power_cut(scene),
        Fault::PowerCutHeldBack => wal::power_cut_held_back(scene).await,
        Fault::RestartpointOnOne => wal::restartpoint_on_one(scene).await,
        Fault::Switchover => users::switchover(scene).await,
        Fault::BadParameter => users::bad_parameter(scene).await,
        Fault::WrongValues => users::wrong_values(scene).await,
        Fault::PausedRestart => users::paused(scene, users::Wish::Restart).await,
        Fault::PausedReinit => users::paused(scene, users::Wish::Reinit).await,
        Fault::PausedSwitchover => users::paused(scene, users::Wish::Switchover).await,
        Fault::StartedByHand => users::started_by_hand(scene).await,
        Fault::ControlDamaged => server::control_damaged(scene).await,
    }
}

/// Where a fault is made.
struct Scene<'a> {
    lab: &'a mut Lab,
    /// Who was primary before it, by index.
    primary: usize,
    lease: Duration,
    patience: Duration,
}

impl Scene<'_> {
    fn member(&mut self) -> &mut Member {
        &mut self.lab.members[self.primary]
    }

    /// Everybody but the primary, by index.
    fn replicas(&self) -> Vec<usize> {
        let all = 0..self.lab.members.len();
        all.filter(|i| *i != self.primary).collect()
    }

    async fn outlast_the_lease(&self) {
        pass(self.lease + SLACK).await;
    }

    /// Waits until a member that is none of `gone` leads; which.
    async fn other_than(&self, gone: &[usize]) -> anyhow::Result<usize> {
        let mut found = None;
        let lab = &*self.lab;
        crate::until("another member leads", self.patience, async || {
            for (i, member) in lab.members.iter().enumerate() {
                let asked = !gone.contains(&i) && found.is_none();
                if asked
                    && let Ok(answer) = member.call(Method::GET, "/primary", None).await
                    && answer.status == 200
                {
                    found = Some(i);
                }
            }
            found.is_some()
        })
        .await
        .with_context(|| lab.logs())?;
        found.context("no other member leads")
    }

    async fn another_leads(&self) -> anyhow::Result<()> {
        self.other_than(&[self.primary]).await.map(drop)
    }

    /// The primary's processes were killed. Who starts it again is the test, when another member leads; a pod is started again
    /// by its node at once, and may be the one that leads.
    async fn is_replaced(&mut self) -> anyhow::Result<()> {
        if self.lab.sandbox().is_some() {
            self.outlast_the_lease().await;
            self.member().start()?;
            return self.lab.wait_primary(self.patience).await.map(drop);
        }
        self.another_leads().await?;
        self.member().start()
    }
}

/// Lets time go by, in which the cluster is to do what it does.
async fn pass(time: Duration) {
    sleep_until(now() + time).await;
}

/// There must be one to strike.
fn of(pid: Option<u32>, what: &str) -> anyhow::Result<u32> {
    pid.with_context(|| format!("there is no {what}"))
}
