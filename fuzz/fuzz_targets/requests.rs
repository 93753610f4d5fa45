//! Bodies and queries of the REST API, and the answers of other members.
#![no_main]

use howdah_member_api::{PeerStatus, Query, ReinitRequest, RestartRequest, ScheduledRestart, SwitchoverRequest};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fuzz_target!(|text: &str| {
    let query = Query::parse(text);
    let _ = (query.get("lag"), PeerStatus::parse(text));
    let Ok(body) = serde_json::from_str::<Map<String, Value>>(text) else { return };
    let now = jiff::Timestamp::UNIX_EPOCH;
    for flag in [false, true] {
        if let Err(bad) = RestartRequest::parse(&body, flag, now) {
            assert!((400..=500).contains(&bad.status) && !bad.message.is_empty());
        }
        if let Err(bad) = SwitchoverRequest::parse(&body, flag, !flag, now) {
            assert!((400..=500).contains(&bad.status) && !bad.message.is_empty());
        }
    }
    let _ = (ReinitRequest::parse(&body), ScheduledRestart::from_record(&Value::Object(body)));
});
