//! `patroni.yml`, the dynamic configuration in it, and the places that errors name.
#![no_main]

use std::path::Path;

use howdah_config::{CtlConfig, LocalConfig, Places, Source, StoreConfig, check_dynamic, duplicates, key_report, load};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let sources = [Source { file: "patroni.yml".into(), text: text.into() }];
    let _ = duplicates(&sources);
    let Ok(config) = load(&sources) else { return };
    let places = Places::of(&sources, &serde_json::Map::new());
    if let Err(error) = LocalConfig::from_value(&config, &places, Path::new("/")) {
        assert!(!error.to_string().is_empty());
    }
    let _ = (check_dynamic(&config), key_report(&config));
    let _ = (StoreConfig::from_config(&config), CtlConfig::from_config(&config));
});
