//! What users of the old operator rely on, as far as objects show it: on a real API server whose nodes are pretended.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for what other processes do"
)]

use howdah_kubernetes_tests::{Kube, Namespace, control_plane, minimal, until};
use serde_json::{Value, json};

const LABELS: &str = "application=spilo,cluster-name=acid-a";

/// A namespace with the cluster `acid-a`, once all its objects are there.
fn cluster(kube: &Kube, name: &str, change: impl Fn(&mut Value)) -> Namespace {
    let namespace = kube.namespace(name);
    let mut manifest = minimal("acid-a");
    change(&mut manifest);
    namespace.apply(manifest);
    namespace.wait("statefulset", "acid-a", "is made", |set| !set.is_null());
    namespace
}

fn status_text(namespace: &Namespace) -> String {
    namespace.get("postgresql", "acid-a")["status"].to_string()
}

#[test]
fn objects_have_the_old_operators_names_and_labels() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "names", |manifest| {
        manifest["spec"]["preparedDatabases"] = json!({"bar": {"defaultUsers": true}});
    });
    for (kind, names) in [
        ("statefulset", vec!["acid-a"]),
        ("service", vec!["acid-a", "acid-a-repl"]),
        (
            "poddisruptionbudget",
            vec!["postgres-acid-a-pdb", "postgres-acid-a-critical-op-pdb"],
        ),
    ] {
        for name in names {
            let object = ns.wait(kind, name, "is there", |object| !object.is_null());
            let labels = &object["metadata"]["labels"];
            for (label, value) in [
                ("application", "spilo"),
                ("cluster-name", "acid-a"),
                ("team", "acid"),
            ] {
                assert_eq!(labels[label], value, "{kind} {name}");
            }
        }
    }
    let secrets: Vec<String> = ns
        .list("secret", LABELS)
        .iter()
        .map(|secret| secret["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    for role in [
        "postgres",
        "standby",
        "zalando",
        "foo-user",
        "bar-owner-user",
        "bar-reader-user",
        "bar-writer-user",
    ] {
        let name = format!("{role}.acid-a.credentials.postgresql.acid.zalan.do");
        assert!(secrets.contains(&name), "{name}: {secrets:?}");
    }
    assert_eq!(ns.password("acid-a", "zalando").len(), 64);
    for kind in ["serviceaccount", "rolebinding"] {
        assert!(!ns.get(kind, "postgres-pod").is_null(), "{kind}");
    }
}

#[test]
fn the_statefulset_is_as_adopted_ones_are() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "set", |_| {});
    let set = ns.get("statefulset", "acid-a");
    let spec = &set["spec"];
    assert_eq!(spec["serviceName"], "acid-a");
    assert_eq!(spec["replicas"], 2);
    assert_eq!(spec["updateStrategy"]["type"], "OnDelete");
    assert_eq!(spec["podManagementPolicy"], "OrderedReady");
    assert_eq!(
        spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"],
        "Retain"
    );
    assert_eq!(spec["volumeClaimTemplates"][0]["metadata"]["name"], "pgdata");
    assert_eq!(
        spec["selector"]["matchLabels"],
        json!({"application": "spilo", "cluster-name": "acid-a"})
    );
    let container = &spec["template"]["spec"]["containers"][0];
    assert_eq!(container["name"], "postgres");
    let env = container["env"].as_array().unwrap();
    for name in [
        "SCOPE",
        "PGROOT",
        "POD_IP",
        "POD_NAMESPACE",
        "PGUSER_SUPERUSER",
        "PGPASSWORD_SUPERUSER",
        "PGPASSWORD_STANDBY",
        "KUBERNETES_SCOPE_LABEL",
        "KUBERNETES_ROLE_LABEL",
        "KUBERNETES_LABELS",
        "SPILO_CONFIGURATION",
        "PGVERSION",
        "DCS_ENABLE_KUBERNETES_API",
        "KUBERNETES_USE_CONFIGMAPS",
    ] {
        assert!(env.iter().any(|var| var["name"] == name), "{name}");
    }
}

#[test]
fn services_and_budgets_select_by_role() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "roles", |_| {});
    let primary = ns.wait("service", "acid-a", "is there", |service| !service.is_null());
    let replica = ns.wait("service", "acid-a-repl", "is there", |service| !service.is_null());
    assert_eq!(primary["spec"]["selector"]["spilo-role"], "master");
    assert_eq!(replica["spec"]["selector"]["spilo-role"], "replica");
    assert_eq!(primary["spec"]["type"], "ClusterIP");
    let budget = ns.wait(
        "poddisruptionbudget",
        "postgres-acid-a-pdb",
        "is there",
        |budget| !budget.is_null(),
    );
    assert_eq!(budget["spec"]["minAvailable"], 1);
    assert_eq!(budget["spec"]["selector"]["matchLabels"]["spilo-role"], "master");
}

