//! Services and pods as the old operator makes them from a manifest: on a real API server whose nodes are pretended.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use howdah_kubernetes_tests::{Namespace, control_plane, minimal, until};
use serde_json::{Value, json};

/// The cluster `acid-a` of team acid, with this in its spec. `None`: there is no Kubernetes.
fn cluster(name: &str, spec: &Value) -> Option<Namespace> {
    let namespace = control_plane()?.namespace(name);
    let mut manifest = minimal("acid-a");
    manifest["spec"]
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    namespace.apply(manifest);
    namespace.wait("statefulset", "acid-a", "is made", |set| !set.is_null());
    Some(namespace)
}

fn pod(ns: &Namespace) -> Value {
    ns.get("statefulset", "acid-a")["spec"]["template"].clone()
}

fn container(ns: &Namespace) -> Value {
    pod(ns)["spec"]["containers"][0].clone()
}

fn variable(ns: &Namespace, name: &str) -> Option<Value> {
    let all = container(ns)["env"].as_array().cloned().unwrap();
    all.into_iter().find(|var| var["name"] == name)
}

/// The document that the members begin with.
fn configuration(ns: &Namespace) -> Value {
    let variable = variable(ns, "SPILO_CONFIGURATION").unwrap();
    serde_json::from_str(variable["value"].as_str().unwrap()).unwrap()
}

fn service(ns: &Namespace, name: &str) -> Value {
    ns.wait("service", name, "is made", |service| !service.is_null())
}

fn status_says(ns: &Namespace, text: &str) {
    let status = || ns.get("postgresql", "acid-a")["status"].to_string();
    until(|| status().contains(text), || format!("'{text}' in {}", status()));
}

#[test]
fn services_are_inside_unless_asked_for_otherwise() {
    let Some(ns) = cluster("inside", &json!({})) else {
        return;
    };
    for (name, role) in [("acid-a", "master"), ("acid-a-repl", "replica")] {
        let spec = service(&ns, name)["spec"].clone();
        assert_eq!(
            (&spec["type"], &spec["selector"]["spilo-role"]),
            (&json!("ClusterIP"), &json!(role))
        );
        assert_eq!(
            (&spec["ports"][0]["name"], &spec["ports"][0]["port"]),
            (&json!("postgresql"), &json!(5432))
        );
    }
}

#[test]
fn a_load_balancer_lets_in_whom_the_manifest_names_and_else_nobody() {
    let ranges = json!({"enableMasterLoadBalancer": true, "enableReplicaLoadBalancer": true, "allowedSourceRanges": ["10.0.0.0/8"]});
    let Some(ns) = cluster("ranges", &ranges) else {
        return;
    };
    let spec = service(&ns, "acid-a")["spec"].clone();
    assert_eq!(
        (&spec["type"], &spec["loadBalancerSourceRanges"]),
        (&json!("LoadBalancer"), &json!(["10.0.0.0/8"]))
    );
    assert_eq!(spec["externalTrafficPolicy"], "Cluster");
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"allowedSourceRanges": []}}),
    );
    ns.wait("service", "acid-a-repl", "is closed", |service| {
        service["spec"]["loadBalancerSourceRanges"] == json!(["127.0.0.1/32"])
    });
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"enableMasterLoadBalancer": false}}),
    );
    let inside = ns.wait("service", "acid-a", "is inside again", |service| {
        service["spec"]["type"] == "ClusterIP"
    });
    assert!(inside["spec"]["loadBalancerSourceRanges"].is_null());
    assert_eq!(
        inside["spec"]["clusterIP"], spec["clusterIP"],
        "its address stays"
    );
}

#[test]
fn load_balancers_have_the_old_operators_dns_names() {
    let Some(ns) = cluster(
        "dns",
        &json!({"enableMasterLoadBalancer": true, "enableReplicaLoadBalancer": true}),
    ) else {
        return;
    };
    let name = |service: &Value| {
        service["metadata"]["annotations"]["external-dns.alpha.kubernetes.io/hostname"].clone()
    };
    let primary = format!("acid-a.{}.db.example.com,a.acid.db.example.com", ns.name);
    assert_eq!(name(&service(&ns, "acid-a")), primary);
    let replica = format!(
        "acid-a-repl.{}.db.example.com,a-repl.acid.db.example.com",
        ns.name
    );
    assert_eq!(name(&service(&ns, "acid-a-repl")), replica);
}

