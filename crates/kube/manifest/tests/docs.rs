//! The table of fields in the documentation is what the code says. `HOWDAH_WRITE=1 cargo test -p howdah-manifest --test docs`
//! writes it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs, path::Path};

use howdah_manifest::{Support, spec_paths, support};

const BEGIN: &str = "<!-- fields: written by a test -->\n";
const END: &str = "<!-- end of fields -->\n";

/// Fields of which only some values are acted on, or that are acted on in one way only.
const REMARKS: &[(&str, &str)] = &[
    (
        "postgresql.version",
        "of a new cluster; a later change is named (no major upgrades yet)",
    ),
    (
        "volume.size",
        "volumes are expanded if the storage class allows it; a smaller size is reported",
    ),
    ("patroni.slots", "physical and logical ones"),
    (
        "clone.cluster",
        "a running cluster of the same namespace is copied, or an archive restored; of a cluster that exists it changes nothing",
    ),
    (
        "clone.timestamp",
        "the archive of the cluster is restored to this moment",
    ),
    (
        "clone.s3_wal_path",
        "in place of the operator's bucket; needs `timestamp`",
    ),
    (
        "standby.standby_host",
        "at any time; without the section the cluster is promoted",
    ),
    (
        "standby.s3_wal_path",
        "beside `standby_host` or alone; of a new cluster",
    ),
    (
        "standby.gs_wal_path",
        "beside `standby_host` or alone; of a new cluster",
    ),
    ("sidecars", "the sandbox runs PostgreSQL without them and says so"),
    (
        "initContainers",
        "the sandbox runs PostgreSQL without them and says so",
    ),
    (
        "tls",
        "certificates that are replaced are taken without a restart",
    ),
    (
        "users",
        "made and changed; nothing is dropped or taken away, and what stays is named",
    ),
    (
        "enableMasterLoadBalancer",
        "the sandbox gives the Service's own address as the external one",
    ),
    (
        "enableReplicaLoadBalancer",
        "the sandbox gives the Service's own address as the external one",
    ),
    ("enableMasterNodePort", "the sandbox listens on 127.0.0.1"),
    ("enableReplicaNodePort", "the sandbox listens on 127.0.0.1"),
    (
        "nodeAffinity",
        "handed to Kubernetes; the sandbox has one node and does not look at it",
    ),
];

fn table() -> String {
    let mut tops: BTreeMap<String, Vec<(String, Support)>> = BTreeMap::new();
    for path in spec_paths() {
        let top = path.split('.').next().unwrap().to_owned();
        let how = support(&path);
        tops.entry(top).or_default().push((path, how));
    }
    let mut out = String::from("| field of `spec` | |\n|---|---|\n");
    let mut row = |path: &str, how: Support| {
        let remark = REMARKS
            .iter()
            .find(|(name, _)| *name == path)
            .map(|(_, text)| *text);
        let text = match (how, remark) {
            (Support::Applied, None) => "acted on".to_owned(),
            (Support::Applied, Some(remark)) => format!("acted on: {remark}"),
            (Support::NotYet, None) => "named".to_owned(),
            (Support::NotYet, Some(remark)) => remark.to_owned(),
        };
        out.push_str(&format!("| `{path}` | {text} |\n"));
    };
    for (top, paths) in &tops {
        let remarked = paths
            .iter()
            .any(|(path, _)| path != top && REMARKS.iter().any(|(name, _)| name == path));
        let first = paths.first().unwrap().1;
        if !remarked && paths.iter().all(|(_, how)| *how == first) {
            row(top, first);
        } else {
            for (path, how) in paths {
                row(path, *how);
            }
        }
    }
    out
}

#[test]
fn the_documentation_has_every_field_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/coming-from-postgres-operator.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (have, after) = rest.split_once(END).unwrap();
    let wanted = table();
    for (name, _) in REMARKS {
        assert!(wanted.contains(&format!("`{name}`")), "{name} is no field");
    }
    if std::env::var_os("HOWDAH_WRITE").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        have, wanted,
        "write it with HOWDAH_WRITE=1 cargo test -p howdah-manifest --test docs"
    );
}

/// What stands in examples/ is what users begin with.
#[test]
fn examples_have_no_findings() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let findings = howdah_manifest::lint::lint(&text);
            assert!(findings.is_empty(), "{}: {findings:?}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 2);
}
