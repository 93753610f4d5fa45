//! A stranger may write anything into a store: reading it never fails, and what is right beside it counts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    missing_docs,
    reason = "a test fails by panicking, and not every test uses every helper"
)]

#[path = "../../../../tests/any/mod.rs"]
mod any;

use howdah_dcs::{
    Document, FailoverRequest, Key, KeyTree, Member, RawKey, Status, SyncState, View, history_from_json,
};
use howdah_types::Scope;
use proptest::prelude::*;
use serde_json::json;

const KEYS: [Key; 7] = [
    Key::Config,
    Key::Failover,
    Key::Failsafe,
    Key::History,
    Key::Initialize,
    Key::Status,
    Key::Sync,
];

fn member() -> serde_json::Value {
    json!({
        "conn_url": "postgres://10.0.0.1:5432/postgres", "api_url": "http://10.0.0.1:8008/patroni", "state": "running",
        "role": "replica", "version": "4.1.0", "xlog_location": 100, "receive_lsn": 100, "replay_lsn": 90, "timeline": 3,
        "replication_state": "streaming", "tags": {"nofailover": true, "failover_priority": 2},
        "pending_restart": true, "pending_restart_reason": {"max_connections": {"old_value": "1", "new_value": "2"}},
        "howdah": {"config": 5, "notes": ["x"]},
    })
}

proptest! {
    #[test]
    fn documents(value in prop_oneof![any::json(), any::damaged(json!({
        "leader": "a", "member": "b", "sync_standby": "b,c", "quorum": 1, "scheduled_at": "2026-01-01T00:00:00Z",
        "optime": 5, "slots": {"a": 5}, "retain_slots": ["a"],
    }))]) {
        let text = value.to_string();
        let _ = (Status::parse(&text), history_from_json(&text));
        if let Some(sync) = SyncState::parse(&text) {
            prop_assert_eq!(SyncState::parse(Document::sync(&sync).text()), Some(sync));
        }
        if let Some(request) = FailoverRequest::parse(&text) {
            let again = FailoverRequest::parse(Document::failover(Some(&request)).text());
            prop_assert_eq!(again, Some(request));
        }
    }

    #[test]
    fn members(value in any::damaged(member())) {
        let member = Member::parse(&value.to_string());
        let _ = (member.address(), member.api_base());
        // What we write back of it is read as it was.
        prop_assert_eq!(Member::parse(&member.to_json()).to_json(), member.to_json());
    }

    #[test]
    fn a_right_member_counts_beside_anything(
        values in prop::collection::vec(any::json(), 6),
        name in any::<String>(),
        garbage in any::json(),
    ) {
        let tree = KeyTree::new("service", &Scope::new("c").unwrap());
        let raw = |path: String, value: String| RawKey { path, value, created: 1, modified: 1, lease: None };
        let right = raw(format!("{}members/good", tree.prefix()), member().to_string());
        let others = KEYS.iter().zip(&values).map(|(key, value)| raw(tree.path(*key), value.to_string()));
        let strange = raw(format!("{}members/{name}", tree.prefix()), garbage.to_string());
        let view = View::from_keys(&tree, 1, others.chain([strange, right]));
        let good = view.members.iter().find(|(name, _)| name.as_str() == "good");
        prop_assert_eq!(good.map(|(_, member)| member.to_json()), Some(Member::parse(&member().to_string()).to_json()));
    }
}