#[test]
fn a_node_port_wins_over_a_load_balancer() {
    let both = json!({"enableMasterNodePort": true, "masterNodePort": 31_432, "enableMasterLoadBalancer": true, "enableReplicaNodePort": true});
    let Some(ns) = cluster("nodeport", &both) else {
        return;
    };
    let primary = service(&ns, "acid-a");
    assert_eq!(
        (&primary["spec"]["type"], &primary["spec"]["ports"][0]["nodePort"]),
        (&json!("NodePort"), &json!(31_432))
    );
    assert!(
        service(&ns, "acid-a-repl")["spec"]["ports"][0]["nodePort"]
            .as_i64()
            .unwrap()
            >= 30_000
    );
}

#[test]
fn annotations_of_a_role_win_over_those_of_both() {
    let annotations = json!({
        "serviceAnnotations": {"all": "1", "both": "1"}, "masterServiceAnnotations": {"both": "2"}, "replicaServiceAnnotations": {"r": "3"},
    });
    let Some(ns) = cluster("annotated", &annotations) else {
        return;
    };
    let of = |name: &str| service(&ns, name)["metadata"]["annotations"].clone();
    assert_eq!(
        (of("acid-a")["both"].clone(), of("acid-a")["all"].clone()),
        (json!("2"), json!("1"))
    );
    assert_eq!(
        (of("acid-a-repl")["both"].clone(), of("acid-a-repl")["r"].clone()),
        (json!("1"), json!("3"))
    );
}

#[test]
fn two_manifests_that_want_one_node_port_are_told() {
    let port = json!({"enableMasterNodePort": true, "masterNodePort": 31_433});
    let Some(ns) = cluster("taken", &port) else { return };
    service(&ns, "acid-a");
    let mut other = minimal("acid-b");
    other["spec"]
        .as_object_mut()
        .unwrap()
        .extend(port.as_object().unwrap().clone());
    ns.apply(other);
    let status = || ns.get("postgresql", "acid-b")["status"].to_string();
    until(|| status().contains("provided port is already allocated"), status);
    assert!(
        !ns.get("postgresql", "acid-a")["status"]
            .to_string()
            .contains("already allocated")
    );
}

#[test]
fn a_variable_of_the_manifest_does_not_overrule_the_operators() {
    let env = json!({"env": [{"name": "scope", "value": "other"}, {"name": "MINE", "value": "1"}], "envFrom": [{"configMapRef": {"name": "more"}}]});
    let Some(ns) = cluster("env", &env) else { return };
    assert_eq!(variable(&ns, "SCOPE").unwrap()["value"], "acid-a");
    assert!(variable(&ns, "scope").is_none() && variable(&ns, "MINE").is_some());
    assert_eq!(container(&ns)["envFrom"][0]["configMapRef"]["name"], "more");
    status_says(&ns, "spec.env.scope: the operator sets this variable itself");
}

#[test]
fn local_parameters_are_in_the_pods_and_the_others_in_the_configuration() {
    let parameters =
        json!({"postgresql": {"version": "15", "parameters": {"shared_buffers": "64MB", "work_mem": "8MB"}}});
    let Some(ns) = cluster("local", &parameters) else {
        return;
    };
    let document = configuration(&ns);
    assert_eq!(
        document["postgresql"]["parameters"],
        json!({"shared_buffers": "64MB"})
    );
    assert_eq!(
        document["bootstrap"]["dcs"]["postgresql"]["parameters"],
        json!({"work_mem": "8MB"})
    );
}

#[test]
fn options_of_initdb_are_words_or_pairs() {
    let initdb =
        json!({"patroni": {"initdb": {"encoding": "UTF8", "data-checksums": "true", "no-locale": "false"}}});
    let Some(ns) = cluster("initdb", &initdb) else {
        return;
    };
    let document = configuration(&ns);
    let options = document["bootstrap"]["initdb"].as_array().unwrap();
    assert!(options.contains(&json!("data-checksums")) && options.contains(&json!({"encoding": "UTF8"})));
    assert!(!options.contains(&json!("no-locale")));
}

