//! A manifest as users have it, in the sandbox, by the real operator and the real agents; and the real kubectl.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{process::Command, time::Duration};

use howdah_proc::children;
use howdah_testkit::{Sandbox, until};
use serde_json::Value;

const MANIFEST: &str = include_str!("../../../examples/minimal-postgres-manifest.yaml");
const NAME: &str = "acid-minimal-cluster";
const SOON: Duration = Duration::from_secs(60);

fn kill(pids: &[i32]) {
    for signal in ["-STOP", "-KILL"] {
        for pid in pids {
            let _ = Command::new("kill").args([signal, &pid.to_string()]).status();
        }
    }
}

fn leader(cluster: &Value) -> String {
    cluster["status"]["leader"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_manifest_becomes_a_cluster_and_changes_with_it() {
    let sandbox = Sandbox::start().unwrap();
    let told = sandbox.apply(MANIFEST).unwrap();
    assert!(told.contains("is ready after"), "{told}");
    // 18 is asked for; where it is not installed, that is told.
    let status = &sandbox.cluster(NAME).unwrap()["status"];
    assert_eq!(status["PostgresClusterStatus"], "Running");
    if status["version"] != "18" {
        assert!(told.contains("PostgreSQL 18 is asked for"), "{told}");
    }
    let roles =
        "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname ~ '^(zal|foo|bar)'";
    assert_eq!(
        sandbox.sql(NAME, "postgres", roles).unwrap(),
        "bar_data_owner,bar_data_reader,bar_data_writer,bar_owner,bar_reader,bar_writer,foo_user,zalando,zalandos"
    );
    let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()";
    assert_eq!(sandbox.sql(NAME, "foo", owner).unwrap(), "zalando");
    assert_eq!(
        sandbox
            .sql(NAME, "bar", "SELECT to_regnamespace('data') IS NOT NULL")
            .unwrap(),
        "t"
    );
    sandbox
        .sql(NAME, "foo", "CREATE TABLE t AS SELECT 1 AS n")
        .unwrap();
    let on_replica = [
        "psql",
        NAME,
        "-d",
        "foo",
        "--replica",
        "--",
        "-qXAt",
        "-c",
        "SELECT pg_is_in_recovery()",
    ];
    assert_eq!(sandbox.run(&on_replica).unwrap().trim(), "t");

    // The same again changes nothing, and restarts nothing.
    let before = (
        sandbox.cluster(NAME).unwrap(),
        sandbox.postmaster(&format!("{NAME}-0")).unwrap(),
    );
    assert!(sandbox.apply(MANIFEST).unwrap().contains("unchanged"));
    let after = (
        sandbox.cluster(NAME).unwrap(),
        sandbox.postmaster(&format!("{NAME}-0")).unwrap(),
    );
    assert_eq!(
        before.0["metadata"]["generation"],
        after.0["metadata"]["generation"]
    );
    assert_eq!(before.1, after.1);

    let three = MANIFEST.replace("numberOfInstances: 2", "numberOfInstances: 3");
    sandbox.apply(&three).unwrap();
    assert_eq!(
        sandbox.cluster(NAME).unwrap()["status"]["members"]
            .as_array()
            .unwrap()
            .len(),
        3
    );

    // A role, a database, a parameter that is only read and one that needs a restart.
    let more = three
        .replace("foo_user: []", "foo_user: []\n    new_user: []")
        .replace("foo: zalando", "foo: zalando\n    newdb: new_user")
        + "\n    parameters:\n      max_connections: \"57\"\n      work_mem: 7MB\n";
    sandbox.apply(&more).unwrap();
    let as_new = [
        "psql",
        NAME,
        "-d",
        "newdb",
        "-U",
        "new_user",
        "--",
        "-qXAt",
        "-c",
        "SHOW work_mem",
        "-c",
        "SHOW max_connections",
    ];
    assert_eq!(sandbox.run(&as_new).unwrap(), "7MB\n57\n");

    // One that is local to the pods replaces them, and one that is removed is reset.
    let local = more.replace("work_mem: 7MB", "shared_buffers: 40MB");
    sandbox.apply(&local).unwrap();
    let shown = "SELECT current_setting('shared_buffers') || current_setting('work_mem')";
    assert_eq!(sandbox.sql(NAME, "postgres", shown).unwrap(), "40MB4MB");

    sandbox
        .apply(&local.replace("numberOfInstances: 3", "numberOfInstances: 1"))
        .unwrap();
    let cluster = sandbox.cluster(NAME).unwrap();
    assert_eq!(cluster["status"]["members"].as_array().unwrap().len(), 1);
    assert_eq!(leader(&cluster), format!("{NAME}-0"));
    assert_eq!(sandbox.sql(NAME, "foo", "SELECT n FROM t").unwrap(), "1");

    sandbox.run(&["delete", NAME, "--yes"]).unwrap();
    let gone = sandbox.howdah(&["get", NAME]).unwrap();
    assert_eq!(gone.status.code(), Some(4));
    assert_eq!(sandbox.processes(), Vec::<i32>::new());
    for directory in ["pods", "volumes"] {
        let path = sandbox.state().join(directory);
        until("its directories are gone", SOON, async || {
            std::fs::read_dir(&path).unwrap().next().is_none()
        })
        .await
        .unwrap();
    }
    sandbox.run(&["down", "--purge"]).unwrap();
    assert!(!sandbox.state().exists());
}

#[tokio::test]
async fn a_killed_pod_comes_back_and_the_cluster_is_whole() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.apply(MANIFEST).unwrap();
    sandbox
        .sql(NAME, "foo", "CREATE TABLE t AS SELECT 1 AS n")
        .unwrap();
    let old = leader(&sandbox.cluster(NAME).unwrap());
    // The Service finds the primary by this label: the agent puts it back.
    sandbox.kubectl(&["label", "pod", &old, "spilo-role-"]).unwrap();
    until("the label is back", Duration::from_secs(8), async || {
        let pod = sandbox.kubectl(&["get", "pod", &old, "--show-labels"]).unwrap();
        pod.contains("spilo-role=master")
    })
    .await
    .unwrap();
    let (_, guard) = sandbox.pod(&old).unwrap();
    let postmaster = sandbox.postmaster(&old).unwrap();
    let mut all = vec![guard, postmaster];
    all.extend(children(guard));
    all.extend(children(postmaster));
    kill(&all);
    // Which one leads depends on who has more WAL: the killed pod is there again before its lease ends.
    until("a member takes writes", SOON, async || {
        sandbox.sql(NAME, "foo", "INSERT INTO t VALUES (2)").is_ok()
    })
    .await
    .unwrap();
    until("the cluster is whole again", SOON, async || {
        let status = sandbox.cluster(NAME).unwrap()["status"].clone();
        let streaming = status["members"].to_string().contains("streaming");
        streaming && status["PostgresClusterStatus"] == "Running"
    })
    .await
    .unwrap();
    assert_eq!(
        sandbox
            .sql(NAME, "foo", "SELECT string_agg(n::text, ',' ORDER BY n) FROM t")
            .unwrap(),
        "1,2"
    );
}

#[tokio::test]
async fn pods_outlive_a_killed_sandbox_and_data_a_stopped_one() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.apply(MANIFEST).unwrap();
    sandbox
        .sql(NAME, "foo", "CREATE TABLE t AS SELECT 1 AS n")
        .unwrap();
    let pod = format!("{NAME}-0");
    let before = sandbox.postmaster(&pod).unwrap();
    let known = std::fs::read_to_string(sandbox.state().join("server.json")).unwrap();
    let known: Value = serde_json::from_str(&known).unwrap();
    kill(&[i32::try_from(known["pid"].as_i64().unwrap()).unwrap()]);
    until("the server is gone", SOON, async || {
        sandbox.howdah(&["list"]).unwrap().status.code() == Some(5)
    })
    .await
    .unwrap();
    sandbox.run(&["up", "--detach"]).unwrap();
    sandbox.apply(MANIFEST).unwrap();
    assert_eq!(
        sandbox.postmaster(&pod).unwrap(),
        before,
        "PostgreSQL was not restarted"
    );

    sandbox.run(&["down"]).unwrap();
    assert_eq!(sandbox.processes(), Vec::<i32>::new());
    sandbox.run(&["up", "--detach"]).unwrap();
    sandbox.apply(MANIFEST).unwrap();
    assert_eq!(sandbox.sql(NAME, "foo", "SELECT n FROM t").unwrap(), "1");
}

