//! What a stranger may have written into the store: one line for each key.
#![no_main]

use howdah_dcs::{
    Document, FailoverRequest, Key, KeyTree, Member, RawKey, Status, SyncState, View, history_from_json,
};
use howdah_types::Scope;
use libfuzzer_sys::fuzz_target;

const KEYS: [Key; 6] = [
    Key::Config,
    Key::Failover,
    Key::History,
    Key::Initialize,
    Key::Status,
    Key::Sync,
];

fuzz_target!(|text: &str| {
    let Ok(scope) = Scope::new("c") else { return };
    let tree = KeyTree::new("service", &scope);
    let raw = |path: String, value: &str| RawKey { path, value: value.into(), created: 1, modified: 1, lease: None };
    let mut lines = text.lines();
    let mut keys: Vec<RawKey> = KEYS.iter().zip(&mut lines).map(|(key, line)| raw(tree.path(*key), line)).collect();
    for (number, line) in lines.enumerate() {
        keys.push(raw(format!("{}members/m{number}", tree.prefix()), line));
    }
    let _ = View::from_keys(&tree, 1, keys);

    for line in text.lines() {
        let _ = (Status::parse(line), history_from_json(line));
        let member = Member::parse(line);
        let _ = (member.address(), member.api_base());
        assert_eq!(Member::parse(&member.to_json()).to_json(), member.to_json());
        if let Some(sync) = SyncState::parse(line) {
            assert_eq!(SyncState::parse(Document::sync(&sync).text()), Some(sync));
        }
        if let Some(request) = FailoverRequest::parse(line) {
            assert_eq!(FailoverRequest::parse(Document::failover(Some(&request)).text()), Some(request));
        }
    }
});
