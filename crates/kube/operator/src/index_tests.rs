use howdah_blueprint::{CLUSTER_NAMESPACE_ANNOTATION, Settings};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Pod, Secret, Service},
};
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ClusterKey, Index, Indexed};

/// An object with the labels of a cluster.
fn object<K: DeserializeOwned>(cluster: &str, name: &str, version: u64, rest: &Value) -> K {
    let mut object = json!({"metadata": {
        "name": name, "namespace": "default", "uid": format!("uid-of-{name}"),
        "resourceVersion": version.to_string(),
        "labels": {"application": "spilo", "cluster-name": cluster},
    }});
    json_merge(&mut object, rest);
    serde_json::from_value(object).unwrap()
}

fn json_merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                json_merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn leader(version: u64, renewed: &str, optime: u64) -> ConfigMap {
    let annotations = json!({
        "leader": "a-0", "renewTime": renewed, "ttl": "30", "optime": optime.to_string(),
        "transitions": "1", "howdah.io/incarnation": format!("ff@{renewed}"), "howdah.io/ttl": format!("8@{renewed}"),
    });
    object(
        "a",
        "a-leader",
        version,
        &json!({"metadata": {"annotations": annotations}}),
    )
}

fn member(name: &str, version: u64, state: &str, position: u64) -> Pod {
    let role = if name == "a-0" { "primary" } else { "replica" };
    let status = json!({"role": role, "state": state, "xlog_location": position, "timeline": 1,
        "conn_url": "postgres://10.0.0.1:5432/postgres", "api_url": "http://10.0.0.1:8008/patroni"});
    object(
        "a",
        name,
        version,
        &json!({
            "metadata": {"annotations": {"status": status.to_string(), "howdah.io/incarnation": "00000000000000ff"}},
            "status": {"containerStatuses": [{
                "name": "postgres", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }]},
        }),
    )
}

fn names(clusters: &[ClusterKey]) -> Vec<&str> {
    clusters.iter().map(|key| key.name.as_str()).collect()
}

fn a() -> ClusterKey {
    ClusterKey {
        namespace: "default".into(),
        name: "a".into(),
    }
}

/// A cluster of two whose replica is at `position`, all of whose objects were reported once.
fn index() -> Index {
    let mut index = Index::new(Settings::default(), true);
    index.take(Event::Apply(leader(10, "t1", 1000)));
    index.take(Event::Apply(member("a-0", 11, "running", 1000)));
    index.take(Event::Apply(member("a-1", 12, "running", 1000)));
    index
}

fn list<K: Indexed>(index: &mut Index, objects: Vec<K>) -> Vec<ClusterKey> {
    let mut out = index.take(Event::<K>::Init);
    for object in objects {
        out.extend(index.take(Event::InitApply(object)));
    }
    out.extend(index.take(Event::<K>::InitDone));
    out
}

#[test]
fn the_renewal_of_a_lease_needs_no_pass() {
    let mut index = index();
    assert!(index.take(Event::Apply(leader(20, "t2", 1000))).is_empty());
    // It was taken in all the same.
    assert_eq!(index.seen(&a()).view.leader.unwrap().name.as_str(), "a-0");
}

#[test]
fn another_leader_needs_a_pass() {
    let mut index = index();
    let mut other = leader(20, "t2", 1000);
    let annotations = other.metadata.annotations.as_mut().unwrap();
    annotations.insert("leader".into(), "a-1".into());
    assert_eq!(names(&index.take(Event::Apply(other))), ["a"]);
}

#[test]
fn positions_need_no_pass_until_a_replica_falls_behind() {
    let mut index = index();
    for position in [2000, 3000, 4000] {
        assert!(
            index
                .take(Event::Apply(member("a-0", 20 + position, "running", position)))
                .is_empty()
        );
        assert!(
            index
                .take(Event::Apply(member("a-1", 20 + position, "running", position)))
                .is_empty()
        );
    }
    let far = 3 << 29;
    assert_eq!(
        names(&index.take(Event::Apply(member("a-0", 9000, "running", far)))),
        ["a"]
    );
    assert!(
        index
            .take(Event::Apply(member("a-0", 9001, "running", far + 8192)))
            .is_empty()
    );
}

