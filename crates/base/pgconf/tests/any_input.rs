//! Parsers of what PostgreSQL and its users write take any input.

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

use howdah_pgconf::{
    ControlData, GucKind, hba_errors, hba_include, lines_file, parse_history, parse_number, quote_value,
    same_value, share_history,
};
use proptest::prelude::*;

const HISTORY: &str =
    "1\t0/3000000\tno recovery target specified\n# a comment\n2\t0/5000148\tbefore 2026-01-01 00:00:00+00\n";
const HBA: &str = "hostssl all,\"a b\" +group,@file 10.0.0.0/8 scram-sha-256 clientcert=verify-full";

proptest! {
    #[test]
    fn histories(text in any::damaged_text(HISTORY), other in any::damaged_text(HISTORY)) {
        let (ours, theirs) = (parse_history(&text), parse_history(&other));
        // A history shares itself with itself.
        prop_assert!(share_history(&ours, &ours));
        let _ = share_history(&ours, &theirs);
    }

    #[test]
    fn control_files(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = ControlData::parse(&bytes);
    }

    #[test]
    fn hba_lines(text in any::damaged_text(HBA)) {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (number, reason) in hba_errors(&lines) {
            prop_assert!(number >= 1 && number <= lines.len(), "{number}: {reason}");
        }
        let _ = (hba_include(&lines), lines_file(&lines));
    }

    #[test]
    fn values(value in any::damaged_text("512MB"), unit in prop::sample::select(vec!["", "kB", "8kB", "ms", "s", "min", "B"])) {
        if let Some(number) = parse_number(&value, unit) {
            prop_assert!(!number.is_nan(), "{value} in {unit}");
        }
        for kind in [GucKind::Integer, GucKind::Real, GucKind::from_vartype("bool"), GucKind::from_vartype("enum")] {
            prop_assert!(same_value(kind, unit, &value, &value));
        }
        // A quoted value is one line that ends where it began.
        let quoted = quote_value(&value);
        prop_assert!(quoted.starts_with('\'') && quoted.ends_with('\'') && quoted.len() >= 2);
    }
}