#[test]
fn pods_are_admitted_where_the_standard_restricted_is_enforced() {
    let Some(kube) = control_plane() else { return };
    let ns = kube.namespace("restricted");
    kube.kubectl(&[
        "label",
        "namespace",
        &ns.name,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    ns.apply(minimal("acid-a"));
    ns.wait("pod", "acid-a-0", "is admitted", |pod| !pod.is_null());
}

#[test]
fn a_secret_that_is_there_first_wins() {
    let Some(kube) = control_plane() else { return };
    let ns = kube.namespace("secrets");
    let name = "zalando.acid-a.credentials.postgresql.acid.zalan.do";
    ns.apply(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"username": "zalando", "password": "chosen"}}),
    );
    ns.apply(minimal("acid-a"));
    ns.wait("statefulset", "acid-a", "is made", |set| !set.is_null());
    assert_eq!(ns.password("acid-a", "zalando"), "chosen");
}

#[test]
fn a_secret_that_is_deleted_comes_back_with_its_password() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "back", |_| {});
    let before = ns.password("acid-a", "foo-user");
    let name = "foo-user.acid-a.credentials.postgresql.acid.zalan.do";
    ns.kubectl(&["delete", "secret", name]);
    ns.wait("secret", name, "comes back", |secret| !secret.is_null());
    assert_eq!(ns.password("acid-a", "foo-user"), before);
}

#[test]
fn objects_that_are_deleted_come_back() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "again", |_| {});
    let template = ns.get("statefulset", "acid-a")["spec"]["template"].clone();
    for (kind, name) in [
        ("service", "acid-a"),
        ("service", "acid-a-repl"),
        ("poddisruptionbudget", "postgres-acid-a-pdb"),
        ("statefulset", "acid-a"),
    ] {
        let uid = ns.wait(kind, name, "is there", |object| !object.is_null())["metadata"]["uid"].clone();
        ns.kubectl(&["delete", kind, name]);
        ns.wait(kind, name, "comes back", |object| {
            !object.is_null() && object["metadata"]["uid"] != uid
        });
    }
    assert_eq!(ns.get("statefulset", "acid-a")["spec"]["template"], template);
}

#[test]
fn edits_of_objects_are_put_back_and_what_others_add_stays() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "edits", |_| {});
    ns.kubectl(&["scale", "statefulset", "acid-a", "--replicas=5"]);
    ns.wait("statefulset", "acid-a", "has two replicas again", |set| {
        set["spec"]["replicas"] == 2
    });
    ns.wait("service", "acid-a", "is there", |service| !service.is_null());
    ns.patch(
        "service",
        "acid-a",
        &json!({"spec": {"selector": {"spilo-role": "replica"}}}),
    );
    ns.wait("service", "acid-a", "selects the primary again", |service| {
        service["spec"]["selector"]["spilo-role"] == "master"
    });
    ns.kubectl(&["label", "service", "acid-a", "mesh=on"]);
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"masterServiceAnnotations": {"a": "b"}}}),
    );
    let service = ns.wait("service", "acid-a", "has the annotation", |service| {
        service["metadata"]["annotations"]["a"] == "b"
    });
    assert_eq!(service["metadata"]["labels"]["mesh"], "on");
}

#[test]
fn changes_of_the_manifest_reach_the_objects() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "change", |_| {});
    ns.patch("postgresql", "acid-a", &json!({"spec": {"numberOfInstances": 3}}));
    ns.wait("statefulset", "acid-a", "has three replicas", |set| {
        set["spec"]["replicas"] == 3
    });
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {
            "enableMasterLoadBalancer": true, "allowedSourceRanges": ["10.0.0.0/8"],
            "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"memory": "500Mi"}},
            "podAnnotations": {"team": "blue"}, "podPriorityClassName": "",
            "tolerations": [{"key": "db", "operator": "Exists", "effect": "NoSchedule"}],
            "dockerImage": "registry.example.com/howdah:next",
        }}),
    );
    let service = ns.wait("service", "acid-a", "is a load balancer", |service| {
        service["spec"]["type"] == "LoadBalancer"
    });
    assert_eq!(service["spec"]["loadBalancerSourceRanges"], json!(["10.0.0.0/8"]));
    let hosts = &service["metadata"]["annotations"]["external-dns.alpha.kubernetes.io/hostname"];
    assert!(hosts.as_str().unwrap().starts_with("acid-a."), "{hosts}");
    let set = ns.wait("statefulset", "acid-a", "has the image", |set| {
        set["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.com/howdah:next"
    });
    let template = &set["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"]["team"], "blue");
    assert_eq!(template["spec"]["tolerations"][0]["key"], "db");
    let resources = &template["spec"]["containers"][0]["resources"];
    assert_eq!(resources["limits"]["memory"], "500Mi");
}

