//! What manifest and configuration add to the pods.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use howdah_blueprint::{Live, Settings, objects};
use howdah_manifest::Manifest;
use serde_json::{Value, json};

fn ours() -> Settings {
    Settings {
        docker_image: "ghcr.io/howdah/howdah:1".into(),
        ..Settings::default()
    }
}

fn manifest(more: Value) -> Manifest {
    let spec = json!({"teamId": "acid", "volume": {"size": "1Gi", "subPath": "data"}, "numberOfInstances": 2,
        "postgresql": {"version": "15"}});
    let mut spec = spec.as_object().cloned().unwrap();
    spec.extend(more.as_object().cloned().unwrap());
    let mut object = Manifest::object("acid-x", spec);
    object["metadata"]["labels"] = json!({"app": "shop", "tier": "db"});
    object["metadata"]["annotations"] = json!({"owner": "ann"});
    Manifest::read(&object).unwrap()
}

fn set(manifest: &Manifest, settings: &Settings, live: &Live) -> Value {
    json!(objects(manifest, settings, live).statefulset)
}

fn pod(more: Value, settings: &Settings) -> Value {
    set(&manifest(more), settings, &Live::default())["spec"]["template"]["spec"].clone()
}

fn names(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}

fn mounts(container: &Value) -> Vec<String> {
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    mounts
        .map(|mount| format!("{}={}", mount["name"], mount["mountPath"]).replace('"', ""))
        .collect()
}

