//! The house's one rule about dependencies: arrows point downwards. Shells may use pure crates, never the other way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use packages_of::metadata;
use serde_json::Value;

#[path = "metadata/mod.rs"]
mod packages_of;

/// Each crate of the product and what it may depend on. A crate that is not listed here has no place yet.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("clock", &["types"]),
    ("proc", &[]),
    ("pgconf", &["types"]),
    ("yaml", &[]),
    ("config", &["types", "pgconf", "yaml"]),
    ("dcs", &["types"]),
    ("ha", &["types", "pgconf", "config", "dcs"]),
    ("overview", &["types", "dcs"]),
    ("member-api", &["types", "dcs", "overview", "backup"]),
    ("guard", &["types", "clock"]),
    ("http", &["types", "clock", "proc"]),
    ("sql", &["types", "clock", "http"]),
    ("dcs-etcd", &["types", "clock", "dcs", "http"]),
    ("dcs-kube", &["types", "clock", "dcs", "http"]),
    ("dcs-consul", &["types", "clock", "dcs", "http"]),
    ("dcs-zookeeper", &["types", "clock", "dcs", "http"]),
    (
        "stores",
        &[
            "types",
            "config",
            "dcs",
            "dcs-etcd",
            "dcs-kube",
            "dcs-zookeeper",
            "dcs-consul",
            "http",
        ],
    ),
    ("manifest", &["pgconf", "yaml"]),
    ("blueprint", &["types", "pgconf", "overview", "manifest"]),
    ("spilo", &["pgconf", "config"]),
    ("backup", &["types", "pgconf"]),
    ("archive", &["types", "clock", "pgconf", "http", "sql", "backup"]),
    ("archiver", &["types", "clock", "http", "backup", "archive"]),
    (
        "backup-commands",
        &[
            "types", "clock", "pgconf", "http", "sql", "backup", "archive", "archiver",
        ],
    ),
    (
        "postgres",
        &["types", "clock", "proc", "pgconf", "config", "http", "sql"],
    ),
    (
        "agent",
        &[
            "types",
            "clock",
            "pgconf",
            "config",
            "dcs",
            "stores",
            "ha",
            "guard",
            "http",
            "postgres",
            "sql",
            "member-api",
            "backup",
        ],
    ),
    (
        "ctl",
        &[
            "types",
            "clock",
            "config",
            "dcs",
            "stores",
            "http",
            "overview",
            "pgconf",
            "sql",
            "member-api",
        ],
    ),
    (
        "entrypoint",
        &["clock", "http", "proc", "sql", "manifest", "spilo"],
    ),
    ("sandbox", &["types", "clock", "proc", "http"]),
    (
        "operator",
        &[
            "types",
            "clock",
            "yaml",
            "pgconf",
            "dcs",
            "http",
            "sql",
            "overview",
            "manifest",
            "blueprint",
        ],
    ),
    (
        "operate",
        &[
            "types",
            "clock",
            "yaml",
            "http",
            "manifest",
            "blueprint",
            "operator",
        ],
    ),
    (
        "commands",
        &[
            "types",
            "clock",
            "proc",
            "http",
            "manifest",
            "blueprint",
            "operator",
            "sandbox",
        ],
    ),
    (
        "howdah",
        &[
            "agent",
            "ctl",
            "guard",
            "entrypoint",
            "operate",
            "commands",
            "backup-commands",
            "config",
        ],
    ),
    ("testkit", &["types", "clock", "proc", "http"]),
    ("model", &["types", "pgconf", "config", "dcs", "ha", "guard"]),
    (
        "process-tests",
        &[
            "types", "clock", "proc", "config", "dcs", "stores", "http", "testkit",
        ],
    ),
    ("kubernetes-tests", &["types", "clock"]),
    ("bench", &["types", "clock", "http", "testkit"]),
];

/// What a pure crate must not reach, however indirectly.
const IMPURE: &[&str] = &["tokio", "hyper", "rustls", "libc", "rustix"];
const PURE: &[&str] = &[
    "types",
    "pgconf",
    "yaml",
    "config",
    "dcs",
    "ha",
    "overview",
    "member-api",
    "manifest",
    "blueprint",
    "spilo",
];

fn short(name: &str) -> String {
    name.strip_prefix("howdah-").unwrap_or(name).to_owned()
}

#[test]
fn arrows_point_downwards() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for package in packages.iter().filter(|package| package["source"].is_null()) {
        let name = short(package["name"].as_str().unwrap());
        let may = allowed
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} has no place in the house"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let ours = dependency["path"].is_string() && dependency["kind"].is_null();
            let to = short(dependency["name"].as_str().unwrap());
            assert!(
                !ours || may.contains(&to.as_str()),
                "{name} must not depend on {to}"
            );
        }
    }
}

#[test]
fn pure_crates_reach_no_clock_network_or_files() {
    let metadata = metadata();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let name_of: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    for (id, name) in &name_of {
        if !PURE.contains(&short(name).as_str()) || !name.starts_with("howdah-") {
            continue;
        }
        let (mut seen, mut stack) = (vec![*id], vec![*id]);
        while let Some(at) = stack.pop() {
            let reached = name_of[at];
            assert!(!IMPURE.contains(&reached), "{name} reaches {reached}");
            for dependency in nodes[at]["deps"].as_array().unwrap() {
                let normal = dependency["dep_kinds"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|kind| kind["kind"].is_null());
                let to = dependency["pkg"].as_str().unwrap();
                if normal && !seen.contains(&to) {
                    seen.push(to);
                    stack.push(to);
                }
            }
        }
    }
}
