use std::time::Duration;

use howdah_clock::now;
use howdah_dcs::Topology;
use howdah_ha::Promise;
use howdah_member_api::{MemberFacts, Position};
use howdah_types::{BootTime, MemberName, PgState, Role, Scope};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::{Api, answer::Answer};
use crate::{blocking::blocking, failsafe, note::Note};

/// Patroni's words, which its leaders compare.
const LEADS: &str = "Running as a leader";

/// A leader that asks for more has another configuration; no lease is longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// `GET /failsafe`: who must agree that a leader goes on without the store.
pub(crate) fn topology(topology: Option<&Topology>) -> Answer {
    match topology {
        Some(topology) => Answer::json(200, &serde_json::to_value(topology).unwrap_or_default()),
        None => Answer::text(502, "there is no failsafe topology"),
    }
}

/// `POST /failsafe`: promises a leader that the store does not answer not to lead for the length of a lease. The promise is in a
/// file before the leader hears of it.
pub(crate) async fn promise(api: &Api, body: &Map<String, Value>) -> Answer {
    let Some(facts) = api.published.facts() else {
        return Answer::text(503, "starting");
    };
    if !facts.failsafe_mode {
        return Answer::text(502, "failsafe_mode is off");
    }
    let asked = match asked(body) {
        Ok(asked) => asked,
        Err(why) => return Answer::text(400, why),
    };
    let is_primary = facts.role == Role::Primary && facts.state == PgState::Running;
    if asked.leader == facts.name || is_primary {
        return Answer::text(500, LEADS);
    }
    let length = Duration::from_nanos(facts.ttl_nanos).max(asked.length);
    let promise = Promise {
        leader: asked.leader,
        conn_url: asked.conn_url,
        api_url: asked.api_url,
        asked: asked.at,
        until: now() + length,
    };
    if asked
        .meant_for
        .is_some_and(|meant| meant != (facts.scope.clone(), facts.name.clone()))
    {
        return Answer::text(500, format!("this is {} of {}", facts.name, facts.scope));
    }
    // One after the other, so that the file has what was promised last.
    static TURN: Mutex<()> = Mutex::const_new(());
    let _turn = TURN.lock().await;
    let Some(promise) = api.keeper.promise(promise).await else {
        return Answer::text(500, LEADS);
    };
    let note = Note::promise(&api.server);
    let text = failsafe::to_text(&promise, now());
    let written = blocking("keeping a promise", move || note.mark_durably(&[text]));
    match written.await {
        Ok(Ok(())) => Answer::text(200, "Accepted").with_lsn(position(&facts)),
        Ok(Err(error)) => Answer::text(500, format!("the promise cannot be kept over a restart: {error}")),
        Err(error) => Answer::text(
            500,
            format!("the promise cannot be kept over a restart: {error:#}"),
        ),
    }
}

/// What a leader says.
struct Asked {
    leader: MemberName,
    conn_url: String,
    api_url: String,
    /// By its clock; of our agents alone.
    at: Option<BootTime>,
    /// The cluster and the member that it means; of our agents alone.
    meant_for: Option<(Scope, MemberName)>,
    /// How long it counts on the promise; zero of Patroni's, which counts on our own configuration.
    length: Duration,
}

fn asked(body: &Map<String, Value>) -> Result<Asked, String> {
    let text = |key: &str| {
        let value = body.get(key).and_then(Value::as_str);
        value.ok_or_else(|| format!("{key} must be a text"))
    };
    let number = |key: &str| body.get("howdah")?.get(key)?.as_u64();
    let length = Duration::from_millis(number("length_ms").unwrap_or(0));
    if length > LONGEST {
        return Err(format!(
            "howdah.length_ms must not be more than {} s",
            LONGEST.as_secs()
        ));
    }
    let word = |key: &str| body.get("howdah")?.get(key)?.as_str();
    let meant_for = word("scope").zip(word("to"));
    Ok(Asked {
        meant_for: meant_for
            .and_then(|(scope, to)| Some((Scope::new(scope).ok()?, MemberName::new(to).ok()?))),
        leader: MemberName::new(text("name")?).map_err(|error| format!("name: {error}"))?,
        conn_url: text("conn_url")?.to_owned(),
        api_url: text("api_url")?.to_owned(),
        at: number("asked").map(BootTime),
        length,
    })
}

/// Where a replica's WAL is: the leader moves the slots of members that stream from others by it.
fn position(facts: &MemberFacts) -> Option<u64> {
    match &facts.position {
        Some(Position::Replica {
            received, replayed, ..
        }) => Some(received.0.max(replayed.0)),
        Some(Position::Primary { .. }) | None => None,
    }
}
