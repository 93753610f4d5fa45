//! What tests on a real Kubernetes share: kubectl, namespaces of their own, operators of their own, waiting.
//!
//! `script/e2e` starts the Kubernetes and the operator, and tells the tests by variables where they are. Without them each
//! test says that it is skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "test code: it fails by panicking, and each function is read beside its use"
)]

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use howdah_clock::now;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long something that must happen may take.
pub const SOON: Duration = Duration::from_secs(30);

/// A cluster of Kubernetes.
#[derive(Clone)]
pub struct Kube {
    pub kubeconfig: PathBuf,
    kubectl: PathBuf,
}

/// What a variable names. `None`: the test is skipped, and says so.
fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).map(PathBuf::from);
    if value.is_none() {
        eprintln!("skipped: {name} is not set (script/e2e sets it)");
    }
    value
}

/// The control plane with pretended nodes, on which script/e2e runs an operator.
pub fn control_plane() -> Option<Kube> {
    Some(Kube {
        kubeconfig: variable("HOWDAH_CONTROL_PLANE")?,
        kubectl: variable("HOWDAH_KUBECTL")?,
    })
}

/// The Kubernetes with a node, on which the chart is installed.
pub fn node() -> Option<Kube> {
    Some(Kube {
        kubeconfig: variable("HOWDAH_NODE")?,
        kubectl: variable("HOWDAH_KUBECTL")?,
    })
}

impl Kube {
    /// Runs kubectl: what it printed, or what it said on stderr.
    pub fn try_kubectl(&self, args: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new(&self.kubectl)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(text(output.stderr))
        }
    }

    pub fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args, "")
            .unwrap_or_else(|error| panic!("kubectl {}: {error}", args.join(" ")))
    }

    pub fn apply(&self, object: &Value) {
        self.try_kubectl(&["apply", "-f", "-"], &object.to_string())
            .unwrap_or_else(|error| panic!("{error}\n{object}"));
    }

    /// A namespace that this test has for itself; it goes with the returned value.
    pub fn namespace(&self, name: &str) -> Namespace {
        let name = format!("{name}-{:x}", now().0 & 0xff_ffff);
        self.kubectl(&["create", "namespace", &name]);
        Namespace {
            kube: self.clone(),
            name,
        }
    }
}

/// A namespace.
pub struct Namespace {
    pub kube: Kube,
    pub name: String,
}

