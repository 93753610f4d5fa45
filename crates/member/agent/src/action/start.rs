//! Starting, promoting and restarting.

use std::time::Duration;

use anyhow::Context;
use howdah_clock::now;
use howdah_dcs::Term;
use howdah_guard::{Request, StartMode, StopMode};
use howdah_ha::Upstream;
use howdah_http::timeout_at;
use howdah_postgres::run_script;
use howdah_types::BootTime;

use super::{Failure, Outcome};
use crate::outside::Outside;

/// An action ends after this although the server is not up yet: recovery may take hours, and the loop watches it.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// `pre_promote` has as long as a primary may take to start, but at least this long.
const PRE_PROMOTE_LEAST: Duration = Duration::from_secs(10);

pub(crate) async fn replica(outside: &Outside, follow: Option<&Upstream>) -> Outcome {
    let ended = outside.start(StartMode::Replica, follow).await?;
    settle(outside, ended).await
}

pub(crate) async fn primary(outside: &Outside, term: Term) -> Outcome {
    let not_after = outside.authority(term)?;
    let ended = outside
        .start(
            StartMode::Primary {
                term: term.0,
                not_after,
            },
            None,
        )
        .await?;
    settle(outside, ended).await
}

/// Waits until the server accepts connections. A server that has ended has failed; one that is slow is still starting.
pub(crate) async fn settle(outside: &Outside, ended_before: u64) -> Outcome {
    match outside.wait_ready(ended_before, now() + START_PATIENCE).await {
        Ok(()) => Ok(()),
        Err(error) if outside.guard.ended().times > ended_before => Err(error.into()),
        Err(_) => Err(Failure::NotServing("postgres is still starting".to_owned())),
    }
}

pub(crate) async fn promote(outside: &Outside, term: Term, not_after: BootTime) -> Outcome {
    let not_after = match &outside.dynamic.hooks.pre_promote {
        None => not_after,
        Some(script) => {
            let deadline = now() + outside.dynamic.primary_start_timeout.max(PRE_PROMOTE_LEAST);
            timeout_at(deadline, run_script(script, &[], None))
                .await
                .context("pre_promote has not ended")?
                .context("pre_promote refuses the promotion")?;
            // It may have taken longer than the lease that was held when it began.
            outside.authority(term)?
        }
    };
    let session = outside.connect().await?;
    outside
        .ask_guard(Request::Promote {
            term: term.0,
            not_after,
        })
        .await?;
    outside
        .server
        .wait_promoted(&session, now() + Duration::from_secs(60))
        .await?;
    Ok(())
}

/// Without a limit of its own: the action beside the loop may take as long as the disk does.
pub(crate) async fn checkpoint(outside: &Outside) -> Outcome {
    let session = outside.connect().await?;
    session
        .run(
            "SET statement_timeout = 0; CHECKPOINT",
            now() + Duration::from_secs(3600),
        )
        .await?;
    Ok(())
}

pub(crate) async fn restart(
    outside: &Outside,
    term: Option<(Term, BootTime)>,
    follow: Option<&Upstream>,
) -> Outcome {
    if checkpoint(outside).await.is_err() {
        tracing::warn!("The checkpoint before the restart failed; restarting all the same.");
    }
    outside
        .stop(StopMode::Fast, outside.dynamic.stop_patience(term.is_some()))
        .await?;
    match term {
        Some((term, _)) => primary(outside, term).await?,
        None => replica(outside, follow).await?,
    }
    // The postmaster may take connections and each of them end with an error.
    match outside.connect().await {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::NotServing(format!(
            "postgres was restarted and serves no session: {error}"
        ))),
    }
}
