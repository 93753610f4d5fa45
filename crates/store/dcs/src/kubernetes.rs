//! How Patroni lays a cluster's keys out in Kubernetes: ConfigMaps or Endpoints, pods, annotations, labels; and what Howdah adds.

use std::{collections::BTreeMap, time::Duration};

use howdah_types::{MemberName, PgState, Role, Scope};
use serde_json::{Map, Value, json};

use crate::{Key, KeyTree, LeaseId, Member, RawKey, View, observed::Record};

/// Beside Patroni's annotations: the life that holds the record, as `<lease in hex>@<renewTime>`. It counts only while
/// the time is that of the record's last renewal, so that a renewal by another agent under the same name ends it.
pub const INCARNATION: &str = "howdah.io/incarnation";
/// The leadership: the resourceVersion that the record had when it was taken, which only grows.
pub const TERM: &str = "howdah.io/term";
/// The length of the lease in seconds, as `<length>@<renewTime>`: what the holder counts on, whatever was written
/// into Patroni's `ttl` since.
pub const LENGTH: &str = "howdah.io/ttl";
/// A longer lease of an agent of Patroni, in seconds, is taken for a mistake; ours refuse to be configured so.
const LONGEST_LEASE: u64 = 3600;
/// The life that bootstraps, beside an empty `initialize`.
pub const CLAIM: &str = "howdah.io/claim";

/// Names, labels and annotations of one cluster's objects.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The cluster.
    pub scope: Scope,
    /// Where its objects are.
    pub namespace: String,
    /// Labels of all objects.
    pub labels: BTreeMap<String, String>,
    /// The label that holds the scope.
    pub scope_label: String,
    /// The label that holds a pod's role.
    pub role_label: String,
    /// Its value for the primary.
    pub leader_value: String,
    /// Its value for replicas.
    pub follower_value: String,
    /// Its value for the leader of a cluster that follows another one.
    pub standby_leader_value: String,
    /// A second label, with the role as it is.
    pub tmp_role_label: Option<String>,
    /// Labels of a pod while it is made.
    pub bootstrap_labels: BTreeMap<String, String>,
    /// The state is in Endpoints instead of ConfigMaps, and those with the leader's record are those of the leader's Service.
    pub routing: Option<Routing>,
}

/// Where the Service of the leader leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The leader's address; its pod's own where it is not set.
    pub pod_ip: Option<String>,
    /// Its ports, as Endpoints have them.
    pub ports: Vec<Value>,
}

