//! Members that run: on a real node, with the image and the chart, while a writer works through the Service.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for what other processes do"
)]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use howdah_clock::now;
use howdah_kubernetes_tests::{Kube, Namespace, minimal, node, until, until_in};
use howdah_types::BootTime;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const READY: Duration = Duration::from_secs(90);

fn is_ready(cluster: &Value) -> bool {
    let conditions = cluster["status"]["conditions"].as_array();
    cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"]
        && conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn wait_ready(ns: &Namespace, name: &str) {
    let mut last = Value::Null;
    until_in(
        READY,
        || {
            last = ns.get("postgresql", name);
            is_ready(&last)
        },
        || format!("{name} is ready: {}", ns.get("postgresql", name)["status"]),
    );
}

/// A namespace in which pods must not have any rights, with a cluster that is ready.
fn cluster(kube: &Kube, name: &str) -> Namespace {
    let ns = kube.namespace(name);
    kube.kubectl(&[
        "label",
        "namespace",
        &ns.name,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    ns.apply(minimal("acid-a"));
    wait_ready(&ns, "acid-a");
    ns
}

fn primary(ns: &Namespace) -> String {
    let mut name = String::new();
    until_in(
        READY,
        || {
            let pods = ns.list("pod", "application=spilo,cluster-name=acid-a,spilo-role=master");
            match pods.as_slice() {
                [pod] if pod["metadata"]["deletionTimestamp"].is_null() => {
                    pod["metadata"]["name"].as_str().unwrap().clone_into(&mut name);
                    true
                }
                _ => false,
            }
        },
        || "there is one primary".to_owned(),
    );
    name
}

fn sql(ns: &Namespace, pod: &str, text: &str) -> String {
    ns.kubectl(&["exec", pod, "--", "psql", "-d", "foo", "-Atc", text])
        .trim()
        .to_owned()
}

/// Writes rows through the primary's Service, over TLS, and keeps those that were acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(i64, BootTime)>>,
}

impl Writer {
    fn start(ns: &Namespace) -> Writer {
        let service = ns.get("service", "acid-a");
        let address = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
        let password = ns.password("acid-a", "zalando");
        let first = primary(ns);
        sql(
            ns,
            &first,
            "drop table if exists w; create table w(i bigint primary key); alter table w owner to zalando",
        );
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut acknowledged = Vec::new();
            let mut session: Option<(Child, BufReader<ChildStdout>)> = None;
            let mut row = 0;
            while !stopped.load(Ordering::Relaxed) {
                let (child, answers) = session.get_or_insert_with(|| connect(&address, &password));
                row += 1;
                let mut line = String::new();
                let sent = child
                    .stdin
                    .as_mut()
                    .unwrap()
                    .write_all(format!("insert into w values ({row}) returning i;\n").as_bytes());
                let heard = sent.and_then(|()| answers.read_line(&mut line));
                if heard.is_ok() && line.trim() == row.to_string() {
                    acknowledged.push((row, now()));
                } else {
                    let (mut child, _) = session.take().unwrap();
                    let _ = child.kill();
                    let _ = child.wait();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            if let Some((mut child, _)) = session {
                let _ = child.kill();
                let _ = child.wait();
            }
            acknowledged
        });
        let writer = Writer { stop, thread };
        until(
            || sql(ns, &first, "select count(*) > 10 from w") == "t",
            || "the writer writes".to_owned(),
        );
        writer
    }

    /// Ends it and checks that the primary has every row. Returns the longest time without an acknowledgement.
    fn finish(self, ns: &Namespace, what: &str) -> Duration {
        let last = |ns: &Namespace| {
            let pod = primary(ns);
            let sql = "select coalesce(max(i), 0) from w";
            // A pod that was just made may not answer yet.
            let answer = ns.try_kubectl(&["exec", &pod, "--", "psql", "-d", "foo", "-Atc", sql]);
            answer
                .ok()
                .and_then(|text| text.trim().parse::<i64>().ok())
                .unwrap_or(-1)
        };
        // It writes again.
        let mut before = -1;
        until_in(
            READY,
            || {
                before = last(ns);
                before >= 0
            },
            || format!("{what}: a primary answers"),
        );
        until_in(
            READY,
            || last(ns) > before,
            || format!("{what}: rows are written again"),
        );
        self.stop.store(true, Ordering::Relaxed);
        let acknowledged = self.thread.join().unwrap();
        let found: std::collections::HashSet<i64> = sql(ns, &primary(ns), "select i from w")
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        let lost: Vec<i64> = acknowledged
            .iter()
            .map(|(row, _)| *row)
            .filter(|row| !found.contains(row))
            .collect();
        let gap = acknowledged
            .windows(2)
            .map(|pair| pair[1].1.since(pair[0].1))
            .max()
            .unwrap_or_default();
        println!(
            "{what}: {} rows acknowledged, {} lost, longest gap {gap:?}",
            acknowledged.len(),
            lost.len()
        );
        assert!(lost.is_empty(), "{what}: acknowledged and lost: {lost:?}");
        gap
    }
}

fn connect(address: &str, password: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new("psql")
        .args(["-qAtX", "-v", "ON_ERROR_STOP=1"])
        .arg(format!(
            "host={address} user=zalando dbname=foo sslmode=require connect_timeout=2"
        ))
        .env("PGPASSWORD", password)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let answers = BufReader::new(child.stdout.take().unwrap());
    (child, answers)
}

/// The process whose command line has all these words.
fn process(words: &[&str]) -> Pid {
    let found = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let is_it = words.iter().all(|word| line.contains(word)) && !line.contains("howdah_kubernetes");
        is_it.then(|| Pid::from_raw(pid)).flatten()
    });
    found.unwrap_or_else(|| panic!("no process {words:?} runs"))
}

