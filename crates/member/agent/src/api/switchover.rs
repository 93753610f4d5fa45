use std::time::Duration;

use howdah_clock::now;
use howdah_config::{Dynamic, SyncMode, dynamic_from};
use howdah_dcs::{Cond, Document, FailoverRequest, KeyOp, Member, Outcome, View};
use howdah_http::sleep_until;
use howdah_member_api::SwitchoverRequest;
use howdah_types::{MemberName, Role};
use serde_json::{Map, Value};

use super::{Api, answer::Answer};
use crate::{patience::STORE_PATIENCE, probe::ask_one};

/// Between two looks whether it has happened. The caller waits for us; no writes do.
const LOOK: Duration = Duration::from_millis(100);

/// A candidate whose PostgreSQL is being started is waited for until then, or for one `loop_wait` if that is shorter.
const LONGEST_START: Duration = Duration::from_secs(10);

const STARTING: &str = "is still starting its PostgreSQL";

/// `POST /switchover` and `POST /failover`: checks, writes the key, waits for the outcome.
pub(crate) async fn post(api: &Api, body: &Map<String, Value>, is_switchover: bool) -> Answer {
    let view = match api.store.read(now() + STORE_PATIENCE).await {
        Ok(view) => view,
        Err(error) => return Answer::text(503, error.to_string()),
    };
    let config = view.config.value.clone().unwrap_or_default();
    let Ok(dynamic) = dynamic_from(&config, &api.config().postgresql) else {
        return Answer::text(503, "the cluster's configuration is wrong");
    };
    let parsed = SwitchoverRequest::parse(body, is_switchover, dynamic.pause, jiff::Timestamp::now());
    let request = match parsed {
        Ok(parsed) => parsed.request,
        Err(bad) => return Answer::text(bad.status, bad.message),
    };
    if let Err(why) = check(api, &view, &dynamic, &request).await {
        return Answer::text(412, why);
    }
    if let Err(why) = fenced(api, &view, &dynamic, &request).await {
        return Answer::text(412, why);
    }
    let op = KeyOp::Put {
        document: Document::failover(Some(&request)),
        cond: Cond::Rev(view.failover.rev),
    };
    if let Err(why) = api.store.write(&op, now() + STORE_PATIENCE).await.done() {
        return Answer::text(503, format!("failed to write the failover key: {why}"));
    }
    api.wake.wake();
    let what = if request.is_switchover() {
        "Switchover"
    } else {
        "Failover"
    };
    if request.scheduled_at.is_some() {
        return Answer::text(202, "Switchover scheduled");
    }
    let old = view.leader.map(|leader| leader.name);
    wait(
        api,
        what,
        old,
        request.candidate.as_ref(),
        dynamic.timers.loop_wait,
    )
    .await
}

/// `DELETE /switchover`
pub(crate) async fn delete(api: &Api) -> Answer {
    let view = match api.store.read(now() + STORE_PATIENCE).await {
        Ok(view) => view,
        Err(error) => return Answer::text(503, error.to_string()),
    };
    if view
        .failover
        .value
        .as_ref()
        .is_none_or(|request| request.scheduled_at.is_none())
    {
        return Answer::text(404, "no switchover is scheduled");
    }
    let op = KeyOp::Put {
        document: Document::failover(None),
        cond: Cond::Rev(view.failover.rev),
    };
    match api.store.write(&op, now() + STORE_PATIENCE).await {
        Outcome::Done(_) => Answer::text(200, "scheduled switchover deleted"),
        _ => Answer::text(409, "the switchover has changed meanwhile"),
    }
}