impl Routing {
    /// The `subsets` that lead to this pod (null: it was not seen yet); `None`: its address is not known.
    #[must_use]
    pub fn subsets(&self, pod: &Value) -> Option<Value> {
        let address = self
            .pod_ip
            .as_deref()
            .or_else(|| pod["status"]["podIP"].as_str())?;
        let metadata = &pod["metadata"];
        let mut to = json!({"ip": address});
        if metadata["name"].is_string() {
            to["targetRef"] = json!({
                "kind": "Pod", "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            });
        }
        for (name, value) in [
            ("hostname", &pod["spec"]["hostname"]),
            ("nodeName", &pod["spec"]["nodeName"]),
        ] {
            if value.is_string() {
                to[name] = value.clone();
            }
        }
        Some(json!([{"addresses": [to], "ports": self.ports}]))
    }
}

/// Whether the annotations of a leader's record differ only in what every renewal changes: its time.
#[must_use]
pub fn differs_by_renewal(new: &BTreeMap<String, String>, known: &BTreeMap<String, String>) -> bool {
    let lasting = |annotations: &BTreeMap<String, String>| -> Vec<(String, String)> {
        let kept = annotations.iter().filter(|(name, _)| *name != "renewTime");
        // The incarnation and the length of the lease are bound to the time of the renewal.
        let bound = |name: &str| name == INCARNATION || name == LENGTH;
        let value = |name: &str, value: &str| match value.split_once('@') {
            Some((value, _)) if bound(name) => value.to_owned(),
            _ => value.to_owned(),
        };
        kept.map(|(name, text)| (name.clone(), value(name, text)))
            .collect()
    };
    lasting(new) == lasting(known)
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str()
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

impl Layout {
    /// The labels of every object of the cluster.
    #[must_use]
    pub fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert(self.scope_label.clone(), self.scope.to_string());
        labels
    }

    /// The selector of the cluster's objects.
    #[must_use]
    pub fn selector(&self) -> String {
        let parts: Vec<String> = self
            .all_labels()
            .iter()
            .map(|(k, v)| format!("{k}%3D{v}"))
            .collect();
        parts.join("%2C")
    }

    /// The kind of the objects that hold the state, and its name in a path.
    #[must_use]
    pub fn kind(&self) -> (&'static str, &'static str) {
        match self.routing {
            Some(_) => ("Endpoints", "endpoints"),
            None => ("ConfigMap", "configmaps"),
        }
    }

    /// The same cluster as it would be with its state in objects of the other kind.
    #[must_use]
    pub fn of_other_kind(&self) -> Self {
        let no_route = || Routing {
            pod_ip: None,
            ports: Vec::new(),
        };
        Layout {
            routing: self.routing.is_none().then(no_route),
            ..self.clone()
        }
    }

    /// The object with the leader's record: among Endpoints, those of the leader's Service.
    #[must_use]
    pub fn leader_object(&self) -> String {
        match self.routing {
            Some(_) => self.scope.to_string(),
            None => format!("{}-leader", self.scope),
        }
    }

    /// The object that a key lives in.
    #[must_use]
    pub fn object_of(&self, key: Key) -> String {
        let suffix = match key {
            Key::Initialize | Key::Config | Key::History => "config",
            Key::Failover => "failover",
            Key::Sync => "sync",
            Key::Status | Key::Failsafe => return self.leader_object(),
        };
        format!("{}-{suffix}", self.scope)
    }

    /// The annotations that a key's value becomes; `null` deletes one.
    #[must_use]
    pub fn annotations_of(&self, key: Key, value: Option<&str>) -> Map<String, Value> {
        let fields = |names: &[&str]| {
            let object: Value = value
                .and_then(|v| serde_json::from_str(v).ok())
                .unwrap_or_default();
            let text = |name: &str| match &object[name] {
                Value::Null => Value::Null,
                Value::String(text) if text.is_empty() => Value::Null,
                Value::String(text) => json!(text),
                other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                    json!(other.to_string())
                }
            };
            names
                .iter()
                .map(|name| ((*name).to_owned(), text(name)))
                .collect()
        };
        let single = |name: &str| {
            let mut map = Map::new();
            map.insert(name.to_owned(), value.map_or(Value::Null, |value| json!(value)));
            map
        };
        match key {
            Key::Config => single("config"),
            Key::History => single("history"),
            Key::Failsafe => single("failsafe"),
            Key::Initialize => {
                let mut map = single("initialize");
                map.insert(CLAIM.into(), Value::Null);
                map
            }
            Key::Failover => fields(&["leader", "member", "scheduled_at", "force", "confirmed"]),
            Key::Sync => fields(&["leader", "sync_standby", "quorum"]),
            Key::Status => fields(&["optime", "slots", "retain_slots"]),
        }
    }

    /// Whether a key is there: its object may exist without it.
    #[must_use]
    pub fn has(&self, key: Key, object: &Value) -> bool {
        self.annotations_of(key, None)
            .keys()
            .any(|name| name != CLAIM && annotation(object, name).is_some())
    }

    /// The leader's record.
    #[must_use]
    pub fn record(&self, object: &Value) -> Record {
        let renew_time = annotation(object, "renewTime").unwrap_or_default();
        let number = |name: &str| annotation(object, name).and_then(|text| text.parse::<u64>().ok());
        // A holder with an invalid name is a holder.
        let holder = annotation(object, "leader")
            .filter(|name| !name.is_empty())
            .and_then(|name| {
                MemberName::new(name)
                    .or_else(|_| MemberName::new("unreadable"))
                    .ok()
            });
        let of_this_renewal = |name: &str| {
            let (value, time) = annotation(object, name)?.split_once('@')?;
            (time == renew_time && holder.is_some()).then_some(value)
        };
        let lease = of_this_renewal(INCARNATION)
            .and_then(|lease| u64::from_str_radix(lease, 16).ok())
            .map(LeaseId);
        // Patroni's annotation may be anybody's. One that is too long would keep everybody from taking over.
        let length = of_this_renewal(LENGTH)
            .and_then(|text| text.parse().ok())
            .or_else(|| number("ttl").map(|ttl| ttl.min(LONGEST_LEASE)))
            .filter(|ttl| *ttl > 0);
        let transitions = number("transitions").unwrap_or(0);
        Record {
            version: version(object),
            term: lease.and_then(|_| number(TERM)).unwrap_or(0),
            lease,
            ttl: Duration::from_secs(length.unwrap_or(30)),
            transitions,
            renewal: format!(
                "{renew_time} {} {transitions}",
                annotation(object, "acquireTime").unwrap_or_default()
            ),
            holder,
        }
    }

    /// The leader's object, but for what every renewal changes.
    #[must_use]
    pub fn without_renewal(&self, object: &Value) -> Value {
        let mut annotations = object["metadata"]["annotations"].clone();
        if let Some(annotations) = annotations.as_object_mut() {
            for name in ["renewTime", LENGTH] {
                annotations.remove(name);
            }
            let lease = self.record(object).lease.map(incarnation_of);
            annotations.insert(INCARNATION.to_owned(), json!(lease));
        }
        json!([annotations, object["metadata"]["labels"]])
    }

    /// The whole cluster as its objects say, without judging the leader's lease: for readers that only show it.
    #[must_use]
    pub fn view_of(&self, maps: &[Value], pods: &[Value]) -> View {
        self.view(0, maps, pods, true)
    }

    /// The whole cluster from the objects of its state and its Pods; `held`: the leader's record counts.
    #[must_use]
    pub fn view(&self, rev: u64, maps: &[Value], pods: &[Value], held: bool) -> View {
        let tree = KeyTree::new(&self.namespace, &self.scope);
        let mut keys = Vec::new();
        let mut push = |path: String, value: String, created: u64, modified: u64, lease: Option<LeaseId>| {
            keys.push(RawKey {
                path,
                value,
                created,
                modified,
                lease,
            });
        };
        let lives: Vec<&str> = pods
            .iter()
            .filter_map(|pod| annotation(pod, INCARNATION))
            .collect();
        for object in maps {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let at = version(object);
            if name == self.leader_object() {
                let record = self.record(object);
                if let Some(holder) = record.holder.filter(|_| held) {
                    push(tree.leader(), holder.to_string(), record.term, at, record.lease);
                }
                push(tree.path(Key::Status), status_text(object), at, at, None);
                if let Some(topology) = annotation(object, "failsafe") {
                    push(tree.path(Key::Failsafe), topology.to_owned(), at, at, None);
                }
            } else if name == self.object_of(Key::Config) {
                for (key, field) in [
                    (Key::Config, "config"),
                    (Key::History, "history"),
                    (Key::Initialize, "initialize"),
                ] {
                    let Some(text) = annotation(object, field) else {
                        continue;
                    };
                    // A claim ends with the life that made it.
                    let stale = key == Key::Initialize
                        && text.is_empty()
                        && annotation(object, CLAIM).is_some_and(|claim| !lives.contains(&claim));
                    if !stale {
                        push(tree.path(key), text.to_owned(), at, at, None);
                    }
                }
            } else if name == self.object_of(Key::Failover) || name == self.object_of(Key::Sync) {
                let key = if name == self.object_of(Key::Sync) {
                    Key::Sync
                } else {
                    Key::Failover
                };
                push(tree.path(key), self.document(key, object), at, at, None);
            }
        }
        let leader = maps
            .iter()
            .find(|map| map["metadata"]["name"] == self.leader_object().as_str())
            .map(|map| self.record(map));
        for pod in pods {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            // A pod keeps what an earlier life of its agent has said. Of a member that leads it must be the life that leads:
            // what another one says of its server is over, or does not count yet. Without a leader every record counts.
            let of_another_life = leader.as_ref().filter(|_| held).is_some_and(|leader| {
                let life = leader.lease.map(incarnation_of);
                leader
                    .holder
                    .as_ref()
                    .is_some_and(|holder| holder.as_str() == name)
                    && life.is_some()
                    && annotation(pod, INCARNATION) != life.as_deref()
            });
            if let (Some(text), Ok(name)) = (annotation(pod, "status"), MemberName::new(name)) {
                push(
                    tree.member(&name),
                    if of_another_life {
                        without_state(text)
                    } else {
                        text.to_owned()
                    },
                    version(pod),
                    version(pod),
                    None,
                );
            }
        }
        View::from_keys(&tree, rev, keys)
    }

    /// The key's JSON from its annotations.
    fn document(&self, key: Key, object: &Value) -> String {
        let mut out = Map::new();
        for name in self.annotations_of(key, None).keys() {
            if let Some(text) = annotation(object, name) {
                let number = text.parse::<u64>().ok().filter(|_| name == "quorum");
                out.insert(
                    name.clone(),
                    number.map_or_else(|| json!(text), |number| json!(number)),
                );
            }
        }
        Value::Object(out).to_string()
    }

    /// The metadata of a pod that says what its member does.
    #[must_use]
    pub fn member_metadata(&self, lease: LeaseId, record: &str, other_leads: bool) -> Value {
        let member = Member::parse(record);
        let running = member.state == PgState::Running;
        let (label, role) = match member.role {
            // A primary that another member has replaced must get no connections.
            Role::Primary if running && !other_leads => (json!(self.leader_value), json!("primary")),
            Role::StandbyLeader if running && !other_leads => {
                (json!(self.standby_leader_value), json!("standby_leader"))
            }
            Role::Replica if running => (json!(self.follower_value), json!("replica")),
            Role::Primary
            | Role::Replica
            | Role::StandbyLeader
            | Role::Demoted
            | Role::Promoted
            | Role::Uninitialized => (Value::Null, Value::Null),
        };
        let mut labels = Map::new();
        labels.insert(self.role_label.clone(), label);
        if let Some(name) = &self.tmp_role_label {
            labels.insert(name.clone(), role);
        }
        let made = matches!(
            member.state,
            PgState::Initializing
                | PgState::CustomBootstrap
                | PgState::CreatingReplica
                | PgState::StartingAfterCustomBootstrap
        );
        for (name, value) in &self.bootstrap_labels {
            labels.insert(name.clone(), if made { json!(value) } else { Value::Null });
        }
        json!({"metadata": {
            "labels": labels,
            "annotations": {"status": record, INCARNATION: incarnation_of(lease)},
        }})
    }
}

/// A member's record that tells who it is and nothing of its server.
fn without_state(record: &str) -> String {
    let mut record: Value = serde_json::from_str(record).unwrap_or_default();
    if let Some(fields) = record.as_object_mut() {
        fields.insert("state".into(), json!("unknown"));
        fields.insert("role".into(), json!("replica"));
    }
    record.to_string()
}

/// A life, in a pod's annotation.
#[must_use]
pub fn incarnation_of(lease: LeaseId) -> String {
    format!("{:016x}", lease.0)
}

fn status_text(object: &Value) -> String {
    let mut out = Map::new();
    if let Some(optime) = annotation(object, "optime").and_then(|text| text.parse::<u64>().ok()) {
        out.insert("optime".into(), json!(optime));
    }
    for name in ["slots", "retain_slots"] {
        if let Some(value) =
            annotation(object, name).and_then(|text| serde_json::from_str::<Value>(text).ok())
        {
            out.insert(name.into(), value);
        }
    }
    Value::Object(out).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout {
            scope: Scope::new("c").unwrap(),
            namespace: "default".into(),
            labels: BTreeMap::from([("application".to_owned(), "spilo".to_owned())]),
            scope_label: "cluster-name".into(),
            role_label: "spilo-role".into(),
            leader_value: "master".into(),
            follower_value: "replica".into(),
            standby_leader_value: "master".into(),
            tmp_role_label: None,
            bootstrap_labels: BTreeMap::new(),
            routing: None,
        }
    }