impl Namespace {
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.kube.kubectl(&[&["-n", &self.name], args].concat())
    }

    pub fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        self.kube.try_kubectl(&[&["-n", &self.name], args].concat(), "")
    }

    /// An object, or `null` when there is none.
    pub fn get(&self, kind: &str, name: &str) -> Value {
        match self.try_kubectl(&["get", kind, name, "-o", "json"]) {
            Ok(text) => serde_json::from_str(&text).unwrap(),
            Err(error) if error.contains("NotFound") => Value::Null,
            Err(error) => panic!("{error}"),
        }
    }

    /// The objects of a kind with these labels.
    pub fn list(&self, kind: &str, labels: &str) -> Vec<Value> {
        let text = self.kubectl(&["get", kind, "-l", labels, "-o", "json"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    pub fn apply(&self, mut object: Value) {
        object["metadata"]["namespace"] = Value::from(self.name.as_str());
        self.kube.apply(&object);
    }

    pub fn patch(&self, kind: &str, name: &str, patch: &Value) {
        self.kubectl(&["patch", kind, name, "--type", "merge", "-p", &patch.to_string()]);
    }

    /// An object once it is as it should be.
    pub fn wait(&self, kind: &str, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        until(
            || {
                last = self.get(kind, name);
                is_so(&last)
            },
            || format!("{kind} {name}: {what}"),
        );
        last
    }

    /// The events of clusters, as text.
    pub fn cluster_events(&self) -> String {
        let of_clusters = "involvedObject.kind=postgresql";
        self.kubectl(&["get", "events", "--field-selector", of_clusters, "-o", "json"])
    }

    /// A kubeconfig with the credentials of a ServiceAccount of this namespace.
    pub fn kubeconfig_of(&self, account: &str, dir: &Path) -> PathBuf {
        let token = self.kubectl(&["create", "token", account]);
        let own = self.kube.kubectl(&["config", "view", "--raw", "-o", "json"]);
        let own: Value = serde_json::from_str(&own).unwrap();
        let limited = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": own["clusters"][0]["cluster"]}],
            "users": [{"name": "u", "user": {"token": token.trim()}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": self.name}}],
        });
        let path = dir.join(format!("{account}.yaml"));
        std::fs::write(&path, limited.to_string()).unwrap();
        path
    }

    /// A role's password in its Secret.
    pub fn password(&self, cluster: &str, role: &str) -> String {
        let secret = format!("{role}.{cluster}.credentials.postgresql.acid.zalan.do");
        let template = "{{.data.password | base64decode}}";
        self.kubectl(&["get", "secret", &secret, "-o", &format!("go-template={template}")])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Clusters first: their finalizers need the operator, which may be this test's.
        let _ = self.try_kubectl(&["delete", "postgresql", "--all", "--wait=false"]);
        let _ = self
            .kube
            .try_kubectl(&["delete", "namespace", &self.name, "--wait=false"], "");
    }
}

/// Waits until something is so, at most [`SOON`].
pub fn until(is_so: impl FnMut() -> bool, what: impl Fn() -> String) {
    until_in(SOON, is_so, what);
}

pub fn until_in(patience: Duration, mut is_so: impl FnMut() -> bool, what: impl Fn() -> String) {
    let deadline = now() + patience;
    while !is_so() {
        assert!(now() < deadline, "not in {patience:?}: {}", what());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The manifest that everybody begins with, as its users have it, under another name.
pub fn minimal(name: &str) -> Value {
    serde_json::json!({
        "apiVersion": "acid.zalan.do/v1", "kind": "postgresql", "metadata": {"name": name},
        "spec": {
            "teamId": "acid", "volume": {"size": "1Gi"}, "numberOfInstances": 2,
            "users": {"zalando": ["superuser", "createdb"], "foo_user": []},
            "databases": {"foo": "zalando"}, "preparedDatabases": {"bar": {}},
            "postgresql": {"version": "15"},
        },
    })
}

/// An operator of a test's own.
pub struct OwnOperator {
    child: Child,
    pub address: SocketAddr,
    pub log: PathBuf,
}

impl OwnOperator {
    /// Starts `howdah operator` on this Kubernetes.
    pub fn start(kubeconfig: &Path, dir: &Path, name: &str, args: &[&str]) -> OwnOperator {
        let binary = std::env::var_os("HOWDAH_BIN").expect("HOWDAH_BIN is set by script/e2e");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let log = dir.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let child = Command::new(binary)
            .args(["operator", "--kubeconfig"])
            .arg(kubeconfig)
            .args(["--listen", &address.to_string()])
            .args(args)
            .env("HOSTNAME", name)
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        OwnOperator { child, address, log }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The exit code, once it has ended.
    pub fn ended(&mut self) -> i32 {
        let mut code = None;
        until(
            || {
                code = self.child.try_wait().unwrap();
                code.is_some()
            },
            || "the operator ends".to_owned(),
        );
        code.and_then(|status| status.code()).unwrap_or(-1)
    }

    /// A page of its HTTP server: status and body.
    pub fn http(&self, path: &str, token: Option<&str>) -> (u16, String) {
        http(self.address, path, token)
    }

    /// The value of a metric, with its labels as they are written.
    pub fn metric(&self, name: &str) -> f64 {
        metric(&self.http("/metrics", None).1, name)
    }
}

impl Drop for OwnOperator {
    fn drop(&mut self) {
        let _ = kill_process(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }
}

pub fn metric(text: &str, name: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        .unwrap_or(0.0)
}

/// Asks an HTTP server, in the simplest way.
pub fn http(address: SocketAddr, path: &str, token: Option<&str>) -> (u16, String) {
    use std::io::Read;
    let Ok(mut stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)) else {
        return (0, String::new());
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let authorization = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n");
    if stream.write_all(request.as_bytes()).is_err() {
        return (0, String::new());
    }
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}
