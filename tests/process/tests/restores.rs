//! Clusters from archives by their manifests, in the sandbox, by the real operator: restored to a moment although the source is
//! gone, restored in place, and fed. S3 is SeaweedFS where `HOWDAH_WEED` names it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits"
)]

use std::time::Duration;

use howdah_testkit::{S3, S3_KEYS, Sandbox, until};

const PATIENCE: Duration = Duration::from_secs(120);

fn manifest(name: &str, more: &str) -> String {
    format!(
        "apiVersion: acid.zalan.do/v1\nkind: postgresql\nmetadata:\n  name: {name}\nspec:\n  teamId: acid\n  volume:\n    size: 1Gi\n  \
         numberOfInstances: 1\n  postgresql:\n    version: \"15\"\n{more}"
    )
}

/// Variables of a store, for `env` of a manifest.
fn store(port: u16, prefix: &str) -> String {
    let pairs = [
        (
            format!("{prefix}AWS_ENDPOINT"),
            format!("http://127.0.0.1:{port}"),
        ),
        (format!("{prefix}AWS_ACCESS_KEY_ID"), S3_KEYS.0.to_owned()),
        (format!("{prefix}AWS_SECRET_ACCESS_KEY"), S3_KEYS.1.to_owned()),
        (format!("{prefix}AWS_REGION"), "us-east-1".to_owned()),
    ];
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| format!("  - name: {name}\n    value: \"{value}\"\n"))
        .collect()
}

#[tokio::test]
async fn clusters_come_from_archives() {
    let dir = tempfile::tempdir().unwrap();
    let Some(s3) = S3::start(dir.path()).await.unwrap() else {
        eprintln!("HOWDAH_WEED does not name weed: nothing is tested");
        return;
    };
    s3.bucket("backups").await.unwrap();
    let sandbox = Sandbox::start().unwrap();
    let path = "s3://backups/spilo/acid-first/wal/15";
    let env = format!(
        "  env:\n  - name: WALG_S3_PREFIX\n    value: {path}\n  - name: WALG_DISABLE_S3_SSE\n    value: \"true\"\n{}",
        store(s3.port, "")
    );
    sandbox.apply(&manifest("acid-first", &env)).unwrap();
    let sql = |cluster: &str, query: &str| sandbox.sql(cluster, "postgres", query);
    let healthy = until("the first backup is there", PATIENCE, async || {
        sandbox.cluster("acid-first").is_ok_and(|cluster| {
            let conditions = cluster["status"]["conditions"].to_string();
            conditions.contains("BackupHealthy") && conditions.contains("the newest backup is of")
        })
    });
    assert!(
        healthy.await.is_ok(),
        "{}",
        sandbox.cluster("acid-first").unwrap()["status"]
    );
    sql(
        "acid-first",
        "CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id",
    )
    .unwrap();
    let moment = sql(
        "acid-first",
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')",
    )
    .unwrap();
    sql("acid-first", "SELECT pg_sleep(0.1)").unwrap();
    sql("acid-first", "DROP TABLE orders").unwrap();
    sql("acid-first", "CREATE TABLE after AS SELECT 1; ").unwrap();
    sql("acid-first", "SELECT pg_switch_wal()").unwrap();
    let archived = until("everything is archived", PATIENCE, async || {
        let late = "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 16777216) FROM pg_stat_archiver";
        sql("acid-first", late).is_ok_and(|is| is == "t")
    });
    archived.await.unwrap();

    // A follower that is fed by the archive alone; then the source goes.
    let fed = format!(
        "  standby:\n    s3_wal_path: {path}\n  env:\n{}",
        store(s3.port, "STANDBY_")
    );
    // Its roles and their passwords are the other cluster's.
    for role in ["postgres", "standby"] {
        let name = format!("{role}.acid-first.credentials.postgresql.acid.zalan.do");
        let text = sandbox.kubectl(&["get", "secret", &name, "-o", "json"]).unwrap();
        let secret: serde_json::Value = serde_json::from_str(&text).unwrap();
        let copy = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "type": secret["type"], "data": secret["data"],
            "metadata": {"name": name.replace("acid-first", "acid-fed"),
                "labels": {"application": "spilo", "cluster-name": "acid-fed"}},
        });
        let file = dir.path().join("secret.json");
        std::fs::write(&file, copy.to_string()).unwrap();
        sandbox.kubectl(&["apply", "-f", file.to_str().unwrap()]).unwrap();
    }
    sandbox.apply(&manifest("acid-fed", &fed)).unwrap();
    let follows = until("the follower has replayed", PATIENCE, async || {
        sql(
            "acid-fed",
            "SELECT pg_is_in_recovery() AND to_regclass('after') IS NOT NULL",
        )
        .is_ok_and(|is| is == "t")
    });
    assert!(
        follows.await.is_ok(),
        "{}",
        sandbox.cluster("acid-fed").unwrap()["status"]
    );
    sandbox.run(&["delete", "acid-first", "--yes"]).unwrap();

    let clone = format!(
        "  clone:\n    cluster: acid-first\n    timestamp: \"{moment}\"\n    s3_wal_path: {path}\n    s3_endpoint: http://127.0.0.1:{}\n    \
         s3_access_key_id: {}\n    s3_secret_access_key: {}\n    s3_force_path_style: true\n",
        s3.port, S3_KEYS.0, S3_KEYS.1
    );
    sandbox.apply(&manifest("acid-restored", &clone)).unwrap();
    assert_eq!(
        sql("acid-restored", "SELECT count(*) FROM orders").unwrap(),
        "1000"
    );
    assert_eq!(
        sql("acid-restored", "SELECT to_regclass('after') IS NULL").unwrap(),
        "t"
    );

    // In place: the object is made again with its name, from its own archive.
    sandbox.apply(&manifest("acid-first", &clone)).unwrap();
    assert_eq!(sql("acid-first", "SELECT count(*) FROM orders").unwrap(), "1000");

    // Promoted by taking the section out.
    sandbox.apply(&manifest("acid-fed", "")).unwrap();
    let promoted = until("the follower is promoted", PATIENCE, async || {
        sql("acid-fed", "SELECT pg_is_in_recovery()").is_ok_and(|is| is == "f")
    });
    assert!(
        promoted.await.is_ok(),
        "{}",
        sandbox.cluster("acid-fed").unwrap()["status"]
    );
}
