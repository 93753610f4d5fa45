use std::time::Duration;

use howdah_types::Role;
use serde_json::{Map, Value};

use crate::{
    BadRequest, MemberFacts,
    requests::{bad, check_schedule},
};

/// `POST /restart`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartRequest {
    /// Only if the member has this role.
    pub role: Option<Role>,
    /// Only if the running version (as `server_version_num`) is lower.
    pub below_version: Option<u32>,
    /// Only if a parameter waits for it.
    pub only_pending: bool,
    /// Not now but then (RFC 3339).
    pub schedule: Option<String>,
}

/// A restart that waits for its time, as the member's record shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledRestart {
    at: jiff::Timestamp,
    /// A restart that has happened since makes it void.
    postmaster_start_time: String,
    request: RestartRequest,
    /// The request as it came.
    body: Map<String, Value>,
}

/// What is to be done about a scheduled restart now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Later,
    /// It.
    Now,
    /// Its time has passed, by more than one and a half turns of the loop (Patroni's rule).
    Missed,
    /// PostgreSQL was restarted since.
    Void,
}

impl RestartRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 for an unknown key, a wrong value, or a time without an offset; 422 for a time that cannot be parsed or is past; 500 for a
    /// schedule in maintenance mode.
    pub fn parse(body: &Map<String, Value>, paused: bool, now: jiff::Timestamp) -> Result<Self, BadRequest> {
        let mut request = RestartRequest::default();
        for (key, value) in body {
            match (key.as_str(), value) {
                ("role", Value::String(text))
                    if matches!(text.as_str(), "primary" | "master" | "replica") =>
                {
                    request.role = Some(if text == "replica" {
                        Role::Replica
                    } else {
                        Role::Primary
                    });
                }
                ("role", _) => {
                    return bad(
                        400,
                        "PostgreSQL role should be either primary, standby_leader, or replica",
                    );
                }
                ("postgres_version", Value::String(text)) => match version(text) {
                    Some(version) => request.below_version = Some(version),
                    None => {
                        return bad(
                            400,
                            "PostgreSQL version should be in the first.major.minor format",
                        );
                    }
                },
                ("timeout", Value::Number(_) | Value::String(_)) => {}
                // By mere presence, as Patroni has it.
                ("restart_pending", _) => request.only_pending = true,
                ("schedule", Value::String(at)) => {
                    if paused {
                        return bad(500, "Can't schedule restart in the paused state");
                    }
                    check_schedule(at, now)?;
                    request.schedule = Some(at.clone());
                }
                (other, _) => return bad(400, format!("Unknown filter for the scheduled restart: {other}")),
            }
        }
        Ok(request)
    }

    /// The condition that a member does not meet now, if there is one.
    #[must_use]
    pub fn unmet(&self, facts: &MemberFacts) -> Option<&'static str> {
        let role = if facts.role == Role::Primary {
            Role::Primary
        } else {
            Role::Replica
        };
        if self.role.is_some_and(|wanted| wanted != role) {
            return Some("role mismatch");
        }
        let too_new = |below| facts.server_version.is_some_and(|running| running >= below);
        if self.below_version.is_some_and(too_new) {
            return Some("postgres version mismatch");
        }
        (self.only_pending && facts.pending_restart.is_empty()).then_some("pending restart flag is not set")
    }
}

impl ScheduledRestart {
    /// A request with a schedule, for the PostgreSQL that runs since `postmaster_start_time`. `None` without a schedule.
    #[must_use]
    pub fn new(
        request: RestartRequest,
        body: &Map<String, Value>,
        postmaster_start_time: &str,
    ) -> Option<Self> {
        let at = request.schedule.as_ref()?.parse().ok()?;
        let mut body = body.clone();
        body.remove("timeout");
        Some(ScheduledRestart {
            at,
            postmaster_start_time: postmaster_start_time.to_owned(),
            request,
            body,
        })
    }

    /// From a member's record, as [`Self::record`] makes it.
    #[must_use]
    pub fn from_record(record: &Value) -> Option<Self> {
        let mut body = record.as_object()?.clone();
        let started = body.remove("postmaster_start_time")?;
        // A time that has passed unnoticed is for `due` to judge.
        let request = RestartRequest::parse(&body, false, jiff::Timestamp::MIN).ok()?;
        Self::new(request, &body, started.as_str()?)
    }

    /// For the status document: the request.
    #[must_use]
    pub fn document(&self) -> Value {
        self.body.clone().into()
    }

    /// For the member's record: the request, and for which life of PostgreSQL it is.
    #[must_use]
    pub fn record(&self) -> Value {
        let mut record = self.body.clone();
        record.insert(
            "postmaster_start_time".to_owned(),
            self.postmaster_start_time.as_str().into(),
        );
        record.into()
    }

    /// What was asked for.
    #[must_use]
    pub fn request(&self) -> &RestartRequest {
        &self.request
    }

    /// What is to be done about it at `wall`, with a loop that turns at least every `loop_wait`.
    #[must_use]
    pub fn due(&self, wall: jiff::Timestamp, loop_wait: Duration, started: Option<&str>) -> Due {
        if started.is_some_and(|started| started != self.postmaster_start_time) {
            return Due::Void;
        }
        let late = wall.as_second() - self.at.as_second();
        let slack = i64::try_from(loop_wait.as_secs()).unwrap_or(10) * 3 / 2;
        match late {
            ..0 => Due::Later,
            late if late <= slack => Due::Now,
            _ => Due::Missed,
        }
    }
}

fn version(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    Some(major.parse::<u32>().ok()? * 10000 + minor.parse::<u32>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &Value) -> Result<RestartRequest, u16> {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        RestartRequest::parse(body.as_object().unwrap(), false, now).map_err(|bad| bad.status)
    }

    #[test]
    fn filters() {
        assert!(parse(&json!({"restart_pending": false})).unwrap().only_pending);
        assert_eq!(
            parse(&json!({"postgres_version": "15.3"})).unwrap().below_version,
            Some(150_003)
        );
        assert_eq!(parse(&json!({"rolle": "x"})), Err(400));
        assert_eq!(parse(&json!({"role": "x"})), Err(400));
        assert_eq!(parse(&json!({"schedule": "2025-01-01T00:00:00Z"})), Err(422));
        assert_eq!(parse(&json!({"schedule": "2027-01-01T00:00:00"})), Err(400));
    }

    #[test]
    fn a_schedule_lives_in_the_record_and_ends_with_its_postmaster() {
        let body = json!({"schedule": "2026-01-01T10:00:00+00:00", "role": "replica"});
        let request = parse(&body).unwrap();
        let plan = ScheduledRestart::new(request, body.as_object().unwrap(), "then").unwrap();
        assert_eq!(ScheduledRestart::from_record(&plan.record()), Some(plan.clone()));
        assert_eq!(plan.document(), body);
        let at = |text: &str, started| plan.due(text.parse().unwrap(), Duration::from_secs(10), started);
        assert_eq!(at("2026-01-01T09:59:59Z", Some("then")), Due::Later);
        assert_eq!(at("2026-01-01T10:00:00Z", None), Due::Now);
        assert_eq!(at("2026-01-01T10:00:15Z", Some("then")), Due::Now);
        assert_eq!(at("2026-01-01T10:00:16Z", Some("then")), Due::Missed);
        assert_eq!(at("2026-01-01T09:00:00Z", Some("later")), Due::Void);
    }
}
