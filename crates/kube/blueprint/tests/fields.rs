//! No field of a manifest is dropped in silence: each one either changes what is planned, or is named as not acted on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use howdah_blueprint::{
    Live, Login, OtherRoles, Settings, credentials, dynamic_wanted, objects, rotation, sql,
};
use howdah_manifest::{Kind, Manifest, Schema, Support, spec_schema, support};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Fields that mean something only beside others.
fn context(path: &str) -> Value {
    match path {
        "masterNodePort" => json!({"enableMasterNodePort": true}),
        "replicaNodePort" => json!({"enableReplicaNodePort": true}),
        "enableMasterPoolerLoadBalancer" | "enableMasterPoolerNodePort" => {
            json!({"enableConnectionPooler": true})
        }
        "enableReplicaPoolerLoadBalancer" | "enableReplicaPoolerNodePort" => {
            json!({"enableReplicaConnectionPooler": true})
        }
        "masterPoolerNodePort" => json!({"enableConnectionPooler": true, "enableMasterPoolerNodePort": true}),
        "replicaPoolerNodePort" => {
            json!({"enableReplicaConnectionPooler": true, "enableReplicaPoolerNodePort": true})
        }
        _ if path.starts_with("connectionPooler.") => json!({"enableConnectionPooler": true}),
        "allowedSourceRanges" => json!({"enableMasterLoadBalancer": true}),
        "volume.isSubPathExpr" => json!({"volume": {"size": "1Gi", "subPath": "a"}}),
        "usersIgnoringSecretRotation" => json!({"usersWithSecretRotation": ["a"]}),
        path if path.ends_with(".secretNamespace") => {
            json!({"preparedDatabases": {"other": {"defaultUsers": true}}})
        }
        _ if path.starts_with("standby.") => json!({"standby": {"standby_host": "a.example.com"}}),
        _ => json!({}),
    }
}

fn base() -> Map<String, Value> {
    let spec = json!({
        "teamId": "acid", "numberOfInstances": 1, "volume": {"size": "1Gi"}, "postgresql": {"version": "15"},
        "users": {"a": []},
    });
    spec.as_object().cloned().unwrap()
}

/// Everything that a manifest leads to.
fn planned(spec: &Map<String, Value>) -> (String, Vec<String>) {
    let manifest = Manifest::read(&Manifest::object("acid-x", spec.clone())).unwrap();
    // Upstream's image of members has no pooler.
    let mut settings = Settings {
        docker_image: "ghcr.io/howdah/howdah:1".into(),
        ..Settings::default()
    };
    settings.objects.enable_cross_namespace_secret = true;
    let objects = objects(&manifest, &settings, &Live::default());
    let roles = sql::wanted_roles(&manifest, &settings, &OtherRoles::default(), &BTreeMap::new());
    let all = credentials(&manifest, &settings, &OtherRoles::default());
    let rotations: Vec<_> = all
        .iter()
        .map(|one| {
            rotation(
                one,
                &Login::default(),
                &manifest,
                &settings,
                Timestamp::from_second(1_800_000_000).unwrap(),
            )
        })
        .collect();
    let have = sql::Catalogue::default();
    let prepared: Vec<_> = manifest
        .spec
        .prepared(&manifest.name)
        .iter()
        .flat_map(|(name, database)| sql::prepared_database(name, database, &sql::DatabaseFacts::default()))
        .collect();
    let plan = format!(
        "{}{}{}{}{}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}",
        json!(objects.statefulset),
        json!(objects.primary_service),
        json!(objects.replica_service),
        json!(objects.primary_budget),
        json!(objects.critical_budget),
        howdah_blueprint::poolers(&manifest, &settings, |_| None, ""),
        dynamic_wanted(&manifest),
        all,
        rotations,
        manifest.spec.maintenance_windows,
        sql::roles(&roles, &have, &BTreeMap::new()),
        sql::databases(&manifest, &settings, &roles, &have),
        prepared,
    );
    (plan, manifest.unsupported)
}

fn foreign(kind: &str) -> Value {
    match kind {
        "LabelSelector" => json!({"matchLabels": {"a": "b"}}),
        "Toleration" => json!({"key": "a", "operator": "Exists"}),
        "NodeAffinity" => json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}),
        "TopologySpreadConstraint" => {
            json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"})
        }
        "Probe" => json!({"httpGet": {"path": "/liveness", "port": 8008}}),
        "EnvVar" => json!({"name": "A", "value": "b"}),
        "EnvFromSource" => json!({"secretRef": {"name": "s"}}),
        "Container" => json!({"name": "a", "image": "b"}),
        "VolumeSource" => json!({"emptyDir": {}}),
        "ContainerPort" => json!({"containerPort": 1}),
        other => panic!("no example of a {other}"),
    }
}