/// What can be known beforehand.
async fn check(api: &Api, view: &View, dynamic: &Dynamic, request: &FailoverRequest) -> Result<(), String> {
    let action = if request.is_switchover() {
        "switchover"
    } else {
        "failover"
    };
    let current = view.leader.as_ref().map(|leader| &leader.name);
    if let Some(leader) = &request.leader
        && current != Some(leader)
    {
        return Err("leader name does not match".to_owned());
    }
    let sync = view
        .sync
        .value
        .as_ref()
        .filter(|_| dynamic.synchronous_mode != SyncMode::Off);
    let limited = sync.filter(|_| request.is_switchover());
    if let Some(candidate) = &request.candidate {
        if !view.members.contains_key(candidate) {
            return Err("candidate does not exists".to_owned());
        }
        if limited.is_some_and(|sync| !sync.is_standby(candidate.as_str())) {
            return Err("candidate name does not match with sync_standby".to_owned());
        }
    } else if limited.is_some_and(|sync| sync.sync_standby.is_none()) {
        return Err("switchover is not possible: can not find sync_standby".to_owned());
    }
    let members: Vec<_> = view
        .members
        .iter()
        .filter(|(name, member)| {
            Some(*name) != current
                && request
                    .candidate
                    .as_ref()
                    .is_none_or(|candidate| candidate == *name)
                && !member.tags.nofailover()
        })
        .collect();
    if members.is_empty() {
        return Err(match &request.candidate {
            Some(candidate) if Some(candidate) == current => {
                format!(
                    "{action} is not possible: no good candidates have been found: {candidate} leads already"
                )
            }
            Some(candidate) => {
                format!(
                    "{action} is not possible: no good candidates have been found: {candidate} must not be promoted"
                )
            }
            None => format!("{action} is not possible: cluster does not have members except leader"),
        });
    }
    // A candidate that was started a moment ago, or a Patroni that has not looked since, is waited for.
    let patience = now() + dynamic.timers.loop_wait.min(LONGEST_START);
    loop {
        let mut refusals = Vec::new();
        let mut starting = false;
        for (name, member) in &members {
            match refusal(api, member).await {
                Ok(()) => return Ok(()),
                Err(why) => {
                    starting |= why == STARTING;
                    refusals.push(format!("{name} {why}"));
                }
            }
        }
        if !starting || now() >= patience {
            let why = refusals.join(", ");
            return Err(format!(
                "{action} is not possible: no good candidates have been found: {why}"
            ));
        }
        sleep_until(now() + LOOK).await;
    }
}

/// Why this member cannot take over, as far as it says so itself.
async fn refusal(api: &Api, member: &Member) -> Result<(), &'static str> {
    let Some(base) = member.api_base() else {
        return Err("has no address of a REST API");
    };
    let url = format!("{base}/patroni");
    match ask_one(&api.peers(), &url, now() + Duration::from_secs(2)).await {
        None => Err("does not answer"),
        Some(peer) if peer.nofailover => Err("must not be promoted"),
        Some(peer) if peer.running => Ok(()),
        Some(peer) if peer.starting => Err(STARTING),
        Some(_) => Err("has no running PostgreSQL"),
    }
}

/// In maintenance mode no guard stops a primary. One that does not answer may still take writes when another member is
/// promoted, and it would go unnoticed.
async fn fenced(api: &Api, view: &View, dynamic: &Dynamic, request: &FailoverRequest) -> Result<(), String> {
    if !dynamic.pause || request.force {
        return Ok(());
    }
    let Some((name, leader)) = view.leader_member() else {
        return Ok(());
    };
    let Some(base) = leader.api_base() else {
        return Ok(());
    };
    let url = format!("{base}/patroni");
    let answers = ask_one(&api.peers(), &url, now() + Duration::from_secs(2))
        .await
        .is_some();
    if answers {
        return Ok(());
    }
    Err(format!(
        "in maintenance mode {name} is not stopped, and it does not answer: it may go on taking writes beside the new \
         primary, and they would be lost. Stop its PostgreSQL by hand or resume the cluster; or accept that with \"force\": \
         true (howdah ctl failover --force)"
    ))
}

/// Success is another leader; failure is the key emptied with the old one.
async fn wait(
    api: &Api,
    what: &str,
    old: Option<MemberName>,
    candidate: Option<&MemberName>,
    loop_wait: Duration,
) -> Answer {
    let verb = if what == "Switchover" {
        "switched"
    } else {
        "failed"
    };
    let deadline = now() + loop_wait.max(Duration::from_secs(10)) * 2;
    while now() < deadline {
        sleep_until(now() + LOOK).await;
        let Ok(view) = api.store.read(now() + STORE_PATIENCE).await else {
            continue;
        };
        let leader = view.leader.as_ref().map(|leader| &leader.name);
        let promoted = leader
            .and_then(|name| view.members.get(name))
            .is_some_and(|member| matches!(member.role, Role::Primary | Role::StandbyLeader));
        if let Some(new) = leader.filter(|new| Some(*new) != old.as_ref() && promoted) {
            return match candidate.filter(|wanted| *wanted != new) {
                None => Answer::text(200, format!("Successfully {verb} over to \"{new}\"")),
                Some(wanted) => {
                    Answer::text(200, format!("{what}ed over to \"{new}\" instead of \"{wanted}\""))
                }
            };
        }
        if view.failover.value.is_none() && leader.is_some() && leader == old.as_ref() {
            return Answer::text(503, format!("{what} failed"));
        }
    }
    Answer::text(503, format!("{what} status unknown"))
}