/// Kills a daemon of the node and starts it again after a while, as its supervisor would.
fn restart(words: &[&str], after: Duration) {
    let pid = process(words);
    let of = |file: &str| std::fs::read(format!("/proc/{}/{file}", pid.as_raw_nonzero())).unwrap();
    let parts = |bytes: Vec<u8>| -> Vec<String> {
        let text = String::from_utf8(bytes).unwrap();
        text.split('\0')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (line, env) = (parts(of("cmdline")), parts(of("environ")));
    let dir = std::fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    std::thread::sleep(after);
    // In the node's cgroup, so that it ends with the node. setsid forks: it is not ours to wait for.
    let script = "for group in /sys/fs/cgroup/*/howdah-kubernetes/daemons; do echo $$ >$group/cgroup.procs; done; exec \"$@\"";
    Command::new("setsid")
        .args(["--fork", "sh", "-c", script, "sh"])
        .args(&line)
        .env_clear()
        .envs(env.iter().filter_map(|pair| pair.split_once('=')))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

#[test]
fn the_manifest_as_its_users_have_it_is_ready_in_seconds() {
    let Some(kube) = node() else { return };
    let ns = kube.namespace("minimal");
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/minimal-postgres-manifest.yaml"
    );
    let begun = now();
    ns.kubectl(&["apply", "-f", file]);
    ns.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=60s",
        "postgresql/acid-minimal-cluster",
    ]);
    println!("ready after {:?}", now().since(begun));
}

#[test]
fn a_client_reaches_the_primary_by_its_name_over_tls() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "tls");
    let password = ns.password("acid-a", "zalando");
    let dsn = format!(
        "host=acid-a.{}.svc.cluster.local user=zalando dbname=foo sslmode=require",
        ns.name
    );
    let replica = if primary(&ns) == "acid-a-0" {
        "acid-a-1"
    } else {
        "acid-a-0"
    };
    let text = ns.kubectl(&[
        "exec",
        replica,
        "--",
        "env",
        &format!("PGPASSWORD={password}"),
        "psql",
        &dsn,
        "-Atc",
        "select ssl, pg_is_in_recovery() from pg_stat_ssl where pid = pg_backend_pid()",
    ]);
    assert_eq!(text.trim(), "t|f");
}

