//! What is answered to whom.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use howdah_clock::now;
use howdah_operator::{Meter, Operator};
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{counting::Requests, election::Leading};

/// A replica that has heard nothing of the Lease for this long is not ready.
const SILENT: Duration = Duration::from_secs(30);

/// What is shown.
pub(crate) struct Shown {
    pub(crate) meter: Arc<Meter>,
    pub(crate) requests: Arc<Requests>,
    /// The operator of the present term.
    pub(crate) operator: ArcSwapOption<Operator>,
    pub(crate) leading: watch::Receiver<Leading>,
    /// The configuration as it was read, and what became of it.
    pub(crate) configured: ArcSwap<Value>,
    /// Why the operator cannot begin, if so.
    pub(crate) hindered: ArcSwapOption<String>,
    /// Who knows it sees the debug API.
    pub(crate) token: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
    /// Who knows the answer: the replica that leads, where it says how it is reached.
    pub(crate) holder: Option<String>,
}

fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    Answer {
        status,
        kind: "text/plain; charset=utf-8",
        body: body.into(),
        holder: None,
    }
}

fn json_of(value: &Value) -> Answer {
    Answer {
        status: StatusCode::OK,
        kind: "application/json",
        body: value.to_string(),
        holder: None,
    }
}

fn error(status: StatusCode, reason: &str) -> Answer {
    Answer {
        status,
        ..json_of(&json!({ "error": reason }))
    }
}

/// Answers a request.
pub(crate) fn answer(shown: &Shown, method: &Method, path: &str, authorization: Option<&str>) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        return error(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered");
    }
    match path.trim_end_matches('/') {
        "/livez" | "/healthz" => text(StatusCode::OK, "OK\n"),
        "/readyz" => ready(shown),
        "/metrics" => metrics(shown),
        path => match refused(shown, authorization) {
            Some(refusal) => refusal,
            None => debug(shown, path),
        },
    }
}

/// Ready: the operator that leads knows all clusters, and one that waits hears of the Lease.
fn ready(shown: &Shown) -> Answer {
    let leading = shown.leading.borrow().clone();
    if let Some(operator) = &*shown.operator.load() {
        return match operator.is_informed() {
            Ok(()) => text(StatusCode::OK, "OK\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        };
    }
    if let Some(reason) = &*shown.hindered.load() {
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"));
    }
    let hears = leading.asked.is_some_and(|asked| now() < asked + SILENT);
    if hears {
        text(StatusCode::OK, "OK\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, "the Lease cannot be read\n")
    }
}

fn metrics(shown: &Shown) -> Answer {
    let leads = u8::from(shown.operator.load().is_some());
    let mut body = format!(
        "# HELP howdah_operator_leader Whether this replica leads.\n# TYPE howdah_operator_leader gauge\n\
         howdah_operator_leader {leads}\n"
    );
    body.push_str(&shown.meter.prometheus());
    body.push_str(&shown.requests.prometheus());
    Answer {
        kind: "text/plain; version=0.0.4; charset=utf-8",
        ..text(StatusCode::OK, body)
    }
}

fn refused(shown: &Shown, authorization: Option<&str>) -> Option<Answer> {
    let Some(token) = &shown.token else {
        return Some(error(
            StatusCode::FORBIDDEN,
            "the debug API is closed: set OPERATOR_API_TOKEN and send it as a bearer token",
        ));
    };
    let sent = authorization
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .unwrap_or_default();
    // By their digests: the time that a comparison takes tells nothing then.
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let fits = digest(sent).as_ref() == digest(token).as_ref();
    (!fits).then(|| error(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong"))
}

/// Upstream's debug API.
fn debug(shown: &Shown, path: &str) -> Answer {
    let not_found = || error(StatusCode::NOT_FOUND, "there is nothing at this path");
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts == ["config"] {
        return json_of(&shown.configured.load());
    }
    let known = ["clusters", "databases", "status"];
    if !parts.first().is_some_and(|first| known.contains(first)) {
        return not_found();
    }
    let operator = shown.operator.load();
    let Some(operator) = &*operator else {
        let leading = shown.leading.borrow().clone();
        return Answer {
            holder: leading.address,
            ..error(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("this replica does not lead; '{}' does", leading.holder),
            )
        };
    };
    match parts.as_slice() {
        ["status"] => {
            let ago = shown.meter.since_last_pass();
            let ago = ago.and_then(|ago| SignedDuration::try_from(ago).ok());
            let last = ago.and_then(|ago| Timestamp::now().checked_sub(ago).ok());
            json_of(&json!({
                "LastSyncTime": last.map_or(0, Timestamp::as_second),
                "Clusters": operator.count(),
                "WorkerQueueSize": {"0": shown.meter.queued()},
            }))
        }
        ["clusters"] => json_of(&json!(operator.clusters_by_team())),
        ["clusters", team] => match operator.clusters_by_team().get(*team) {
            Some(clusters) => json_of(&json!(clusters)),
            None => error(StatusCode::NOT_FOUND, &format!("team '{team}' has no clusters")),
        },
        ["clusters", namespace, name] => match operator.described(namespace, name) {
            Some(cluster) => json_of(&cluster),
            None => error(
                StatusCode::NOT_FOUND,
                &format!("there is no cluster '{name}' in namespace '{namespace}'"),
            ),
        },
        ["databases"] => json_of(&json!(operator.databases_by_cluster())),
        _ => not_found(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(token: Option<&str>) -> Shown {
        Shown {
            meter: Arc::default(),
            requests: Arc::default(),
            operator: ArcSwapOption::empty(),
            leading: watch::channel(Leading {
                holder: "other".into(),
                address: None,
                asked: Some(now()),
            })
            .1,
            configured: ArcSwap::from_pointee(json!({"operator": {}})),
            hindered: ArcSwapOption::empty(),
            token: token.map(str::to_owned),
        }
    }

    #[test]
    fn the_debug_api_is_for_those_who_know_the_token() {
        let get = |shown: &Shown, path: &str, header: Option<&str>| {
            answer(shown, &Method::GET, path, header).status.as_u16()
        };
        let closed = shown(None);
        assert_eq!(get(&closed, "/config/", Some("Bearer ")), 403);
        assert_eq!(get(&closed, "/readyz/", None), 200);
        assert_eq!(get(&closed, "/metrics", None), 200);
        let open = shown(Some("t"));
        assert_eq!(get(&open, "/config/", None), 401);
        assert_eq!(get(&open, "/config/", Some("Bearer x")), 401);
        assert_eq!(get(&open, "/config/", Some("Bearer t")), 200);
        assert_eq!(
            get(&open, "/clusters/", Some("Bearer t")),
            503,
            "it does not lead"
        );
        assert_eq!(get(&open, "/workers/0/logs", Some("Bearer t")), 404);
        assert_eq!(answer(&open, &Method::POST, "/readyz", None).status.as_u16(), 405);
    }
}
