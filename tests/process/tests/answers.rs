//! What a manifest asks for and does not get is said; what is wrong in it keeps nothing else back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{fs, time::Duration};

use howdah_testkit::{Sandbox, until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

/// A manifest of version 15, which the machine that tests has, with more fields in its spec.
fn manifest(name: &str, members: u32, more: &str) -> String {
    format!(
        "apiVersion: acid.zalan.do/v1\nkind: postgresql\nmetadata:\n  name: {name}\nspec:\n  teamId: acid\n  volume:\n    \
         size: 1Gi\n  numberOfInstances: {members}\n{more}"
    )
}

fn condition(cluster: &Value, kind: &str) -> (bool, String) {
    let all = cluster["status"]["conditions"].as_array().into_iter().flatten();
    let found = all.into_iter().find(|condition| condition["type"] == kind);
    found.map_or((false, String::new()), |condition| {
        (
            condition["status"] == "True",
            condition["message"].as_str().unwrap_or_default().to_owned(),
        )
    })
}

const V15: &str = "  postgresql:\n    version: \"15\"\n";

#[tokio::test]
async fn a_restored_cluster_is_never_an_empty_one() {
    let sandbox = Sandbox::start().unwrap();
    let section = "  clone:\n    cluster: other\n    timestamp: \"2026-01-02T15:04:05+00:00\"\n";
    let clone = manifest("acid-clone", 1, &format!("{V15}{section}"));
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    fs::write(file.path(), &clone).unwrap();
    for command in [&["lint", path][..], &["apply", "-f", path]] {
        assert_eq!(
            sandbox.howdah(command).unwrap().status.code(),
            Some(2),
            "{command:?}"
        );
    }
    assert!(sandbox.run(&["list"]).unwrap().contains("There are no clusters"));
    // By another way than our own commands.
    sandbox.kubectl(&["apply", "-f", path]).unwrap();
    until("the operator has refused it", SOON, async || {
        let cluster = sandbox.cluster("acid-clone").unwrap();
        cluster["status"]["PostgresClusterStatus"] == "Invalid"
            && condition(&cluster, "Ready").1.contains("spec.clone.uid")
    })
    .await
    .unwrap();
    let made = sandbox.kubectl(&["get", "sts,pods,svc,pvc", "-A"]).unwrap();
    assert!(made.contains("No resources found"), "{made}");
    // Without the field it is a cluster, and a clone section that comes back changes nothing.
    fs::write(file.path(), manifest("acid-clone", 1, V15)).unwrap();
    sandbox.kubectl(&["apply", "-f", path]).unwrap();
    let ready = ["wait", "--for=condition=Ready", "pg/acid-clone", "--timeout=60s"];
    sandbox.kubectl(&ready).unwrap();
    let before = sandbox.postmaster("acid-clone-0").unwrap();
    sandbox.apply(&clone).unwrap();
    assert_eq!(sandbox.postmaster("acid-clone-0").unwrap(), before);
}

#[tokio::test]
async fn what_is_wrong_keeps_nothing_else_back() {
    let sandbox = Sandbox::start().unwrap();
    // Nothing that was asked for is missing: what the image's defaults ask for is another matter.
    sandbox.apply(&manifest("acid-a", 2, V15)).unwrap();
    let (fully, why) = condition(&sandbox.cluster("acid-a").unwrap(), "FullyApplied");
    assert!(fully, "{why}");
    let extensions = "  users:\n    admin: [superuser]\n    bob: [superuser]\n  preparedDatabases:\n    bar:\n      extensions:\n        \
                      not_there: public\n        pg_trgm: public\n    baz:\n      extensions:\n        hstore: public\n";
    let told = sandbox
        .apply(&manifest("acid-a", 2, &format!("{V15}{extensions}")))
        .unwrap();
    assert!(
        told.contains("create extension not_there in bar: ERROR"),
        "{told}"
    );
    assert!(told.contains("spec.users.admin: the name is protected"), "{told}");
    for (database, extension) in [("bar", "pg_trgm"), ("baz", "hstore")] {
        let query = format!("SELECT count(*) FROM pg_extension WHERE extname = '{extension}'");
        assert_eq!(sandbox.sql("acid-a", database, &query).unwrap(), "1");
    }
    let preload = "    parameters:\n      shared_preload_libraries: \"pg_stat_statements,auto_explain\"\n";
    let less = "  users:\n    bob: []\n";
    let told = sandbox
        .apply(&manifest("acid-a", 2, &format!("{V15}{preload}{less}")))
        .unwrap();
    assert!(told.contains("role bob has SUPERUSER"), "{told}");
    let show = "SHOW shared_preload_libraries";
    assert_eq!(
        sandbox.sql("acid-a", "postgres", show).unwrap(),
        "pg_stat_statements,auto_explain"
    );
    // A wrong value that our own lint has not seen.
    let patch = |spec: &str| {
        let patch = format!("{{\"spec\":{spec}}}");
        sandbox
            .kubectl(&["patch", "pg", "acid-a", "--type=merge", "-p", &patch])
            .unwrap();
    };
    patch(
        r#"{"postgresql":{"parameters":{"work_mem":"8MBB","ssl":"perhaps","log_min_duration_statement":"123"}}}"#,
    );
    until(
        "the right value is in force, and the wrong ones are named",
        SOON,
        async || {
            let (_, why) = condition(&sandbox.cluster("acid-a").unwrap(), "FullyApplied");
            why.contains("parameters.work_mem: '8MBB'")
                && why.contains("parameters.ssl")
                && sandbox
                    .sql("acid-a", "postgres", "SHOW log_min_duration_statement")
                    .is_ok_and(|value| value == "123ms")
        },
    )
    .await
    .unwrap();
    assert_eq!(sandbox.sql("acid-a", "postgres", "SHOW ssl").unwrap(), "on");
}

#[tokio::test]
async fn a_correction_reaches_a_member_that_does_not_start() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.apply(&manifest("acid-a", 2, V15)).unwrap();
    let patch = |value: &str| {
        let patch = format!("{{\"spec\":{{\"postgresql\":{{\"parameters\":{{\"ssl_ca_file\":{value}}}}}}}}}");
        sandbox
            .kubectl(&["patch", "pg", "acid-a", "--type=merge", "-p", &patch])
            .unwrap();
    };
    // Right by itself, and not there.
    patch("\"/nowhere.crt\"");
    until("a replica does not start", SOON, async || {
        let cluster = sandbox.cluster("acid-a").unwrap();
        cluster["status"]["members"]
            .as_array()
            .is_some_and(|members| members.iter().any(|member| member["state"] == "start failed"))
    })
    .await
    .unwrap();
    // It gets no connections meanwhile, and the primary does.
    until("its pod is not ready", SOON, async || {
        let ready = "jsonpath={.items[*].status.containerStatuses[0].ready}";
        let pods = sandbox.kubectl(&["get", "pods", "-o", ready]).unwrap();
        pods.contains("false") && pods.contains("true")
    })
    .await
    .unwrap();
    patch("null");
    until("both members have the corrected value", SOON, async || {
        let cluster = sandbox.cluster("acid-a").unwrap();
        condition(&cluster, "Ready").0
            && cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"]
            && sandbox
                .sql("acid-a", "postgres", "SHOW ssl_ca_file")
                .is_ok_and(|value| value.is_empty())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn reasons_surface_and_unknown_kinds_change_nothing() {
    let sandbox = Sandbox::start().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let bad = manifest(
        "acid-a",
        1,
        &format!("{V15}  patroni:\n    initdb:\n      nonsense: x\n"),
    );
    fs::write(file.path(), bad).unwrap();
    sandbox.run(&["apply", "-f", path]).unwrap();
    until("the reason is in the condition", SOON, async || {
        condition(&sandbox.cluster("acid-a").unwrap(), "Ready")
            .1
            .contains("unrecognized option '--nonsense=x'")
    })
    .await
    .unwrap();
    let elsewhere =
        manifest("acid-b", 1, V15).replace("  name: acid-b\n", "  name: acid-b\n  namespace: nowhere\n");
    fs::write(file.path(), manifest("acid-c", 1, V15) + "---\n" + &elsewhere).unwrap();
    let told = sandbox.run(&["apply", "-f", path]).unwrap_err().to_string();
    assert!(told.contains("there is no namespace nowhere"), "{told}");
    assert!(sandbox.cluster("acid-c").is_err(), "nothing was changed");
    let monitor = "---\napiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata:\n  name: a\n";
    let map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: postgres-operator\ndata: {a: b}\n";
    fs::write(file.path(), manifest("acid-b", 1, V15) + monitor + map).unwrap();
    let output = sandbox.howdah(&["apply", "-f", path]).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("does not know ServiceMonitor of monitoring.coreos.com/v1; nothing was changed"),
        "{told}"
    );
    assert!(
        told.contains("warning: kind: the operator's configuration is not read yet"),
        "{told}"
    );
    assert!(!sandbox.run(&["list"]).unwrap().contains("acid-b"));
    assert!(
        sandbox
            .kubectl(&["get", "configmap", "postgres-operator"])
            .is_err()
    );
}
