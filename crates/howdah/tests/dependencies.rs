//! What the house depends on: licences that may be shipped, no crate in two versions without a reason, and no dependency
//! that nothing uses. `deny.toml` says the same to cargo-deny, which knows advisories too; this needs no network.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use packages_of::metadata;
use serde_json::Value;

#[path = "metadata/mod.rs"]
mod packages_of;

/// One of these must be a choice of each licence that a package offers.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "ISC",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "CDLA-Permissive-2.0",
];

/// Crates that are in the tree in several versions because others ask for them so.
const SEVERAL: &[&str] = &[
    "base64",
    "const-oid",
    "getrandom",
    "hashbrown",
    "syn",
    // crypto_secretstream and object_store are a generation of RustCrypto apart.
    "chacha20",
    "cpufeatures",
    "crypto-common",
    "digest",
    "rand_core",
    "synstructure",
];

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Whether a licence expression can be met. `WITH` adds permissions only.
fn may_ship(expression: &str) -> bool {
    let part = |part: &str| {
        part.trim_matches(|c| c == '(' || c == ')' || c == ' ')
            .replace('/', " OR ")
            .split(" OR ")
            .any(|choice| {
                let licence = choice.trim().split(" WITH ").next().unwrap_or_default();
                LICENCES.contains(&licence)
            })
    };
    !expression.is_empty() && expression.split(" AND ").all(part)
}

#[test]
fn licences_may_be_shipped() {
    let metadata = metadata();
    let others: Vec<String> = packages(&metadata)
        .filter(|package| !may_ship(text(package, "license")))
        .map(|package| format!("{}: {:?}", text(package, "name"), text(package, "license")))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(!may_ship("GPL-3.0") && !may_ship("MIT AND GPL-3.0") && !may_ship(""));
}

#[test]
fn no_crate_is_there_twice_without_a_reason() {
    let metadata = metadata();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages(&metadata) {
        versions
            .entry(text(package, "name"))
            .or_default()
            .insert(text(package, "version"));
    }
    let twice: Vec<_> = versions
        .iter()
        .filter(|(name, versions)| versions.len() > 1 && !SEVERAL.contains(name))
        .collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

#[test]
fn every_dependency_is_used() {
    let metadata = metadata();
    let mut unused = Vec::new();
    for package in packages(&metadata).filter(|package| package["source"].is_null()) {
        let root = Path::new(text(package, "manifest_path")).parent().unwrap();
        let mut sources = String::new();
        for folder in ["src", "tests", "benches", "build.rs"] {
            read_all(&root.join(folder), &mut sources);
        }
        // What the property tests of several crates share.
        if sources.contains("tests/any/mod.rs") {
            read_all(
                &Path::new(text(&metadata, "workspace_root")).join("tests/any/mod.rs"),
                &mut sources,
            );
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let name = dependency["rename"]
                .as_str()
                .unwrap_or_else(|| text(dependency, "name"))
                .replace('-', "_");
            let used = [
                format!("{name}::"),
                format!("use {name};"),
                format!("use {name} as"),
            ];
            if !used.iter().any(|way| sources.contains(way)) {
                unused.push(format!("{} does not use {name}", text(package, "name")));
            }
        }
    }
    assert!(unused.is_empty(), "{unused:#?}");
}

fn read_all(path: &Path, into: &mut String) {
    if path.is_file() {
        into.push_str(&fs::read_to_string(path).unwrap_or_default());
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        read_all(&entry.path(), into);
    }
}
