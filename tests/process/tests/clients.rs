//! Programs that people use with Kubernetes, as they are: helm, kubectl's imperative commands, the Python client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use howdah_testkit::Sandbox;

const MANIFEST: &str = include_str!("../../../examples/minimal-postgres-manifest.yaml");
const NAME: &str = "acid-minimal-cluster";

const SOON: Duration = Duration::from_secs(20);

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A program that `script/test` installs; its path is in this variable.
fn program(variable: &str, name: &str) -> Command {
    let mut command = Command::new(std::env::var_os(variable).unwrap_or_else(|| name.into()));
    command.stdin(Stdio::null());
    command
}

#[tokio::test]
async fn helm_installs_upgrades_and_removes_a_chart_with_its_defaults() {
    let sandbox = Sandbox::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let chart = dir.path().join("chart");
    fs::create_dir_all(chart.join("templates")).unwrap();
    fs::write(
        chart.join("Chart.yaml"),
        "apiVersion: v2\nname: shop\nversion: 0.1.0\n",
    )
    .unwrap();
    fs::write(chart.join("values.yaml"), "members: 1\n").unwrap();
    let template = MANIFEST.replace("numberOfInstances: 2", "numberOfInstances: {{ .Values.members }}");
    fs::write(chart.join("templates/cluster.yaml"), template).unwrap();
    let helm = |args: &[&str]| {
        let output = program("HOWDAH_HELM", "helm")
            .args(args)
            .env("KUBECONFIG", sandbox.state().join("kubeconfig"))
            .env("HOME", dir.path())
            .output()
            .expect("starting helm: script/test installs it");
        assert!(output.status.success(), "helm {args:?}: {}", text(&output));
        text(&output)
    };
    let chart = chart.to_str().unwrap();
    assert!(helm(&["install", "shop", chart]).contains("STATUS: deployed"));
    let wait = [
        "wait",
        "--for=condition=Ready",
        "pg/acid-minimal-cluster",
        "--timeout=60s",
    ];
    sandbox.kubectl(&wait).unwrap();
    assert!(helm(&["upgrade", "shop", chart, "--set", "members=2"]).contains("has been upgraded"));
    assert_eq!(sandbox.cluster(NAME).unwrap()["spec"]["numberOfInstances"], 2);
    assert!(helm(&["list"]).contains("deployed"));
    assert!(helm(&["rollback", "shop", "1"]).contains("Rollback was a success"));
    assert_eq!(sandbox.cluster(NAME).unwrap()["spec"]["numberOfInstances"], 1);
    assert!(helm(&["uninstall", "shop"]).contains("uninstalled"));
}