#[test]
fn the_programs_that_people_use_with_exec_are_there() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "exec");
    let list = ns.kubectl(&["exec", "acid-a-0", "--", "patronictl", "list"]);
    assert!(list.contains("acid-a-1") && list.contains("Leader"), "{list}");
    assert!(
        ns.kubectl(&["exec", "acid-a-0", "--", "pg_dump", "--schema-only", "foo"])
            .contains("PostgreSQL database dump")
    );
    assert!(
        ns.kubectl(&["exec", "acid-a-0", "--", "curl", "-s", "localhost:8008/patroni"])
            .contains("\"state\"")
    );
    assert!(
        ns.kubectl(&["exec", "acid-a-0", "--", "ps", "-o", "pid,args", "-p", "1"])
            .contains("howdah agent")
    );
    // Nothing of the image can be written, and processes whose parents have died are reaped.
    assert!(
        ns.try_kubectl(&["exec", "acid-a-0", "--", "touch", "/usr/x"])
            .is_err()
    );
    ns.kubectl(&["exec", "acid-a-0", "--", "sh", "-c", "(sleep 0.1 &) ; sleep 0.5"]);
    let states = ns.kubectl(&["exec", "acid-a-0", "--", "ps", "-eo", "stat"]);
    assert!(!states.lines().any(|state| state.starts_with('Z')), "{states}");
}

#[test]
fn faults_lose_nothing_that_was_acknowledged() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "faults");
    // In asynchronous mode a replica that has not received the last rows may take over (docs/safety.md).
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"patroni": {"synchronous_mode": true}}}),
    );
    ns.wait("postgresql", "acid-a", "has a synchronous standby", |cluster| {
        cluster["status"]["members"].to_string().contains("sync_standby")
    });
    wait_ready(&ns, "acid-a");
    let runs: usize = std::env::var("HOWDAH_E2E_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(1);
    let kill = |what: &str| format!("kill -9 $({what})");
    let postmaster = kill("head -1 /home/postgres/pgdata/pgroot/data/postmaster.pid");
    for run in 0..runs {
        type Fault<'a> = (&'a str, Box<dyn Fn(&str) + 'a>);
        let faults: Vec<Fault<'_>> = vec![
            (
                "postmaster killed",
                Box::new(|pod| {
                    ns.kubectl(&["exec", pod, "--", "sh", "-c", &postmaster]);
                }),
            ),
            (
                "agent killed",
                Box::new(|pod| {
                    let _ = ns.try_kubectl(&["exec", pod, "--", "sh", "-c", &kill("pgrep -f agent-worker")]);
                }),
            ),
            (
                "primary's pod deleted",
                Box::new(|pod| {
                    ns.kubectl(&["delete", "pod", pod, "--wait=false"]);
                }),
            ),
            (
                "primary's pod deleted by force",
                Box::new(|pod| {
                    let _ = ns.try_kubectl(&[
                        "delete",
                        "pod",
                        pod,
                        "--force",
                        "--grace-period=0",
                        "--wait=false",
                    ]);
                }),
            ),
            (
                "switchover",
                Box::new(|pod| {
                    ns.kubectl(&["exec", pod, "--", "patronictl", "switchover", "acid-a", "--force"]);
                }),
            ),
            (
                "all pods deleted by force",
                Box::new(|_| {
                    let _ = ns.try_kubectl(&[
                        "delete",
                        "pods",
                        "--all",
                        "--force",
                        "--grace-period=0",
                        "--wait=false",
                    ]);
                }),
            ),
        ];
        for (what, fault) in &faults {
            let writer = Writer::start(&ns);
            let pod = primary(&ns);
            fault(&pod);
            std::thread::sleep(Duration::from_secs(1));
            writer.finish(&ns, &format!("run {run}: {what}"));
            wait_ready(&ns, "acid-a");
        }
    }
}

#[test]
fn an_api_server_that_is_gone_for_a_minute_stops_no_writer() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "outage");
    let writer = Writer::start(&ns);
    let server = process(&["kube-apiserver", "--secure-port 6443"]);
    kill_process(server, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_secs(60));
    kill_process(server, Signal::CONT).unwrap();
    let gap = writer.finish(&ns, "API server gone for 60 s");
    assert!(gap < Duration::from_secs(10), "writes stopped for {gap:?}");
    wait_ready(&ns, "acid-a");
}

