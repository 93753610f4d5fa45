//! The objects of the manifest that everybody begins with, against upstream's names, labels and contents.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use howdah_blueprint::{Live, OtherRoles, Settings, credentials, objects, template_version_of};
use howdah_manifest::Manifest;
use serde_json::{Value, json};

fn minimal() -> Value {
    json!({
        "teamId": "acid", "volume": {"size": "1Gi"}, "numberOfInstances": 2,
        "users": {"zalando": ["superuser", "createdb"], "foo_user": []},
        "databases": {"foo": "zalando"}, "preparedDatabases": {"bar": {}}, "postgresql": {"version": "18"},
    })
}

fn manifest(spec: &Value) -> Manifest {
    Manifest::read(&Manifest::object(
        "acid-minimal-cluster",
        spec.as_object().cloned().unwrap(),
    ))
    .unwrap()
}

#[test]
fn names_labels_and_selectors_are_upstreams() {
    let objects = objects(&manifest(&minimal()), &Settings::default(), &Live::default());
    let set = json!(objects.statefulset);
    let base = json!({"application": "spilo", "cluster-name": "acid-minimal-cluster"});
    assert_eq!(set["metadata"]["name"], "acid-minimal-cluster");
    assert_eq!(set["spec"]["serviceName"], "acid-minimal-cluster");
    assert_eq!(set["spec"]["selector"]["matchLabels"], base);
    assert_eq!(set["spec"]["updateStrategy"]["type"], "OnDelete");
    assert_eq!(set["spec"]["template"]["metadata"]["labels"]["team"], "acid");
    assert_eq!(
        set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"],
        "pgdata"
    );
    let replica = json!(objects.replica_service);
    assert_eq!(replica["metadata"]["name"], "acid-minimal-cluster-repl");
    assert_eq!(replica["spec"]["selector"]["spilo-role"], "replica");
    assert_eq!(
        json!(objects.primary_service)["spec"]["selector"]["spilo-role"],
        "master"
    );
    let budget = json!(objects.primary_budget);
    assert_eq!(budget["metadata"]["name"], "postgres-acid-minimal-cluster-pdb");
    assert_eq!(budget["spec"]["minAvailable"], 1);
    assert_eq!(json!(objects.critical_budget)["spec"]["maxUnavailable"], 0);
}

#[test]
fn the_environment_is_upstreams_in_its_order() {
    let objects = objects(&manifest(&minimal()), &Settings::default(), &Live::default());
    let container = &json!(objects.statefulset)["spec"]["template"]["spec"]["containers"][0];
    let names: Vec<&str> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "SCOPE",
            "PGROOT",
            "POD_IP",
            "POD_NAMESPACE",
            "PGUSER_SUPERUSER",
            "KUBERNETES_SCOPE_LABEL",
            "KUBERNETES_ROLE_LABEL",
            "PGPASSWORD_SUPERUSER",
            "PGUSER_STANDBY",
            "PGPASSWORD_STANDBY",
            "PAM_OAUTH2",
            "HUMAN_ROLE",
            "PGVERSION",
            "KUBERNETES_LABELS",
            "SPILO_CONFIGURATION",
            "DCS_ENABLE_KUBERNETES_API",
            "KUBERNETES_BOOTSTRAP_LABELS",
            "KUBERNETES_USE_CONFIGMAPS"
        ]
    );
    assert_eq!(
        container["env"][7]["valueFrom"]["secretKeyRef"]["name"],
        "postgres.acid-minimal-cluster.credentials.postgresql.acid.zalan.do"
    );
    assert_eq!(container["name"], "postgres");
}

#[test]
fn login_roles_have_secrets_and_others_do_not() {
    let mut spec = minimal();
    spec["users"]["no_login"] = json!(["nologin"]);
    spec["preparedDatabases"]["bar"] = json!({"defaultUsers": true});
    let manifest = manifest(&spec);
    let names: Vec<String> = credentials(&manifest, &Settings::default(), &OtherRoles::default())
        .into_iter()
        .map(|c| c.role)
        .collect();
    assert_eq!(
        names,
        [
            "postgres",
            "standby",
            "bar_owner_user",
            "bar_reader_user",
            "bar_writer_user",
            "foo_user",
            "zalando",
        ]
    );
}

#[test]
fn what_counts_only_at_bootstrap_replaces_no_pod() {
    let settings = Settings::default();
    let mut spec = minimal();
    let first = objects(&manifest(&spec), &settings, &Live::default()).statefulset;
    let live = Live {
        statefulset: Some(first.clone()),
        bootstrapped: true,
        ..Live::default()
    };
    let template = |set: &Value| set["spec"]["template"].clone();
    spec["patroni"] = json!({"ttl": 20});
    spec["postgresql"]["parameters"] = json!({"max_connections": "50"});
    spec["postgresql"]["version"] = json!("17");
    let next = objects(&manifest(&spec), &settings, &live).statefulset;
    assert_eq!(template(&json!(first)), template(&json!(next)));
    spec["postgresql"]["parameters"]["shared_buffers"] = json!("64MB");
    let local = objects(&manifest(&spec), &settings, &live).statefulset;
    assert_ne!(template(&json!(first)), template(&json!(local)));
}

/// An upgrade of the operator must replace no pod. A change of the template makes a new version of it, keeps the old
/// one for clusters that have it (`status.templateVersion`), and adds a file here; this one stays.
#[test]
fn each_version_of_the_template_is_what_it_was() {
    for (version, image, golden) in [
        (1, "", include_str!("golden/template-1.json")),
        (2, "", include_str!("golden/template-2.json")),
        (
            3,
            "ghcr.io/howdah/howdah:1",
            include_str!("golden/template-3.json"),
        ),
    ] {
        let live = Live {
            template: Some(version),
            ..Live::default()
        };
        let mut settings = Settings::default();
        if !image.is_empty() {
            settings.docker_image = image.to_owned();
        }
        let set = objects(&manifest(&minimal()), &settings, &live).statefulset;
        assert_eq!(template_version_of(&set), version);
        let golden: Value = serde_json::from_str(golden).unwrap();
        assert_eq!(json!(set.spec.unwrap().template), golden, "version {version}");
    }
    assert_eq!(howdah_blueprint::TEMPLATE_VERSION, 3);
}

/// What the Pod Security standard *restricted* asks for; upstream's image is started as upstream starts it.
#[test]
fn members_of_our_image_need_no_rights() {
    let pod = |image: &str, privileged: bool| {
        let settings = Settings {
            docker_image: image.to_owned(),
            spilo_privileged: privileged,
            ..Settings::default()
        };
        let set = objects(&manifest(&minimal()), &settings, &Live::default()).statefulset;
        json!(set.spec.unwrap().template)["spec"].clone()
    };
    let ours = pod("registry.example.com:5000/db/howdah:1", false);
    let container = &ours["containers"][0]["securityContext"];
    assert_eq!(ours["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        ours["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(container["readOnlyRootFilesystem"], true);
    for theirs in [
        pod("ghcr.io/zalando/spilo-17:4.0-p3", false),
        pod("ghcr.io/howdah/howdah:1", true),
    ] {
        assert_eq!(theirs["securityContext"], Value::Null);
        assert_eq!(
            theirs["containers"][0]["securityContext"]["readOnlyRootFilesystem"],
            false
        );
    }
}