#[tokio::test]
async fn kubectl_creates_evicts_and_asks() {
    let sandbox = Sandbox::start().unwrap();
    let run = |args: &[&str]| sandbox.kubectl(args).unwrap();
    for object in [
        &["namespace", "shop"][..],
        &["secret", "generic", "a", "--from-literal=k=v"],
        &["configmap", "a", "--from-literal=k=v"],
        &["serviceaccount", "a"],
        &["role", "a", "--verb=get", "--resource=pods"],
        &["rolebinding", "a", "--role=a", "--serviceaccount=default:a"],
        &["service", "clusterip", "a", "--tcp=80:8080"],
        &["poddisruptionbudget", "a", "--selector=a=b", "--min-available=1"],
    ] {
        let told = run(&[&["create"], object].concat());
        assert!(told.contains("created"), "{object:?}: {told}");
    }
    assert_eq!(run(&["get", "secret", "a", "-o", "jsonpath={.data.k}"]), "dg==");
    assert_eq!(
        run(&[
            "get",
            "service",
            "a",
            "-o",
            "jsonpath={.spec.ports[0].targetPort}"
        ]),
        "8080"
    );
    assert!(run(&["auth", "can-i", "delete", "pods"]).contains("yes"));
    assert!(run(&["auth", "whoami"]).contains("Username"));
    sandbox.apply(MANIFEST).unwrap();
    let endpoints = run(&["get", "endpoints", NAME]);
    assert!(endpoints.contains(":5432"), "{endpoints}");
    assert!(run(&["describe", "service", NAME]).contains(":5432"));
    // What a user keeps as a backup can be applied.
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(list.path(), run(&["get", "pg", "-o", "yaml"])).unwrap();
    let path = list.path().to_str().unwrap();
    assert!(run(&["apply", "-f", path]).contains("configured"));
    let told = sandbox.run(&["apply", "-f", path]).unwrap();
    assert!(told.contains("unchanged"), "{told}");
    let log = run(&[
        "logs",
        &format!("{NAME}-0"),
        "--since=1h",
        "--timestamps",
        "--tail=1",
    ]);
    assert!(log.starts_with("20"), "{log}");
    // The budget of the primary keeps its pod; the replica goes.
    let drained = sandbox.kubectl(&[
        "drain",
        "node/sandbox",
        "--timeout=3s",
        "--force",
        "--delete-emptydir-data",
    ]);
    let told = drained.unwrap_err().to_string();
    assert!(
        told.contains("evicting pod") && told.contains("disruption budget"),
        "{told}"
    );
    run(&["uncordon", "sandbox"]);
    // An upstream chart brings its own definition, which has no conditions.
    let patch = r#"[{"op":"replace","path":"/spec/versions/0/schema/openAPIV3Schema/properties/status","value":{"type":"object","additionalProperties":{"type":"string"}}}]"#;
    run(&[
        "patch",
        "crd",
        "postgresqls.acid.zalan.do",
        "--type=json",
        "-p",
        patch,
    ]);
    howdah_testkit::until("our definition is back", Duration::from_secs(10), async || {
        let path = "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.status}";
        run(&["get", "crd", "postgresqls.acid.zalan.do", "-o", path]).contains("preserve-unknown-fields")
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn kubectl_executes_and_forwards_over_both_protocols() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.apply(MANIFEST).unwrap();
    let pod = format!("{NAME}-0");
    let password = sandbox
        .kubectl(&[
            "get",
            "secret",
            "postgres.acid-minimal-cluster.credentials.postgresql.acid.zalan.do",
            "-o",
            "go-template={{.data.password | base64decode}}",
        ])
        .unwrap();
    for web_sockets in ["true", "false"] {
        let kubectl = |args: &[&str]| {
            let mut command = program("HOWDAH_KUBECTL", "kubectl");
            command
                .args(args)
                .env("KUBECONFIG", sandbox.state().join("kubeconfig"))
                .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", web_sockets)
                .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", web_sockets);
            command
        };
        let output = kubectl(&["exec", &pod, "--", "sh", "-c", "echo out; echo err >&2; exit 3"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("err\n"));

        let mut query = kubectl(&["exec", "-i", &pod, "--", "psql", "-At"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        query.stdin.take().unwrap().write_all(b"select 40 + 2").unwrap();
        assert_eq!(text(&query.wait_with_output().unwrap()), "42\n");

        let members = kubectl(&["exec", &pod, "--", "patronictl", "list"])
            .output()
            .unwrap();
        assert!(text(&members).contains("Leader"), "{}", text(&members));
        let version = kubectl(&[
            "exec",
            &pod,
            "--",
            "cat",
            "/home/postgres/pgdata/pgroot/data/PG_VERSION",
        ])
        .output()
        .unwrap();
        assert_eq!(text(&version), "15\n");
        // From the pod's path, and a command line that no buffer for a head was made for.
        let copy = tempfile::NamedTempFile::new().unwrap();
        let from = format!("{pod}:/home/postgres/pgdata/pgroot/data/PG_VERSION");
        let output = kubectl(&["cp", &from, copy.path().to_str().unwrap()])
            .output()
            .unwrap();
        assert_eq!(
            fs::read_to_string(copy.path()).unwrap(),
            "15\n",
            "{}",
            text(&output)
        );
        let word = "a".repeat(50_000);
        let output = kubectl(&["exec", &pod, "--", "echo", &word]).output().unwrap();
        assert_eq!(text(&output), word + "\n");
        // More than any buffer on the way holds.
        let output = kubectl(&["exec", &pod, "--", "head", "-c", "20000000", "/dev/zero"])
            .output()
            .unwrap();
        assert_eq!(output.stdout.len(), 20_000_000);

        // A terminal, as script(1) has one.
        let path = std::env::var_os("HOWDAH_KUBECTL").unwrap_or_else(|| "kubectl".into());
        let line = format!(
            "stty rows 33 cols 99; {} exec -it {pod} -- sh -c 'tty; stty size; exit 4'",
            path.to_string_lossy()
        );
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::null())
            .env("KUBECONFIG", sandbox.state().join("kubeconfig"))
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", web_sockets)
            .output()
            .unwrap();
        let shown = text(&output);
        assert!(shown.contains("/dev/pts/") && shown.contains("33 99"), "{shown}");
        assert_eq!(output.status.code(), Some(4), "{shown}");

        // A client that leaves ends its program, also one that reads nothing of what the client has sent.
        let mut left = kubectl(&["exec", "-i", &pod, "--", "sleep", "8642"])
            .stdin(fs::File::open("/dev/zero").unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let sleeps = || {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
            lines.filter(|line| line == b"sleep\x008642\0").count()
        };
        howdah_testkit::until("the program runs", SOON, async || sleeps() > 0)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        left.kill().unwrap();
        left.wait().unwrap();
        howdah_testkit::until("the program has ended", SOON, async || sleeps() == 0)
            .await
            .unwrap();

        let port = howdah_testkit::free_port().unwrap();
        let mut forward = kubectl(&["port-forward", &pod, &format!("{port}:5432")])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let sql = |sql: &str| {
            Command::new("psql")
                .args(["-Atc", sql])
                .arg(format!(
                    "host=127.0.0.1 port={port} user=postgres dbname=postgres"
                ))
                .env("PGPASSWORD", password.trim())
                .output()
                .unwrap()
        };
        howdah_testkit::until("the port is forwarded", SOON, async || {
            text(&sql("select 1")) == "1\n"
        })
        .await
        .unwrap();
        // One connection after the other, and several megabytes.
        for _ in 0..5 {
            assert_eq!(sql("select repeat('x', 3000000)").stdout.len(), 3_000_001);
        }
        forward.kill().unwrap();
        forward.wait().unwrap();
    }
    let clients = std::env::var_os("HOWDAH_PYTHON_CLIENTS").expect("script/test installs them");
    for version in ["31", "37"] {
        let python = Path::new(&clients).parent().unwrap().join("bin/python");
        let output = Command::new(python)
            .args(["-c", PYTHON_STREAMS])
            .arg(sandbox.state().join("kubeconfig"))
            .arg(&pod)
            .env("PYTHONPATH", Path::new(&clients).join(version))
            .output()
            .unwrap();
        assert_eq!(text(&output), "42\nabc 5\nb'S'\n", "client {version}");
    }
    // An agent's token opens no other pod.
    let token = sandbox.state().join("credentials/pods.token");
    let told = sandbox
        .kubectl(&[
            "exec",
            &pod,
            "--kubeconfig=/dev/null",
            &format!("--server={}", server(&sandbox)),
            "--insecure-skip-tls-verify",
            &format!("--token={}", fs::read_to_string(token).unwrap()),
            "--",
            "id",
        ])
        .unwrap_err()
        .to_string();
    assert!(told.contains("cannot enter pods"), "{told}");
}

/// Runs a query; feeds a program; asks PostgreSQL through a forwarded port whether it takes TLS.
const PYTHON_STREAMS: &str = r#"
import sys
from kubernetes import client, config, stream
config.load_kube_config(sys.argv[1])
core = client.CoreV1Api()
def run(command, **more):
    return stream.stream(core.connect_get_namespaced_pod_exec, sys.argv[2], "default", command=command,
                         stdout=True, stderr=True, tty=False, **more)
print(run(["psql", "-Atc", "select 40 + 2"], stdin=False).strip())
shell = run(["sh", "-c", "read x; echo $x; exit 5"], stdin=True, _preload_content=False)
shell.write_stdin("abc\n")
shell.run_forever(timeout=10)
print(shell.read_stdout().strip(), shell.returncode)
forwarded = stream.portforward(core.connect_get_namespaced_pod_portforward, sys.argv[2], "default", ports="5432")
socket = forwarded.socket(5432)
socket.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47]))
print(socket.recv(1))
socket.close()
"#;

fn server(sandbox: &Sandbox) -> String {
    let config = ["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"];
    sandbox.kubectl(&config).unwrap()
}

const PYTHON: &str = r#"
import sys, threading
from kubernetes import client, config, watch
config.load_kube_config(sys.argv[1])
core, custom = client.CoreV1Api(), client.CustomObjectsApi()
name = "python-" + sys.argv[2]
core.create_namespaced_secret("default", client.V1Secret(metadata=client.V1ObjectMeta(name=name), string_data={"a": "b"}))
seen = []
def follow():
    for event in watch.Watch().stream(core.list_namespaced_config_map, "default", timeout_seconds=10):
        if event["object"].metadata.name == name:
            seen.append(event["type"])
            return
watcher = threading.Thread(target=follow); watcher.start()
core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data={"a": "b"}))
watcher.join(15)
assert seen == ["ADDED"], seen
node = core.list_node().items[0]
assert node.status.node_info.architecture, node
clusters = custom.list_namespaced_custom_object("acid.zalan.do", "v1", "default", "postgresqls")
assert clusters["items"] == [], clusters
body = {"apiVersion": "acid.zalan.do/v1", "kind": "postgresql", "metadata": {"name": name}, "spec": {"teamId": "acid",
        "numberOfInstances": 0, "volume": {"size": "1Gi"}, "postgresql": {"version": "15"}}}