#[test]
fn sidecars_are_merged_by_name_and_get_what_upstream_gives_them() {
    let mut settings = ours();
    settings.pods.sidecars = vec![
        json!({"name": "exporter", "image": "configured:1"}),
        json!({"name": "logs", "image": "logs:1", "volumeMounts": [{"name": "pgdata", "mountPath": "/data"}]}),
    ];
    settings.pods.sidecar_docker_images = [("logs", "other:1"), ("third", "third:1")]
        .map(|(name, image)| (name.to_owned(), image.to_owned()))
        .into();
    let own = json!({"sidecars": [{"name": "exporter", "image": "own:1", "command": ["run"],
        "env": [{"name": "A", "value": "b"}, {"name": "POD_NAME", "value": "no"}], "ports": [{"containerPort": 9187}],
        "resources": {"limits": {"cpu": "100m"}}}]});
    let pod = pod(own, &settings);
    assert_eq!(
        names(&pod["containers"]),
        ["postgres", "exporter", "logs", "third"]
    );
    let exporter = &pod["containers"][1];
    assert_eq!(exporter["image"], "own:1");
    assert_eq!(exporter["command"], json!(["run"]));
    assert_eq!(exporter["ports"][0]["containerPort"], 9187);
    assert_eq!(exporter["resources"]["limits"]["cpu"], "100m");
    assert_eq!(
        names(&exporter["env"]),
        [
            "POD_NAME",
            "POD_NAMESPACE",
            "POSTGRES_USER",
            "POSTGRES_PASSWORD",
            "A"
        ]
    );
    assert_eq!(
        exporter["env"][0]["valueFrom"]["fieldRef"]["fieldPath"],
        "metadata.name"
    );
    assert_eq!(
        exporter["env"][3]["valueFrom"]["secretKeyRef"]["name"],
        "postgres.acid-x.credentials.postgresql.acid.zalan.do"
    );
    assert_eq!(mounts(exporter), ["pgdata=/home/postgres/pgdata"]);
    assert_eq!(exporter["volumeMounts"][0]["subPath"], "data");
    // Pod Security's standard holds for every container.
    assert_eq!(exporter["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(
        exporter["securityContext"]["capabilities"]["drop"],
        json!(["ALL"])
    );
    assert_eq!(
        mounts(&pod["containers"][2]),
        ["pgdata=/data", "pgdata=/home/postgres/pgdata"]
    );
    settings.pods.enable_sidecars = false;
    let without = self::pod(
        json!({"sidecars": [{"name": "own", "image": "own:1"}]}),
        &settings,
    );
    assert_eq!(
        names(&without["containers"]),
        ["postgres", "exporter", "logs", "third"]
    );
}

#[test]
fn init_containers_are_the_manifests() {
    let inits = json!({"initContainers": [
        {"name": "date", "image": "busybox", "command": ["/bin/date"]},
        {"name": "root", "image": "busybox", "securityContext": {"runAsUser": 0}},
    ], "additionalVolumes": [
        {"name": "scripts", "mountPath": "/scripts", "targetContainers": ["date"], "volumeSource": {"emptyDir": {}}},
        {"name": "all", "mountPath": "/all", "targetContainers": ["all"], "volumeSource": {"emptyDir": {}}},
    ]});
    let found = pod(inits.clone(), &ours());
    assert_eq!(names(&found["initContainers"]), ["date", "root"]);
    assert_eq!(mounts(&found["initContainers"][0]), ["scripts=/scripts"]);
    assert_eq!(mounts(&found["initContainers"][1]), Vec::<String>::new());
    assert_eq!(
        found["initContainers"][0]["securityContext"]["allowPrivilegeEscalation"],
        false
    );
    // One that asks for root gets it, where the namespace allows it.
    assert_eq!(
        found["initContainers"][1]["securityContext"]["runAsNonRoot"],
        false
    );
    let mut settings = ours();
    settings.pods.enable_init_containers = false;
    assert_eq!(pod(inits, &settings)["initContainers"], Value::Null);
}

#[test]
fn volumes_go_where_they_are_asked_for_and_win_over_ours() {
    let more = json!({
        "sidecars": [{"name": "a", "image": "a:1"}],
        "additionalVolumes": [
            {"name": "plain", "mountPath": "/plain", "subPath": "$(POD_NAME)", "isSubPathExpr": true,
             "volumeSource": {"emptyDir": {"medium": "Memory"}}},
            {"name": "everywhere", "mountPath": "/everywhere", "targetContainers": ["all"],
             "volumeSource": {"secret": {"secretName": "s"}}},
            {"name": "tmp", "mountPath": "/tmp", "volumeSource": {"persistentVolumeClaim": {"claimName": "c"}}},
            {"name": "run", "mountPath": "/opt/run", "targetContainers": ["a"], "volumeSource": {"emptyDir": {}}},
        ],
        "tls": {"secretName": "cert", "caFile": "ca.crt", "caSecretName": "ca"},
    });
    let mut settings = ours();
    settings.pods.share_pgsocket_with_sidecars = true;
    settings.pods.additional_secret_mount = Some(("cloud".into(), "/cloud".into()));
    let pod = pod(more, &settings);
    assert_eq!(
        mounts(&pod["containers"][0]),
        [
            "pgdata=/home/postgres/pgdata",
            "dshm=/dev/shm",
            "howdah-run=/run",
            "postgresql-run=/var/run/postgresql",
            "howdah-tls=/tls",
            "howdah-tls-ca=/tlsca",
            "howdah-additional-secret=/cloud",
            "plain=/plain",
            "everywhere=/everywhere",
            "tmp=/tmp",
        ]
    );
    assert_eq!(
        mounts(&pod["containers"][1]),
        [
            "pgdata=/home/postgres/pgdata",
            "postgresql-run=/var/run/postgresql",
            "howdah-additional-secret=/cloud",
            "everywhere=/everywhere",
            "run=/opt/run",
        ]
    );
    let volume = |name: &str| {
        let volumes = pod["volumes"].as_array().unwrap();
        volumes
            .iter()
            .find(|volume| volume["name"] == name)
            .cloned()
            .unwrap()
    };
    assert_eq!(volume("plain")["emptyDir"]["medium"], "Memory");
    assert_eq!(volume("tmp")["persistentVolumeClaim"]["claimName"], "c");
    assert_eq!(
        volume("howdah-tls")["secret"],
        json!({"secretName": "cert", "defaultMode": 0o640})
    );
    let plain = &pod["containers"][0]["volumeMounts"][7];
    assert_eq!(
        (&plain["subPathExpr"], &plain["subPath"]),
        (&json!("$(POD_NAME)"), &Value::Null)
    );
    let env = |name: &str| {
        let all = pod["containers"][0]["env"].as_array().unwrap();
        let found = all.iter().find(|var| var["name"] == name).unwrap();
        found["value"].clone()
    };
    assert_eq!(env("SSL_CERTIFICATE_FILE"), "/tls/tls.crt");
    assert_eq!(env("SSL_PRIVATE_KEY_FILE"), "/tls/tls.key");
    assert_eq!(env("SSL_CA_FILE"), "/tlsca/ca.crt");
}

#[test]
fn placement_is_the_manifests_with_what_the_configuration_adds() {
    let mut settings = ours();
    settings.pods.node_readiness_label = [("ready".to_owned(), "yes".to_owned())].into();
    settings.pods.toleration = [("key", "db"), ("operator", "Exists")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    settings.pods.enable_pod_antiaffinity = true;
    let terms = |pod: &Value| {
        pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            .clone()
    };
    let ready = json!({"key": "ready", "operator": "In", "values": ["yes"]});
    let plain = pod(json!({}), &settings);
    assert_eq!(terms(&plain), json!([{ "matchExpressions": [ready] }]));
    assert_eq!(plain["tolerations"], json!([{"key": "db", "operator": "Exists"}]));
    let apart = &plain["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(apart["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(apart["labelSelector"]["matchLabels"]["cluster-name"], "acid-x");
    settings.pods.pod_antiaffinity_preferred_during_scheduling = true;
    let own = json!({"key": "zone", "operator": "Exists"});
    let more = json!({
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [own]}]}},
        "tolerations": [{"key": "mine", "operator": "Exists"}],
    });
    let or = pod(more.clone(), &settings);
    assert_eq!(
        terms(&or),
        json!([{"matchExpressions": [own]}, {"matchExpressions": [ready]}])
    );
    assert_eq!(or["tolerations"][0]["key"], "mine");
    let preferred = &or["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(preferred["weight"], 1);
    settings.pods.node_readiness_label_merge_and = true;
    assert_eq!(
        terms(&pod(more, &settings)),
        json!([{"matchExpressions": [own, ready]}])
    );
}

