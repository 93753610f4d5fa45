//! Giving leadership away: stop cleanly, wait until another member has everything, release the lease.

use std::time::Duration;

use howdah_clock::now;
use howdah_dcs::{Cond, Document, FailoverRequest, KeyOp, Member, Status};
use howdah_guard::{GuardError, Request, StopMode, WhyRefused};
use howdah_ha::{AfterStop, Peer, Received, Unconfirmed, after_stop};
use howdah_http::HttpError;
use howdah_pgconf::{ControlData, DbState};
use howdah_types::{Lsn, MemberName, have_forked};

use super::{Outcome, start};
use crate::{outside::Outside, probe::ask};

/// Between two looks at the control file and at a replica, where nothing tells.
const LOOK: Duration = Duration::from_millis(10);

/// A replica gets this long to receive the last record. Then a switchover goes back, and a failover that may lose rows goes on.
const CATCH_UP: Duration = Duration::from_secs(5);

/// The member with the highest `failover_priority` has this long to receive the end before another one is named.
const PREFER: Duration = Duration::from_millis(300);

/// After this many rounds in which no other agent has accepted a connection, no other member is there: the whole cluster is being
/// stopped. An agent that hangs, or does not know its position just now, is waited for.
const SILENT_ROUNDS: u32 = 25;

/// Hands over to `candidate`, or to the best candidate. `stops` is called when it no longer takes sessions: the checkpoint before that may
/// take minutes, in which it is the primary.
pub(crate) async fn hand_over(
    outside: &Outside,
    candidate: Option<&MemberName>,
    unconfirmed: Unconfirmed,
    stops: impl Fn(),
) -> Outcome {
    outside.before_stop().await;
    // While sessions still work: the less the shutdown checkpoint has to write, the shorter the outage.
    if let Err(error) = start::checkpoint(outside).await {
        tracing::debug!(?error, "no checkpoint before the stop");
    }
    stops();
    let ended_before = outside.guard.ended().times;
    let stopping = match outside.ask_guard(Request::Stop(StopMode::Fast)).await {
        Ok(_) => true,
        Err(GuardError::Refused(WhyRefused::NotRunning)) => false,
        // Whether it stops is not known, so nothing may be given away.
        Err(error) => return Err(error.into()),
    };
    if stopping {
        let deadline = now() + outside.dynamic.stop_patience(true);
        // "shut down" is written before the last processes have gone: an archiver may still be busy.
        while outside.guard.ended().times == ended_before && now() < deadline {
            let control = outside.server.dir.control();
            if control.is_ok_and(|control| control.state == DbState::ShutDown) {
                break;
            }
            outside.guard.wait_ended(ended_before, now() + LOOK).await;
        }
        if now() >= deadline {
            outside.stop(StopMode::Immediate, Duration::from_secs(5)).await?;
        }
    }
    let control = outside.server.dir.control()?;
    let mut then = AfterStop::Release;
    if control.state == DbState::ShutDown {
        let received = wait_received(outside, candidate, &control).await;
        then = after_stop(&received, unconfirmed);
        match (received, then) {
            (Received::By(name), _) => name_successor(outside, name).await,
            (Received::Lacking | Received::Alone, AfterStop::Keep) => {}
            (Received::Lacking | Received::Alone, AfterStop::RunOut) => tracing::warn!(
                "No replica has confirmed the last WAL record: the lease is not given back, so that this member can be back \
                 before another one takes over without it."
            ),
            (Received::Lacking | Received::Alone, AfterStop::Release) => {
                tracing::warn!("No replica has confirmed the last WAL record; handing over all the same.");
            }
        }
        if then != AfterStop::Keep {
            publish(outside, control.checkpoint).await;
        }
    } else if unconfirmed == Unconfirmed::Keep {
        then = AfterStop::Keep;
    }
    // The guard gives no term back while a postmaster that may write still lives.
    if stopping {
        let ended = outside
            .guard
            .wait_ended(ended_before, now() + outside.dynamic.stop_patience(true))
            .await;
        if !ended {
            return Err(anyhow::anyhow!("PostgreSQL does not end").into());
        }
    }
    match then {
        AfterStop::Keep => {
            withdraw(outside).await;
            let why = "no replica has confirmed the last WAL record: this member goes on as primary";
            Err(anyhow::anyhow!(why).into())
        }
        AfterStop::RunOut => Ok(()),
        AfterStop::Release => Ok(outside.release().await?),
    }
}

