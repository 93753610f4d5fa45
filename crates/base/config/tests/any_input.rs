//! Configurations of any content are taken or refused with a reason.

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

use std::path::Path;

use howdah_config::{
    CtlConfig, Listen, LocalConfig, Places, Source, StoreConfig, check_dynamic, key_report, parse_bool,
    parse_int, patch,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn dynamic() -> Value {
    json!({
        "ttl": 30, "loop_wait": 10, "retry_timeout": "10s", "maximum_lag_on_failover": "1MB", "synchronous_mode": true,
        "synchronous_mode_strict": "off", "primary_start_timeout": 300, "check_timeline": false, "pause": null,
        "max_timelines_history": 5, "member_slots_ttl": "30min", "ignore_slots": [{"name": "a", "type": "physical"}],
        "slots": {"a": {"type": "physical"}, "b": {"type": "logical", "database": "d", "plugin": "p"}},
        "howdah": {"ttl": 8, "closed_after_handover": 10},
        "postgresql": {
            "use_pg_rewind": true, "use_slots": true, "pg_hba": ["local all all trust"], "pg_ident": ["m a b"],
            "parameters": {"max_connections": 100, "wal_keep_segments": 8, "shared_buffers": "128MB", "wal_level": "logical"},
        },
    })
}

fn local() -> Value {
    json!({
        "name": "a", "scope": "c", "namespace": "/service/", "etcd3": {"hosts": ["127.0.0.1:2379"]},
        "restapi": {"listen": "0.0.0.0:8008", "connect_address": "10.0.0.1:8008",
            "authentication": {"username": "u", "password": "p"}, "allowlist": ["10.0.0.0/8"]},
        "postgresql": {
            "listen": "*:5432", "connect_address": "10.0.0.1:5432", "data_dir": "/data", "bin_dir": "/bin",
            "authentication": {"superuser": {"username": "postgres", "password": "x"},
                "replication": {"username": "standby", "password": "y"}},
            "parameters": {"port": 5432}, "basebackup": [{"max-rate": "100M"}, "verbose"],
        },
        "bootstrap": {"dcs": dynamic(), "initdb": ["data-checksums", {"encoding": "UTF8"}], "pg_hba": []},
        "tags": {"nofailover": false, "clonefrom": true}, "log": {"level": "INFO", "type": "json"}, "watchdog": {"mode": "off"},
    })
}

proptest! {
    #[test]
    fn dynamic_ones(value in any::damaged(dynamic())) {
        let config = any::object(&value);
        if let Err(error) = check_dynamic(&config) {
            prop_assert!(!error.to_string().is_empty());
        }
        let _ = key_report(&config);
    }

    #[test]
    fn local_ones(value in any::damaged(local())) {
        let config = any::object(&value);
        let sources = [Source { file: "a.yml".into(), text: value.to_string() }];
        let places = Places::of(&sources, &config);
        if let Err(error) = LocalConfig::from_value(&config, &places, Path::new("/")) {
            prop_assert!(!error.to_string().is_empty());
        }
        let _ = (StoreConfig::from_config(&config), CtlConfig::from_config(&config));
    }

    #[test]
    fn values(value in any::json(), unit in prop::sample::select(vec!["", "s", "B", "kB"])) {
        let _ = (parse_int(&value, unit), parse_bool(&value));
        if let Some(text) = value.as_str() {
            let _ = Listen::parse(text, 5432);
        }
    }

    #[test]
    fn a_patch_with_the_same_changes_nothing_the_second_time(target in any::damaged(dynamic()), changes in any::damaged(dynamic())) {
        let (mut target, changes) = (any::object(&target), any::object(&changes));
        patch(&mut target, &changes);
        prop_assert!(!patch(&mut target, &changes));
    }
}
