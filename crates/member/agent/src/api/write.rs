use std::time::Duration;

use howdah_clock::now;
use howdah_config::{dynamic_from, parse_int, patch};
use howdah_dcs::{Cond, Document, KeyOp, Outcome};
use howdah_http::timeout_at;
use howdah_member_api::{ReinitRequest, RestartRequest, ScheduledRestart};
use howdah_postgres::{bad_parameters, hba_refusal};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::{Api, answer::Answer, read::no_configuration};
use crate::{patience::STORE_PATIENCE, publish::ApiCommand};

/// `PATCH /config`: merges; a change of nothing writes nothing.
pub(crate) async fn patch_config(api: &Api, changes: &Map<String, Value>) -> Answer {
    let view = match api.store.read(now() + STORE_PATIENCE).await {
        Ok(view) => view,
        Err(error) => return Answer::text(503, error.to_string()),
    };
    let why = no_configuration(&view);
    let Some(mut config) = view.config.value else {
        return Answer::text(503, why);
    };
    if !patch(&mut config, changes) {
        return Answer::json(200, &Value::Object(config));
    }
    write_config(api, config, Cond::Rev(view.config.rev)).await
}

/// `PUT /config`: replaces.
pub(crate) async fn put_config(api: &Api, config: &Map<String, Value>) -> Answer {
    write_config(api, config.clone(), Cond::Always).await
}

/// A configuration that no member would take is refused here, where the answer is read.
async fn write_config(api: &Api, config: Map<String, Value>, cond: Cond) -> Answer {
    let dynamic = match dynamic_from(&config, &api.config().postgresql) {
        Ok(dynamic) => dynamic,
        Err(error) => return Answer::text(400, error.to_string()),
    };
    let bad = bad_parameters(&api.programs, &dynamic.parameters).await;
    if !bad.is_empty() {
        let all: Vec<String> = bad.iter().map(ToString::to_string).collect();
        return Answer::text(400, all.join("\n"));
    }
    if let Some(why) = hba_refusal(&api.programs, dynamic.pg_hba.as_deref().unwrap_or_default()) {
        return Answer::text(400, why);
    }
    let op = KeyOp::Put {
        document: Document::config(&config),
        cond,
    };
    match api.store.write(&op, now() + STORE_PATIENCE).await {
        Outcome::Done(_) => {
            api.wake.wake();
            Answer::json(200, &Value::Object(config))
        }
        Outcome::Refused(_) => Answer::text(409, "the configuration was changed in the meantime: try again"),
        Outcome::Failed(reason) | Outcome::Unknown(reason) => Answer::text(502, reason),
    }
}

/// `POST /reload`
pub(crate) async fn reload(api: &Api) -> Answer {
    match api.published.commands.send(ApiCommand::Reload).await {
        Ok(()) => Answer::text(202, "reload scheduled"),
        Err(_) => Answer::text(503, "the agent is ending"),
    }
}

/// `POST /restart`: answers when it is done, or noted for later.
pub(crate) async fn restart(api: &Api, body: &Map<String, Value>) -> Answer {
    let Some(facts) = api.published.facts() else {
        return Answer::text(503, "starting");
    };
    let request = match RestartRequest::parse(body, facts.pause, jiff::Timestamp::now()) {
        Ok(request) => request,
        Err(bad) => return Answer::text(bad.status, bad.message),
    };
    let patience = match body.get("timeout").map(|value| parse_int(value, "s")) {
        None => None,
        Some(Some(seconds @ 1..)) => Some(Duration::from_secs(seconds.unsigned_abs())),
        Some(_) => return Answer::text(400, "Timeout should be a positive number of seconds"),
    };
    if request.schedule.is_some() {
        let started = facts.postmaster_start_time.as_deref();
        let plan = started.and_then(|started| ScheduledRestart::new(request, body, started));
        return match plan {
            Some(plan) => schedule(api, plan).await,
            None => Answer::text(
                503,
                "PostgreSQL does not run: there is nothing to schedule a restart of",
            ),
        };
    }
    if let Some(why) = request.unmet(&facts) {
        return Answer::text(503, format!("restart conditions are not satisfied: {why}"));
    }
    let restarted = ask(api, ApiCommand::Restart, "restarted successfully");
    let Some(patience) = patience else {
        return restarted.await;
    };
    // The restart goes on: only its result is not waited for any longer.
    match timeout_at(now() + patience, restarted).await {
        Ok(answer) => answer,
        Err(_) => Answer::text(503, "postgres is still starting"),
    }
}

async fn schedule(api: &Api, plan: ScheduledRestart) -> Answer {
    match command_loop(api, |noted| ApiCommand::Schedule(plan, noted)).await {
        Some(true) => Answer::text(202, "Restart scheduled"),
        Some(false) => Answer::text(409, "Another restart is already scheduled"),
        None => Answer::text(503, "the agent is ending"),
    }
}

/// `DELETE /restart`
pub(crate) async fn flush_restart(api: &Api) -> Answer {
    match command_loop(api, ApiCommand::Flush).await {
        Some(true) => Answer::text(200, "scheduled restart deleted"),
        Some(false) => Answer::text(404, "no restarts are scheduled"),
        None => Answer::text(503, "the agent is ending"),
    }
}

/// What the loop says to a question of yes or no; `None` when it is ending.
async fn command_loop(api: &Api, command: impl FnOnce(oneshot::Sender<bool>) -> ApiCommand) -> Option<bool> {
    let (answer, answered) = oneshot::channel();
    api.published.commands.send(command(answer)).await.ok()?;
    answered.await.ok()
}

/// `POST /reinitialize`: answers when it has begun.
pub(crate) async fn reinitialize(api: &Api, body: &Map<String, Value>) -> Answer {
    let ReinitRequest { force, from_leader } = ReinitRequest::parse(body);
    if api.published.facts().is_some_and(|facts| facts.leads(now())) {
        return Answer::text(503, "I am the leader, can not reinitialize");
    }
    let command = |done| ApiCommand::Reinitialize {
        from_leader,
        force,
        done,
    };
    ask(api, command, "reinitialize started").await
}

async fn ask(
    api: &Api,
    command: impl FnOnce(oneshot::Sender<Result<(), String>>) -> ApiCommand,
    success: &str,
) -> Answer {
    let (done, answer) = oneshot::channel();
    if api.published.commands.send(command(done)).await.is_err() {
        return Answer::text(503, "the agent is ending");
    }
    match answer.await {
        Ok(Ok(())) => Answer::text(200, success),
        Ok(Err(why)) => Answer::text(503, why),
        Err(_) => Answer::text(503, "the request was dropped"),
    }
}
