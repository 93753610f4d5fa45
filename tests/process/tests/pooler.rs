//! A connection pooler in the sandbox: the real PgBouncer, made and changed by the manifest.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for what other processes do"
)]

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use howdah_clock::now;
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

fn address(sandbox: &Sandbox, service: &str) -> String {
    let path = "jsonpath={.spec.clusterIP}";
    let address = sandbox.kubectl(&["get", "service", service, "-o", path]).unwrap();
    address.trim().to_owned()
}

/// One statement through a pooler, as a client sends it.
fn through(sandbox: &Sandbox, service: &str, database: &str, statement: &str) -> Result<String, String> {
    let (address, password) = (address(sandbox, service), password(sandbox, "app"));
    at(&address, &password, database, statement)
}

fn at(address: &str, password: &str, database: &str, statement: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args(["-qXAt", "-c", statement])
        .arg(format!(
            "host={address} user=app dbname={database} sslmode=require connect_timeout=5"
        ))
        .env("PGPASSWORD", password)
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

    // Metrics, by the names that the exporter for PgBouncer has.
    let address = sandbox
        .kubectl(&[
            "get",
            "pods",
            "-l",
            &format!("connection-pooler={primary}"),
            "-o",
            "jsonpath={.items[0].status.podIP}",
        ])
        .unwrap();
    let page = http(address.trim(), 9127, "/metrics");
    assert!(page.contains("\npgbouncer_up 1\n"), "{page}");
    let pooled = page
        .lines()
        .find(|line| line.starts_with("pgbouncer_stats_sql_transactions_pooled_total{database=\"app\"}"));
    assert!(pooled.is_some_and(|line| !line.ends_with(" 0")), "{page}");

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

/// A page of an HTTP server, with its head.
fn http(host: &str, port: u16, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect((host, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// What a writer has seen.
#[derive(Default)]
struct Written {
    acknowledged: Vec<u32>,
    errors: u32,
    longest_gap: Duration,
}

/// Writes rows through the pooler until `stop`, each in a session of its own, with the password that the Secret has.
fn write_rows(sandbox: &Sandbox, first: u32, stop: &AtomicBool) -> Written {
    let mut written = Written::default();
    let (mut last, mut row) = (now(), first);
    let address = address(sandbox, &format!("{NAME}-pooler"));
    let mut known = password(sandbox, "app");
    while !stop.load(Ordering::Relaxed) {
        match at(&address, &known, "app", &format!("INSERT INTO w VALUES ({row})")) {
            Ok(_) => {
                written.acknowledged.push(row);
                written.longest_gap = written.longest_gap.max(last.until(now()));
                last = now();
            }
            Err(error) => {
                written.errors += 1;
                if error.contains("password authentication failed")
                    || error.contains("SASL authentication failed")
                {
                    known = password(sandbox, "app");
                }
            }
        }
        // One whose answer was lost may have been written.
        row += 1;
    }
    written
}

#[tokio::test]
async fn what_was_acknowledged_through_a_pooler_is_there_whatever_is_done() {
    let sandbox = Sandbox::start().unwrap();
    let pooled = "  enableConnectionPooler: true\n  connectionPooler:\n    numberOfInstances: 2\n  usersWithInPlaceSecretRotation: [app]\n";
    sandbox.apply(&manifest(pooled)).unwrap();
    let service = format!("{NAME}-pooler");
    until("the pooler takes connections", SOON, async || {
        through(
            &sandbox,
            &service,
            "app",
            "CREATE TABLE IF NOT EXISTS w (n int PRIMARY KEY)",
        )
        .is_ok()
    })
    .await
    .unwrap();
    let stop = AtomicBool::new(false);
    let done = std::thread::scope(|scope| {
        let (sandbox, stop) = (&sandbox, &stop);
        let start = |n: u32| scope.spawn(move || write_rows(sandbox, n * 1_000_000, stop));
        let writers: Vec<_> = (0..3).map(start).collect();
        let writes_again = |what: &str| {
            let begun = now();
            while through(sandbox, &service, "app", "SELECT 1").is_err() {
                assert!(now() < begun + SOON, "no statement gets through after {what}");
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        sandbox.run(&["switchover", NAME, "--force"]).unwrap();
        writes_again("a switchover");
        sandbox
            .kubectl(&["rollout", "restart", &format!("deployment/{service}")])
            .unwrap();
        sandbox
            .kubectl(&[
                "rollout",
                "status",
                &format!("deployment/{service}"),
                "--timeout=60s",
            ])
            .unwrap();
        writes_again("a rollout");
        let more = manifest(pooled).replace("    app: []\n", "    app: []\n    another: []\n");
        sandbox.apply(&more).unwrap();
        writes_again("another role");
        let before = password(sandbox, "app");
        let secret = format!("app.{NAME}.credentials.postgresql.acid.zalan.do");
        let due = r#"{"stringData":{"nextRotation":"2020-01-01T00:00:00Z"}}"#;
        sandbox
            .kubectl(&["patch", "secret", &secret, "--type=merge", "-p", due])
            .unwrap();
        let begun = now();
        while password(sandbox, "app") == before {
            assert!(now() < begun + SOON, "the password has not changed");
            std::thread::sleep(Duration::from_millis(100));
        }
        writes_again("another password");
        stop.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect::<Vec<_>>()
    });
    let acknowledged: Vec<u32> = done
        .iter()
        .flat_map(|written| written.acknowledged.clone())
        .collect();
    let rows = through(
        &sandbox,
        &service,
        "app",
        "SELECT string_agg(n::text, ',') FROM w",
    )
    .unwrap();
    let rows: std::collections::BTreeSet<u32> = rows.split(',').filter_map(|n| n.parse().ok()).collect();
    let lost: Vec<&u32> = acknowledged.iter().filter(|n| !rows.contains(n)).collect();
    let gap = done
        .iter()
        .map(|written| written.longest_gap)
        .max()
        .unwrap_or_default();
    let errors: u32 = done.iter().map(|written| written.errors).sum();
    eprintln!(
        "{} rows acknowledged, {} lost, {errors} errors, longest gap {gap:?}",
        acknowledged.len(),
        lost.len()
    );
    assert!(
        lost.is_empty() && acknowledged.len() > 20,
        "{lost:?} of {}",
        acknowledged.len()
    );
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