#[test]
fn a_restart_of_kubelet_or_containerd_is_not_noticed() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "daemons");
    for words in [["kubelet", "--config"], ["containerd", "--config"]] {
        let writer = Writer::start(&ns);
        restart(&words, Duration::from_secs(5));
        std::thread::sleep(Duration::from_secs(10));
        let gap = writer.finish(&ns, words[0]);
        assert!(gap < Duration::from_secs(5), "{}: {gap:?}", words[0]);
    }
    let pods = ns.list("pod", "cluster-name=acid-a");
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64();
    assert!(pods.iter().all(|pod| restarts(pod) == Some(0)));
}

#[test]
fn a_primary_is_not_evicted_and_a_replica_is() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "evict");
    let first = primary(&ns);
    let replica = if first == "acid-a-0" {
        "acid-a-1"
    } else {
        "acid-a-0"
    };
    let evict = |pod: &str| {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", ns.name);
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": ns.name}});
        kube.try_kubectl(&["create", "--raw", &path, "-f", "-"], &body.to_string())
    };
    let refused = evict(&first).unwrap_err();
    assert!(refused.contains("disruption budget"), "{refused}");
    evict(replica).unwrap();
    wait_ready(&ns, "acid-a");
    assert_eq!(primary(&ns), first);
}

#[test]
fn a_new_operator_restarts_no_pod() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "upgrade");
    let pods = || -> Vec<Value> {
        ns.list("pod", "cluster-name=acid-a")
            .iter()
            .map(|pod| {
                json!([
                    pod["metadata"]["uid"],
                    pod["status"]["containerStatuses"][0]["restartCount"]
                ])
            })
            .collect()
    };
    let before = pods();
    kube.kubectl(&["-n", "howdah", "rollout", "restart", "deployment/howdah"]);
    kube.kubectl(&[
        "-n",
        "howdah",
        "rollout",
        "status",
        "deployment/howdah",
        "--timeout=90s",
    ]);
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"masterServiceAnnotations": {"seen": "yes"}}}),
    );
    ns.wait("service", "acid-a", "is changed by the new one", |service| {
        service["metadata"]["annotations"]["seen"] == "yes"
    });
    wait_ready(&ns, "acid-a");
    assert_eq!(pods(), before);
}

#[test]
fn data_outlives_its_cluster_where_claims_are_kept() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "kept");
    sql(&ns, &primary(&ns), "create table kept as select 42 as answer");
    ns.kubectl(&["delete", "postgresql", "acid-a", "--timeout=120s"]);
    ns.apply(minimal("acid-a"));
    wait_ready(&ns, "acid-a");
    assert_eq!(sql(&ns, &primary(&ns), "select answer from kept"), "42");
}

#[test]
fn members_come_and_go_and_parameters_change() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "scale");
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"numberOfInstances": 3, "postgresql": {"parameters": {"max_connections": "60"}}}}),
    );
    wait_ready(&ns, "acid-a");
    assert_eq!(sql(&ns, &primary(&ns), "show max_connections"), "60");
    assert_eq!(
        sql(&ns, &primary(&ns), "select count(*) from pg_stat_replication"),
        "2"
    );
    ns.patch("postgresql", "acid-a", &json!({"spec": {"numberOfInstances": 1}}));
    wait_ready(&ns, "acid-a");
    until(
        || ns.list("pod", "cluster-name=acid-a").len() == 1,
        || "one member is left".to_owned(),
    );
    assert_eq!(primary(&ns), "acid-a-0");
}

#[test]
fn an_image_that_is_missing_is_named_within_seconds() {
    let Some(kube) = node() else { return };
    let ns = kube.namespace("image");
    let mut manifest = minimal("acid-a");
    manifest["spec"]["dockerImage"] = json!("localhost:1/no/howdah:1");
    ns.apply(manifest);
    let status = || ns.get("postgresql", "acid-a")["status"].to_string();
    until(
        || status().contains("ErrImagePull") || status().contains("ImagePullBackOff"),
        status,
    );
    let events = ns.cluster_events();
    assert!(events.contains("ImagePull"), "{events}");
    // The image is corrected: the cluster comes up without further help.
    ns.patch("postgresql", "acid-a", &json!({"spec": {"dockerImage": null}}));
    wait_ready(&ns, "acid-a");
}

