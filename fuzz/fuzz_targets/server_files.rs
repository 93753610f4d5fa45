//! Files that PostgreSQL and its users write: histories, control files, pg_hba lines, values of parameters.
#![no_main]

use howdah_pgconf::{
    ControlData, hba_errors, hba_include, lines_file, parse_history, parse_number, quote_value, share_history,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = ControlData::parse(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let history = parse_history(text);
    assert!(share_history(&history, &history));
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (number, reason) in hba_errors(&lines) {
        assert!(number >= 1 && number <= lines.len() && !reason.is_empty());
    }
    let _ = (hba_include(&lines), lines_file(&lines));
    for unit in ["", "kB", "8kB", "ms", "min"] {
        assert!(parse_number(text, unit).is_none_or(|number| !number.is_nan()));
    }
    let quoted = quote_value(text);
    assert!(quoted.len() >= 2 && quoted.starts_with('\'') && quoted.ends_with('\''));
});
