use std::time::Duration;

use howdah_clock::now;
use howdah_dcs::{View, history_to_json};
use howdah_http::timeout_at;
use howdah_member_api::{Query, cluster_document, health, metrics, readiness, status_document};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{Api, answer::Answer, failsafe};
use crate::{patience::STORE_PATIENCE, publish::ApiCommand};

/// `/patroni` waits this long for a fresh sample: a position that is old would let a member that lacks WAL win a race.
/// Below the two seconds that peers wait for us.
const REFRESH: Duration = Duration::from_millis(1500);

pub(crate) async fn get(api: &Api, path: &str, first: &str, query: &Query) -> Answer {
    match first {
        "patroni" => {
            refresh(api).await;
            status(api, 200)
        }
        "liveness" => liveness(api),
        "readiness" => {
            let ready = api
                .published
                .facts()
                .is_some_and(|facts| readiness(query, &facts, now()));
            status(api, if ready { 200 } else { 503 })
        }
        "metrics" => match api.published.facts() {
            Some(facts) => Answer::plain(200, metrics(&facts, now())),
            None => Answer::text(503, "starting"),
        },
        "cluster" | "history" | "config" | "failsafe" => from_store(api, first).await,
        _ => status(api, if is_healthy(api, path, query) { 200 } else { 503 }),
    }
}

pub(crate) fn is_healthy(api: &Api, path: &str, query: &Query) -> bool {
    api.published
        .facts()
        .is_some_and(|facts| health(path, query, &facts, now()))
}

fn status(api: &Api, status: u16) -> Answer {
    match api.published.facts() {
        Some(facts) => Answer::json(status, &Value::Object(status_document(&facts, now()))),
        None => Answer::json(
            if status == 200 { 200 } else { 503 },
            &serde_json::json!({"state": "starting"}),
        ),
    }
}

/// Positions in a race must be current.
async fn refresh(api: &Api) {
    let (done, refreshed) = oneshot::channel();
    if api.published.commands.try_send(ApiCommand::Refresh(done)).is_ok() {
        let _ = timeout_at(now() + REFRESH, refreshed).await;
    }
}

/// The loop runs: a decision is not overdue by more than a lease (two, for a replica).
fn liveness(api: &Api) -> Answer {
    let Some(facts) = api.published.facts() else {
        return Answer::text(200, "");
    };
    let patience = facts.ttl_nanos * if facts.leads(now()) { 1 } else { 2 };
    let alive = facts.pause || facts.next_run + Duration::from_nanos(patience) > now();
    Answer::text(if alive { 200 } else { 503 }, "")
}

async fn from_store(api: &Api, what: &str) -> Answer {
    if what == "cluster"
        && let Some(shown) = api.published.shown()
    {
        let body = shown.document(|view| cluster(api, view).to_string());
        return Answer::json_text(200, body);
    }
    let view = match api.store.read(now() + STORE_PATIENCE).await {
        Ok(view) => view,
        Err(error) => return Answer::text(503, error.to_string()),
    };
    match what {
        "cluster" => Answer::json(200, &cluster(api, &view)),
        "failsafe" => failsafe::topology(view.failsafe.value.as_ref()),
        "history" => Answer::json(200, &history_to_json(&view.history.unwrap_or_default())),
        _ => match view.config.value {
            Some(config) => Answer::json(200, &Value::Object(config)),
            None => Answer::text(502, no_configuration(&view)),
        },
    }
}

/// Why a configuration cannot be shown or changed.
pub(super) fn no_configuration(view: &View) -> &'static str {
    if view.config.rev > 0 {
        "the stored configuration is no JSON object: replace it with PUT /config or 'howdah ctl edit-config --replace FILE'"
    } else {
        "there is no configuration yet"
    }
}

fn cluster(api: &Api, view: &View) -> Value {
    let pause = view.config.value.as_ref().and_then(|config| config.get("pause"));
    let pause = pause.is_some_and(|pause| howdah_config::parse_bool(pause) == Some(true));
    cluster_document(view, api.config().scope.as_str(), pause)
}