/// The image of the members, which is on the node.
fn image(ns: &Namespace, pod: &str) -> String {
    let pod = ns.get("pod", pod);
    pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
}

#[test]
fn sidecars_volumes_and_certificates_work_without_rights() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "beside");
    let image = image(&ns, "acid-a-0");
    let certificate = |name: &str| {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-keyout",
                "/dev/stdout",
            ])
            .args(["-subj", &format!("/CN={name}")])
            .output()
            .unwrap();
        let text = String::from_utf8(made.stdout).unwrap();
        let at = text.find("-----BEGIN CERTIFICATE").unwrap();
        ns.apply(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert"},
            "stringData": {"tls.key": text[..at], "tls.crt": text[at..]}}),
        );
    };
    certificate("first");
    let mut manifest = minimal("acid-a");
    manifest["spec"]["tls"] = json!({"secretName": "cert"});
    manifest["spec"]["sidecars"] = json!([{"name": "counter", "image": image, "command": ["/bin/sh", "-c",
        "while sleep 1; do PGPASSWORD=$POSTGRES_PASSWORD psql -h localhost -U $POSTGRES_USER -Atc 'select count(*) from pg_database' \
         > /shared/count; done"]}]);
    manifest["spec"]["initContainers"] = json!([{"name": "first", "image": image, "command": ["/bin/sh", "-c", "echo began > /shared/began"]}]);
    manifest["spec"]["additionalVolumes"] = json!([{"name": "shared", "mountPath": "/shared",
        "targetContainers": ["postgres", "counter", "first"], "volumeSource": {"emptyDir": {}}}]);
    ns.apply(manifest);
    wait_ready(&ns, "acid-a");
    let leader = primary(&ns);
    let read = |file: &str| {
        let read = ns.try_kubectl(&["exec", &leader, "-c", "postgres", "--", "cat", file]);
        read.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(read("/shared/began"), "began");
    until_in(
        READY,
        || read("/shared/count").parse::<u32>().is_ok_and(|count| count >= 3),
        || {
            format!(
                "the sidecar reaches the server: {}",
                ns.kubectl(&["logs", &leader, "-c", "counter"])
            )
        },
    );
    let subject = || {
        let address = ns.get("service", "acid-a")["spec"]["clusterIP"]
            .as_str()
            .unwrap()
            .to_owned();
        let shown = Command::new("openssl")
            .args([
                "s_client",
                "-starttls",
                "postgres",
                "-connect",
                &format!("{address}:5432"),
            ])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&shown.stdout).replace(" = ", "=")
    };
    assert!(subject().contains("CN=first"), "{}", subject());
    let began = sql(&ns, &leader, "select pg_postmaster_start_time()");
    certificate("second");
    // A kubelet looks after its volumes about once a minute.
    until_in(
        Duration::from_secs(180),
        || subject().contains("CN=second"),
        || "the new certificate is used".to_owned(),
    );
    assert_eq!(sql(&ns, &leader, "select pg_postmaster_start_time()"), began);
}

#[test]
fn a_copy_and_a_follower_have_the_data_of_a_running_cluster() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "origins");
    let source = primary(&ns);
    sql(&ns, &source, "create table t as select 1 as n");
    let mut copy = minimal("acid-copy");
    copy["spec"]["clone"] = json!({"cluster": "acid-a"});
    copy["spec"]["numberOfInstances"] = json!(1);
    ns.apply(copy);
    wait_ready(&ns, "acid-copy");
    assert_eq!(sql(&ns, "acid-copy-0", "select count(*) from t"), "1");
    sql(&ns, "acid-copy-0", "insert into t values (2)");
    ns.kubectl(&["delete", "postgresql", "acid-copy", "--wait=false"]);
    for role in ["postgres", "standby"] {
        let password = ns.password("acid-a", role);
        ns.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {
                "name": format!("{role}.acid-follower.credentials.postgresql.acid.zalan.do"),
                "labels": {"application": "spilo", "cluster-name": "acid-follower", "team": "acid"}},
            "stringData": {"username": role, "password": password}}));
    }
    let mut follower = minimal("acid-follower");
    follower["spec"]["standby"] = json!({"standby_host": format!("acid-a.{}.svc.cluster.local", ns.name)});
    follower["spec"]["numberOfInstances"] = json!(1);
    ns.apply(follower);
    wait_ready(&ns, "acid-follower");
    sql(&ns, &source, "insert into t values (3)");
    until_in(
        READY,
        || sql(&ns, "acid-follower-0", "select count(*) from t") == "2",
        || "the row arrives".to_owned(),
    );
    assert_eq!(sql(&ns, "acid-follower-0", "select pg_is_in_recovery()"), "t");
    ns.patch("postgresql", "acid-follower", &json!({"spec": {"standby": null}}));
    wait_ready(&ns, "acid-follower");
    until_in(
        READY,
        || sql(&ns, "acid-follower-0", "select pg_is_in_recovery()") == "f",
        || "it is promoted".to_owned(),
    );
}

