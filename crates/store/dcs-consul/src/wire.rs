//! Keys and transactions as Consul's API has them: values in base64, sessions as UUIDs.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use howdah_dcs::{LeaderKey, LeaseId, RawKey, Term};
use howdah_types::MemberName;
use serde_json::{Value, json};

/// A lease's number: the first half of its session's UUID, which is as good as unique.
pub(crate) fn lease_of(session: &str) -> Option<LeaseId> {
    let digits: String = session.chars().filter(|digit| *digit != '-').take(16).collect();
    u64::from_str_radix(&digits, 16)
        .ok()
        .filter(|_| digits.len() == 16)
        .map(LeaseId)
}

/// One key. Consul's paths have no slash in front.
pub(crate) fn raw_key(key: &Value) -> Option<RawKey> {
    let value = key["Value"].as_str().unwrap_or_default();
    let value = BASE64.decode(value).ok()?;
    Some(RawKey {
        path: format!("/{}", key["Key"].as_str()?),
        value: String::from_utf8_lossy(&value).into_owned(),
        created: key["CreateIndex"].as_u64()?,
        modified: key["ModifyIndex"].as_u64()?,
        lease: key["Session"].as_str().and_then(lease_of),
    })
}

pub(crate) fn leader_of(key: RawKey) -> Option<LeaderKey> {
    Some(LeaderKey {
        name: MemberName::new(key.value).ok()?,
        lease: key.lease,
        term: Term(key.created),
    })
}

/// A path as Consul has it.
pub(crate) fn key_of(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// A text as a part of a URL's path: slashes stay.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// Steps of a transaction: all are taken, or none.
pub(crate) struct Txn(Vec<Value>);

impl Txn {
    pub(crate) fn new() -> Self {
        Txn(Vec::new())
    }

    fn step(mut self, verb: &str, path: &str, more: &[(&str, Value)]) -> Self {
        let mut step = json!({"Verb": verb, "Key": key_of(path)});
        for (name, value) in more {
            step[name] = value.clone();
        }
        self.0.push(json!({ "KV": step }));
        self
    }

    pub(crate) fn absent(self, path: &str) -> Self {
        self.step("check-not-exists", path, &[])
    }

    pub(crate) fn at(self, path: &str, index: u64) -> Self {
        self.step("check-index", path, &[("Index", index.into())])
    }

    pub(crate) fn locked_by(self, path: &str, session: &str) -> Self {
        self.step("check-session", path, &[("Session", session.into())])
    }

    pub(crate) fn set(self, path: &str, value: &str) -> Self {
        self.step("set", path, &[("Value", BASE64.encode(value).into())])
    }

    pub(crate) fn lock(self, path: &str, value: &str, session: &str) -> Self {
        let value = BASE64.encode(value);
        self.step(
            "lock",
            path,
            &[("Value", value.into()), ("Session", session.into())],
        )
    }

    pub(crate) fn delete(self, path: &str) -> Self {
        self.step("delete", path, &[])
    }

    pub(crate) fn into_body(self) -> Value {
        Value::Array(self.0)
    }
}

/// The last key that a transaction has written.
pub(crate) fn written(body: &Value) -> Option<RawKey> {
    let results = body["Results"].as_array()?;
    results.iter().rev().find_map(|result| raw_key(&result["KV"]))
}

/// Why a transaction was not carried out.
pub(crate) fn errors(body: &Value) -> String {
    let errors = body["Errors"].as_array().into_iter().flatten();
    let texts: Vec<&str> = errors.filter_map(|error| error["What"].as_str()).collect();
    texts.join("; ")
}

/// A length of time as Go writes it: `15s`, `7.5s`, `1m30s`, `500ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at_checked(end)?;
        let end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at_checked(end)?;
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        rest = next;
    }
    Some(total).filter(|total| !total.is_zero())
}

/// Go's form.
pub(crate) fn go_duration(length: Duration) -> String {
    format!("{}ms", length.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_gos() {
        for (text, millis) in [
            ("15s", 15_000),
            ("7.5s", 7500),
            ("1m30s", 90_000),
            ("24h0m0s", 86_400_000),
            ("500ms", 500),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "5", "5 parsecs", "1e400s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn odd_names_are_parts_of_a_path() {
        assert_eq!(encoded("service/a b#?%/ä"), "service/a%20b%23%3F%25/%C3%A4");
    }

    #[test]
    fn a_session_is_a_lease() {
        let lease = lease_of("adf4238a-882b-9ddc-4a9d-5b6758e4159e");
        assert_eq!(lease, Some(LeaseId(0xadf4_238a_882b_9ddc)));
        assert_eq!(lease_of("nonsense"), None);
        assert_eq!(lease_of(""), None);
    }
}