/// Waits until the candidate, or some replica that may lead, has received the shutdown checkpoint; which one it is.
async fn wait_received(outside: &Outside, candidate: Option<&MemberName>, control: &ControlData) -> Received {
    let ours = outside.server.origins();
    let forked = |member: &Member| {
        member
            .origins()
            .is_some_and(|origins| have_forked(&ours, origins))
    };
    let mut possible: Vec<(MemberName, String, i64)> = outside
        .view
        .members
        .iter()
        .filter(|(name, member)| {
            **name != outside.config.name
                && !member.tags.nofailover()
                && !forked(member)
                && candidate.is_none_or(|candidate| candidate == *name)
                && outside.may_take_over(name)
        })
        .filter_map(|(name, member)| {
            let url = format!("{}/patroni", member.api_base()?);
            Some((name.clone(), url, member.tags.failover_priority()))
        })
        .collect();
    possible.sort_by_key(|(_, _, priority)| std::cmp::Reverse(*priority));
    let highest = possible.first().map(|(_, _, priority)| *priority);
    let deadline = now() + CATCH_UP;
    let prefer_until = now() + PREFER;
    let mut silent = 0;
    while !possible.is_empty() && now() < deadline && silent < SILENT_ROUNDS {
        silent += 1;
        for (name, url, priority) in &possible {
            let asked = ask(&outside.peers, url, deadline.min(now() + Duration::from_secs(1))).await;
            // Only a connection that is not accepted shows that no member is there.
            let gone = asked.as_ref().is_err_and(HttpError::never_sent);
            silent = if gone { silent } else { 0 };
            let peer = asked.ok().flatten();
            // On an earlier timeline a larger position is another history's.
            let has_all = |peer: &Peer| {
                peer.lsn > control.checkpoint
                    && peer.timeline.is_some_and(|theirs| theirs >= control.timeline)
            };
            if peer.as_ref().is_some_and(has_all) && (Some(*priority) == highest || now() >= prefer_until) {
                return Received::By(name.clone());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    if possible.is_empty() || silent >= SILENT_ROUNDS {
        Received::Alone
    } else {
        Received::Lacking
    }
}

/// A member that has everything is named, so that no other replica, which may lack the end, takes the lease first.
async fn name_successor(outside: &Outside, name: MemberName) {
    let request = FailoverRequest {
        leader: Some(outside.config.name.clone()),
        candidate: Some(name),
        scheduled_at: None,
        force: false,
        confirmed: true,
    };
    if let Err(error) = write_request(outside, Some(&request)).await {
        tracing::warn!("The successor was not named: {error:#}.");
    }
}

/// The request has failed; it must not be tried again by itself.
async fn withdraw(outside: &Outside) {
    if let Err(error) = write_request(outside, None).await {
        tracing::warn!("The request for a switchover was not withdrawn: {error:#}.");
    }
}

async fn write_request(outside: &Outside, request: Option<&FailoverRequest>) -> anyhow::Result<()> {
    outside
        .write(&KeyOp::Put {
            document: Document::failover(request),
            cond: Cond::Always,
        })
        .await
}

/// The last position, so that a replica that lacks more than the limit does not take over.
async fn publish(outside: &Outside, checkpoint: Lsn) {
    let status = Status {
        optime: Some(checkpoint),
        ..outside.view.status.clone()
    };
    if let Err(error) = outside
        .write(&KeyOp::Put {
            document: Document::status(&status),
            cond: Cond::Always,
        })
        .await
    {
        tracing::warn!("The last position was not published: {error:#}.");
    }
}
