//! Clusters whose data is another one's: copied from it, or following it. And certificates of a Secret.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use howdah_testkit::{Sandbox, until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn manifest(name: &str, members: u32, more: &str) -> String {
    format!(
        "apiVersion: acid.zalan.do/v1\nkind: postgresql\nmetadata:\n  name: {name}\nspec:\n  teamId: acid\n  volume:\n    size: 1Gi\n  \
         numberOfInstances: {members}\n  postgresql:\n    version: \"15\"\n  users:\n    app: []\n  databases:\n    app: app\n{more}"
    )
}

/// As `kubectl apply -f` does.
fn apply(sandbox: &Sandbox, text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    sandbox
        .kubectl(&["apply", "-f", file.path().to_str().unwrap()])
        .unwrap();
}

/// The Secrets of a cluster's system roles become those of another one, as the documentation says.
fn share_secrets(sandbox: &Sandbox, from: &str, to: &str) {
    for role in ["postgres", "standby"] {
        let secret = |cluster: &str| format!("{role}.{cluster}.credentials.postgresql.acid.zalan.do");
        let text = sandbox
            .kubectl(&["get", "secret", &secret(from), "-o", "json"])
            .unwrap();
        let found: Value = serde_json::from_str(&text).unwrap();
        let labels = found["metadata"]["labels"].to_string().replace(from, to);
        let made = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "data": found["data"],
            "metadata": {"name": secret(to), "labels": serde_json::from_str::<Value>(&labels).unwrap()},
        });
        apply(sandbox, &made.to_string());
    }
}

#[tokio::test]
async fn a_copy_and_a_follower_have_the_data_of_the_running_cluster() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.apply(&manifest("acid-source", 1, "")).unwrap();
    sandbox
        .sql("acid-source", "app", "CREATE TABLE t AS SELECT 1 AS n")
        .unwrap();

    let copy = "  clone:\n    cluster: acid-source\n";
    let told = sandbox.apply(&manifest("acid-copy", 2, copy)).unwrap();
    assert!(told.contains("is ready after"), "{told}");
    assert_eq!(sandbox.sql("acid-copy", "app", "SELECT n FROM t").unwrap(), "1");
    sandbox
        .sql("acid-copy", "app", "INSERT INTO t VALUES (2)")
        .unwrap();
    assert_eq!(
        sandbox
            .sql("acid-source", "app", "SELECT count(*) FROM t")
            .unwrap(),
        "1"
    );
    // Roles have the copy's own passwords.
    let as_app = [
        "psql",
        "acid-copy",
        "-d",
        "app",
        "-U",
        "app",
        "--",
        "-qXAtc",
        "SELECT 1",
    ];
    assert_eq!(sandbox.run(&as_app).unwrap(), "1\n");
    // The section counts once: without it no member is replaced.
    let before = sandbox.postmaster("acid-copy-0").unwrap();
    sandbox.apply(&manifest("acid-copy", 2, "")).unwrap();
    assert_eq!(sandbox.postmaster("acid-copy-0").unwrap(), before);
    // A primary does not stop for a cluster that does not let it in: its passwords are others.
    let follow = "  standby:\n    standby_host: acid-source\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), manifest("acid-copy", 2, follow)).unwrap();
    sandbox
        .kubectl(&["apply", "-f", file.path().to_str().unwrap()])
        .unwrap();
    until("it says why it does not follow", SOON, async || {
        let status = sandbox.cluster("acid-copy").unwrap()["status"].to_string();
        status.contains("so the primary goes on")
    })
    .await
    .unwrap();
    sandbox
        .sql("acid-copy", "app", "INSERT INTO t VALUES (9)")
        .unwrap();

    share_secrets(&sandbox, "acid-source", "acid-follower");
    let follow = "  standby:\n    standby_host: acid-source.default\n";
    let told = sandbox.apply(&manifest("acid-follower", 2, follow)).unwrap();
    assert!(told.contains("is ready after"), "{told}");
    let status = sandbox.cluster("acid-follower").unwrap()["status"].clone();
    assert!(
        status["members"].to_string().contains("standby_leader"),
        "{status}"
    );
    sandbox
        .sql("acid-source", "app", "INSERT INTO t VALUES (3)")
        .unwrap();
    until("the row arrives", SOON, async || {
        sandbox
            .sql("acid-follower", "app", "SELECT count(*) FROM t")
            .is_ok_and(|count| count == "2")
    })
    .await
    .unwrap();
    let refused = sandbox
        .sql("acid-follower", "app", "INSERT INTO t VALUES (4)")
        .unwrap_err();
    assert!(format!("{refused:#}").contains("read-only"), "{refused:#}");

    // Its leader hands over like a primary.
    let told = sandbox.run(&["switchover", "acid-follower", "--force"]).unwrap();
    assert!(told.contains("Successfully switched over"), "{told}");
    let leads = |name: &str| {
        let status = sandbox.cluster("acid-follower").unwrap()["status"].clone();
        status["leader"] == name && status["PostgresClusterStatus"] == "Running"
    };
    until("the other member leads", SOON, async || leads("acid-follower-1"))
        .await
        .unwrap();

    // Without the section it is promoted.
    let before = sandbox.postmaster("acid-follower-1").unwrap();
    sandbox.apply(&manifest("acid-follower", 2, "")).unwrap();
    sandbox
        .sql("acid-follower", "app", "INSERT INTO t VALUES (4)")
        .unwrap();
    assert_eq!(
        sandbox.postmaster("acid-follower-1").unwrap(),
        before,
        "no restart"
    );
    assert_eq!(
        sandbox
            .sql("acid-source", "app", "SELECT count(*) FROM t")
            .unwrap(),
        "2"
    );

    // A copy lives on without its source: members that start need nothing of it.
    sandbox.run(&["delete", "acid-source", "--yes"]).unwrap();
    // Its owner is kubectl: another client's file does not take the section out.
    std::fs::write(file.path(), manifest("acid-copy", 2, "")).unwrap();
    sandbox
        .kubectl(&["apply", "-f", file.path().to_str().unwrap()])
        .unwrap();
    until("it is settled", SOON, async || {
        let status = sandbox.cluster("acid-copy").unwrap()["status"].clone();
        status["PostgresClusterStatus"] == "Running"
    })
    .await
    .unwrap();
    let before = sandbox.postmaster("acid-copy-1").unwrap();
    sandbox
        .kubectl(&["delete", "pod", "acid-copy-1", "--wait=false"])
        .unwrap();
    until("the member is there again", SOON, async || {
        let status = sandbox.cluster("acid-copy").unwrap()["status"].clone();
        let is_new = sandbox.postmaster("acid-copy-1").is_ok_and(|now| now != before);
        is_new && status["PostgresClusterStatus"] == "Running"
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_cluster_without_its_source_is_not_made_empty() {
    let sandbox = Sandbox::start().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = manifest("acid-copy", 1, "  clone:\n    cluster: acid-nowhere\n");
    std::fs::write(file.path(), &text).unwrap();
    let path = file.path().to_str().unwrap();
    sandbox.kubectl(&["apply", "-f", path]).unwrap();
    until("the reason is told", Duration::from_secs(10), async || {
        let status = sandbox.cluster("acid-copy").unwrap()["status"].to_string();
        let events = sandbox.kubectl(&["get", "events"]).unwrap();
        let missing = "standby.acid-nowhere.credentials.postgresql.acid.zalan.do";
        status.contains(missing) && events.contains(missing)
    })
    .await
    .unwrap();
    // Without the section it is not made empty either.
    std::fs::write(file.path(), manifest("acid-copy", 1, "")).unwrap();
    sandbox.kubectl(&["apply", "-f", path]).unwrap();
    until("it says so", SOON, async || {
        let status = sandbox.cluster("acid-copy").unwrap()["status"].to_string();
        status.contains("delete it to begin with an empty one")
    })
    .await
    .unwrap();
    // An archive that nothing names is refused before anything is changed.
    let later = text.replace(
        "    cluster: acid-nowhere\n",
        "    cluster: acid-nowhere\n    timestamp: \"2026-01-01T00:00:00+00:00\"\n",
    );
    std::fs::write(file.path(), later.replace("acid-copy", "acid-other")).unwrap();
    let output = sandbox.howdah(&["apply", "-f", path]).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("spec.clone.uid: is missing"),
        "{output:?}"
    );
}

/// A certificate of its own, by openssl.
fn certificate(name: &str) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    let (key, crt) = (path("key"), path("crt"));
    let made = std::process::Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
        ])
        .args([&format!("/CN={name}"), "-keyout", &key, "-out", &crt])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let read = |file: &str| std::fs::read_to_string(file).unwrap();
    (read(&crt), read(&key))
}