#[test]
fn the_manifest_is_not_rewritten_and_its_status_says_what_was_seen() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "status", |_| {});
    let object = ns.wait("postgresql", "acid-a", "has a status", |object| {
        object["status"]["observedGeneration"] == object["metadata"]["generation"]
    });
    assert_eq!(object["spec"], minimal("acid-a")["spec"]);
    assert_eq!(object["metadata"]["generation"], 1);
    let status = &object["status"];
    assert_eq!(status["PostgresClusterStatus"], "Creating");
    for kind in ["Ready", "Available", "Progressing"] {
        let conditions = status["conditions"].as_array().unwrap();
        assert!(
            conditions.iter().any(|condition| condition["type"] == kind),
            "{kind}"
        );
    }
    assert_eq!(
        object["metadata"]["finalizers"],
        json!(["postgres-operator.acid.zalan.do"])
    );
    let columns = ns.kubectl(&["get", "pg"]);
    for column in [
        "TEAM",
        "VERSION",
        "PODS",
        "VOLUME",
        "CPU-REQUEST",
        "MEMORY-REQUEST",
        "AGE",
        "STATUS",
    ] {
        assert!(columns.contains(column), "{columns}");
    }
    let waited = ns.try_kubectl(&["wait", "--for=condition=Ready", "--timeout=1s", "pg/acid-a"]);
    assert!(
        waited.is_err(),
        "it is not ready, since nothing runs on pretended nodes"
    );
    let events = ns.cluster_events();
    assert!(events.contains("\"reason\": \"Create\""), "{events}");
}

#[test]
fn a_deletion_takes_everything_of_its_cluster_and_nothing_else() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "deletion", |_| {});
    ns.apply(minimal("acid-b"));
    ns.wait("statefulset", "acid-b", "is made", |set| !set.is_null());
    ns.wait("pod", "acid-a-0", "is made", |pod| !pod.is_null());
    ns.kubectl(&["delete", "postgresql", "acid-a", "--timeout=60s"]);
    for kind in [
        "statefulset",
        "service",
        "poddisruptionbudget",
        "secret",
        "configmap",
        "persistentvolumeclaim",
        "pod",
    ] {
        until(
            || ns.list(kind, LABELS).is_empty(),
            || format!("no {kind} is left"),
        );
    }
    assert!(!ns.get("statefulset", "acid-b").is_null());
    assert!(!ns.list("secret", "cluster-name=acid-b").is_empty());
}

#[test]
fn a_manifest_that_cannot_be_acted_on_makes_nothing_and_says_why() {
    let Some(kube) = control_plane() else { return };
    let ns = kube.namespace("invalid");
    let mut manifest = minimal("acid-a");
    manifest["spec"]["clone"] = json!({"cluster": "acid-other", "timestamp": "2026-01-01T00:00:00+00:00"});
    ns.apply(manifest);
    let object = ns.wait("postgresql", "acid-a", "is refused", |object| {
        object["status"]["PostgresClusterStatus"] == "Invalid"
    });
    assert!(object["status"].to_string().contains("clone"), "{object}");
    assert!(ns.get("statefulset", "acid-a").is_null());
}

#[test]
fn the_api_server_refuses_wrong_values_with_their_place() {
    let Some(kube) = control_plane() else { return };
    let ns = kube.namespace("schema");
    let mut manifest = minimal("acid-a");
    manifest["metadata"]["namespace"] = json!(ns.name);
    manifest["spec"]["numberOfInstances"] = json!(-1);
    let error = kube
        .try_kubectl(&["apply", "-f", "-"], &manifest.to_string())
        .unwrap_err();
    assert!(error.contains("spec.numberOfInstances"), "{error}");
    manifest["spec"]["numberOfInstances"] = json!(2);
    manifest["spec"]["volume"]["size"] = json!("large");
    let error = kube
        .try_kubectl(&["apply", "-f", "-"], &manifest.to_string())
        .unwrap_err();
    assert!(error.contains("spec.volume.size"), "{error}");
}

#[test]
fn old_names_of_fields_are_understood() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "old", |manifest| {
        manifest["spec"]["replicaLoadBalancer"] = json!(true);
        manifest["spec"]["pod_priority_class_name"] = json!("system-cluster-critical");
    });
    let set = ns.get("statefulset", "acid-a");
    let class = &set["spec"]["template"]["spec"]["priorityClassName"];
    assert!(
        class == "system-cluster-critical" || status_text(&ns).contains("pod_priority_class_name"),
        "{class}"
    );
}

