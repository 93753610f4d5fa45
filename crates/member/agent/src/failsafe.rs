//! Failsafe mode between agents: asking the other members, and remembering what they were promised.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use howdah_clock::now;
use howdah_ha::{KeeperInput, Promise, Question};
use howdah_http::{Client, Method, Url, sleep_until};
use howdah_types::{BootTime, MemberName, Scope};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

/// What the keeper needs to ask other members.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) client: Client,
    pub(crate) scope: Scope,
    /// What Patroni says of itself: `name`, `conn_url`, `api_url`, `slots`.
    pub(crate) about: Map<String, Value>,
}

/// What the loop keeps up to date for the keeper.
pub(crate) type SharedAsking = Arc<ArcSwapOption<Asking>>;

/// A member that could not be reached is tried once more (Patroni's rule), a moment later.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Asks all members at once. One that refuses, or does not answer in time, is enough for a no.
pub(crate) async fn ask(asking: Option<Arc<Asking>>, question: Question) -> KeeperInput {
    let agreed = match asking {
        Some(asking) => ask_all(&asking, &question).await,
        None => question.members.is_empty(),
    };
    KeeperInput::Answers {
        asked: question.asked,
        agreed,
    }
}

async fn ask_all(asking: &Asking, question: &Question) -> bool {
    let mut body = asking.about.clone();
    let length = u64::try_from(question.length.as_millis()).unwrap_or(u64::MAX);
    let mut round = JoinSet::new();
    for (name, api_url) in &question.members {
        // An address that was a member's may be another one's by now.
        body.insert(
            "howdah".to_owned(),
            json!({"asked": question.asked, "length_ms": length, "scope": asking.scope, "to": name}),
        );
        let body = Bytes::from(Value::Object(body.clone()).to_string());
        let (client, deadline) = (asking.client.clone(), question.deadline);
        let (name, url) = (name.clone(), url_of(api_url));
        round.spawn(async move {
            let answer = match url {
                Some(url) => ask_one(&client, &url, body, deadline).await,
                None => Err("its API address is not a URL".to_owned()),
            };
            answer.map_err(|why| (name, why))
        });
    }
    let mut agreed = true;
    while let Some(answer) = round.join_next().await {
        match answer {
            Ok(Ok(())) => {}
            Ok(Err((name, why))) => {
                tracing::warn!("{name} does not agree that this member goes on as leader: {why}.");
                agreed = false;
            }
            Err(error) => {
                tracing::error!("A question to a member has failed: {error}.");
                agreed = false;
            }
        }
    }
    agreed
}

fn url_of(api_url: &str) -> Option<Url> {
    let start = api_url.find("://")? + 3;
    let end = api_url
        .get(start..)?
        .find('/')
        .map_or(api_url.len(), |i| start + i);
    Url::parse(&format!("{}/failsafe", api_url.get(..end)?)).ok()
}

async fn ask_one(client: &Client, url: &Url, body: Bytes, deadline: BootTime) -> Result<(), String> {
    let mut tried = 0;
    loop {
        tried += 1;
        match client
            .request(Method::POST, url, Some(body.clone()), deadline)
            .await
        {
            Ok(answer) if answer.status == 200 && answer.text().trim() == "Accepted" => return Ok(()),
            Ok(answer) => return Err(format!("{} {}", answer.status, answer.text().trim())),
            Err(_) if tried < 2 && now() + TRY_AGAIN < deadline => sleep_until(now() + TRY_AGAIN).await,
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// The machine's boot that `BootTime` counts from.
fn boot() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// A promise in a file beside the data directory: the next life of the agent keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The machine's boot that the moments count from.
    boot: Option<String>,
    leader: MemberName,
    conn_url: String,
    api_url: String,
    asked: Option<BootTime>,
    until: BootTime,
    /// From its writing to its end.
    length_ms: u64,
}

/// As it is written.
pub(crate) fn to_text(promise: &Promise, now: BootTime) -> String {
    let kept = Kept {
        boot: boot(),
        leader: promise.leader.clone(),
        conn_url: promise.conn_url.clone(),
        api_url: promise.api_url.clone(),
        asked: promise.asked,
        until: promise.until,
        length_ms: u64::try_from(now.until(promise.until).as_millis()).unwrap_or(u64::MAX),
    };
    serde_json::to_string(&kept).unwrap_or_default()
}

/// Reads it again. Of one that was given before the machine started, or on another one, all of its time is taken to be left.
pub(crate) fn from_text(text: &str, now: BootTime) -> Option<Promise> {
    let kept: Kept = serde_json::from_str(text).ok()?;
    let same_boot = kept.boot.is_some() && kept.boot == boot();
    let until = if same_boot {
        kept.until
    } else {
        now + Duration::from_millis(kept.length_ms)
    };
    (now < until).then_some(Promise {
        leader: kept.leader,
        conn_url: kept.conn_url,
        api_url: kept.api_url,
        asked: kept.asked,
        until,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise() -> Promise {
        Promise {
            leader: MemberName::new("a").unwrap(),
            conn_url: "postgres://h:1/d".to_owned(),
            api_url: "http://h:2/patroni".to_owned(),
            asked: Some(BootTime::from_secs(5)),
            until: BootTime::from_secs(40),
        }
    }

    #[test]
    fn a_kept_promise_lasts_as_long_as_it_did() {
        let read = |text: &str, now| from_text(text, BootTime::from_secs(now));
        let text = to_text(&promise(), BootTime::from_secs(10));
        assert_eq!(read(&text, 20), Some(promise()));
        assert_eq!(read(&text, 41), None);
        // Of another boot of the machine nothing can be said but how long it lasts at most.
        let mut other: Value = serde_json::from_str(&text).unwrap();
        other["boot"] = json!("another");
        let until = read(&other.to_string(), 1000).unwrap().until;
        assert_eq!(until, BootTime::from_secs(1030));
        assert_eq!(read("{", 20), None);
    }

    #[test]
    fn members_are_asked_at_the_root_of_their_api() {
        let url = url_of("https://h:8008/patroni").unwrap();
        assert_eq!(url.path, "/failsafe");
        assert!(url_of("nonsense").is_none());
    }
}
