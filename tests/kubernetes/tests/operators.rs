//! The operator as a process: which of several works, what it may do, how it is configured, what it leaves alone. Each test
//! runs operators of its own, with a name of their own, on the control plane.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for what other processes do"
)]

use std::{path::Path, time::Duration};

use howdah_clock::now;
use howdah_kubernetes_tests::{Kube, Namespace, OwnOperator, control_plane, minimal, until, until_in};
use rustix::process::Signal;
use serde_json::{Value, json};

/// An operator for one namespace and for clusters of this name.
fn operator(kube: &Kube, ns: &Namespace, dir: &Path, name: &str, more: &[&str]) -> OwnOperator {
    let args = [
        "--namespace",
        &ns.name,
        "--operator-namespace",
        &ns.name,
        "--controller-id",
        &ns.name,
    ];
    OwnOperator::start(&kube.kubeconfig, dir, name, &[&args, more].concat())
}

/// A manifest for the operator of this namespace.
fn manifest(ns: &Namespace, name: &str) -> Value {
    let mut manifest = minimal(name);
    manifest["metadata"]["annotations"] = json!({"acid.zalan.do/controller": ns.name});
    manifest
}

fn leads(operator: &OwnOperator) -> bool {
    operator.metric("howdah_operator_leader") > 0.5
}

/// Requests that change something, except those for its Lease, by the operator's own count.
fn writes(operator: &OwnOperator) -> u64 {
    let text = operator.http("/metrics", None).1;
    let is_write = |line: &&str| {
        let verbs = ["create", "update", "patch", "delete"];
        line.starts_with("howdah_operator_api_requests_total")
            && !line.contains("coordination.k8s.io")
            && verbs
                .iter()
                .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    };
    let count = |line: &str| {
        line.rsplit(' ')
            .next()
            .and_then(|count| count.parse::<u64>().ok())
    };
    text.lines().filter(is_write).filter_map(count).sum()
}

/// The operators' own count of passes.
fn passes(operator: &OwnOperator) -> f64 {
    operator.metric("howdah_operator_pass_duration_seconds_count")
}

#[test]
fn of_two_replicas_one_works_and_the_other_takes_over() {
    let Some(kube) = control_plane() else { return };
    let (ns, dir) = (kube.namespace("elect"), tempfile::tempdir().unwrap());
    let mut first = operator(&kube, &ns, dir.path(), "first", &[]);
    until(|| leads(&first), || first.text());
    let second = operator(&kube, &ns, dir.path(), "second", &[]);
    until(|| second.http("/readyz", None).0 == 200, || second.text());
    ns.apply(manifest(&ns, "acid-a"));
    ns.wait("statefulset", "acid-a", "is made", |set| !set.is_null());
    assert!(passes(&first) > 0.0);
    assert!(passes(&second) < 0.5, "the second one waits");
    // One that ends gives the Lease back: the next one need not wait for its end.
    let ended = now();
    first.signal(Signal::TERM);
    assert_eq!(first.ended(), 0, "{}", first.text());
    until(|| leads(&second), || second.text());
    assert!(now().since(ended) < Duration::from_secs(10), "{}", first.text());
    ns.patch("postgresql", "acid-a", &json!({"spec": {"numberOfInstances": 1}}));
    ns.wait("statefulset", "acid-a", "has one replica", |set| {
        set["spec"]["replicas"] == 1
    });
}