#[test]
fn a_pooler_brings_clients_to_the_primary_through_a_switchover() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "pooled");
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"connectionPooler": {"numberOfInstances": 2}}}),
    );
    wait_ready(&ns, "acid-a");
    let password = ns.password("acid-a", "zalando");
    let through = |text: &str| {
        let service = ns.get("service", "acid-a-pooler");
        let address = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
        let output = Command::new("psql")
            .args(["-qAtX", "-c", text])
            .arg(format!(
                "host={address} user=zalando dbname=foo sslmode=require connect_timeout=5"
            ))
            .env("PGPASSWORD", &password)
            .output()
            .unwrap();
        let shown = if output.status.success() {
            output.stdout
        } else {
            output.stderr
        };
        (
            output.status.success(),
            String::from_utf8_lossy(&shown).trim().to_owned(),
        )
    };
    until_in(
        READY,
        || through("create table t as select 1 as n").0,
        || through("select 1").1,
    );
    let before = primary(&ns);
    ns.kubectl(&[
        "exec",
        &before,
        "--",
        "patronictl",
        "switchover",
        "acid-a",
        "--force",
    ]);
    until_in(
        READY,
        || through("insert into t values (2)").0,
        || through("insert into t values (2)").1,
    );
    assert_ne!(primary(&ns), before);
    assert_eq!(through("select pg_is_in_recovery()").1, "f");
    // Its pods satisfy the namespace's standard, and one that goes takes no client with it for long.
    let pods = ns.list("pod", "connection-pooler=acid-a-pooler");
    assert_eq!(pods.len(), 2);
    ns.kubectl(&[
        "delete",
        "pod",
        pods[0]["metadata"]["name"].as_str().unwrap(),
        "--wait=false",
    ]);
    until_in(READY, || through("select 1").0, || through("select 1").1);
    wait_ready(&ns, "acid-a");
}

#[test]
fn volumes_grow_with_the_manifest_and_do_not_shrink() {
    let Some(kube) = node() else { return };
    let ns = cluster(&kube, "volumes");
    let sizes = || -> Vec<String> {
        let claims = ns.list("persistentvolumeclaim", "cluster-name=acid-a");
        let size = |claim: &Value| {
            claim["status"]["capacity"]["storage"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        claims.iter().map(size).collect()
    };
    let size = |size: &str| {
        ns.patch(
            "postgresql",
            "acid-a",
            &json!({"spec": {"volume": {"size": size}}}),
        );
    };
    assert_eq!(sizes(), ["1Gi", "1Gi"]);
    size("2Gi");
    until_in(READY, || sizes() == ["2Gi", "2Gi"], || format!("{:?}", sizes()));
    wait_ready(&ns, "acid-a");
    // A new member's volume is as large.
    ns.patch("postgresql", "acid-a", &json!({"spec": {"numberOfInstances": 3}}));
    until_in(
        READY,
        || sizes() == ["2Gi", "2Gi", "2Gi"],
        || format!("{:?}", sizes()),
    );
    size("1Gi");
    ns.wait("postgresql", "acid-a", "says that it cannot shrink", |cluster| {
        cluster["status"].to_string().contains("they cannot shrink")
    });
}