#[test]
fn labels_and_annotations_are_inherited_and_the_manifests_own_win() {
    let mut settings = ours();
    settings.inherited_labels = vec!["app".into(), "missing".into()];
    settings.inherited_annotations = vec!["owner".into()];
    settings.pods.custom_pod_annotations = [("a", "configured"), ("b", "configured")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    settings.pods.kube_iam_role = "role".into();
    settings.custom_service_annotations = [("s".to_owned(), "configured".to_owned())].into();
    let manifest = manifest(json!({"podAnnotations": {"a": "own"}, "serviceAnnotations": {"s": "own"}}));
    let objects = objects(&manifest, &settings, &Live::default());
    let set = json!(objects.statefulset);
    let pod = &set["spec"]["template"]["metadata"];
    assert_eq!(pod["labels"]["app"], "shop");
    assert_eq!(pod["labels"]["tier"], Value::Null);
    assert_eq!(
        pod["annotations"],
        json!({"owner": "ann", "a": "own", "b": "configured", "iam.amazonaws.com/role": "role"})
    );
    assert_eq!(set["metadata"]["annotations"]["owner"], "ann");
    assert!(set["metadata"]["annotations"].as_object().unwrap().len() > 1);
    // What finds the pods does not change with a label of the manifest.
    assert_eq!(set["spec"]["selector"]["matchLabels"]["app"], Value::Null);
    let service = json!(objects.primary_service);
    assert_eq!(
        service["metadata"]["annotations"],
        json!({"owner": "ann", "s": "own"})
    );
    assert_eq!(service["spec"]["selector"]["app"], Value::Null);
}

#[test]
fn resources_are_bounded_by_the_configuration() {
    let mut settings = ours();
    settings.pods.min_limits = [("cpu", "250m"), ("memory", "250Mi")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    settings.pods.max_requests = [("cpu".to_owned(), "1".to_owned())].into();
    let more = json!({"resources": {"requests": {"cpu": "4", "memory": "100Mi"}, "limits": {"cpu": "100m", "memory": "1Gi"}}});
    let resources = |settings: &Settings| pod(more.clone(), settings)["containers"][0]["resources"].clone();
    assert_eq!(
        resources(&settings),
        json!({"requests": {"cpu": "1", "memory": "100Mi"}, "limits": {"cpu": "4", "memory": "1Gi"}})
    );
    settings.pods.set_memory_request_to_limit = true;
    assert_eq!(resources(&settings)["requests"]["memory"], "1Gi");
}

#[test]
fn a_copy_and_a_follower_are_told_once_whose_data_they_get() {
    let settings = ours();
    let env = |more: Value, live: &Live| {
        let set = set(&manifest(more), &settings, live);
        let all = set["spec"]["template"]["spec"]["containers"][0]["env"].clone();
        let vars = all.as_array().cloned().unwrap().into_iter();
        vars.filter(|var| {
            let name = var["name"].as_str().unwrap();
            name.starts_with("CLONE_") || name.starts_with("STANDBY_")
        })
        .collect::<Vec<_>>()
    };
    let clone = json!({"clone": {"cluster": "acid-source", "uid": "00000000-0000-0000-0000-000000000000"}});
    let given = env(clone.clone(), &Live::default());
    assert_eq!(
        json!(given),
        json!([
            {"name": "CLONE_SCOPE", "value": "acid-source"},
            {"name": "CLONE_METHOD", "value": "CLONE_WITH_BASEBACKUP"},
            {"name": "CLONE_HOST", "value": "acid-source"},
            {"name": "CLONE_PORT", "value": "5432"},
            {"name": "CLONE_USER", "value": "standby"},
            {"name": "CLONE_PASSWORD", "valueFrom": {"secretKeyRef":
                {"name": "standby.acid-source.credentials.postgresql.acid.zalan.do", "key": "password", "optional": true}}},
        ])
    );
    let live = Live {
        statefulset: Some(objects(&manifest(clone), &settings, &Live::default()).statefulset),
        bootstrapped: true,
        ..Live::default()
    };
    assert_eq!(
        env(json!({}), &live),
        given,
        "the section is gone: no pod is replaced"
    );
    let standby =
        json!({"standby": {"standby_host": "h", "standby_port": "5433", "standby_primary_slot_name": "s"}});
    assert_eq!(
        names(&json!(env(standby.clone(), &Live::default()))),
        ["STANDBY_HOST", "STANDBY_PORT", "STANDBY_PRIMARY_SLOT_NAME"]
    );
    assert_eq!(
        env(standby, &live),
        given,
        "the configuration tells those that exist"
    );
}

#[test]
fn a_cluster_that_is_restored_or_fed_is_told_from_which_archive() {
    let mut settings = ours();
    settings.pods.wal_s3_bucket = "backups".to_owned();
    let env = |more: Value, settings: &Settings| -> BTreeMap<String, String> {
        let set = set(&manifest(more), settings, &Live::default());
        let all = set["spec"]["template"]["spec"]["containers"][0]["env"].clone();
        let vars = all.as_array().cloned().unwrap().into_iter();
        let text = |var: &Value, key: &str| var[key].as_str().unwrap_or_default().to_owned();
        vars.map(|var| (text(&var, "name"), text(&var, "value")))
            .filter(|(name, _)| name.starts_with("CLONE_") || name.starts_with("STANDBY_"))
            .collect()
    };
    let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let moment = "2026-01-01T00:00:00+01:00";
    let uid = "00000000-0000-0000-0000-000000000000";
    assert_eq!(
        env(
            json!({"clone": {"cluster": "acid-source", "uid": uid, "timestamp": moment}}),
            &settings
        ),
        of(&[
            ("CLONE_SCOPE", "acid-source"),
            ("CLONE_METHOD", "CLONE_WITH_WALE"),
            ("CLONE_TARGET_TIME", moment),
            ("CLONE_WAL_S3_BUCKET", "backups"),
            ("CLONE_WAL_BUCKET_SCOPE_SUFFIX", &format!("/{uid}")),
            ("CLONE_WAL_BUCKET_SCOPE_PREFIX", ""),
        ])
    );
    let own = json!({"clone": {"cluster": "acid-source", "timestamp": moment, "s3_wal_path": "s3://other/path",
        "s3_endpoint": "https://s3.example.com", "s3_access_key_id": "key", "s3_secret_access_key": "secret",
        "s3_force_path_style": true}});
    assert_eq!(
        env(own, &settings),
        of(&[
            ("CLONE_SCOPE", "acid-source"),
            ("CLONE_METHOD", "CLONE_WITH_WALE"),
            ("CLONE_TARGET_TIME", moment),
            ("CLONE_WALE_S3_PREFIX", "s3://other/path"),
            ("CLONE_AWS_ENDPOINT", "https://s3.example.com"),
            ("CLONE_WALE_S3_ENDPOINT", "https://s3.example.com"),
            ("CLONE_AWS_ACCESS_KEY_ID", "key"),
            ("CLONE_AWS_SECRET_ACCESS_KEY", "secret"),
            ("CLONE_AWS_S3_FORCE_PATH_STYLE", "1"),
        ])
    );
    assert_eq!(
        env(
            json!({"standby": {"s3_wal_path": "s3://other/path", "standby_host": "h"}}),
            &settings
        ),
        of(&[
            ("STANDBY_HOST", "h"),
            ("STANDBY_WALE_S3_PREFIX", "s3://other/path"),
            ("STANDBY_METHOD", "STANDBY_WITH_WALE"),
            ("STANDBY_WAL_BUCKET_SCOPE_PREFIX", ""),
        ])
    );
}

#[test]
fn how_pods_are_made_is_settled_when_the_cluster_is_made() {
    let mut settings = ours();
    let first = objects(&manifest(json!({})), &settings, &Live::default()).statefulset;
    settings.pods.is_parallel = true;
    settings.pods.delete_claims_when_scaled = true;
    let fresh = set(&manifest(json!({})), &settings, &Live::default());
    assert_eq!(fresh["spec"]["podManagementPolicy"], "Parallel");
    assert_eq!(
        fresh["spec"]["persistentVolumeClaimRetentionPolicy"],
        json!({"whenDeleted": "Retain", "whenScaled": "Delete"})
    );
    let live = Live {
        statefulset: Some(first),
        ..Live::default()
    };
    let later = set(&manifest(json!({})), &settings, &live);
    assert_eq!(later["spec"]["podManagementPolicy"], "OrderedReady");
}

#[test]
fn names_of_load_balancers_are_formed_as_configured() {
    let mut settings = ours();
    settings.master_dns_name_format = "{cluster}-rw.{namespace}.{hostedzone}".into();
    settings.master_legacy_dns_name_format = "{cluster}.{team}.old.{hostedzone}".into();
    settings.enable_replica_node_port = true;
    let objects = objects(
        &manifest(json!({"enableMasterLoadBalancer": true})),
        &settings,
        &Live::default(),
    );
    assert_eq!(
        json!(objects.primary_service)["metadata"]["annotations"]["external-dns.alpha.kubernetes.io/hostname"],
        "acid-x-rw.default.db.example.com,x.acid.old.db.example.com"
    );
    assert_eq!(json!(objects.replica_service)["spec"]["type"], "NodePort");
}
