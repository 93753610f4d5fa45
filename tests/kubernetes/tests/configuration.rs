//! The operator's configuration, as far as objects show it: an operator of each test's own, on a real API server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for what other processes do"
)]

use std::path::Path;

use howdah_kubernetes_tests::{Kube, Namespace, OwnOperator, control_plane, minimal, until};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A namespace with an operator of its own, which has this configuration.
struct Place {
    ns: Namespace,
    operator: OwnOperator,
    _dir: TempDir,
}

impl Place {
    fn new(kube: &Kube, name: &str, configuration: &Value) -> Place {
        Place::with(kube, name, configuration, |_| {})
    }

    /// `before`: what is there when the operator starts.
    fn with(kube: &Kube, name: &str, configuration: &Value, before: impl Fn(&Namespace)) -> Place {
        let (ns, dir) = (kube.namespace(name), tempfile::tempdir().unwrap());
        configure(&ns, configuration);
        before(&ns);
        let operator = start(kube, &ns, dir.path());
        Place {
            ns,
            operator,
            _dir: dir,
        }
    }

    /// Applies the manifest of `acid-a`, changed.
    fn cluster(&self, change: impl Fn(&mut Value)) {
        let mut manifest = minimal("acid-a");
        manifest["metadata"]["annotations"] = json!({"acid.zalan.do/controller": self.ns.name});
        change(&mut manifest);
        self.ns.apply(manifest);
    }

    fn set(&self) -> Value {
        self.ns
            .wait("statefulset", "acid-a", "is made", |set| !set.is_null())
    }

    /// Waits until the status says this.
    fn says(&self, text: &str) {
        until(
            || {
                self.ns.get("postgresql", "acid-a")["status"]
                    .to_string()
                    .contains(text)
            },
            || {
                format!(
                    "'{text}' in {}\n{}",
                    self.ns.get("postgresql", "acid-a"),
                    self.operator.text()
                )
            },
        );
    }

    fn env(&self, set: &Value) -> Vec<Value> {
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        container["env"].as_array().cloned().unwrap_or_default()
    }
}

fn configure(ns: &Namespace, configuration: &Value) {
    ns.apply(json!({
        "apiVersion": "acid.zalan.do/v1", "kind": "OperatorConfiguration", "metadata": {"name": "settings"},
        "configuration": configuration,
    }));
}

fn start(kube: &Kube, ns: &Namespace, dir: &Path) -> OwnOperator {
    let args = [
        "--configuration",
        "settings",
        "--namespace",
        &ns.name,
        "--operator-namespace",
        &ns.name,
        "--controller-id",
        &ns.name,
    ];
    OwnOperator::start(&kube.kubeconfig, dir, "operator", &args)
}

fn secret(ns: &Namespace, name: &str, data: &Value) {
    ns.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}));
}

fn map(ns: &Namespace, name: &str, data: &Value) {
    ns.apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}));
}

#[test]
fn variables_of_all_pods_come_from_a_secret_and_a_configmap() {
    let Some(kube) = control_plane() else { return };
    let configuration = json!({"kubernetes": {"pod_environment_secret": "pod-secret", "pod_environment_configmap": "pod-env"}});
    let place = Place::new(&kube, "podenv", &configuration);
    place.cluster(|manifest| manifest["spec"]["env"] = json!([{"name": "OWN", "value": "manifest"}]));
    // A member made without its variables would archive nowhere.
    place.says("(pod_environment_secret) is not there");
    assert!(place.ns.get("statefulset", "acid-a").is_null());
    secret(
        &place.ns,
        "pod-secret",
        &json!({"AWS_KEY": "k", "both": "secret"}),
    );
    map(
        &place.ns,
        "pod-env",
        &json!({"USE_WALG": "true", "BOTH": "map", "own": "map", "SCOPE": "other"}),
    );
    place.ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"podAnnotations": {"a": "b"}}}),
    );
    let mut set = Value::Null;
    until(
        || {
            set = place.ns.get("statefulset", "acid-a");
            !set.is_null()
        },
        || place.operator.text(),
    );
    let env = place.env(&set);
    let find = |name: &str| env.iter().find(|var| var["name"] == name).cloned();
    let key = find("AWS_KEY").unwrap();
    assert_eq!(key["valueFrom"]["secretKeyRef"]["name"], "pod-secret");
    assert_eq!(key["valueFrom"]["secretKeyRef"]["key"], "AWS_KEY");
    assert_eq!(find("USE_WALG").unwrap()["value"], "true");
    assert_eq!(
        find("OWN").unwrap()["value"],
        "manifest",
        "the manifest counts first"
    );
    assert!(find("both").is_some() && find("BOTH").is_none() && find("own").is_none());
    assert_eq!(find("SCOPE").unwrap()["value"], "acid-a");
}