    fn object(name: &str, annotations: Value) -> Value {
        json!({"metadata": {"name": name, "resourceVersion": "7", "annotations": annotations}})
    }

    #[test]
    fn patronis_objects_make_a_view() {
        let maps = [
            object(
                "c-leader",
                json!({"leader": "c-0", "ttl": "30", "renewTime": "t", "optime": "100", "slots": "{\"c_1\": 90}"}),
            ),
            object(
                "c-config",
                json!({"config": "{\"ttl\": 20}", "initialize": "77", "history": "[[1, 5, \"x\"]]"}),
            ),
            object("c-sync", json!({"leader": "c-0", "sync_standby": "c-1"})),
            object("c-failover", json!({"member": "c-1"})),
        ];
        let pods = [object(
            "c-0",
            json!({"status": "{\"role\": \"primary\", \"state\": \"running\"}"}),
        )];
        let view = layout().view_of(&maps, &pods);
        assert_eq!(view.initialize.as_deref(), Some("77"));
        assert_eq!(view.config.value.unwrap()["ttl"], 20);
        assert_eq!(view.leader.as_ref().unwrap().lease, None);
        assert_eq!(view.status.optime, Some(howdah_types::Lsn(100)));
        assert_eq!(view.sync.value.unwrap().sync_standby.as_deref(), Some("c-1"));
        assert_eq!(view.failover.value.unwrap().candidate.unwrap().as_str(), "c-1");
        assert_eq!(view.members.len(), 1);
        assert_eq!(view.history.unwrap().len(), 1);
    }

