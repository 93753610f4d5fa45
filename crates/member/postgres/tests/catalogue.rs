//! The catalogue of parameters against the server that is installed here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{collections::BTreeMap, process::Command};

use howdah_pgconf::{GucKind, parameter};
use howdah_postgres::Programs;

#[test]
fn the_catalogue_says_what_the_installed_server_says() {
    let programs =
        Programs::find(None, &BTreeMap::new()).expect("PostgreSQL is not installed: script/setup does that");
    let major = programs.version.major();
    let output = Command::new(programs.path("postgres"))
        .arg("--describe-config")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut compared = 0;
    for line in text.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let (name, kind) = (columns[0], columns[3]);
        let found = parameter(name, major).unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        let expected = match kind {
            "BOOLEAN" => GucKind::Bool,
            "INTEGER" => GucKind::Integer,
            "REAL" => GucKind::Real,
            "ENUM" => GucKind::Enum,
            _ => GucKind::String,
        };
        assert_eq!(found.kind, expected, "{name}");
        if expected == GucKind::Integer {
            assert_eq!(found.range, (columns[5], columns[6]), "{name}");
        }
        compared += 1;
    }
    assert!(compared > 250, "{compared}");
    assert!(
        programs.knows("zero_damaged_pages") && !programs.knows("block_size") && !programs.knows("work_mme"),
        "what is kept out of the sample file is known too"
    );
}