#[test]
fn a_cluster_has_as_many_members_as_the_bounds_allow() {
    let Some(kube) = control_plane() else { return };
    let configuration =
        json!({"min_instances": 2, "max_instances": 3, "ignore_instance_limits_annotation_key": "free"});
    let place = Place::new(&kube, "bounds", &configuration);
    place.cluster(|manifest| manifest["spec"]["numberOfInstances"] = json!(5));
    assert_eq!(place.set()["spec"]["replicas"], 3);
    place.says("5 are asked for, and the operator's max_instances makes it 3");
    place.ns.patch(
        "postgresql",
        "acid-a",
        &json!({"metadata": {"annotations": {"free": "true"}}, "spec": {"numberOfInstances": 4}}),
    );
    place.ns.wait("statefulset", "acid-a", "has four", |set| {
        set["spec"]["replicas"] == 4
    });
}

#[test]
fn objects_name_their_cluster_as_owner_where_that_is_asked_for() {
    let Some(kube) = control_plane() else { return };
    let place = Place::new(
        &kube,
        "owners",
        &json!({"kubernetes": {"enable_owner_references": true}}),
    );
    place.cluster(|manifest| manifest["spec"]["enableConnectionPooler"] = json!(true));
    place.set();
    let uid = place.ns.get("postgresql", "acid-a")["metadata"]["uid"].clone();
    let secret = "zalando.acid-a.credentials.postgresql.acid.zalan.do";
    for (kind, name) in [
        ("statefulset", "acid-a"),
        ("service", "acid-a-repl"),
        ("poddisruptionbudget", "postgres-acid-a-pdb"),
        ("secret", secret),
        ("deployment", "acid-a-pooler"),
    ] {
        let object = place.ns.wait(kind, name, "is there", |object| !object.is_null());
        let owner = &object["metadata"]["ownerReferences"][0];
        assert_eq!(
            (&owner["uid"], &owner["kind"]),
            (&uid, &json!("postgresql")),
            "{kind} {name}"
        );
    }
}

#[test]
fn budgets_and_secrets_are_named_as_the_configuration_says() {
    let Some(kube) = control_plane() else { return };
    let names = |format: &str| {
        json!({"kubernetes": {
            "pdb_name_format": format, "secret_name_template": "{cluster}.{username}.login",
        }})
    };
    let place = Place::new(&kube, "formats", &names("{cluster}-budget"));
    place.cluster(|_| {});
    let set = place.set();
    let env = place.env(&set);
    let password = env
        .iter()
        .find(|var| var["name"] == "PGPASSWORD_SUPERUSER")
        .unwrap();
    assert_eq!(
        password["valueFrom"]["secretKeyRef"]["name"],
        "acid-a.postgres.login"
    );
    assert!(!place.ns.get("secret", "acid-a.foo-user.login").is_null());
    place
        .ns
        .wait("poddisruptionbudget", "acid-a-budget", "is made", |budget| {
            !budget.is_null()
        });
    // A budget of the old name would keep nodes from being drained for ever.
    configure(&place.ns, &names("{cluster}-other"));
    place
        .ns
        .wait("poddisruptionbudget", "acid-a-other", "is made", |budget| {
            !budget.is_null()
        });
    place
        .ns
        .wait("poddisruptionbudget", "acid-a-budget", "is gone", Value::is_null);
}