/// A value that asks for something.
fn example(schema: &Schema, path: &str) -> Value {
    match &schema.kind {
        Kind::Text { .. } => json!(match path {
            "clone.uid" => "00000000-0000-0000-0000-000000000000",
            "databases.*" => "a",
            "standby.standby_port" => "5433",
            path if path.starts_with("users") => "a",
            path if path.starts_with("maintenanceWindows") => "Sat:01:00-06:00",
            path if path.ends_with("mountPath") => "/other",
            _ => "other",
        }),
        // The default of this one is the last.
        Kind::Words(words) if path == "connectionPooler.mode" => json!(words.first().unwrap()),
        Kind::Words(words) => json!(words.last().unwrap()),
        Kind::Integer { .. } => json!(7),
        Kind::Bool if path.ends_with("defaultRoles") || path == "enableShmVolume" => json!(false),
        Kind::Bool => json!(true),
        Kind::Quantity { .. } => json!("3"),
        Kind::Object(fields) => fields
            .iter()
            // A container has a name and an image, as Kubernetes wants it.
            .filter(|field| {
                let is_container = fields.iter().any(|field| field.name == "command");
                field.required || (is_container && ["name", "image"].contains(&field.name))
            })
            .map(|field| {
                (
                    field.name.to_owned(),
                    example(&field.schema, &format!("{path}.{}", field.name)),
                )
            })
            .collect::<Map<_, _>>()
            .into(),
        Kind::Map(inner) if path == "users" => json!({"b": example(inner, "users.*")}),
        Kind::Map(inner) => json!({"other": example(inner, &format!("{path}.*"))}),
        Kind::List(inner) => json!([example(inner, &format!("{path}.*"))]),
        Kind::Foreign(kind) => foreign(kind),
    }
}

/// The schema at a path of [`Schema::paths`].
fn at<'a>(schema: &'a Schema, path: &str) -> &'a Schema {
    path.split('.').fold(schema, |schema, part| match &schema.kind {
        Kind::Map(inner) | Kind::List(inner) => inner,
        _ => {
            &schema
                .fields()
                .iter()
                .find(|field| field.name == part)
                .unwrap()
                .schema
        }
    })
}

/// Sets a value at a path; `*` becomes a name or the only item.
fn set(schema: &Schema, into: &mut Value, path: &str, value: Value) {
    let Some((head, rest)) = path.split_once('.') else {
        match &schema.kind {
            Kind::List(_) => *into = json!([value]),
            Kind::Map(_) => into["other"] = value,
            _ => into[path] = value,
        }
        return;
    };
    match &schema.kind {
        Kind::List(inner) => {
            let mut item = example(inner, "");
            set(inner, &mut item, rest, value);
            *into = json!([item]);
        }
        Kind::Map(inner) => {
            let mut item = into.get("other").cloned().unwrap_or_else(|| json!({}));
            set(inner, &mut item, rest, value);
            into["other"] = item;
        }
        _ => {
            let field = schema.fields().iter().find(|field| field.name == head).unwrap();
            let fresh = || match field.schema.kind {
                Kind::Object(_) => example(&field.schema, head),
                _ => json!({}),
            };
            let mut inner = into.get(head).cloned().unwrap_or_else(fresh);
            set(&field.schema, &mut inner, rest, value);
            into[head] = inner;
        }
    }
}

#[test]
fn every_field_is_applied_or_named() {
    let schema = spec_schema();
    let paths = schema.paths();
    assert!(paths.len() > 120, "the walk reaches the fields: {}", paths.len());
    for path in paths {
        let mut before = base();
        before.extend(context(&path).as_object().cloned().unwrap());
        let mut after = Value::Object(before.clone());
        set(&schema, &mut after, &path, example(at(&schema, &path), &path));
        let after = after.as_object().cloned().unwrap();
        assert_ne!(before, after, "{path}: the example changes something");
        let (plan, unsupported) = planned(&after);
        match support(&path) {
            Support::NotYet => assert!(!unsupported.is_empty(), "{path} is not acted on and not reported"),
            Support::Applied => {
                assert_eq!(unsupported, Vec::<String>::new(), "{path} is acted on");
                assert_ne!(plan, planned(&before).0, "{path} changes nothing that is planned");
            }
        }
    }
}
