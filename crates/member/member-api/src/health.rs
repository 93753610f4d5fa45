use howdah_types::{BootTime, Lsn, PgState, Role};
use serde_json::Value;

use crate::{MemberFacts, Position};

/// The query of a request: `?lag=1MB&tag_zone=a`.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Splits a query string; percent-encoding is undone.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Query(pairs.collect())
    }

    /// The first value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                let value = std::str::from_utf8(&hex)
                    .ok()
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok());
                bytes.push(value.unwrap_or(b'%'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether the health check `path` is met. Paths are matched as Patroni matches them: by substring, in this order.
#[must_use]
pub fn health(path: &str, query: &Query, facts: &MemberFacts, now: BootTime) -> bool {
    let has = |word: &str| path.contains(word);
    let replica = || is_replica(facts, query) && tags_match(facts, query);
    let leads = if facts.pause && !facts.has_view {
        matches!(facts.role, Role::Primary | Role::StandbyLeader)
    } else {
        facts.leads(now)
    };
    let primary = leads && !facts.standby_cluster;
    let standby_leader = leads && facts.standby_cluster;
    if has("standby_leader") || has("standby-leader") {
        standby_leader
    } else if has("leader") {
        leads
    } else if has("master") || has("primary") || has("read-write") || path == "/" {
        primary && !takes_no_writes(facts)
    } else if has("replica") {
        replica()
    } else if has("read-only") && !has("sync") && !has("quorum") {
        (is_primary(facts) || standby_leader) && tags_match(facts, query) || replica()
    } else if has("health") {
        facts.state == PgState::Running
    } else if !facts.has_view {
        false
    } else {
        match path {
            "/sync" | "/synchronous" => facts.sync_standby && replica(),
            "/quorum" => facts.quorum_standby && replica(),
            "/async" | "/asynchronous" => !facts.sync_standby && !facts.quorum_standby && replica(),
            "/read-only-sync" | "/read-only-synchronous" => {
                is_primary(facts) || standby_leader || (facts.sync_standby && replica())
            }
            "/read-only-quorum" => is_primary(facts) || standby_leader || (facts.quorum_standby && replica()),
            _ => false,
        }
    }
}

/// The lease is held and a session would be told that the server is read-only, or is ending. Patroni says 200 then; a load
/// balancer that asks at that moment sends clients there. A server that does not answer is no reason: it may in a moment, and
/// one failed check would cut its sessions.
fn takes_no_writes(facts: &MemberFacts) -> bool {
    matches!(facts.role, Role::Replica | Role::Promoted) || facts.state == PgState::Stopping
}

/// `GET /readiness`: the leader, or a replica that streams and is not further behind than `lag` (as replayed, or as
/// received with `mode=write`).
#[must_use]
pub fn readiness(query: &Query, facts: &MemberFacts, now: BootTime) -> bool {
    if facts.leads(now) {
        return true;
    }
    if facts.state != PgState::Running || facts.replication_state != Some("streaming") {
        return false;
    }
    let limit = query.get("lag").and_then(parse_bytes).unwrap_or(facts.lag_limit);
    let Some(leader) = leader_lsn(facts) else {
        // Patroni's rule: while a leader goes on without the store nothing better is known.
        return facts.failsafe_is_active;
    };
    let ours = match &facts.position {
        Some(Position::Replica {
            received, replayed, ..
        }) => {
            if query.get("mode") == Some("write") {
                *received.max(replayed)
            } else {
                *replayed
            }
        }
        _ => return false,
    };
    leader.ahead_of(ours) <= limit
}

fn is_primary(facts: &MemberFacts) -> bool {
    facts.role == Role::Primary && facts.state == PgState::Running
}

fn is_replica(facts: &MemberFacts, query: &Query) -> bool {
    !facts.tags.noloadbalance()
        && facts.role == Role::Replica
        && facts.state == PgState::Running
        && query
            .get("replication_state")
            .is_none_or(|wanted| facts.replication_state == Some(wanted))
        && !is_lagging(facts, query)
}

fn is_lagging(facts: &MemberFacts, query: &Query) -> bool {
    // What cannot be parsed is no limit, as in Patroni.
    let Some(limit) = query.get("lag").and_then(parse_bytes) else {
        return false;
    };
    match (leader_lsn(facts), &facts.position) {
        (Some(leader), Some(Position::Replica { replayed, .. })) => leader.ahead_of(*replayed) > limit,
        _ => false,
    }
}

fn leader_lsn(facts: &MemberFacts) -> Option<Lsn> {
    let from_upstream = match &facts.position {
        Some(Position::Replica { latest_end, .. }) => *latest_end,
        _ => None,
    };
    facts.leader_lsn.max(from_upstream)
}

/// `tag_<name>=<value>`: the tag must exist; values that are not texts compare as lower-case text.
fn tags_match(facts: &MemberFacts, query: &Query) -> bool {
    query.0.iter().all(|(key, wanted)| {
        let Some(tag) = key.strip_prefix("tag_") else {
            return true;
        };
        match facts.tags.get(tag) {
            Some(Value::String(text)) => text == wanted,
            Some(other) => other.to_string().to_lowercase() == *wanted,
            None => false,
        }
    })
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.trim().parse().ok()?;
    let shift = match text.get(digits.len()..)? {
        "" | "B" => 0,
        "kB" => 10,
        "MB" => 20,
        "GB" => 30,
        "TB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_types::{MemberName, Scope, Tags, Timeline};
    use serde_json::{Map, json};

    pub(crate) fn facts(role: Role, leads: bool) -> MemberFacts {
        let position = match role {
            Role::Primary => Position::Primary {
                location: Lsn(1000),
                timeline: Timeline(1),
            },
            _ => Position::Replica {
                received: Lsn(900),
                replayed: Lsn(800),
                replayed_at: None,
                replayed_epoch: 0.0,
                paused: false,
                timeline: Timeline(1),
                latest_end: None,
            },
        };
        let tags: Tags = serde_json::from_value(json!({"zone": "a", "clonefrom": true})).unwrap();
        MemberFacts {
            name: MemberName::new("a").unwrap(),
            scope: Scope::new("s").unwrap(),
            role,
            state: PgState::Running,
            leads_until: BootTime(if leads { 100 } else { 0 }),
            tags,
            position: Some(position),
            postmaster_start_time: None,
            postmaster_start_epoch: 0.0,
            server_version: Some(150_018),
            replication_state: (role == Role::Replica).then_some("streaming"),
            replication: vec![],
            system_id: None,
            sync_standby: false,
            quorum_standby: false,
            watchdog_failed: false,
            standby_cluster: false,
            replaying: false,
            pause: false,
            cluster_unlocked: false,
            failsafe_mode: false,
            attached: false,
            failsafe_is_active: false,
            dcs_last_seen: 1,
            has_view: true,
            leader_lsn: Some(Lsn(1000)),
            pending_restart: Map::new(),
            scheduled_restart: None,
            next_run: BootTime(0),
            ttl_nanos: 1,
            lag_limit: 1 << 20,
            archive: None,
            log_lost: 0,
            reasons: vec![],
        }
    }

    #[test]
    fn paths_are_met_as_in_patroni() {
        let leader = facts(Role::Primary, true);
        let replica = facts(Role::Replica, false);
        let check = |path: &str, facts: &MemberFacts| {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            health(path, &Query::parse(query), facts, BootTime(50))
        };
        for path in [
            "/",
            "/primary",
            "/master",
            "/leader",
            "/read-write",
            "/foo-primary",
            "/read-only",
            "/health",
        ] {
            assert!(check(path, &leader), "{path}");
        }
        for path in [
            "/replica",
            "/async",
            "/read-only",
            "/replica?lag=200",
            "/replica?tag_zone=a&tag_clonefrom=true",
        ] {
            assert!(check(path, &replica), "{path}");
        }
        for path in [
            "/primary",
            "/sync",
            "/nonsense",
            "/replica?lag=199",
            "/replica?tag_zone=b",
            "/standby-leader",
        ] {
            assert!(!check(path, &replica), "{path}");
        }
        assert!(!check("/replica", &leader));
        let promoting = facts(Role::Promoted, true);
        assert!(check("/leader", &promoting));
        assert!(!check("/primary", &promoting) && !check("/", &promoting));
        let mut handing_over = facts(Role::Primary, true);
        handing_over.state = PgState::Stopping;
        assert!(check("/leader", &handing_over) && !check("/primary", &handing_over));
        let mut silent = facts(Role::Primary, true);
        silent.state = PgState::Unknown;
        assert!(check("/primary", &silent), "it may answer in a moment");
        // The lease is over, although it was not noticed: the check fails by itself.
        assert!(!health("/primary", &Query::default(), &leader, BootTime(100)));
    }

    #[test]
    fn readiness_counts_replay_or_receipt() {
        let replica = facts(Role::Replica, false);
        let ready = |query| readiness(&Query::parse(query), &replica, BootTime(0));
        assert!(ready("") && ready("lag=200") && ready("lag=100&mode=write"));
        assert!(!ready("lag=100"));
    }
}