#[test]
fn a_protected_cluster_is_deleted_only_with_its_annotations() {
    let Some(kube) = control_plane() else { return };
    let configuration = json!({"kubernetes": {
        "delete_annotation_date_key": "delete-date", "delete_annotation_name_key": "delete-clustername",
    }});
    let place = Place::new(&kube, "protected", &configuration);
    place.cluster(|_| {});
    place.set();
    place
        .ns
        .kubectl(&["delete", "postgresql", "acid-a", "--wait=false"]);
    place.says("the cluster is protected and stays until it has the annotation delete-date=");
    // It is looked after meanwhile.
    place.ns.kubectl(&["delete", "service", "acid-a-repl"]);
    place.ns.wait("service", "acid-a-repl", "comes back", |service| {
        !service.is_null()
    });
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    place.ns.patch(
        "postgresql",
        "acid-a",
        &json!({"metadata": {"annotations": {"delete-date": today, "delete-clustername": "acid-b"}}}),
    );
    place.says("annotation delete-clustername=acid-a");
    assert!(!place.ns.get("statefulset", "acid-a").is_null());
    place.ns.patch(
        "postgresql",
        "acid-a",
        &json!({"metadata": {"annotations": {"delete-clustername": "acid-a"}}}),
    );
    place.ns.wait("postgresql", "acid-a", "is gone", Value::is_null);
    assert!(place.ns.get("statefulset", "acid-a").is_null());
}

#[test]
fn annotations_for_a_downscaler_are_handed_on() {
    let Some(kube) = control_plane() else { return };
    let place = Place::new(
        &kube,
        "down",
        &json!({"kubernetes": {"downscaler_annotations": ["^downscaler/.*", "deployment-time"]}}),
    );
    place.cluster(|manifest| {
        manifest["metadata"]["annotations"]["downscaler/downtime_replicas"] = json!("0");
        manifest["metadata"]["annotations"]["other"] = json!("x");
        manifest["spec"]["enableConnectionPooler"] = json!(true);
    });
    for (kind, name) in [("statefulset", "acid-a"), ("deployment", "acid-a-pooler")] {
        let object = place.ns.wait(kind, name, "is made", |object| !object.is_null());
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["downscaler/downtime_replicas"], "0", "{kind}");
        assert!(annotations["other"].is_null(), "{kind}");
    }
}

#[test]
fn a_user_of_another_namespace_has_its_secret_there() {
    let Some(kube) = control_plane() else { return };
    let other = kube.namespace("elsewhere");
    let place = Place::new(
        &kube,
        "cross",
        &json!({"kubernetes": {"enable_cross_namespace_secret": true}}),
    );
    let user = format!("{}.app", other.name);
    place.cluster(|manifest| {
        manifest["spec"]["users"][&user] = json!([]);
        manifest["spec"]["users"]["nowhere-at-all.app"] = json!([]);
        manifest["spec"]["preparedDatabases"] =
            json!({"bar": {"defaultUsers": true, "secretNamespace": other.name}});
    });
    let name = format!("{user}.acid-a.credentials.postgresql.acid.zalan.do");
    let found = other.wait("secret", &name, "is made", |secret| !secret.is_null());
    assert_eq!(found["metadata"]["labels"]["cluster-name"], "acid-a");
    let prepared = "bar-reader-user.acid-a.credentials.postgresql.acid.zalan.do";
    other.wait("secret", prepared, "is made", |secret| !secret.is_null());
    assert!(place.ns.get("secret", prepared).is_null() && place.ns.get("secret", &name).is_null());
    // A namespace that is not there is said, and keeps nothing else from being made.
    place.says("user nowhere-at-all.app: ");
    place.set();
    // A cluster of the same name there does not take it along.
    let mut same = minimal("acid-a");
    same["metadata"]["namespace"] = json!(other.name);
    other.apply(same);
    other.wait("statefulset", "acid-a", "is made", |set| !set.is_null());
    other.kubectl(&["delete", "postgresql", "acid-a", "--timeout=60s"]);
    assert!(!other.get("secret", &name).is_null());
    place
        .ns
        .kubectl(&["delete", "postgresql", "acid-a", "--timeout=60s"]);
    assert!(other.get("secret", &name).is_null() && other.get("secret", prepared).is_null());
}

