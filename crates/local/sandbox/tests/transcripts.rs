//! Replays what real clients have sent (`transcripts/`), and expects the answers that they could work with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use howdah_clock::now;
use howdah_http::{Client, Method, Url, client_tls};
use howdah_sandbox::{Images, Running, Sandbox, SandboxDir, start};
use serde_json::{Value, json};

/// A sandbox without a single image: its pods cannot run, and everything else works.
struct Lab {
    running: Option<Running>,
    client: Client,
    url: Url,
    dir: SandboxDir,
    _temp: tempfile::TempDir,
}

impl Lab {
    async fn start() -> Self {
        howdah_http::use_ring();
        let dir = tempfile::tempdir().unwrap();
        let sandbox = SandboxDir::new(dir.path().join("state"));
        let root = rustix::process::geteuid().is_root();
        let running = start(Sandbox {
            dir: sandbox.clone(),
            images: Images::default(),
            run_as: root.then_some((65534, 65534)),
        })
        .await
        .unwrap();
        let kubeconfig: Value =
            serde_json::from_str(&std::fs::read_to_string(sandbox.kubeconfig()).unwrap()).unwrap();
        let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap();
        let ca = sandbox.root().join("credentials/ca.crt");
        let client = Client::new(Some(client_tls(Some(&ca), None, false).unwrap()))
            .with_authorization(Some(format!("Bearer {token}")));
        Lab {
            url: Url::parse(&format!("https://{}", running.address)).unwrap(),
            running: Some(running),
            client,
            dir: sandbox,
            _temp: dir,
        }
    }

    async fn send(&self, method: &str, path: &str, content_type: &str, body: Option<String>) -> (u16, Value) {
        let deadline = now() + Duration::from_secs(10);
        let method: Method = method.parse().unwrap();
        let mut connection = self.client.connect(&self.url, deadline).await.unwrap();
        let body = body.map(Bytes::from);
        if path.contains("watch=true") {
            let (status, mut stream) = connection
                .open_stream(method, path, body, deadline)
                .await
                .unwrap();
            // Only its beginning; from a revision nothing need ever come.
            if path.contains("sendInitialEvents") {
                let first = stream.next().await.unwrap().unwrap();
                assert!(first.starts_with(b"{\"type\":"), "{path}");
            }
            return (status, Value::Null);
        }
        let answer = connection
            .request_with(method, path, content_type, body, deadline)
            .await
            .unwrap();
        (
            answer.status,
            serde_json::from_slice(&answer.body).unwrap_or_default(),
        )
    }

    async fn stop(mut self) {
        self.running.take().unwrap().stop().await;
        howdah_sandbox::purge(&self.dir).await.unwrap();
    }
}

/// A recorded body names revisions of its own time.
async fn with_present_revision(lab: &Lab, path: &str, body: &str) -> String {
    let Ok(Value::Array(mut operations)) = serde_json::from_str::<Value>(body) else {
        return body.to_owned();
    };
    for operation in &mut operations {
        if operation["path"] == "/metadata/resourceVersion" {
            operation["value"] = settled_revision(lab, path.split('?').next().unwrap())
                .await
                .into();
        }
    }
    Value::Array(operations).to_string()
}