/// The agent below a guard.
fn agent_of(guard: i32) -> i32 {
    let is_agent = |pid: &&i32| howdah_proc::command_line(**pid).contains("agent-worker");
    *children(guard).iter().find(is_agent).unwrap()
}

/// When the lease was renewed last, as its holder has written it.
fn renewal(sandbox: &Sandbox) -> String {
    let path = "jsonpath={.metadata.annotations.renewTime}";
    sandbox
        .kubectl(&["get", "configmap", &format!("{NAME}-leader"), "-o", path])
        .unwrap()
}

fn is_alive(pid: i32) -> bool {
    howdah_proc::started(pid).is_some()
}

#[tokio::test]
async fn agents_are_replaced_and_a_primary_without_the_api_stops_in_time() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.apply(MANIFEST).unwrap();
    sandbox.sql(NAME, "foo", "CREATE TABLE t (n int)").unwrap();
    let primary = leader(&sandbox.cluster(NAME).unwrap());
    let postmaster = sandbox.postmaster(&primary).unwrap();
    let (_, guard) = sandbox.pod(&primary).unwrap();

    // An agent that dies, or hangs, is replaced; the new one takes over PostgreSQL and leadership as they are.
    for signal in ["-KILL", "-STOP"] {
        let agent = agent_of(guard);
        // A hung agent is noticed after 5 s, and PostgreSQL stops 6.5 s after the last renewal of a lease of 8 s.
        let before = renewal(&sandbox);
        until("the lease was renewed just now", SOON, async || {
            renewal(&sandbox) != before
        })
        .await
        .unwrap();
        Command::new("kill")
            .args([signal, &agent.to_string()])
            .status()
            .unwrap();
        until("another agent runs", SOON, async || {
            let found = children(guard).into_iter().filter(|pid| *pid != postmaster);
            found.into_iter().any(|pid| pid != agent) && !is_alive(agent)
        })
        .await
        .unwrap();
        // While its agent is away the pod is not ready, and the Service does not lead there.
        until("new sessions reach it", SOON, async || {
            sandbox.sql(NAME, "foo", "INSERT INTO t VALUES (1)").is_ok()
        })
        .await
        .unwrap();
        assert!(is_alive(postmaster), "PostgreSQL was not restarted");
    }
    until("the leader is known again", SOON, async || {
        let status = sandbox.cluster(NAME).unwrap()["status"].clone();
        status["leader"] == primary.as_str() && status["PostgresClusterStatus"] == "Running"
    })
    .await
    .unwrap();

    // Without the API no renewal is confirmed: the primary must stop by itself, before anybody could take over.
    let known = std::fs::read_to_string(sandbox.state().join("server.json")).unwrap();
    let known: Value = serde_json::from_str(&known).unwrap();
    kill(&[i32::try_from(known["pid"].as_i64().unwrap()).unwrap()]);
    until("the primary has stopped", Duration::from_secs(12), async || {
        !is_alive(postmaster)
    })
    .await
    .unwrap();
    sandbox.run(&["up", "--detach"]).unwrap();
    until("it takes writes again", SOON, async || {
        sandbox.sql(NAME, "foo", "INSERT INTO t VALUES (2)").is_ok()
    })
    .await
    .unwrap();
    assert_eq!(
        sandbox
            .sql(NAME, "foo", "SELECT count(*) FROM t WHERE n = 1")
            .unwrap(),
        "2"
    );
}