#[test]
fn shared_memory_is_a_volume_unless_it_is_turned_off() {
    let Some(ns) = cluster("shm", &json!({})) else {
        return;
    };
    let has_shm = |ns: &Namespace| pod(ns)["spec"]["volumes"].to_string().contains("dshm");
    assert!(has_shm(&ns));
    ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"enableShmVolume": false}}),
    );
    until(|| !has_shm(&ns), || pod(&ns).to_string());
}

#[test]
fn resources_are_as_asked_for_and_a_limit_is_no_less_than_the_request() {
    let resources = json!({"resources": {"requests": {"cpu": "200m", "memory": "300Mi"}, "limits": {"cpu": "100m", "memory": "0"}}});
    let Some(ns) = cluster("resources", &resources) else {
        return;
    };
    let have = container(&ns)["resources"].clone();
    assert_eq!(have["requests"], json!({"cpu": "200m", "memory": "300Mi"}));
    assert_eq!(have["limits"]["cpu"], "200m");
    assert!(have["limits"]["memory"].is_null(), "0 asks for none");
}

#[test]
fn pods_are_placed_as_the_manifest_says() {
    let place = json!({
        "tolerations": [{"key": "postgres", "operator": "Exists", "effect": "NoSchedule"}],
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"cluster-name": "acid-a"}}}],
        "schedulerName": "other", "podPriorityClassName": "system-cluster-critical",
    });
    let Some(ns) = cluster("placed", &place) else {
        return;
    };
    let spec = pod(&ns)["spec"].clone();
    assert_eq!(spec["tolerations"][0]["key"], "postgres");
    assert!(spec["affinity"]["nodeAffinity"].to_string().contains("ssd"));
    assert_eq!(spec["topologySpreadConstraints"][0]["topologyKey"], "zone");
    assert_eq!(
        (&spec["schedulerName"], &spec["priorityClassName"]),
        (&json!("other"), &json!("system-cluster-critical"))
    );
}

#[test]
fn ids_of_user_and_groups_are_the_manifests() {
    let Some(ns) = cluster(
        "ids",
        &json!({"spiloRunAsUser": 1001, "spiloRunAsGroup": 1002, "spiloFSGroup": 1003}),
    ) else {
        return;
    };
    let context = pod(&ns)["spec"]["securityContext"].clone();
    assert_eq!(
        (&context["runAsUser"], &context["runAsGroup"], &context["fsGroup"]),
        (&json!(1001), &json!(1002), &json!(1003))
    );
}

#[test]
fn annotations_of_pods_are_the_manifests_and_labels_are_the_clusters() {
    let Some(ns) = cluster("meta", &json!({"podAnnotations": {"a": "b"}})) else {
        return;
    };
    let meta = pod(&ns)["metadata"].clone();
    assert_eq!(meta["annotations"]["a"], "b");
    assert_eq!(
        meta["labels"],
        json!({"application": "spilo", "cluster-name": "acid-a", "team": "acid"})
    );
}

#[test]
fn a_volume_is_claimed_as_the_manifest_says() {
    let volume = json!({"volume": {"size": "3Gi", "storageClass": "fast", "subPath": "data", "selector": {"matchLabels": {"disk": "own"}}}});
    let Some(ns) = cluster("volume", &volume) else {
        return;
    };
    let claim = ns.get("statefulset", "acid-a")["spec"]["volumeClaimTemplates"][0]["spec"].clone();
    assert_eq!(
        (&claim["storageClassName"], &claim["accessModes"]),
        (&json!("fast"), &json!(["ReadWriteOnce"]))
    );
    assert_eq!(
        (
            &claim["resources"]["requests"]["storage"],
            &claim["selector"]["matchLabels"]["disk"]
        ),
        (&json!("3Gi"), &json!("own"))
    );
    let mounts = container(&ns)["volumeMounts"].as_array().cloned().unwrap();
    let data = mounts
        .iter()
        .find(|mount| mount["mountPath"] == "/home/postgres/pgdata")
        .unwrap();
    assert_eq!(
        (&data["name"], &data["subPath"]),
        (&json!("pgdata"), &json!("data"))
    );
}

