use howdah_types::MemberName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A wanted failover or switchover (`failover`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FailoverRequest {
    /// The member that shall give up leadership; with it, it is a switchover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<MemberName>,
    /// The member that shall take over.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "member")]
    pub candidate: Option<MemberName>,
    /// Not before this moment (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<String>,
    /// In maintenance mode: also when the old primary may still take writes. A field of ours; Patroni's agents pass it over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Written by the leader that hands over: the candidate has received everything. A field of ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirmed: bool,
}

impl FailoverRequest {
    /// The value that stands for "none": the key is emptied and never deleted.
    pub const NONE: &'static str = "{}";

    /// Parses the key. Absent, empty, `{}` and nulls mean none; `leader:candidate` is Patroni's oldest form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        #[derive(Default, Deserialize)]
        struct Raw {
            leader: Option<String>,
            member: Option<String>,
            scheduled_at: Option<String>,
            #[serde(default)]
            force: Value,
            #[serde(default)]
            confirmed: Value,
        }
        let raw: Raw = match serde_json::from_str(text) {
            Ok(raw) => raw,
            Err(_) => {
                let (leader, member) = text.split_once(':')?;
                Raw {
                    leader: Some(leader.into()),
                    member: Some(member.into()),
                    ..Raw::default()
                }
            }
        };
        let name = |text: Option<String>| text.and_then(|text| MemberName::new(text).ok());
        // Kubernetes' annotations are texts.
        let flag = |value: &Value| *value == Value::Bool(true) || value == "true";
        let request = FailoverRequest {
            leader: name(raw.leader),
            candidate: name(raw.member),
            scheduled_at: raw.scheduled_at,
            force: flag(&raw.force),
            confirmed: flag(&raw.confirmed),
        };
        (request != FailoverRequest::default()).then_some(request)
    }

    /// Whether the leader is named (a switchover) or not (a failover).
    #[must_use]
    pub fn is_switchover(&self) -> bool {
        self.leader.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_none() {
        for none in [
            "",
            "{}",
            r#"{"leader":null,"member":null}"#,
            r#"{"leader":""}"#,
            "nonsense",
        ] {
            assert_eq!(FailoverRequest::parse(none), None, "{none}");
        }
    }

    #[test]
    fn a_switchover() {
        let request = FailoverRequest::parse(r#"{"leader":"a","member":"b"}"#).unwrap();
        assert!(request.is_switchover());
        assert_eq!(request.candidate.unwrap().as_str(), "b");
    }
}