/// The one that leads is frozen, another one takes over, and the first one wakes up: it makes no pass then.
#[test]
fn a_frozen_leader_makes_no_pass_when_it_wakes_up() {
    let Some(kube) = control_plane() else { return };
    let (ns, dir) = (kube.namespace("freeze"), tempfile::tempdir().unwrap());
    let first = operator(&kube, &ns, dir.path(), "first", &[]);
    until(|| leads(&first), || first.text());
    let second = operator(&kube, &ns, dir.path(), "second", &[]);
    ns.apply(manifest(&ns, "acid-a"));
    ns.wait("statefulset", "acid-a", "is made", |set| !set.is_null());
    // Nothing is left to be done when it freezes.
    let mut before = writes(&first);
    until(
        || {
            std::thread::sleep(Duration::from_secs(2));
            std::mem::replace(&mut before, writes(&first)) == writes(&first)
        },
        || first.text(),
    );
    first.signal(Signal::STOP);
    until_in(Duration::from_secs(40), || leads(&second), || second.text());
    // Something is to be done when it wakes up, and it has the events of it in its socket.
    ns.patch("postgresql", "acid-a", &json!({"spec": {"numberOfInstances": 1}}));
    ns.wait("statefulset", "acid-a", "has one replica", |set| {
        set["spec"]["replicas"] == 1
    });
    first.signal(Signal::CONT);
    until(|| first.text().contains("no longer leads"), || first.text());
    ns.patch("postgresql", "acid-a", &json!({"spec": {"numberOfInstances": 2}}));
    ns.wait("statefulset", "acid-a", "has two replicas", |set| {
        set["spec"]["replicas"] == 2
    });
    assert!(!leads(&first));
    assert_eq!(writes(&first), before);
    assert!(leads(&second));
}

/// Nothing of a cluster is written again by an operator that starts: a new version restarts nothing.
#[test]
fn a_restarted_operator_changes_no_object() {
    let Some(kube) = control_plane() else { return };
    let (ns, dir) = (kube.namespace("restart"), tempfile::tempdir().unwrap());
    let mut first = operator(&kube, &ns, dir.path(), "first", &[]);
    ns.apply(manifest(&ns, "acid-a"));
    let objects = || -> Vec<Value> {
        [
            ("statefulset", "acid-a"),
            ("service", "acid-a"),
            ("service", "acid-a-repl"),
            ("secret", "zalando.acid-a.credentials.postgresql.acid.zalan.do"),
        ]
        .iter()
        .map(|(kind, name)| ns.get(kind, name))
        .collect()
    };
    until(
        || objects().iter().all(|object| !object.is_null()),
        || first.text(),
    );
    ns.wait("pod", "acid-a-1", "is made", |pod| !pod.is_null());
    first.signal(Signal::TERM);
    assert_eq!(first.ended(), 0);
    let versions = || -> Vec<Value> {
        objects()
            .iter()
            .map(|object| {
                json!([
                    object["metadata"]["uid"],
                    object["metadata"]["generation"],
                    object["spec"],
                    object["data"]
                ])
            })
            .collect()
    };
    let before = versions();
    let second = operator(&kube, &ns, dir.path(), "second", &[]);
    until(|| passes(&second) > 1.5, || second.text());
    assert_eq!(versions(), before);
    let pods: Vec<Value> = ns.list("pod", "cluster-name=acid-a");
    assert!(
        pods.iter()
            .all(|pod| pod["metadata"]["deletionTimestamp"].is_null())
    );
}