#[test]
fn an_image_of_the_manifest_is_taken_and_starts_as_upstreams_when_it_is_that() {
    let Some(ns) = cluster(
        "image",
        &json!({"dockerImage": "ghcr.io/zalando/spilo-17:4.0-p3"}),
    ) else {
        return;
    };
    assert_eq!(container(&ns)["image"], "ghcr.io/zalando/spilo-17:4.0-p3");
    assert_eq!(container(&ns)["imagePullPolicy"], "IfNotPresent");
    let context = container(&ns)["securityContext"].clone();
    assert_eq!(
        (
            &context["allowPrivilegeEscalation"],
            &context["readOnlyRootFilesystem"]
        ),
        (&json!(true), &json!(false))
    );
}

#[test]
fn a_liveness_probe_is_there_only_when_asked_for() {
    let probe =
        json!({"livenessProbe": {"httpGet": {"path": "/liveness", "port": 8008}, "initialDelaySeconds": 3}});
    let Some(ns) = cluster("liveness", &probe) else {
        return;
    };
    assert_eq!(container(&ns)["livenessProbe"]["httpGet"]["path"], "/liveness");
    assert_eq!(container(&ns)["readinessProbe"]["httpGet"]["port"], 8008);
    let Some(other) = cluster("nolive", &json!({})) else {
        return;
    };
    assert!(container(&other)["livenessProbe"].is_null());
}

#[test]
fn permanent_slots_and_synchronous_mode_are_for_the_bootstrap_too() {
    let patroni = json!({"patroni": {
        "synchronous_mode": true, "synchronous_node_count": 2, "ttl": 40, "slots": {"cdc": {"type": "logical", "database": "foo", "plugin": "pgoutput"}},
    }});
    let Some(ns) = cluster("slots", &patroni) else {
        return;
    };
    let dcs = configuration(&ns)["bootstrap"]["dcs"].clone();
    assert_eq!(
        (
            &dcs["synchronous_mode"],
            &dcs["synchronous_node_count"],
            &dcs["ttl"]
        ),
        (&json!(true), &json!(2), &json!(40))
    );
    assert_eq!(dcs["slots"]["cdc"]["plugin"], "pgoutput");
}

#[test]
fn a_budget_of_a_strict_synchronous_cluster_and_of_one_without_members() {
    let Some(ns) = cluster("budget", &json!({"numberOfInstances": 0})) else {
        return;
    };
    let primary = ns.wait(
        "poddisruptionbudget",
        "postgres-acid-a-pdb",
        "is made",
        |budget| !budget.is_null(),
    );
    assert_eq!(primary["spec"]["minAvailable"], 0, "nothing to keep");
    ns.patch("postgresql", "acid-a", &json!({"spec": {"numberOfInstances": 2}}));
    ns.wait(
        "poddisruptionbudget",
        "postgres-acid-a-pdb",
        "keeps one",
        |budget| budget["spec"]["minAvailable"] == 1,
    );
    let critical = ns.get("poddisruptionbudget", "postgres-acid-a-critical-op-pdb");
    assert_eq!(critical["spec"]["maxUnavailable"], 0);
    assert_eq!(
        critical["spec"]["selector"]["matchLabels"]["critical-operation"],
        "true"
    );
}

#[test]
fn users_that_do_not_log_in_have_no_secret_and_names_are_written_with_dashes() {
    let Some(ns) = cluster(
        "users",
        &json!({"users": {"group_a": ["nologin"], "some_user": [], "admin": []}}),
    ) else {
        return;
    };
    let name = |role: &str| format!("{role}.acid-a.credentials.postgresql.acid.zalan.do");
    ns.wait("secret", &name("some-user"), "is made", |secret| {
        !secret.is_null()
    });
    assert!(ns.get("secret", &name("group-a")).is_null() && ns.get("secret", &name("admin")).is_null());
}