/// An object's revision, once its controller has nothing more to say about it.
async fn settled_revision(lab: &Lab, object: &str) -> String {
    loop {
        let (_, now) = lab.send("GET", object, "", None).await;
        let seen = &now["status"]["observedGeneration"];
        if seen.is_null() || *seen == now["metadata"]["generation"] {
            return now["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn kubectl_gets_the_answers_that_it_got() {
    let lab = Lab::start().await;
    let path = format!(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}?fieldManager=t",
        howdah_manifest::CRD_NAME
    );
    let crd = Some(howdah_manifest::crd().to_string());
    let (status, _) = lab
        .send("PATCH", &path, "application/apply-patch+yaml", crd)
        .await;
    assert_eq!(status, 201);
    let transcript = include_str!("transcripts/kubectl-1.37.jsonl");
    assert!(transcript.lines().count() > 50);
    for (line, text) in transcript.lines().enumerate() {
        let recorded: Value = serde_json::from_str(text).unwrap();
        let part = |key: &str| recorded[key].as_str().unwrap_or_default();
        let content_type = recorded["headers"]["content-type"].as_str().unwrap_or_default();
        let body = match recorded["body"].as_str() {
            Some(body) => Some(with_present_revision(&lab, part("path"), body).await),
            None => None,
        };
        let (status, answer) = lab.send(part("method"), part("path"), content_type, body).await;
        let told = format!("line {}: {} {}: {answer}", line + 1, part("method"), part("path"));
        assert_eq!(json!(status), recorded["status"], "{told}");
        // Tables need an Accept header that this client does not send.
        let table = recorded["kind"] == "Table";
        if recorded["kind"].is_string() && !table && !part("path").starts_with("/api") {
            assert_eq!(answer["kind"], recorded["kind"], "{told}");
        }
    }
    lab.stop().await;
}

#[tokio::test]
async fn what_is_not_offered_says_so() {
    let lab = Lab::start().await;
    for (method, path, code, part) in [
        ("GET", "/apis/batch/v1/jobs", 404, "requested resource"),
        ("POST", "/api/v1/namespaces/default/pods/x/attach", 501, "attach"),
        ("POST", "/api/v1/namespaces/default/pods/x/exec", 404, "not found"),
        ("PUT", "/api/v1/namespaces/default/pods", 405, "does not offer"),
        (
            "GET",
            "/api/v1/pods?fieldSelector=spec.x%3D1",
            400,
            "does not select",
        ),
    ] {
        let (status, answer) = lab.send(method, path, "", None).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert_eq!(status, code, "{method} {path}: {answer}");
        assert!(message.contains(part), "{method} {path}: {answer}");
        assert_eq!(answer["kind"], "Status");
    }
    let protobuf = "application/vnd.kubernetes.protobuf";
    let (status, answer) = lab
        .send(
            "POST",
            "/api/v1/namespaces/default/configmaps",
            protobuf,
            // An empty Deployment.
            Some("k8s\0\x0a\x15\x0a\x07apps/v1\x12\x0aDeployment\x12\x00".into()),
        )
        .await;
    assert_eq!(status, 415, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("kubectl apply"));
    lab.stop().await;
}

#[tokio::test]
async fn no_request_is_answered_without_the_token() {
    let lab = Lab::start().await;
    let stranger = Lab {
        client: lab.client.clone().with_authorization(Some("Bearer x".into())),
        url: lab.url.clone(),
        running: None,
        dir: lab.dir.clone(),
        _temp: tempfile::tempdir().unwrap(),
    };
    assert_eq!(stranger.send("GET", "/api/v1/secrets", "", None).await.0, 401);
    assert_eq!(stranger.send("GET", "/readyz", "", None).await.0, 200);
    lab.stop().await;
}

#[tokio::test]
async fn lists_are_paged_and_old_revisions_are_gone() {
    let lab = Lab::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    for n in 0..5 {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{n}")}});
        assert_eq!(
            lab.send("POST", maps, "application/json", Some(body.to_string()))
                .await
                .0,
            201
        );
    }
    let (_, first) = lab.send("GET", &format!("{maps}?limit=2"), "", None).await;
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    let token = first["metadata"]["continue"]
        .as_str()
        .unwrap()
        .replace(' ', "%20")
        .replace('/', "%2F");
    let (_, rest) = lab
        .send("GET", &format!("{maps}?limit=9&continue={token}"), "", None)
        .await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 3);
    // The ring begins with the store's own beginning.
    let deadline = now() + Duration::from_secs(5);
    let mut connection = lab.client.connect(&lab.url, deadline).await.unwrap();
    let old = format!("{maps}?watch=true&resourceVersion=1&timeoutSeconds=1");
    let (_, mut stream) = connection
        .open_stream(Method::GET, &old, None, deadline)
        .await
        .unwrap();
    let line = stream.next().await.unwrap().unwrap();
    assert!(line.starts_with(b"{\"type\":\"ADDED\"") || line.starts_with(b"{\"type\":\"ERROR\""));
    let path = format!("{maps}/m0");
    let stale =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m0", "resourceVersion": "1"}});
    assert_eq!(
        lab.send("PUT", &path, "application/json", Some(stale.to_string()))
            .await
            .0,
        409
    );
    lab.stop().await;
}

#[tokio::test]
async fn what_other_clients_send_is_understood() {
    const JSON: &str = "application/json";
    let lab = Lab::start().await;
    // Python's client sends neither apiVersion nor kind.
    let secret = json!({"metadata": {"name": "py"}, "stringData": {"a": "b"}}).to_string();
    let (status, answer) = lab
        .send("POST", "/api/v1/namespaces/default/secrets", JSON, Some(secret))
        .await;
    assert_eq!((status, &answer["kind"]), (201, &json!("Secret")), "{answer}");
    let wrong = json!({"kind": "ConfigMap", "metadata": {"name": "py2"}}).to_string();
    let (status, _) = lab
        .send("POST", "/api/v1/namespaces/default/secrets", JSON, Some(wrong))
        .await;
    assert_eq!(status, 400);
    // Go and helm send protobuf: metadata {name: a} and data {k: v} of a ConfigMap.
    let map = "k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0d\x0a\x03\x0a\x01a\x12\x06\x0a\x01k\x12\x01v";
    let (status, answer) = lab
        .send(
            "POST",
            "/api/v1/namespaces/default/configmaps",
            "application/vnd.kubernetes.protobuf",
            Some(map.into()),
        )
        .await;
    assert_eq!((status, &answer["data"]), (201, &json!({"k": "v"})), "{answer}");
    for (query, watches) in [
        ("watch=True", true),
        ("watch", true),
        ("watch=0", false),
        ("watch=False", false),
    ] {
        let path = format!("/api/v1/namespaces/default/pods?{query}&timeoutSeconds=1");
        let (_, answer) = lab.send("GET", &path, "", None).await;
        assert_eq!(answer["kind"] != "PodList", watches, "{query}: {answer}");
    }
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}).to_string();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (status, answer) = lab.send("POST", path, JSON, Some(review)).await;
    assert_eq!(
        (status, &answer["status"]["allowed"]),
        (201, &json!(true)),
        "{answer}"
    );
    let (_, node) = lab.send("GET", "/api/v1/nodes/sandbox", "", None).await;
    for field in ["architecture", "bootID", "machineID", "osImage", "kernelVersion"] {
        assert!(node["status"]["nodeInfo"][field].is_string(), "{field}: {node}");
    }
    lab.stop().await;
}

