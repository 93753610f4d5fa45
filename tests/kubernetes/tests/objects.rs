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

fn template(namespace: &Namespace) -> Value {
    namespace.get("statefulset", "acid-a")["spec"]["template"]["spec"].clone()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|item| item["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {list}"))
}

#[test]
fn sidecars_and_init_containers_are_in_the_pods() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "sidecars", |manifest| {
        manifest["spec"]["sidecars"] = json!([{"name": "exporter", "image": "exporter:1", "command": ["run"],
            "ports": [{"containerPort": 9187, "protocol": "TCP"}], "env": [{"name": "A", "value": "b"}],
            "resources": {"limits": {"cpu": "500m", "memory": "500Mi"}, "requests": {"cpu": "100m", "memory": "100Mi"}}}]);
        manifest["spec"]["init_containers"] =
            json!([{"name": "date", "image": "busybox", "command": ["/bin/date"]}]);
    });
    let pod = template(&ns);
    assert_eq!(pod["containers"][0]["name"], "postgres");
    let exporter = named(&pod["containers"], "exporter");
    assert_eq!(exporter["resources"]["requests"]["memory"], "100Mi");
    let variables: Vec<&str> = exporter["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|var| var["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        variables,
        [
            "POD_NAME",
            "POD_NAMESPACE",
            "POSTGRES_USER",
            "POSTGRES_PASSWORD",
            "A"
        ]
    );
    assert_eq!(exporter["volumeMounts"][0]["mountPath"], "/home/postgres/pgdata");
    assert_eq!(
        named(&pod["initContainers"], "date")["command"],
        json!(["/bin/date"])
    );
    // One that is taken out of the manifest goes from the pods.
    ns.patch("postgresql", "acid-a", &json!({"spec": {"sidecars": null}}));
    ns.wait("statefulset", "acid-a", "has no sidecar", |set| {
        set["spec"]["template"]["spec"]["containers"]
            .as_array()
            .map(Vec::len)
            == Some(1)
    });
}

#[test]
fn additional_volumes_are_mounted_where_they_are_asked_for() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "volumes", |manifest| {
        manifest["spec"]["sidecars"] = json!([{"name": "a", "image": "a:1"}]);
        manifest["spec"]["additionalVolumes"] = json!([
            {"name": "empty", "mountPath": "/opt/empty", "targetContainers": ["all"], "volumeSource": {"emptyDir": {}}},
            {"name": "data", "mountPath": "/home/postgres/pgdata/partitions", "targetContainers": ["postgres"],
             "volumeSource": {"persistentVolumeClaim": {"claimName": "pvc-postgresql-data-partitions", "readOnly": false}}},
            {"name": "conf", "mountPath": "/etc/telegraf", "subPath": "telegraf.conf", "targetContainers": ["a"],
             "volumeSource": {"configMap": {"name": "my-config-map"}}},
            {"name": "again", "mountPath": "/opt/empty", "volumeSource": {"emptyDir": {}}},
        ]);
    });
    let pod = template(&ns);
    let mounted = |container: &str| -> Vec<String> {
        let mounts = &named(&pod["containers"], container)["volumeMounts"];
        let mounts = mounts.as_array().unwrap().iter();
        mounts
            .map(|mount| mount["mountPath"].as_str().unwrap().to_owned())
            .collect()
    };
    let (postgres, other) = (mounted("postgres"), mounted("a"));
    assert!(postgres.contains(&"/opt/empty".to_owned()) && other.contains(&"/opt/empty".to_owned()));
    assert!(
        postgres.contains(&"/home/postgres/pgdata/partitions".to_owned())
            && !other.contains(&postgres[2].clone())
    );
    assert!(!postgres.contains(&"/etc/telegraf".to_owned()) && other.contains(&"/etc/telegraf".to_owned()));
    ns.wait(
        "postgresql",
        "acid-a",
        "names the volume that is left out",
        |cluster| {
            cluster["status"]
                .to_string()
                .contains("spec.additionalVolumes[3].mountPath")
        },
    );
}