#[tokio::test]
async fn a_manifest_with_errors_changes_nothing() {
    let sandbox = Sandbox::start().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_string_lossy().into_owned();
    for (change, line, part) in [
        ("numberOfInstances: 2", "numberOfInstance: 2", "numberOfInstances"),
        ("size: 1Gi", "size: 1GB", "1G"),
        ("version: \"18\"", "version: \"9.6\"", "14, 15"),
        (
            "version: \"18\"",
            "version: \"18\"\n    parameters:\n      work_mem: 8MBB",
            "'8MBB' is not an integer",
        ),
    ] {
        std::fs::write(file.path(), MANIFEST.replace(change, line)).unwrap();
        for command in [&["lint", &path][..], &["apply", "-f", &path][..]] {
            let output = sandbox.howdah(command).unwrap();
            let told = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command:?}: {told}");
            assert!(told.contains(part), "{command:?}: {told}");
        }
    }
    assert!(sandbox.run(&["list"]).unwrap().contains("There are no clusters"));
}

#[tokio::test]
async fn kubectl_works_as_on_any_kubernetes() {
    let sandbox = Sandbox::start().unwrap();
    let run = |args: &[&str]| sandbox.kubectl(args).unwrap();
    let manifest = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(manifest.path(), MANIFEST).unwrap();
    let path = manifest.path().to_str().unwrap();
    assert!(run(&["api-resources"]).contains("postgresqls"));
    assert!(run(&["apply", "-f", path]).contains("created"));
    run(&[
        "wait",
        "--for=condition=Ready",
        &format!("pg/{NAME}"),
        "--timeout=60s",
    ]);
    assert!(run(&["get", "pg"]).contains("Running"));
    let wide = run(&["get", "pods", "-l", "spilo-role=master", "-o", "wide"]);
    assert_eq!(wide.lines().count(), 2, "{wide}");
    assert!(run(&["get", "all"]).contains("statefulset.apps/acid-minimal-cluster   2/2"));
    assert!(run(&["logs", &format!("{NAME}-0"), "--tail=3"]).contains("INFO"));
    assert!(run(&["apply", "--server-side", "--force-conflicts", "-f", path]).contains("serverside-applied"));
    run(&[
        "patch",
        "pg",
        NAME,
        "--type=merge",
        "-p",
        r#"{"spec":{"numberOfInstances":1}}"#,
    ]);
    run(&[
        "wait",
        "--for=condition=Ready",
        &format!("pg/{NAME}"),
        "--timeout=60s",
    ]);
    assert!(run(&["describe", "pg", NAME]).contains("Events:"));
    run(&["delete", "pg", NAME, "--timeout=60s"]);
    assert!(run(&["get", "pods,pvc,svc,secrets"]).contains("No resources found"));
}