/// What the role of the chart allows and what the operator asks for are the same.
#[test]
fn the_role_has_what_is_asked_for_and_nothing_else() {
    let Some(kube) = control_plane() else { return };
    let Some(helm) = std::env::var_os("HOWDAH_HELM") else {
        return;
    };
    let (ns, dir) = (kube.namespace("rights"), tempfile::tempdir().unwrap());
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/howdah");
    // The chart without its Deployment: account, roles and configuration, under this namespace's name.
    let rendered = std::process::Command::new(helm)
        .args([
            "template",
            &ns.name,
            chart,
            "--namespace",
            &ns.name,
            "--kube-version",
            "1.35.0",
        ])
        .args([
            "--set",
            &format!("fullnameOverride={}", ns.name),
            "--set",
            "replicas=0",
        ])
        .args(["--set", &format!("podServiceAccount.name={}-pod", ns.name)])
        .args([
            "--set",
            &format!("configKubernetes.watched_namespace={}", ns.name),
        ])
        .output()
        .unwrap();
    let rendered = String::from_utf8(rendered.stdout).unwrap();
    kube.try_kubectl(&["apply", "-f", "-"], &rendered).unwrap();
    let kubeconfig = ns.kubeconfig_of(&ns.name, dir.path());
    let args = [
        "--configuration",
        &ns.name,
        "--operator-namespace",
        &ns.name,
        "--controller-id",
        &ns.name,
        // Nothing reaches it: what it asks of the API counts.
        "--webhook-listen",
        "127.0.0.1:0",
        "--webhook-host",
        "localhost",
        "--webhook-configuration",
        &ns.name,
    ];
    let mut operator = OwnOperator::start(&kubeconfig, dir.path(), "limited", &args);
    until(|| leads(&operator), || operator.text());
    // A life: made, a Secret of the user's, a pod that is replaced, an object that is gone, a quota, deleted.
    let mut life = manifest(&ns, "acid-a");
    life["spec"]["users"]["given"] = json!([]);
    life["spec"]["usersWithSecretRotation"] = json!(["given"]);
    life["spec"]["enableConnectionPooler"] = json!(true);
    ns.apply(json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "given.acid-a.credentials.postgresql.acid.zalan.do"},
        "stringData": {"username": "given", "password": "x"}}));
    ns.apply(life);
    ns.wait("pod", "acid-a-1", "is made", |pod| !pod.is_null());
    ns.wait("pod", "acid-a-1", "runs on its pretended node", |pod| {
        pod["status"]["phase"] == "Running"
    });
    // A pod that cannot run and whose template has changed is replaced.
    let uid = ns.get("pod", "acid-a-1")["metadata"]["uid"].clone();
    ns.kubectl(&["patch", "pod", "acid-a-1", "--subresource=status", "--type=merge", "-p",
        r#"{"status":{"containerStatuses":[{"name":"postgres","image":"x","imageID":"","ready":false,"restartCount":0,"started":false,"state":{"waiting":{"reason":"ErrImagePull"}}}]}}"#]);
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"podAnnotations": {"a": "b"}, "enableConnectionPooler": false, "volume": {"size": "2Gi"}}}),
    );
    ns.wait("pod", "acid-a-1", "is another one", |pod| {
        !pod.is_null() && pod["metadata"]["uid"] != uid
    });
    ns.apply(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}}));
    ns.wait("resourcequota", "q", "is counted", |quota| {
        quota["status"]["hard"]["pods"] == "0"
    });
    ns.kubectl(&["delete", "pod", "acid-a-0", "--wait=false"]);
    until(
        || {
            ns.get("postgresql", "acid-a")["status"]
                .to_string()
                .contains("exceeded quota")
        },
        || ns.get("postgresql", "acid-a")["status"].to_string(),
    );
    // Agents would have made these; the operator deletes them.
    ns.apply(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "acid-a-config",
        "labels": {"application": "spilo", "cluster-name": "acid-a"}}}),
    );
    ns.kubectl(&["delete", "postgresql", "acid-a", "--timeout=60s"]);
    // The definition is written only where it differs.
    kube.kubectl(&[
        "label",
        "crd",
        "postgresqls.acid.zalan.do",
        "app.kubernetes.io/name-",
    ]);
    let mut asked = String::new();
    until(
        || {
            asked = operator.http("/metrics", None).1;
            let of_definition = |line: &&str| line.contains("customresourcedefinitions");
            asked
                .lines()
                .filter(of_definition)
                .any(|line| line.contains("verb=\"update\""))
        },
        || "the definition is put back".to_owned(),
    );
    operator.signal(Signal::TERM);
    assert_eq!(operator.ended(), 0);

    let refused: Vec<&str> = asked
        .lines()
        .filter(|line| line.contains("code=\"403\""))
        .collect();
    assert!(refused.is_empty(), "the role lacks rights: {refused:#?}");
    let rules = rules(&ns);
    let is_asked = |group: &str, resource: &str, verb: &str| {
        let needle = format!("verb=\"{verb}\",group=\"{group}\",resource=\"{resource}\"");
        asked.lines().any(|line| line.contains(&needle))
    };
    let unused: Vec<String> = rules
        .iter()
        .filter(|(group, resource, verb)| {
            // An object that is applied for the first time needs the right to create it.
            let by_apply = verb == "create" && is_asked(group, resource, "patch");
            let bound = verb == "bind";
            // The definition was there before this operator.
            let definition = resource == "customresourcedefinitions" && (verb == "create" || verb == "patch");
            !is_asked(group, resource, verb) && !by_apply && !bound && !definition
        })
        .map(|(group, resource, verb)| format!("{verb} {group}/{resource}"))
        .collect();
    assert!(
        unused.is_empty(),
        "the role has rights that are not used: {unused:?}\n{asked}"
    );
    for kind in [
        "clusterrole",
        "clusterrolebinding",
        "validatingwebhookconfiguration",
    ] {
        kube.kubectl(&["delete", kind, &ns.name, "--ignore-not-found"]);
    }
    for name in ["users-admin", "users-view", "pod"] {
        kube.kubectl(&[
            "delete",
            "clusterrole",
            &format!("{}-{name}", ns.name),
            "--ignore-not-found",
        ]);
    }
}