#[test]
fn a_certificate_of_a_secret_is_mounted_and_a_missing_one_is_named() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "tls", |manifest| {
        manifest["spec"]["tls"] = json!({"secretName": "cert", "caFile": "ca.crt", "caSecretName": "ca"});
    });
    let pod = template(&ns);
    let volume = named(&pod["volumes"], "howdah-tls");
    assert_eq!(
        volume["secret"],
        json!({"secretName": "cert", "defaultMode": 0o640})
    );
    let env = &pod["containers"][0]["env"];
    assert_eq!(named(env, "SSL_CERTIFICATE_FILE")["value"], "/tls/tls.crt");
    assert_eq!(named(env, "SSL_PRIVATE_KEY_FILE")["value"], "/tls/tls.key");
    assert_eq!(named(env, "SSL_CA_FILE")["value"], "/tlsca/ca.crt");
    ns.wait("postgresql", "acid-a", "names what is missing", |cluster| {
        cluster["status"]
            .to_string()
            .contains("there is no Secret 'cert'")
    });
}

#[test]
fn a_clone_is_told_its_source_and_an_unknown_one_is_refused() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "clone", |manifest| {
        manifest["spec"]["clone"] = json!({"cluster": "acid-source"});
    });
    let env = template(&ns)["containers"][0]["env"].clone();
    assert_eq!(named(&env, "CLONE_METHOD")["value"], "CLONE_WITH_BASEBACKUP");
    assert_eq!(named(&env, "CLONE_HOST")["value"], "acid-source");
    assert_eq!(
        named(&env, "CLONE_PASSWORD")["valueFrom"]["secretKeyRef"]["name"],
        "standby.acid-source.credentials.postgresql.acid.zalan.do"
    );
    let mut restored = minimal("acid-b");
    restored["spec"]["clone"] = json!({"cluster": "acid-source", "timestamp": "2026-01-01T00:00:00+00:00"});
    ns.apply(restored);
    ns.wait("postgresql", "acid-b", "says why", |cluster| {
        let status = &cluster["status"];
        status["PostgresClusterStatus"] == "Invalid" && status.to_string().contains("spec.clone.uid")
    });
    assert!(ns.get("statefulset", "acid-b").is_null());
    let mut restored = minimal("acid-c");
    restored["spec"]["clone"] = json!({"cluster": "acid-source", "timestamp": "2026-01-01T00:00:00+00:00",
        "s3_wal_path": "s3://bucket/path"});
    ns.apply(restored);
    let set = ns.wait("statefulset", "acid-c", "is made", |set| !set.is_null());
    let env = set["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    assert_eq!(named(&env, "CLONE_METHOD")["value"], "CLONE_WITH_WALE");
    assert_eq!(named(&env, "CLONE_WALE_S3_PREFIX")["value"], "s3://bucket/path");
    assert_eq!(
        named(&env, "CLONE_TARGET_TIME")["value"],
        "2026-01-01T00:00:00+00:00"
    );
}

#[test]
fn a_standby_is_told_whom_it_follows() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "standby", |manifest| {
        manifest["spec"]["standby"] = json!({"standby_host": "db.example.com", "standby_port": "5433",
            "standby_primary_slot_name": "follower"});
    });
    let env = template(&ns)["containers"][0]["env"].clone();
    for (name, value) in [
        ("STANDBY_HOST", "db.example.com"),
        ("STANDBY_PORT", "5433"),
        ("STANDBY_PRIMARY_SLOT_NAME", "follower"),
    ] {
        assert_eq!(named(&env, name)["value"], value);
    }
}