#[tokio::test]
async fn ctl_works_on_kubernetes_as_on_etcd() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.apply(MANIFEST).unwrap();
    let run = |args: &[&str]| {
        let mut all = vec!["ctl"];
        all.extend(args);
        sandbox.run(&all).unwrap()
    };
    let table = run(&["list", NAME]);
    assert!(
        table.contains(&format!("+ Cluster: {NAME} (")) && table.contains("| Leader"),
        "{table}"
    );
    // A key that no manifest has: the operator leaves it alone.
    let parameter = "check_timeline=true";
    run(&["edit-config", NAME, "--force", "--set", parameter]);
    let config = run(&["show-config", NAME]);
    assert!(config.contains("check_timeline: true"), "{config}");
    // The agents ask for a credential, which is found beside the cluster.
    let before = leader(&sandbox.cluster(NAME).unwrap());
    let told = run(&["switchover", NAME, "--force"]);
    assert!(told.contains("Successfully switched over"), "{told}");
    until("another member leads", SOON, async || {
        leader(&sandbox.cluster(NAME).unwrap()) != before
    })
    .await
    .unwrap();
    let paused = run(&["pause", NAME, "--wait"]);
    assert!(paused.contains("cluster management is paused"), "{paused}");
    assert!(run(&["list", NAME]).contains("Maintenance mode: on"));
    run(&["resume", NAME, "--wait"]);
    let history = run(&["history", NAME]);
    assert!(history.contains("no recovery target specified"), "{history}");
    // Wrong places are named.
    let nowhere = sandbox
        .howdah(&[
            "ctl",
            "--kubeconfig",
            sandbox.state().join("kubeconfig").to_str().unwrap(),
            "--context",
            "elsewhere",
            "list",
            NAME,
        ])
        .unwrap();
    let told = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(told.contains("no context 'elsewhere'"), "{told}");
}
