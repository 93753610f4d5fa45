//! Bodies, queries and answers of any content.

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

use howdah_member_api::{
    PeerStatus, Query, ReinitRequest, RestartRequest, ScheduledRestart, SwitchoverRequest,
};
use proptest::prelude::*;
use serde_json::json;

proptest! {
    #[test]
    fn bodies(
        restart in any::damaged(json!({"role": "replica", "postgres_version": "17.2.0", "timeout": "10s",
            "restart_pending": true, "schedule": "2126-01-01T00:00:00Z"})),
        switch in any::damaged(json!({"leader": "a", "candidate": "b", "member": "c", "scheduled_at": "2126-01-01T00:00:00Z",
            "force": true})),
        paused in any::<bool>(),
    ) {
        let now = jiff::Timestamp::UNIX_EPOCH;
        if let Err(bad) = RestartRequest::parse(&any::object(&restart), paused, now) {
            prop_assert!((400..=500).contains(&bad.status) && !bad.message.is_empty());
        }
        for is_switchover in [true, false] {
            if let Err(bad) = SwitchoverRequest::parse(&any::object(&switch), is_switchover, paused, now) {
                prop_assert!((400..=500).contains(&bad.status) && !bad.message.is_empty());
            }
        }
        let _ = (ReinitRequest::parse(&any::object(&restart)), ScheduledRestart::from_record(&restart));
    }

    #[test]
    fn queries_and_answers(query in any::damaged_text("lag=10MB&tag_a=b%20c&replication_state=streaming"), answer in any::json()) {
        let query = Query::parse(&query);
        let _ = (query.get("lag"), PeerStatus::parse(&answer.to_string()));
    }
}