#[test]
fn poolers_are_deployments_with_the_old_operators_names() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "pooler", |manifest| {
        manifest["spec"]["enableConnectionPooler"] = json!(true);
        manifest["spec"]["enableReplicaConnectionPooler"] = json!(true);
        manifest["spec"]["connectionPooler"] = json!({"numberOfInstances": 3, "maxDBConnections": 60, "mode": "session",
            "resources": {"requests": {"cpu": "300m", "memory": "100Mi"}, "limits": {"cpu": "1", "memory": "100Mi"}}});
    });
    for (name, server, role) in [
        ("acid-a-pooler", "acid-a", "master"),
        ("acid-a-pooler-repl", "acid-a-repl", "replica"),
    ] {
        let deployment = ns.wait("deployment", name, "is made", |deployment| !deployment.is_null());
        assert_eq!(deployment["spec"]["replicas"], 3);
        assert_eq!(
            deployment["spec"]["selector"]["matchLabels"],
            json!({"application": "db-connection-pooler", "cluster-name": "acid-a", "connection-pooler": name})
        );
        assert_eq!(deployment["metadata"]["labels"]["spilo-role"], role);
        let pod = &deployment["spec"]["template"]["spec"];
        let container = named(&pod["containers"], "connection-pooler");
        for (variable, value) in [
            ("PGHOST", server),
            ("PGPORT", "5432"),
            ("PGUSER", "pooler"),
            ("PGSCHEMA", "pooler"),
            ("CONNECTION_POOLER_MODE", "session"),
            ("CONNECTION_POOLER_PORT", "5432"),
            // 60 connections for three pods.
            ("CONNECTION_POOLER_MAX_DB_CONN", "20"),
            ("CONNECTION_POOLER_DEFAULT_SIZE", "10"),
            ("CONNECTION_POOLER_MIN_SIZE", "5"),
            ("CONNECTION_POOLER_RESERVE_SIZE", "5"),
            ("CONNECTION_POOLER_MAX_CLIENT_CONN", "10000"),
        ] {
            assert_eq!(named(&container["env"], variable)["value"], value, "{variable}");
        }
        assert_eq!(
            named(&container["env"], "PGPASSWORD")["valueFrom"]["secretKeyRef"]["name"],
            "pooler.acid-a.credentials.postgresql.acid.zalan.do"
        );
        assert_eq!(container["resources"]["requests"]["cpu"], "300m");
        let service = ns.wait("service", name, "is made", |service| !service.is_null());
        assert_eq!(service["spec"]["selector"], json!({"connection-pooler": name}));
        assert_eq!(service["spec"]["ports"][0]["name"], name);
    }
    assert_eq!(ns.password("acid-a", "pooler").len(), 64);
}

#[test]
fn a_section_asks_for_the_primarys_pooler_and_without_it_the_pooler_goes() {
    let Some(kube) = control_plane() else { return };
    let ns = cluster(&kube, "section", |manifest| {
        manifest["spec"]["connectionPooler"] = json!({"numberOfInstances": 1});
        manifest["spec"]["enableMasterPoolerLoadBalancer"] = json!(true);
    });
    ns.wait("deployment", "acid-a-pooler", "is made", |deployment| {
        !deployment.is_null()
    });
    let service = ns.wait("service", "acid-a-pooler", "is made", |service| {
        !service.is_null()
    });
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert!(ns.get("deployment", "acid-a-pooler-repl").is_null());
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"enableConnectionPooler": false}}),
    );
    for kind in ["deployment", "service"] {
        ns.wait(kind, "acid-a-pooler", "is gone", Value::is_null);
    }
    // It comes again, and goes with its cluster.
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"enableConnectionPooler": true}}),
    );
    ns.wait("deployment", "acid-a-pooler", "is made", |deployment| {
        !deployment.is_null()
    });
    ns.kubectl(&["delete", "postgresql", "acid-a", "--timeout=60s"]);
    assert!(ns.get("deployment", "acid-a-pooler").is_null() && ns.get("service", "acid-a-pooler").is_null());
}

#[test]
fn a_pooler_that_another_client_made_otherwise_is_made_again() {
    let Some(kube) = control_plane() else { return };
    let ns = kube.namespace("foreign-pooler");
    ns.apply(
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "acid-a-pooler"}, "spec": {
        "selector": {"matchLabels": {"app": "other"}}, "template": {"metadata": {"labels": {"app": "other"}},
            "spec": {"containers": [{"name": "x", "image": "x"}]}}}}),
    );
    let mut manifest = minimal("acid-a");
    manifest["spec"]["enableConnectionPooler"] = json!(true);
    ns.apply(manifest);
    ns.wait("deployment", "acid-a-pooler", "is ours", |deployment| {
        deployment["spec"]["selector"]["matchLabels"]["application"] == "db-connection-pooler"
    });
}