    #[test]
    fn an_incarnation_counts_only_with_its_own_renewal() {
        let layout = layout();
        let ours = object(
            "c-leader",
            json!({"leader": "a", "renewTime": "t1", INCARNATION: "ff@t1", TERM: "6"}),
        );
        assert_eq!(layout.record(&ours).lease, Some(LeaseId(255)));
        assert_eq!(layout.record(&ours).term, 6);
        // Another agent of that name has renewed it since.
        let theirs = object(
            "c-leader",
            json!({"leader": "a", "renewTime": "t2", INCARNATION: "ff@t1", TERM: "6"}),
        );
        assert_eq!(layout.record(&theirs).lease, None);
    }

    #[test]
    fn a_claim_ends_with_the_life_that_made_it() {
        let layout = layout();
        let maps = [object(
            "c-config",
            json!({"initialize": "", CLAIM: "00000000000000ff"}),
        )];
        let living = [object("c-0", json!({INCARNATION: "00000000000000ff"}))];
        assert_eq!(layout.view_of(&maps, &living).initialize.as_deref(), Some(""));
        assert_eq!(layout.view_of(&maps, &[]).initialize, None);
    }

    #[test]
    fn a_renewal_changes_its_time_alone() {
        let record = |time: &str, optime: &str, leader: &str| {
            BTreeMap::from([
                ("leader".to_owned(), leader.to_owned()),
                ("renewTime".to_owned(), time.to_owned()),
                ("optime".to_owned(), optime.to_owned()),
                (INCARNATION.to_owned(), format!("ff@{time}")),
            ])
        };
        let known = record("t1", "100", "a");
        assert!(differs_by_renewal(&record("t2", "100", "a"), &known));
        // Lag is computed from positions.
        assert!(!differs_by_renewal(&record("t2", "200", "a"), &known));
        assert!(!differs_by_renewal(&record("t2", "100", "b"), &known));
        let mut other_life = record("t2", "100", "a");
        other_life.insert(INCARNATION.to_owned(), "fe@t2".to_owned());
        assert!(!differs_by_renewal(&other_life, &known));
    }