#[tokio::test]
async fn an_eviction_heeds_budgets() {
    const JSON: &str = "application/json";
    let lab = Lab::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let (status, answer) = lab.send("POST", pods, JSON, Some(pod.to_string())).await;
    assert_eq!(status, 201, "{answer}");
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let merge = "application/merge-patch+json";
    let (status, answer) = lab
        .send(
            "PATCH",
            &format!("{pods}/p/status"),
            merge,
            Some(ready.to_string()),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
    let (status, answer) = lab.send("POST", budgets, JSON, Some(budget.to_string())).await;
    assert_eq!(status, 201, "{answer}");
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}).to_string();
    let (status, answer) = lab
        .send(
            "POST",
            &format!("{pods}/p/eviction"),
            JSON,
            Some(eviction.clone()),
        )
        .await;
    assert_eq!(status, 429, "{answer}");
    let (_, pod) = lab.send("GET", &format!("{pods}/p"), "", None).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_null());
    lab.send("DELETE", &format!("{budgets}/b"), "", None).await;
    let (status, answer) = lab
        .send("POST", &format!("{pods}/p/eviction"), JSON, Some(eviction))
        .await;
    assert_eq!(status, 201, "{answer}");
    lab.stop().await;
}

#[tokio::test]
async fn services_keep_what_they_were_given() {
    const JSON: &str = "application/json";
    let lab = Lab::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service = |kind: &str| {
        json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": [{"port": 5432}], "selector": {"a": "b"}}})
            .to_string()
    };
    let (status, made) = lab.send("POST", services, JSON, Some(service("NodePort"))).await;
    assert_eq!(status, 201, "{made}");
    let node = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30_000..32_768).contains(&node), "{node}");
    // The node listens on it; without a pod the connection is closed.
    let deadline = now() + Duration::from_secs(10);
    while tokio::net::TcpStream::connect(("127.0.0.1", u16::try_from(node).unwrap()))
        .await
        .is_err()
    {
        assert!(now() < deadline, "nothing listens on {node}");
        howdah_http::sleep_until(now() + Duration::from_millis(20)).await;
    }
    let path = format!("{services}/s");
    let (status, kept) = lab.send("PUT", &path, JSON, Some(service("LoadBalancer"))).await;
    assert_eq!(status, 200, "{kept}");
    assert_eq!(kept["spec"]["ports"][0]["nodePort"], node);
    assert_eq!(kept["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    let (_, plain) = lab.send("PUT", &path, JSON, Some(service("ClusterIP"))).await;
    assert!(plain["spec"]["ports"][0]["nodePort"].is_null(), "{plain}");
    lab.stop().await;
}

#[tokio::test]
async fn what_a_real_api_server_refuses_is_refused() {
    const JSON: &str = "application/json";
    const MERGE: &str = "application/merge-patch+json";
    let lab = Lab::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}, "dattta": {"k": "v"}});
    let (status, made) = lab.send("POST", maps, JSON, Some(map.to_string())).await;
    assert_eq!(status, 201, "{made}");
    assert!(made["dattta"].is_null(), "an unknown field is not kept: {made}");
    assert!(!made["metadata"]["managedFields"].to_string().contains("dattta"));

    let one = format!("{maps}/a");
    for (wrong, code) in [
        (json!({"metadata": {"name": "b"}}), 400),
        (json!({"metadata": {"namespace": "kube-system"}}), 400),
        (json!({"metadata": {"labels": {"a b": "c"}}}), 422),
        (json!({"metadata": {"labels": {"a": "b c"}}}), 422),
        (json!({"metadata": {"annotations": {"": "c"}}}), 422),
        (
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}}),
            422,
        ),
    ] {
        let (status, answer) = lab.send("PATCH", &one, MERGE, Some(wrong.to_string())).await;
        assert_eq!(status, code, "{wrong}: {answer}");
    }
    for (method, path) in [
        ("DELETE", format!("{one}?dryRun=Foo")),
        ("GET", format!("{maps}?limit=abc")),
        ("GET", format!("{maps}?continue=xxx")),
        ("GET", format!("{maps}?resourceVersion=abc")),
        ("GET", format!("{maps}?labelSelector=a%20b")),
        ("DELETE", format!("{maps}?labelSelector=!a%20b")),
    ] {
        let (status, answer) = lab.send(method, &path, "", None).await;
        assert_eq!(status, 400, "{method} {path}: {answer}");
    }
    for namespace in ["default", "kube-system"] {
        let path = format!("/api/v1/namespaces/{namespace}");
        let (status, answer) = lab.send("DELETE", &path, "", None).await;
        assert_eq!(status, 403, "{answer}");
    }
    let (_, still) = lab.send("GET", &one, "", None).await;
    assert_eq!(still["data"], json!({"k": "v"}), "nothing of it changed anything");

    let fixed = json!({"immutable": true}).to_string();
    let (status, _) = lab.send("PATCH", &one, MERGE, Some(fixed)).await;
    assert_eq!(status, 200);
    let changed = json!({"data": {"k": "w"}}).to_string();
    let (status, answer) = lab.send("PATCH", &one, MERGE, Some(changed)).await;
    assert_eq!(status, 422, "{answer}");
    lab.stop().await;
}