#[test]
fn a_cluster_of_another_controller_is_left_alone() {
    let Some(kube) = control_plane() else { return };
    let ns = kube.namespace("other");
    let mut manifest = minimal("acid-b");
    manifest["metadata"]["annotations"] = json!({"acid.zalan.do/controller": "second"});
    ns.apply(manifest);
    ns.apply(minimal("acid-a"));
    ns.wait("statefulset", "acid-a", "is made", |set| !set.is_null());
    assert!(ns.get("statefulset", "acid-b").is_null());
    assert!(ns.get("postgresql", "acid-b")["metadata"]["finalizers"].is_null());
    ns.kubectl(&["delete", "postgresql", "acid-b", "--timeout=10s"]);
}

#[test]
fn clusters_of_one_name_in_two_namespaces_are_two() {
    let Some(kube) = control_plane() else { return };
    let (one, other) = (cluster(&kube, "one", |_| {}), cluster(&kube, "other-one", |_| {}));
    assert_ne!(
        one.password("acid-a", "zalando"),
        other.password("acid-a", "zalando")
    );
    one.kubectl(&["delete", "postgresql", "acid-a", "--timeout=60s"]);
    assert!(!other.get("statefulset", "acid-a").is_null());
}

#[test]
fn a_quota_is_named_as_the_reason() {
    let Some(kube) = control_plane() else { return };
    let ns = kube.namespace("quota");
    ns.apply(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}}));
    ns.wait("resourcequota", "q", "is counted", |quota| {
        quota["status"]["hard"]["pods"] == "0"
    });
    ns.apply(minimal("acid-a"));
    until(
        || status_text(&ns).contains("exceeded quota"),
        || status_text(&ns),
    );
    let events = ns.cluster_events();
    assert!(events.contains("exceeded quota"), "{events}");
}

#[test]
fn a_claim_that_is_not_bound_is_named_as_the_reason() {
    let Some(kube) = control_plane() else { return };
    let ns = kube.namespace("claim");
    let mut manifest = minimal("acid-a");
    manifest["spec"]["volume"]["storageClass"] = json!("no-such-class");
    ns.apply(manifest);
    until(
        || status_text(&ns).contains("Unschedulable") || status_text(&ns).contains("PersistentVolumeClaim"),
        || status_text(&ns),
    );
}

#[test]
fn pod_security_that_refuses_upstreams_image_is_named_as_the_reason() {
    let Some(kube) = control_plane() else { return };
    let ns = kube.namespace("refused");
    kube.kubectl(&[
        "label",
        "namespace",
        &ns.name,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    let mut manifest = minimal("acid-a");
    manifest["spec"]["dockerImage"] = json!("ghcr.io/zalando/spilo-17:4.0-p3");
    ns.apply(manifest);
    until(
        || status_text(&ns).contains("violates PodSecurity"),
        || status_text(&ns),
    );
}

#[test]
fn a_cluster_without_members_has_objects_and_no_pods() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "zero", |manifest| {
        manifest["spec"]["numberOfInstances"] = json!(0);
    });
    assert_eq!(ns.get("statefulset", "acid-a")["spec"]["replicas"], 0);
    ns.patch("postgresql", "acid-a", &json!({"spec": {"numberOfInstances": 1}}));
    ns.wait("statefulset", "acid-a", "has one replica", |set| {
        set["spec"]["replicas"] == 1
    });
}

#[test]
fn a_restart_of_pods_is_not_asked_for_by_a_manifest_that_is_applied_again() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "same", |_| {});
    let revision = |ns: &Namespace| ns.get("statefulset", "acid-a")["metadata"]["generation"].clone();
    let before = revision(&ns);
    for _ in 0..3 {
        ns.apply(minimal("acid-a"));
    }
    ns.patch("postgresql", "acid-a", &json!({"spec": {"numberOfInstances": 3}}));
    ns.wait("statefulset", "acid-a", "has three replicas", |set| {
        set["spec"]["replicas"] == 3
    });
    assert_eq!(
        revision(&ns),
        json!(before.as_i64().unwrap() + 1),
        "one change, one write"
    );
}

#[test]
fn a_namespace_that_is_made_again_gets_its_account_again() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "twice", |_| {});
    ns.kubectl(&["delete", "postgresql", "acid-a", "--timeout=60s"]);
    kube.kubectl(&["delete", "namespace", &ns.name, "--timeout=60s"]);
    kube.kubectl(&["create", "namespace", &ns.name]);
    ns.apply(minimal("acid-a"));
    ns.wait("serviceaccount", "postgres-pod", "is made again", |account| {
        !account.is_null()
    });
    ns.wait("pod", "acid-a-0", "is made", |pod| !pod.is_null());
}