#[test]
fn what_is_wrong_with_a_manifest_is_said_by_kubectl_apply() {
    let Some(kube) = control_plane() else { return };
    let (ns, dir) = (kube.namespace("admission"), tempfile::tempdir().unwrap());
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    ns.apply(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
        "data": {"delete_annotation_name_key": "delete-clustername"}}),
    );
    // As the chart's, but by address: this operator is in no pod.
    kube.apply(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": ns.name},
        "webhooks": [{
            "name": "postgresqls.acid.zalan.do", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Ignore", "timeoutSeconds": 5,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns.name}},
            "rules": [{"apiGroups": ["acid.zalan.do"], "apiVersions": ["v1"], "resources": ["postgresqls"],
                "operations": ["CREATE", "UPDATE", "DELETE"]}],
            "clientConfig": {"url": format!("https://{address}/validate")},
        }],
    }));
    let more = [
        "--config-map",
        "settings",
        "--webhook-listen",
        &address,
        "--webhook-host",
        "127.0.0.1",
        "--webhook-configuration",
        &ns.name,
    ];
    let mut operator = operator(&kube, &ns, dir.path(), "admission", &more);
    let apply = |manifest: &Value| kube.try_kubectl(&["apply", "-f", "-"], &manifest.to_string());
    let try_on =
        |manifest: &Value| kube.try_kubectl(&["apply", "--dry-run=server", "-f", "-"], &manifest.to_string());
    let mut wrong = manifest(&ns, "acid-a");
    wrong["metadata"]["namespace"] = json!(ns.name);
    wrong["spec"]["maintenanceWindows"] = json!(["Sat:22:00-02:00"]);
    // The API server takes a moment to see a new webhook: until then it would store the manifest, and kubectl would
    // not send it a second time.
    until(
        || try_on(&wrong).is_err_and(|said| said.contains("ends before it begins")),
        || operator.text(),
    );
    let said = apply(&wrong).unwrap_err();
    assert!(said.contains("denied the request"), "{said}");
    let mut right = wrong.clone();
    right["spec"]["maintenanceWindows"] = json!([]);
    apply(&right).unwrap();
    ns.wait("statefulset", "acid-a", "is made", |set| !set.is_null());
    // It is not deleted without its annotation, and with it it is.
    let refused = ns
        .try_kubectl(&["delete", "postgresql", "acid-a", "--wait=false"])
        .unwrap_err();
    assert!(refused.contains("delete-clustername=acid-a"), "{refused}");
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"metadata": {"annotations": {"delete-clustername": "acid-a"}}}),
    );
    ns.kubectl(&["delete", "postgresql", "acid-a", "--timeout=60s"]);
    // The certificate is one for all replicas, and another one is made when it is for other names.
    let secret = format!("{}-webhook", ns.name);
    let certificate = |ns: &Namespace| ns.get("secret", &secret)["data"]["tls.crt"].clone();
    let first = certificate(&ns);
    ns.patch("secret", &secret, &json!({"stringData": {"hosts": "elsewhere"}}));
    operator.signal(Signal::TERM);
    assert_eq!(operator.ended(), 0);
    // Without the webhook manifests are stored, and the status has the reason.
    apply(&wrong).unwrap();
    let again = self::operator(&kube, &ns, dir.path(), "again", &more);
    until(|| certificate(&ns) != first, || again.text());
    until(|| apply(&right).is_ok(), || again.text());
    until(
        || try_on(&wrong).is_err_and(|said| said.contains("ends before it begins")),
        || again.text(),
    );
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"metadata": {"annotations": {"delete-clustername": "acid-a"}}}),
    );
    kube.kubectl(&["delete", "validatingwebhookconfiguration", &ns.name]);
}

