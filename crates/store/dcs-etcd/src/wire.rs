use base64::{Engine, engine::general_purpose::STANDARD};
use howdah_dcs::{Cond, LeaderKey, LeaseId, RawKey, Term};
use howdah_types::MemberName;
use serde_json::{Value, json};

/// Keys and values travel in base64.
pub(crate) fn b64(text: &str) -> String {
    STANDARD.encode(text)
}

fn text(value: &Value) -> String {
    let bytes = value
        .as_str()
        .and_then(|text| STANDARD.decode(text).ok())
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An integer, which the gateway writes as text, and leaves out when it is zero.
pub(crate) fn integer(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.parse::<i64>().map_or(0, i64::cast_unsigned),
        Value::Number(n) => n.as_u64().unwrap_or(0),
        _ => 0,
    }
}

/// A lease id as the gateway takes it: a signed integer in text.
pub(crate) fn lease_text(lease: LeaseId) -> String {
    lease.0.cast_signed().to_string()
}

/// The end of the range of all keys that begin with `prefix`.
pub(crate) fn range_end(prefix: &str) -> String {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    STANDARD.encode(end)
}

pub(crate) fn raw_key(kv: &Value) -> RawKey {
    let lease = integer(&kv["lease"]);
    RawKey {
        path: text(&kv["key"]),
        value: text(&kv["value"]),
        created: integer(&kv["create_revision"]),
        modified: integer(&kv["mod_revision"]),
        lease: (lease != 0).then_some(LeaseId(lease)),
    }
}

/// The leader key from the first pair of a range answer.
pub(crate) fn leader_key(range: &Value) -> Option<LeaderKey> {
    let raw = raw_key(range["kvs"].get(0)?);
    Some(LeaderKey {
        name: MemberName::new(raw.value).ok()?,
        lease: raw.lease,
        term: Term(raw.created),
    })
}

fn put(path: &str, value: &str, lease: Option<LeaseId>) -> Value {
    let mut request = json!({"key": b64(path), "value": b64(value)});
    if let Some(lease) = lease {
        request["lease"] = lease_text(lease).into();
    }
    json!({ "request_put": request })
}

fn compare(path: &str, cond: Cond) -> Value {
    match cond {
        Cond::Always => json!([]),
        Cond::Absent | Cond::Rev(0) => {
            json!([{"key": b64(path), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}])
        }
        Cond::Rev(rev) => {
            json!([{"key": b64(path), "target": "MOD", "result": "EQUAL", "mod_revision": rev.to_string()}])
        }
    }
}

/// Creates the leader key if it does not exist; reads it otherwise.
pub(crate) fn acquire(leader: &str, me: &MemberName, lease: LeaseId) -> Value {
    json!({
        "compare": compare(leader, Cond::Absent),
        "success": [put(leader, me.as_str(), Some(lease))],
        "failure": [{"request_range": {"key": b64(leader)}}],
    })
}

/// Deletes the leader key, if it is bound to this lease.
pub(crate) fn release(leader: &str, lease: LeaseId) -> Value {
    json!({
        "compare": [{"key": b64(leader), "target": "LEASE", "result": "EQUAL", "lease": lease_text(lease)}],
        "success": [{"request_delete_range": {"key": b64(leader)}}],
    })
}

/// Writes a member's record.
pub(crate) fn put_member(path: &str, record: &str, lease: LeaseId) -> Value {
    json!({"success": [put(path, record, Some(lease))]})
}

/// Creates `initialize`, empty and bound to the lease, if it is absent; reads it otherwise.
pub(crate) fn claim(path: &str, lease: LeaseId) -> Value {
    json!({
        "compare": compare(path, Cond::Absent),
        "success": [put(path, "", Some(lease))],
        "failure": [{"request_range": {"key": b64(path)}}],
    })
}

/// Writes a shared key.
pub(crate) fn put_key(path: &str, text: &str, cond: Cond) -> Value {
    json!({"compare": compare(path, cond), "success": [put(path, text, None)]})
}

/// Deletes a shared key.
pub(crate) fn delete_key(path: &str, cond: Cond) -> Value {
    json!({"compare": compare(path, cond), "success": [{"request_delete_range": {"key": b64(path)}}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_after_the_prefix() {
        assert_eq!(range_end("/a/"), b64("/a0"));
    }

    #[test]
    fn negative_lease_ids_survive() {
        let lease = LeaseId((-5i64).cast_unsigned());
        assert_eq!(lease_text(lease), "-5");
        assert_eq!(integer(&json!("-5")), lease.0);
    }
}