#[test]
fn a_members_state_needs_a_pass() {
    let mut index = index();
    assert_eq!(
        names(&index.take(Event::Apply(member("a-1", 20, "stopped", 1000)))),
        ["a"]
    );
    assert!(
        index
            .take(Event::Apply(member("a-1", 21, "stopped", 1000)))
            .is_empty()
    );
}

#[test]
fn an_older_version_that_comes_late_changes_nothing() {
    let mut index = index();
    // The answer to a write of ours, then the events of the watch that it has overtaken.
    index.wrote(&member("a-1", 30, "stopped", 1000));
    assert!(
        index
            .take(Event::Apply(member("a-1", 25, "running", 1000)))
            .is_empty()
    );
    assert_eq!(index.seen(&a()).rows[1].state.to_string(), "stopped");
}

#[test]
fn a_pod_of_the_same_name_is_another_one() {
    let mut index = index();
    let mut next = member("a-1", 40, "running", 1000);
    next.metadata.uid = Some("another".into());
    index.wrote(&next);
    // The end of the first one is reported after the second was made.
    assert!(
        index
            .take(Event::Delete(member("a-1", 39, "running", 1000)))
            .is_empty()
    );
    assert_eq!(index.seen(&a()).pods.len(), 2);
    assert_eq!(names(&index.take(Event::Delete(next))), ["a"]);
    assert_eq!(index.seen(&a()).pods.len(), 1);
}

#[test]
fn what_a_new_list_does_not_name_is_gone() {
    let mut index = index();
    let changed = list(&mut index, vec![member("a-0", 50, "running", 1000)]);
    assert_eq!(names(&changed), ["a"]);
    assert_eq!(index.seen(&a()).pods.len(), 1);
    // The same list again, after a watch has broken: nothing has changed.
    assert!(list(&mut index, vec![member("a-0", 50, "running", 1000)]).is_empty());
}

#[test]
fn an_object_belongs_to_the_cluster_of_its_label() {
    let mut index = index();
    let secret = |cluster: &str, version| -> Secret {
        object(cluster, "s", version, &json!({"data": {"password": "eA=="}}))
    };
    assert_eq!(names(&index.take(Event::Apply(secret("a", 60)))), ["a"]);
    let known = index.seen(&a()).secrets["s"].clone();
    assert_eq!(known.map(|login| login.password).as_deref(), Some("x"));
    assert_eq!(names(&index.take(Event::Apply(secret("b", 61)))), ["a", "b"]);
    assert!(index.seen(&a()).secrets.is_empty());
    // The label is gone, and with it the object.
    let mut bare = secret("b", 62);
    bare.metadata.labels = None;
    assert_eq!(names(&index.take(Event::Apply(bare))), ["b"]);
    assert!(index.clusters.keys().all(|key| key.name == "a"));
}

/// An object in another namespace that says that it belongs to a cluster of this one.
fn elsewhere<K: Indexed + DeserializeOwned>(name: &str, more: &Value) -> K {
    let mut made: K = object("a", name, 70, more);
    let meta = made.meta_mut();
    meta.namespace = Some("elsewhere".into());
    let annotation = (CLUSTER_NAMESPACE_ANNOTATION.to_owned(), "default".to_owned());
    meta.annotations = Some([annotation].into());
    made
}

