//! Messages between agent and guard, which after an upgrade are those of another version.
#![no_main]

use howdah_guard::{Message, Reply, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Message::<Request>::decode(bytes) {
        assert_eq!(Message::<Request>::decode(&message.encode()).ok(), Some(message));
    }
    if let Ok(message) = Message::<Reply>::decode(bytes) {
        assert_eq!(Message::<Reply>::decode(&message.encode()).ok(), Some(message));
    }
});