fn tls_secret(sandbox: &Sandbox, name: &str) {
    let (crt, key) = certificate(name);
    let made = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "cert"},
        "stringData": {"tls.crt": crt, "tls.key": key},
    });
    apply(sandbox, &made.to_string());
}

#[tokio::test]
async fn a_certificate_of_a_secret_is_used_and_followed() {
    let sandbox = Sandbox::start().unwrap();
    let more = "  tls:\n    secretName: cert\n  sidecars:\n  - name: exporter\n    image: example.com/exporter:1\n  \
                additionalVolumes:\n  - name: more\n    mountPath: /srv/more\n    volumeSource:\n      emptyDir: {}\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), manifest("acid-tls", 1, more)).unwrap();
    sandbox
        .kubectl(&["apply", "-f", file.path().to_str().unwrap()])
        .unwrap();
    let status = || sandbox.cluster("acid-tls").unwrap()["status"].to_string();
    until(
        "the missing Secret is told",
        Duration::from_secs(10),
        async || status().contains("there is no Secret 'cert'"),
    )
    .await
    .unwrap();
    tls_secret(&sandbox, "first");
    until("the cluster is ready", SOON, async || {
        status().contains("\"Running\"")
    })
    .await
    .unwrap();
    let shown = status();
    assert!(
        shown.contains("spec.sidecars: the sandbox runs no containers")
            && !shown.contains("there is no Secret"),
        "{shown}"
    );
    let pods = sandbox.kubectl(&["get", "pods"]).unwrap();
    assert!(pods.contains("1/2"), "{pods}");
    let subject = || {
        let service = sandbox
            .kubectl(&["get", "service", "acid-tls", "-o", "jsonpath={.spec.clusterIP}"])
            .unwrap();
        let shown = std::process::Command::new("openssl")
            .args(["s_client", "-starttls", "postgres", "-connect"])
            .arg(format!("{}:5432", service.trim()))
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&shown.stdout).into_owned()
    };
    assert!(
        subject().contains("CN = first") || subject().contains("CN=first"),
        "{}",
        subject()
    );
    let before = sandbox.postmaster("acid-tls-0").unwrap();
    tls_secret(&sandbox, "second");
    until("the new certificate is used", SOON, async || {
        let shown = subject();
        shown.contains("CN = second") || shown.contains("CN=second")
    })
    .await
    .unwrap();
    assert_eq!(sandbox.postmaster("acid-tls-0").unwrap(), before, "no restart");
}