#[test]
fn an_object_of_another_namespace_never_takes_the_place_of_a_clusters_own() {
    let password = |text: &str| json!({"data": {"password": text}});
    let own = |index: &Index| {
        let login = index.seen(&a()).secrets.get("s").cloned().flatten();
        login.map(|login| login.password)
    };
    let mut settings = Settings::default();
    for crosses in [false, true] {
        settings.objects.enable_cross_namespace_secret = crosses;
        let mut index = Index::new(settings.clone(), true);
        let secret: Secret = object("a", "s", 60, &password("eA=="));
        index.take(Event::Apply(secret));
        index.take(Event::Apply(elsewhere::<Secret>("s", &password("eQ=="))));
        assert_eq!(own(&index).as_deref(), Some("x"));
        // Where Secrets may be elsewhere, it is there under its namespace.
        assert_eq!(index.seen(&a()).secrets.contains_key("elsewhere/s"), crosses);
        // A Service would be told the superuser's password.
        index.take(Event::Apply(elsewhere::<Service>(
            "a",
            &json!({"spec": {"clusterIP": "10.0.0.66"}}),
        )));
        assert!(index.seen(&a()).services.is_empty());
        index.take(Event::Delete(elsewhere::<Secret>("s", &password("eQ=="))));
        assert_eq!(own(&index).as_deref(), Some("x"));
        assert!(!index.seen(&a()).secrets.contains_key("elsewhere/s"));
    }
    // Where the other namespace is not watched, its end would not be reported.
    let mut index = Index::new(settings, false);
    index.take(Event::Apply(elsewhere::<Secret>("s", &password("eQ=="))));
    assert!(index.seen(&a()).secrets.is_empty());
}

#[test]
fn it_is_complete_when_every_kind_has_been_listed() {
    let mut index = Index::new(Settings::default(), true);
    list::<Pod>(&mut index, Vec::new());
    list::<ConfigMap>(&mut index, Vec::new());
    list::<StatefulSet>(&mut index, Vec::new());
    list::<k8s_openapi::api::core::v1::Service>(&mut index, Vec::new());
    list::<k8s_openapi::api::policy::v1::PodDisruptionBudget>(&mut index, Vec::new());
    list::<Secret>(&mut index, Vec::new());
    assert!(!index.is_complete());
    list::<k8s_openapi::api::core::v1::PersistentVolumeClaim>(&mut index, Vec::new());
    assert!(!index.is_complete());
    list::<k8s_openapi::api::apps::v1::Deployment>(&mut index, Vec::new());
    assert!(index.is_complete());
    // A watch that begins again does not make it incomplete: what it knows stays until the list has ended.
    index.take(Event::<Pod>::Init);
    assert!(index.is_complete());
}

#[test]
fn a_fresh_list_of_one_cluster_replaces_what_was_known() {
    let mut index = index();
    index.refresh(&a(), vec![member("a-1", 70, "stopped", 1000)]);
    let seen = index.seen(&a());
    assert_eq!(seen.pods.len(), 1);
    assert_eq!(seen.rows[0].state.to_string(), "stopped");
    // The watch reports the same a moment later.
    assert!(
        index
            .take(Event::Apply(member("a-1", 70, "stopped", 1000)))
            .is_empty()
    );
}

#[test]
fn a_node_that_is_closed_starts_a_pass_of_the_clusters_on_it() {
    use k8s_openapi::api::core::v1::{Node, NodeSpec};
    let node = |closed: bool| {
        let mut node = Node {
            spec: Some(NodeSpec {
                unschedulable: Some(closed),
                ..NodeSpec::default()
            }),
            ..Node::default()
        };
        node.metadata.name = Some("n1".into());
        node
    };
    let mut index = Index::new(Settings::default(), true);
    let mut pod = member("a-0", 1, "running", 0);
    pod.spec.get_or_insert_default().node_name = Some("n1".into());
    index.take(Event::Apply(pod));
    assert_eq!(index.take_node(Event::Apply(node(false))), []);
    assert_eq!(index.take_node(Event::Apply(node(true))), [a()]);
    assert!(index.seen(&a()).pods[0].leaving);
    assert_eq!(index.take_node(Event::Apply(node(true))), []);
    assert_eq!(index.take_node(Event::Delete(node(true))), [a()]);
    assert!(!index.seen(&a()).pods[0].leaving);
}