#[test]
fn the_pods_account_is_made_as_it_is_defined() {
    let Some(kube) = control_plane() else { return };
    let configuration = json!({
        "kubernetes": {
            "pod_service_account_name": "members",
            "pod_service_account_definition": "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: x\n  labels:\n    made: by-hand\n",
        },
        "aws_or_gcp": {"irsa_role_arn": "arn:aws:iam::123456789012:role/postgres"},
    });
    let place = Place::new(&kube, "account", &configuration);
    place.cluster(|_| {});
    let account = place.ns.wait("serviceaccount", "members", "is made", |account| {
        !account.is_null()
    });
    assert_eq!(account["metadata"]["labels"]["made"], "by-hand");
    assert_eq!(
        account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"],
        "arn:aws:iam::123456789012:role/postgres"
    );
}

#[test]
fn a_newer_image_waits_for_the_next_start_where_that_is_asked_for() {
    let Some(kube) = control_plane() else { return };
    let lazy =
        |is_lazy: bool, image: &str| json!({"enable_lazy_spilo_upgrade": is_lazy, "docker_image": image});
    let place = Place::new(&kube, "lazy", &lazy(true, "example.com/a:1"));
    place.cluster(|manifest| manifest["spec"]["numberOfInstances"] = json!(1));
    let is_there = |pod: &Value| pod["status"]["phase"] == "Running";
    // The nodes are pretended: this is what a kubelet would say.
    let kubelet_says = |state: Value| {
        let container = json!({"name": "postgres", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "started": false, "state": state});
        let status = json!({"status": {"containerStatuses": [container]}}).to_string();
        place.ns.kubectl(&[
            "patch",
            "pod",
            "acid-a-0",
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ]);
    };
    let runs = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    let first = place.ns.wait("pod", "acid-a-0", "is there", is_there)["metadata"]["uid"].clone();
    kubelet_says(runs.clone());
    configure(&place.ns, &lazy(true, "example.com/a:2"));
    let image = |set: &Value| set["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    place
        .ns
        .wait("statefulset", "acid-a", "has the newer image", |set| {
            image(set) == "example.com/a:2"
        });
    place.says("acid-a-0 run the image of before");
    assert_eq!(place.ns.get("pod", "acid-a-0")["metadata"]["uid"], first);
    // One that cannot run is replaced: the newer image may be the cure.
    kubelet_says(json!({"waiting": {"reason": "ErrImagePull"}}));
    let second = place.ns.wait("pod", "acid-a-0", "is another one", |pod| {
        !pod.is_null() && pod["metadata"]["uid"] != first
    });
    assert_eq!(second["spec"]["containers"][0]["image"], "example.com/a:2");
    // With the end of the mode it counts as old, and would be replaced in its turn.
    place.ns.wait("pod", "acid-a-0", "is there", is_there);
    kubelet_says(runs);
    configure(&place.ns, &lazy(true, "example.com/a:3"));
    place.says("acid-a-0 run the image of before");
    configure(&place.ns, &lazy(false, "example.com/a:3"));
    place.says("before the next member is touched");
    let note = "howdah.dev~1lazy-revisions";
    let annotations = place.ns.get("statefulset", "acid-a")["metadata"]["annotations"].clone();
    assert!(
        annotations.pointer(&format!("/{note}")).is_none(),
        "{annotations}"
    );
}

#[test]
fn a_rotation_is_planned_in_the_secret() {
    let Some(kube) = control_plane() else { return };
    let configuration =
        json!({"users": {"enable_password_rotation": true, "password_rotation_interval": 30}});
    let place = Place::new(&kube, "planned", &configuration);
    place.cluster(|manifest| manifest["spec"]["usersIgnoringSecretRotation"] = json!(["foo_user"]));
    place.set();
    let next = |ns: &Namespace, role: &str| {
        let secret = ns.get(
            "secret",
            &format!("{role}.acid-a.credentials.postgresql.acid.zalan.do"),
        );
        secret["data"]["nextRotation"].clone()
    };
    place.ns.patch(
        "postgresql",
        "acid-a",
        &json!({"spec": {"users": {"app": []}, "usersWithInPlaceSecretRotation": ["app", "postgres"]}}),
    );
    until(|| !next(&place.ns, "app").is_null(), || place.operator.text());
    // An owner of a database, a user that is let alone, the superuser.
    for role in ["zalando", "foo-user", "postgres"] {
        assert!(next(&place.ns, role).is_null(), "{role}");
    }
    place.says("'postgres' is in the pods' environment");
}

#[test]
fn robots_of_the_configuration_have_secrets_in_every_cluster() {
    let Some(kube) = control_plane() else { return };
    let configuration = json!({"kubernetes": {
        "infrastructure_roles_secret_name": "robots",
        "infrastructure_roles_secrets": [{
            "secretname": "monitoring", "userkey": "user", "passwordkey": "password", "defaultrolevalue": "pg_monitor",
        }],
    }});
    let place = Place::with(&kube, "robots", &configuration, |ns| {
        secret(
            ns,
            "robots",
            &json!({"user1": "robot_a", "password1": "one", "user2": "Wrong", "password2": "two"}),
        );
    });
    place.cluster(|manifest| manifest["spec"]["users"]["robot_a"] = json!(["superuser"]));
    place.set();
    let password = |ns: &Namespace| ns.password("acid-a", "robot-a");
    until(
        || {
            !place
                .ns
                .get("secret", "robot-a.acid-a.credentials.postgresql.acid.zalan.do")
                .is_null()
        },
        || place.operator.text(),
    );
    assert_eq!(password(&place.ns), "one");
    place.says("'Wrong' cannot be a role");
    place.says("there is no Secret");
    // The source counts, also over what was written into the cluster's Secret since.
    let name = "robot-a.acid-a.credentials.postgresql.acid.zalan.do";
    place
        .ns
        .patch("secret", name, &json!({"stringData": {"password": "other"}}));
    until(|| password(&place.ns) == "one", || place.operator.text());
}

#[test]
fn a_team_that_is_not_known_is_said_and_keeps_nothing_from_being_made() {
    let Some(kube) = control_plane() else { return };
    let configuration = json!({"teams_api": {
        "enable_teams_api": true, "teams_api_url": "http://127.0.0.1:1/api", "enable_postgres_team_crd": true,
    }});
    let place = Place::with(&kube, "teams", &configuration, |ns| {
        secret(
            ns,
            "postgresql-operator",
            &json!({"read-only-token-type": "Bearer", "read-only-token-secret": "t"}),
        );
    });
    place.cluster(|_| {});
    place.set();
    place.says("the people of team acid are not known");
    // The definition of PostgresTeam is there, and its objects are checked.
    place.ns.apply(
        json!({"apiVersion": "acid.zalan.do/v1", "kind": "PostgresTeam", "metadata": {"name": "t"},
        "spec": {"additionalMembers": {"acid": ["elephant"]}}}),
    );
    let wrong = kube.try_kubectl(&["apply", "-f", "-"], &json!({
        "apiVersion": "acid.zalan.do/v1", "kind": "PostgresTeam", "metadata": {"name": "w", "namespace": place.ns.name},
        "spec": {"additionalMembers": {"acid": "elephant"}}}).to_string());
    assert!(wrong.unwrap_err().contains("additionalMembers"));
}

#[test]
fn a_name_without_its_team_is_refused_where_that_is_asked_for() {
    let Some(kube) = control_plane() else { return };
    let place = Place::new(
        &kube,
        "prefix",
        &json!({"enable_team_id_clustername_prefix": true}),
    );
    place.cluster(|manifest| manifest["spec"]["teamId"] = json!("other"));
    place.says("must begin with its team, as in 'other-acid-a'");
    assert!(place.ns.get("statefulset", "acid-a").is_null());
}

#[test]
fn a_maintenance_window_that_ends_before_it_begins_is_refused() {
    let Some(kube) = control_plane() else { return };
    let place = Place::new(&kube, "window", &json!({}));
    place.cluster(|manifest| manifest["spec"]["maintenanceWindows"] = json!(["Sat:22:00-02:00"]));
    place.says("maintenanceWindows: 'Sat:22:00-02:00' ends before it begins");
}
