//! Manifests as `howdah lint` and `apply` read them.
#![no_main]

use howdah_manifest::lint::lint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for finding in lint(text) {
        assert!(!finding.message.is_empty());
    }
});
