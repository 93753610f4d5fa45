use howdah_dcs::FailoverRequest;
use howdah_types::MemberName;
use serde_json::{Map, Value};

/// A request that is not carried out: the status code and what to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// 400, 412, 422 or 500.
    pub status: u16,
    /// A sentence.
    pub message: String,
}

pub(crate) fn bad<T>(status: u16, message: impl Into<String>) -> Result<T, BadRequest> {
    Err(BadRequest {
        status,
        message: message.into(),
    })
}

/// `POST /switchover` and `POST /failover`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchoverRequest {
    /// What goes into the failover key.
    pub request: FailoverRequest,
}

impl SwitchoverRequest {
    /// Reads a body. A failover names a candidate, a switchover the leader; a failover with a leader is a switchover.
    ///
    /// # Errors
    /// 400 for what is missing or contradicts itself, 422 for a time that cannot be parsed or is past.
    pub fn parse(
        body: &Map<String, Value>,
        is_switchover: bool,
        paused: bool,
        now: jiff::Timestamp,
    ) -> Result<Self, BadRequest> {
        let name = |key: &str| {
            body.get(key)
                .and_then(Value::as_str)
                .filter(|name| !name.is_empty())
        };
        let member = |text: Option<&str>| match text.map(MemberName::new).transpose() {
            Ok(name) => Ok(name),
            Err(error) => bad(400, error.to_string()),
        };
        let leader = member(name("leader"))?;
        let candidate = member(name("candidate").or_else(|| name("member")))?;
        let scheduled_at = name("scheduled_at").map(str::to_owned);
        let switchover = is_switchover || leader.is_some();
        if switchover && leader.is_none() {
            return bad(400, "Switchover could be performed only from a specific leader");
        }
        if !switchover && candidate.is_none() {
            return bad(400, "Failover could be performed only to a specific candidate");
        }
        if leader.is_some() && leader == candidate {
            return bad(400, "Switchover target and source are the same");
        }
        if let Some(at) = &scheduled_at {
            if !is_switchover {
                return bad(400, "Failover can't be scheduled");
            }
            if paused {
                return bad(400, "Can't schedule switchover in the paused state");
            }
            check_schedule(at, now)?;
        }
        if paused && candidate.is_none() {
            return bad(
                400,
                "Switchover is possible only to a specific candidate in a paused state",
            );
        }
        Ok(SwitchoverRequest {
            request: FailoverRequest {
                leader,
                candidate,
                scheduled_at,
                force: body.get("force").and_then(Value::as_bool).unwrap_or(false),
                confirmed: false,
            },
        })
    }
}

pub(crate) fn check_schedule(at: &str, now: jiff::Timestamp) -> Result<(), BadRequest> {
    match at.parse::<jiff::Timestamp>() {
        Ok(moment) if moment > now => Ok(()),
        Ok(_) => bad(422, "Cannot schedule in the past"),
        // A time without an offset parses as a date and time but is no moment.
        Err(_) if at.parse::<jiff::civil::DateTime>().is_ok() => {
            bad(400, "Timezone information is mandatory for the scheduled time")
        }
        Err(_) => bad(
            422,
            "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601",
        ),
    }
}

/// `POST /reinitialize`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReinitRequest {
    /// Cancel what is running first.
    pub force: bool,
    /// Copy from the leader.
    pub from_leader: bool,
}

impl ReinitRequest {
    /// Reads a body; what is not said is false.
    #[must_use]
    pub fn parse(body: &Map<String, Value>) -> Self {
        let flag = |key: &str| body.get(key).and_then(Value::as_bool).unwrap_or(false);
        ReinitRequest {
            force: flag("force"),
            from_leader: flag("from_leader"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn switchover(body: Value, is_switchover: bool, paused: bool) -> Result<SwitchoverRequest, u16> {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        SwitchoverRequest::parse(body.as_object().unwrap(), is_switchover, paused, now).map_err(|e| e.status)
    }

    #[test]
    fn mistakes_have_patronis_codes() {
        assert_eq!(switchover(json!({}), true, false), Err(400));
        assert_eq!(
            switchover(json!({"leader": "a", "candidate": "a"}), true, false),
            Err(400)
        );
        assert_eq!(switchover(json!({}), false, false), Err(400));
        assert_eq!(switchover(json!({"leader": "a"}), true, true), Err(400));
        let at = |text: &str| json!({"leader": "a", "scheduled_at": text});
        assert_eq!(switchover(at("2025-01-01T00:00:00Z"), true, false), Err(422));
        assert_eq!(switchover(at("tomorrow"), true, false), Err(422));
        assert_eq!(switchover(at("2027-01-01T00:00:00"), true, false), Err(400));
        assert!(switchover(at("2027-01-01T00:00:00+02:00"), true, false).is_ok());
        let failover = switchover(json!({"member": "b"}), false, false).unwrap();
        assert_eq!(failover.request.candidate.unwrap().as_str(), "b");
    }
}