custom.create_namespaced_custom_object("acid.zalan.do", "v1", "default", "postgresqls", body)
custom.patch_namespaced_custom_object("acid.zalan.do", "v1", "default", "postgresqls", name, {"metadata": {"labels": {"a": "b"}}})
custom.delete_namespaced_custom_object("acid.zalan.do", "v1", "default", "postgresqls", name)
core.read_namespaced_secret(name, "default"); core.delete_namespaced_secret(name, "default")
print("done")
"#;

#[tokio::test]
async fn python_clients_create_watch_and_list() {
    let sandbox = Sandbox::start().unwrap();
    let clients = std::env::var_os("HOWDAH_PYTHON_CLIENTS").expect("script/test installs them");
    for version in ["31", "37"] {
        let python = Path::new(&clients).parent().unwrap().join("bin/python");
        let output = Command::new(python)
            .args(["-c", PYTHON])
            .arg(sandbox.state().join("kubeconfig"))
            .arg(version)
            .env("PYTHONPATH", Path::new(&clients).join(version))
            .output()
            .unwrap();
        assert!(
            text(&output).ends_with("done\n"),
            "client {version}: {}",
            text(&output)
        );
        // Its cluster goes before the next client lists them.
        let gone = [
            "wait",
            "--for=delete",
            &format!("pg/python-{version}"),
            "--timeout=30s",
        ];
        sandbox.kubectl(&gone).unwrap();
    }
}
