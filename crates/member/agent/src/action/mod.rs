//! The long actions. Each is a task; it ends with a result, and the next decision sees what has become of the world.

mod bootstrap;
mod copy;
mod copy_slots;

use copy::Ways;

mod hand_over;
mod rejoin;
mod restored;
mod start;

use std::time::Duration;

use howdah_guard::StopMode;
use howdah_ha::{Action, Unconfirmed};
use howdah_types::{PgState, Role};

use crate::outside::Outside;

/// A killed process ends as soon as the kernel lets it.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How an action ended.
pub(crate) type Outcome = Result<(), Failure>;

/// An action that failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// PostgreSQL was started and serves no session yet, and why: recovery may take hours, and the loop watches it.
    NotServing(String),
    /// The next decision may try again.
    Retry(anyhow::Error),
    /// A human must look: the agent ends.
    Fatal(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Retry(error.into())
    }
}

/// Carries out an action.
pub(crate) async fn run(action: Action, outside: Outside) -> Outcome {
    let stage = |state, role| {
        outside.stage.send_replace(Some((state, role)));
    };
    match &action {
        Action::Bootstrap => {
            stage(PgState::Initializing, Role::Uninitialized);
            bootstrap::bootstrap(&outside).await
        }
        Action::Clone { from, follow } => {
            stage(PgState::CreatingReplica, Role::Uninitialized);
            copy::copy(&outside, from, follow, Ways::Configured).await
        }
        Action::Reinitialize {
            from_leader,
            from,
            follow,
        } => {
            stage(PgState::CreatingReplica, Role::Uninitialized);
            outside.stop(StopMode::Immediate, Duration::from_secs(10)).await?;
            let by = if *from_leader {
                Ways::BaseBackup
            } else {
                Ways::Configured
            };
            copy::copy(&outside, from, follow, by).await
        }
        Action::StartReplica { follow } => {
            stage(PgState::Starting, Role::Replica);
            start::replica(&outside, follow.as_ref()).await
        }
        Action::StartPrimary { term, .. } => {
            stage(PgState::Starting, Role::Primary);
            start::primary(&outside, *term).await
        }
        Action::Promote { term, not_after } => {
            stage(PgState::Running, Role::Promoted);
            start::promote(&outside, *term, *not_after).await?;
            tracing::info!("promoted self to leader by acquiring session lock");
            Ok(())
        }
        Action::HandOver { candidate, may_lose } => {
            let stops = || stage(PgState::Stopping, Role::Primary);
            let unconfirmed = if *may_lose {
                Unconfirmed::GiveAway
            } else {
                Unconfirmed::Keep
            };
            hand_over::hand_over(&outside, candidate.as_ref(), unconfirmed, stops).await
        }
        Action::DemoteCluster => {
            stage(PgState::Stopping, Role::Demoted);
            outside.before_stop().await;
            // Those that stream get everything first: the cluster that is promoted instead may be among them.
            Ok(outside
                .stop(StopMode::Fast, outside.dynamic.stop_patience(true))
                .await?)
        }
        Action::StopPrimary => {
            stage(PgState::Stopping, Role::Demoted);
            Ok(outside.stop(StopMode::Immediate, Duration::from_secs(5)).await?)
        }
        Action::GiveUp => {
            stage(PgState::Stopping, Role::Demoted);
            give_up(&outside).await
        }
        Action::KillServer => {
            stage(PgState::Stopping, Role::Demoted);
            Ok(outside.stop(StopMode::Kill, KILL_PATIENCE).await?)
        }
        Action::Rejoin { leader, copy } => rejoin::rejoin(&outside, leader, *copy).await,
        Action::CopySlots {
            leader,
            follow,
            names,
        } => {
            stage(PgState::Restarting, Role::Replica);
            copy_slots::copy_slots(&outside, leader, follow, names).await
        }
        Action::Checkpoint => start::checkpoint(&outside).await,
        Action::Restart { primary, follow } => {
            stage(
                PgState::Restarting,
                if primary.is_some() {
                    Role::Primary
                } else {
                    Role::Replica
                },
            );
            start::restart(&outside, *primary, follow.as_ref()).await
        }
        Action::Shutdown { hand_over: true } if outside.dynamic.standby.is_some() => {
            stage(PgState::Stopping, Role::Replica);
            outside
                .stop(StopMode::Fast, outside.dynamic.pg_ctl_timeout)
                .await?;
            Ok(outside.release().await?)
        }
        Action::Shutdown { hand_over: true } => {
            let stops = || stage(PgState::Stopping, Role::Primary);
            hand_over::hand_over(&outside, None, Unconfirmed::RunOut, stops).await
        }
        Action::Shutdown { hand_over: false } => {
            stage(PgState::Stopping, Role::Replica);
            Ok(outside
                .stop(StopMode::Fast, outside.dynamic.pg_ctl_timeout)
                .await?)
        }
    }
}

/// Kills a server that does not answer, and gives the lease back: nothing can be handed over.
async fn give_up(outside: &Outside) -> Outcome {
    outside.stop(StopMode::Kill, KILL_PATIENCE).await?;
    Ok(outside.release().await?)
}