/// The rules of the operator's roles: group, resource, verb.
fn rules(ns: &Namespace) -> Vec<(String, String, String)> {
    let mut out = Vec::new();
    for role in [
        ns.kube.kubectl(&["get", "clusterrole", &ns.name, "-o", "json"]),
        ns.kubectl(&["get", "role", &ns.name, "-o", "json"]),
    ] {
        let role: Value = serde_json::from_str(&role).unwrap();
        for rule in role["rules"].as_array().unwrap() {
            let words = |key: &str| -> Vec<String> {
                let words = rule[key].as_array().unwrap().iter();
                words.map(|word| word.as_str().unwrap().to_owned()).collect()
            };
            for group in words("apiGroups") {
                for resource in words("resources") {
                    for verb in words("verbs") {
                        out.push((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
    }
    out
}

#[test]
fn a_missing_right_is_named_and_tried_again_seldom() {
    let Some(kube) = control_plane() else { return };
    let (ns, dir) = (kube.namespace("norights"), tempfile::tempdir().unwrap());
    ns.kubectl(&["create", "serviceaccount", "bare"]);
    let kubeconfig = ns.kubeconfig_of("bare", dir.path());
    let args = ["--namespace", ns.name.as_str(), "--no-leader-election"];
    let operator = OwnOperator::start(&kubeconfig, dir.path(), "bare", &args);
    until(
        || operator.http("/readyz", None).1.contains("forbidden"),
        || operator.text(),
    );
    let text = operator.http("/readyz", None).1;
    assert!(text.contains("customresourcedefinitions"), "{text}");
    // Every five seconds, not as fast as it can.
    let asked = |operator: &OwnOperator| operator.http("/metrics", None).1.matches("code=\"403\"").count();
    assert!(asked(&operator) <= 2, "{}", operator.text());
}

/// The configuration is followed while the operator runs; one that cannot be used changes nothing.
#[test]
fn a_change_of_the_configuration_takes_effect_without_a_restart() {
    let Some(kube) = control_plane() else { return };
    let (ns, dir) = (kube.namespace("follow"), tempfile::tempdir().unwrap());
    let settings = |image: &str, workers: &str| {
        ns.apply(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
            "data": {"docker_image": image, "workers": workers}}),
        );
    };
    settings("example.com/one:1", "4");
    let operator = operator(&kube, &ns, dir.path(), "follow", &["--config-map", "settings"]);
    ns.apply(manifest(&ns, "acid-a"));
    let image = |image: &'static str| {
        ns.wait("statefulset", "acid-a", "has the image", |set| {
            set["spec"]["template"]["spec"]["containers"][0]["image"] == image
        })
    };
    image("example.com/one:1");
    settings("example.com/two:1", "none");
    until(
        || operator.text().contains("The last configuration stays in effect"),
        || operator.text(),
    );
    image("example.com/one:1");
    settings("example.com/two:1", "4");
    image("example.com/two:1");
}

#[test]
fn a_wrong_configuration_ends_the_start_with_all_that_is_wrong() {
    let Some(kube) = control_plane() else { return };
    let (ns, dir) = (kube.namespace("config"), tempfile::tempdir().unwrap());
    ns.apply(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
        "data": {"workers": "many", "pod_terminate_grace_period": "5 minutes"}}),
    );
    let mut wrong = operator(&kube, &ns, dir.path(), "wrong", &["--config-map", "settings"]);
    assert_ne!(wrong.ended(), 0);
    for part in ["settings", "workers", "pod_terminate_grace_period"] {
        assert!(wrong.text().contains(part), "{part}: {}", wrong.text());
    }
    let mut missing = operator(
        &kube,
        &ns,
        dir.path(),
        "missing",
        &["--config-map", "no-such-map"],
    );
    assert_ne!(missing.ended(), 0);
    assert!(missing.text().contains("no-such-map"), "{}", missing.text());
    // Flat and grouped, with a key that nobody knows.
    kube.try_kubectl(&["apply", "-f", "-"], &json!({"apiVersion": "acid.zalan.do/v1", "kind": "OperatorConfiguration",
        "metadata": {"name": "settings", "namespace": ns.name},
        "configuration": {"docker_image": "example.com/own:1", "kubernetes": {"cluster_name_label": "own-name"}, "no_key": 1}}).to_string())
        .unwrap();
    let grouped = operator(
        &kube,
        &ns,
        dir.path(),
        "grouped",
        &["--configuration", "settings", "--api-token", "t"],
    );
    ns.apply(manifest(&ns, "acid-a"));
    let set = ns.wait("statefulset", "acid-a", "is made", |set| !set.is_null());
    assert_eq!(set["metadata"]["labels"]["own-name"], "acid-a");
    assert_eq!(
        set["spec"]["template"]["spec"]["containers"][0]["image"],
        "example.com/own:1"
    );
    assert!(grouped.text().contains("no_key"), "{}", grouped.text());
    assert!(
        grouped
            .http("/config/", Some("t"))
            .1
            .contains("example.com/own:1")
    );
}

#[test]
fn the_debug_api_has_the_old_operators_fields_for_those_with_the_token() {
    let Some(kube) = control_plane() else { return };
    let (ns, dir) = (kube.namespace("debug"), tempfile::tempdir().unwrap());
    let operator = operator(&kube, &ns, dir.path(), "debug", &["--api-token", "t0ken"]);
    ns.apply(manifest(&ns, "acid-a"));
    ns.wait("statefulset", "acid-a", "is made", |set| !set.is_null());
    assert_eq!(operator.http("/clusters/", None).0, 401);
    assert_eq!(operator.http("/clusters/", Some("other")).0, 401);
    assert_eq!(
        operator.http("/clusters/", Some("t0ken")).1,
        r#"{"acid":["acid-a"]}"#
    );
    assert_eq!(operator.http("/clusters/acid", Some("t0ken")).1, r#"["acid-a"]"#);
    let (status, text) = operator.http(&format!("/clusters/{}/acid-a/", ns.name), Some("t0ken"));
    assert_eq!(status, 200);
    let cluster: Value = serde_json::from_str(&text).unwrap();
    for field in [
        "Team",
        "Cluster",
        "Namespace",
        "MasterService",
        "ReplicaService",
        "StatefulSet",
        "Worker",
        "Status",
        "Spec",
        "Error",
    ] {
        assert!(cluster.get(field).is_some(), "{field}");
    }
    assert_eq!(cluster["StatefulSet"]["metadata"]["name"], "acid-a");
    let password = ns.password("acid-a", "zalando");
    assert!(!text.contains(&password));
    let state: Value = serde_json::from_str(&operator.http("/status/", Some("t0ken")).1).unwrap();
    assert_eq!(state["Clusters"], 1);
    assert_eq!(
        operator.http("/databases/", Some("t0ken")).1,
        r#"{"acid-a":["foo"]}"#
    );
    assert_eq!(operator.http("/workers/0/logs", Some("t0ken")).0, 404);
    assert_eq!(operator.http("/readyz/", None).0, 200);
}

#[test]
fn claims_and_secrets_are_kept_where_the_configuration_says_so() {
    let Some(kube) = control_plane() else { return };
    let (ns, dir) = (kube.namespace("keep"), tempfile::tempdir().unwrap());
    ns.apply(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
        "data": {"enable_persistent_volume_claim_deletion": "false", "enable_secrets_deletion": "false"}}),
    );
    let _operator = operator(&kube, &ns, dir.path(), "keeper", &["--config-map", "settings"]);
    ns.apply(manifest(&ns, "acid-a"));
    ns.wait("pod", "acid-a-1", "is made", |pod| !pod.is_null());
    let password = ns.password("acid-a", "zalando");
    ns.kubectl(&["delete", "postgresql", "acid-a", "--timeout=60s"]);
    until(
        || ns.get("statefulset", "acid-a").is_null(),
        || "the StatefulSet is gone".to_owned(),
    );
    assert_eq!(ns.list("persistentvolumeclaim", "cluster-name=acid-a").len(), 2);
    ns.apply(manifest(&ns, "acid-a"));
    ns.wait("pod", "acid-a-1", "is made", |pod| !pod.is_null());
    assert_eq!(ns.password("acid-a", "zalando"), password);
}