    #[test]
    fn roles_become_labels_and_go_again() {
        let layout = layout();
        let metadata = |record: &str| {
            layout.member_metadata(LeaseId(1), record, false)["metadata"]["labels"]["spilo-role"].clone()
        };
        assert_eq!(metadata(r#"{"role": "primary", "state": "running"}"#), "master");
        assert_eq!(metadata(r#"{"role": "replica", "state": "running"}"#), "replica");
        assert_eq!(
            metadata(r#"{"role": "replica", "state": "starting"}"#),
            Value::Null
        );
        assert_eq!(
            metadata(r#"{"role": "primary", "state": "stopping"}"#),
            Value::Null
        );
    }

    #[test]
    fn what_an_earlier_life_of_the_leader_has_said_does_not_count() {
        let layout = layout();
        let maps = [object(
            "c-leader",
            json!({"leader": "c-0", "renewTime": "t1", INCARNATION: "ff@t1"}),
        )];
        let pod = |life: &str| {
            [object(
                "c-0",
                json!({"status": "{\"role\": \"primary\"}", INCARNATION: life}),
            )]
        };
        assert_eq!(layout.view_of(&maps, &pod("00000000000000ff")).members.len(), 1);
        // It remains a member: members that race ask it.
        let view = layout.view_of(&maps, &pod("00000000000000aa"));
        let member = view.members.values().next().unwrap();
        assert_eq!((member.state, member.role), (PgState::Unknown, Role::Replica));
        let later = layout.view(0, &maps, &pod("00000000000000aa"), false);
        assert_eq!(later.members.values().next().unwrap().role, Role::Primary);
    }

    #[test]
    fn documents_become_annotations_and_back() {
        let layout = layout();
        let annotations = layout.annotations_of(Key::Failover, Some(r#"{"leader": "a", "member": "b"}"#));
        assert_eq!(
            json!(annotations),
            json!({"leader": "a", "member": "b", "scheduled_at": null, "force": null, "confirmed": null})
        );
        assert_eq!(
            json!(layout.annotations_of(Key::Failover, Some("{}")))["member"],
            Value::Null
        );
        assert!(!layout.has(Key::Config, &object("c-config", json!({"history": "[]"}))));
    }
}
