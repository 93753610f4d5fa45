//! A connection pooler in the sandbox: the real PgBouncer, made and changed by the manifest.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{process::Command, time::Duration};

use howdah_testkit::{Sandbox, until};
use serde_json::Value;

const NAME: &str = "acid-pooled";
const SOON: Duration = Duration::from_secs(60);

fn manifest(more: &str) -> String {
    format!(
        "apiVersion: acid.zalan.do/v1\nkind: postgresql\nmetadata:\n  name: {NAME}\nspec:\n  teamId: acid\n  volume:\n    size: 1Gi\n  \
         numberOfInstances: 2\n  postgresql:\n    version: \"15\"\n  users:\n    app: []\n  databases:\n    app: app\n{more}"
    )
}

fn password(sandbox: &Sandbox, role: &str) -> String {
    let secret = format!("{role}.{NAME}.credentials.postgresql.acid.zalan.do");
    let text = sandbox
        .kubectl(&[
            "get",
            "secret",
            &secret,
            "-o",
            "go-template={{.data.password | base64decode}}",
        ])
        .unwrap();
    text.trim().to_owned()
}

/// One statement through a pooler, as a client sends it.
fn through(sandbox: &Sandbox, service: &str, database: &str, statement: &str) -> Result<String, String> {
    let address = sandbox
        .kubectl(&["get", "service", service, "-o", "jsonpath={.spec.clusterIP}"])
        .map_err(|error| error.to_string())?;
    let output = Command::new("psql")
        .args(["-qXAt", "-c", statement])
        .arg(format!(
            "host={} user=app dbname={database} sslmode=require connect_timeout=5",
            address.trim()
        ))
        .env("PGPASSWORD", password(sandbox, "app"))
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test]
async fn clients_reach_primary_and_replicas_through_poolers() {
    let sandbox = Sandbox::start().unwrap();
    let both = "  enableConnectionPooler: true\n  enableReplicaConnectionPooler: true\n  connectionPooler:\n    numberOfInstances: 1\n";
    let told = sandbox.apply(&manifest(both)).unwrap();
    assert!(told.contains("is ready after"), "{told}");
    let (primary, replica) = (format!("{NAME}-pooler"), format!("{NAME}-pooler-repl"));
    let writes = |statement: &str| through(&sandbox, &primary, "app", statement);
    writes("CREATE TABLE t AS SELECT 1 AS n").unwrap();
    assert_eq!(writes("SELECT pg_is_in_recovery()").unwrap(), "f");
    until("the replica has the row", SOON, async || {
        through(&sandbox, &replica, "app", "SELECT n FROM t").is_ok_and(|n| n == "1")
    })
    .await
    .unwrap();
    assert_eq!(
        through(&sandbox, &replica, "app", "SELECT pg_is_in_recovery()").unwrap(),
        "t"
    );
    // Nobody else may look passwords up.
    let stolen = writes("SELECT * FROM pooler.user_lookup('postgres')").unwrap_err();
    assert!(stolen.contains("permission denied"), "{stolen}");
    let deployments = sandbox.kubectl(&["get", "deployments"]).unwrap();
    assert!(deployments.contains("1/1"), "{deployments}");

    // A switchover, and a pooler's pod that ends: the next statements get through.
    sandbox.run(&["switchover", NAME, "--force"]).unwrap();
    until("writes go to the new primary", SOON, async || {
        writes("INSERT INTO t VALUES (2)").is_ok()
    })
    .await
    .unwrap();
    let selector = format!("connection-pooler={primary}");
    let pods = || {
        let names = sandbox
            .kubectl(&["get", "pods", "-l", &selector, "-o", "name"])
            .unwrap();
        names.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = pods();
    sandbox.kubectl(&["delete", &before[0], "--wait=false"]).unwrap();
    until("another pod is the pooler", SOON, async || {
        let now = pods();
        now.len() == 1 && now != before && writes("SELECT 1").is_ok()
    })
    .await
    .unwrap();

    // A cluster that is refused to follow another one goes on, and so does its pooler.
    let file = tempfile::NamedTempFile::new().unwrap();
    let follow = "  standby:\n    standby_host: 127.0.0.9\n";
    std::fs::write(file.path(), manifest(&format!("{both}{follow}"))).unwrap();
    sandbox
        .run(&["apply", "-f", file.path().to_str().unwrap()])
        .unwrap();
    until("it says why it does not follow", SOON, async || {
        let status = sandbox.cluster(NAME).unwrap()["status"].to_string();
        status.contains("so the primary goes on")
    })
    .await
    .unwrap();
    let kept = sandbox.kubectl(&["get", "deployment", &primary, "-o", "name"]);
    assert!(kept.is_ok(), "{kept:?}");
    writes("INSERT INTO t VALUES (3)").unwrap();

    // A new role and a new database are known to it; a change of the section replaces its pod.
    let more = manifest(&format!("{both}    mode: session\n    maxDBConnections: 10\n"))
        .replace("    app: app\n", "    app: app\n    more: app\n");
    let before = pods();
    sandbox.apply(&more).unwrap();
    until("the pod is another one", SOON, async || {
        let now = pods();
        now.len() == 1 && now != before
    })
    .await
    .unwrap();
    until("the new database is reached", SOON, async || {
        through(&sandbox, &primary, "more", "SELECT 1").is_ok()
    })
    .await
    .unwrap();

    // Without the flags it goes, and with the cluster everything.
    sandbox.apply(&manifest("")).unwrap();
    until("the poolers are gone", SOON, async || {
        let left = sandbox
            .kubectl(&[
                "get",
                "deployments,services,pods",
                "-l",
                "connection-pooler",
                "-o",
                "name",
            ])
            .unwrap();
        left.trim().is_empty()
    })
    .await
    .unwrap();
    sandbox.apply(&manifest(both)).unwrap();
    sandbox.run(&["delete", NAME, "--yes"]).unwrap();
    until("nothing is left", SOON, async || {
        let left = sandbox.kubectl(&["get", "all,secrets", "-o", "json"]).unwrap();
        let left: Value = serde_json::from_str(&left).unwrap();
        let items = left["items"].as_array().unwrap();
        !items
            .iter()
            .any(|item| item["metadata"]["name"].as_str().unwrap().contains(NAME))
    })
    .await
    .unwrap();
    assert_eq!(sandbox.processes(), Vec::<i32>::new());
}

#[tokio::test]
async fn an_owner_of_a_database_gets_no_rights_by_the_poolers_function() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.apply(&manifest("")).unwrap();
    let as_app = |statement: &str| {
        let args = ["psql", NAME, "-d", "app", "-U", "app", "--", "-qXAtc", statement];
        sandbox.run(&args).unwrap()
    };
    // An operator of the owner's, which a session with the database's search_path would use.
    for statement in [
        "CREATE SCHEMA evil",
        "CREATE FUNCTION evil.eq(a oid, b oid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
         IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) \
         THEN EXECUTE 'ALTER ROLE app SUPERUSER'; END IF; RETURN a OPERATOR(pg_catalog.=) b; END $$",
        "CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.eq)",
        "GRANT ALL ON SCHEMA evil TO PUBLIC",
        "ALTER DATABASE app SET search_path = evil, pg_catalog, public",
        // And a schema that the function would be put into.
        "CREATE SCHEMA pooler",
    ] {
        as_app(statement);
    }
    let on = manifest("  connectionPooler:\n    numberOfInstances: 1\n");
    sandbox.apply(&on).unwrap();
    until("it says whose the schema is", SOON, async || {
        let status = sandbox.cluster(NAME).unwrap()["status"].to_string();
        status.contains("schema pooler is in the hands of app")
    })
    .await
    .unwrap();
    let rights = "SELECT rolsuper FROM pg_roles WHERE rolname = 'app'";
    assert_eq!(sandbox.sql(NAME, "postgres", rights).unwrap(), "f");
    let owned = "SELECT count(*) FROM pg_proc WHERE proname = 'user_lookup'";
    assert_eq!(sandbox.sql(NAME, "app", owned).unwrap(), "0");
    // Other databases have it, and the reason goes with the schema.
    let service = format!("{NAME}-pooler");
    until("another database is reached", SOON, async || {
        through(&sandbox, &service, "postgres", "SELECT 1").is_ok()
    })
    .await
    .unwrap();
    as_app("DROP SCHEMA pooler");
    sandbox
        .apply(&on.replace("    app: []\n", "    app: []\n    other: []\n"))
        .unwrap();
    until("its own is reached", SOON, async || {
        through(&sandbox, &service, "app", "SELECT 1").is_ok()
    })
    .await
    .unwrap();
    assert_eq!(sandbox.sql(NAME, "postgres", rights).unwrap(), "f");
    // Another password in the Secret replaces the pooler's pods and is the role's.
    let secret = format!("pooler.{NAME}.credentials.postgresql.acid.zalan.do");
    let pod = || {
        sandbox
            .kubectl(&["get", "pods", "-l", "connection-pooler", "-o", "name"])
            .unwrap()
    };
    let before = pod();
    sandbox
        .kubectl(&[
            "patch",
            "secret",
            &secret,
            "--type=merge",
            "-p",
            r#"{"stringData":{"password":"another"}}"#,
        ])
        .unwrap();
    until("clients get in with the new one", SOON, async || {
        let now = pod();
        now.lines().count() == 1 && now != before && through(&sandbox, &service, "app", "SELECT 1").is_ok()
    })
    .await
    .unwrap();
}
