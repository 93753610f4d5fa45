use std::collections::BTreeMap;

use howdah_pgconf::{Wrong, parameter_error, parse_bool};
use serde_json::{Map, Value};

use crate::{
    ManifestError, OFFERED_VERSIONS, PostgresqlSpec, checks, is_database_name, is_dns_label,
    is_reserved_role, is_role_name, is_schema_name,
    names::{MAX_NAME, shares_secret},
    origin, role_flags,
    spec::resolve_old_names,
    support,
};

/// A manifest that can be acted on.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The cluster.
    pub name: String,
    /// Where it lives.
    pub namespace: String,
    /// The object's UID; empty before it exists.
    pub uid: String,
    /// The generation of its spec.
    pub generation: i64,
    /// The object's labels.
    pub labels: BTreeMap<String, String>,
    /// The object's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The objects that it belongs to.
    pub owner_references: Vec<Value>,
    /// The spec.
    pub spec: PostgresqlSpec,
    /// Paths below `spec` that are set and not acted on.
    pub unsupported: Vec<String>,
    /// Names of databases and schemas that are skipped because they are no identifiers (as upstream does).
    pub skipped: Vec<String>,
    /// What of the manifest is left out, and why.
    pub notes: Vec<String>,
    /// Why a new cluster cannot have the data that is asked for: where, and the reason.
    missing_data: Option<ManifestError>,
    /// Parameters whose value no server of this major takes, and why. They are not in `spec`: what the cluster has stays.
    pub wrong_parameters: BTreeMap<String, String>,
}

/// A map of strings; other values are left out.
fn texts(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn error(path: &str, reason: impl Into<String>) -> ManifestError {
    ManifestError {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

impl Manifest {
    /// Reads an object of the API.
    ///
    /// # Errors
    /// The first reason that keeps it from being acted on; the lint finds more.
    pub fn read(object: &Value) -> Result<Self, ManifestError> {
        let metadata = &object["metadata"];
        let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
        let name = text("name");
        if !is_dns_label(&name) || name.len() > MAX_NAME {
            return Err(error(
                "metadata.name",
                format!(
                    "'{name}' must begin with a letter, hold only a-z, 0-9 and -, and have at most {MAX_NAME} characters"
                ),
            ));
        }
        let raw = object["spec"]
            .as_object()
            .ok_or_else(|| error("spec", "is missing"))?;
        let resolved = resolve_old_names(raw);
        for required in ["teamId", "numberOfInstances", "postgresql", "volume"] {
            if !resolved.contains_key(required) {
                return Err(error(&format!("spec.{required}"), "is required and missing"));
            }
        }
        let mut spec: PostgresqlSpec = serde_json::from_value(Value::Object(resolved.clone()))
            .map_err(|e| error("spec", e.to_string()))?;
        check(&name, &spec)?;
        let skipped = skipped(&spec);
        let notes = checks::containers::take_skipped(&mut spec);
        let missing_data = origin::unavailable(&name, &object["spec"]["clone"], &object["spec"]["standby"])
            .map(|(field, reason)| error(&format!("spec.{field}"), reason));
        forget_nothing(&mut spec);
        let wrong_parameters = take_wrong(&mut spec);
        Ok(Manifest {
            wrong_parameters,
            notes,
            missing_data,
            name,
            namespace: Some(text("namespace"))
                .filter(|n| !n.is_empty())
                .unwrap_or_else(|| "default".into()),
            uid: text("uid"),
            generation: metadata["generation"].as_i64().unwrap_or(0),
            labels: texts(&metadata["labels"]),
            annotations: texts(&metadata["annotations"]),
            owner_references: metadata["ownerReferences"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
            unsupported: support::unsupported(&resolved),
            skipped,
            spec,
        })
    }

    /// A minimal object with this spec, for tests.
    #[must_use]
    pub fn object(name: &str, spec: Map<String, Value>) -> Value {
        serde_json::json!({
            "apiVersion": format!("{}/{}", crate::GROUP, crate::VERSION),
            "kind": crate::KIND,
            "metadata": {"name": name, "namespace": "default"},
            "spec": spec,
        })
    }
}

fn check(name: &str, spec: &PostgresqlSpec) -> Result<(), ManifestError> {
    let version = &spec.postgresql.version;
    if !OFFERED_VERSIONS.contains(&version.as_str()) {
        return Err(error(
            "spec.postgresql.version",
            format!(
                "\"{version}\" is not offered; write one of {}",
                OFFERED_VERSIONS.join(", ")
            ),
        ));
    }
    spec.volume
        .size
        .parse::<crate::Quantity>()
        .map_err(|e| error("spec.volume.size", format!("\"{}\" {e}", spec.volume.size)))?;
    for (role, flags) in &spec.users {
        let path = format!("spec.users.{role}");
        if !is_role_name(role) {
            return Err(error(
                &path,
                "is not a role name: use lower-case letters, digits, - and _, at most 63 of them",
            ));
        }
        if is_reserved_role(role) {
            return Err(error(
                &path,
                "is a name that PostgreSQL keeps for itself: choose another",
            ));
        }
        role_flags(flags).map_err(|e| error(&path, e.to_string()))?;
        // Roles that cannot log in have none.
        let logs_in = |flags: &Vec<String>| {
            role_flags(flags).is_ok_and(|flags| flags.iter().any(|flag| flag.name == "LOGIN" && flag.on))
        };
        let others = spec.users.iter().filter(|(_, flags)| logs_in(flags));
        if logs_in(flags)
            && let Some(other) = shares_secret(role, others.map(|(name, _)| name.as_str()))
        {
            return Err(error(&path, one_secret(other)));
        }
    }
    crate::foreign::check(spec)?;
    checks::containers::check(spec)?;
    checks::origin::check(name, spec)?;
    checks::pooler::check(spec)
}

/// Sections whose decisive field is empty ask for nothing, as in upstream's complete example.
fn forget_nothing(spec: &mut PostgresqlSpec) {
    if spec.tls.as_ref().is_some_and(|tls| tls.secret_name.is_empty()) {
        spec.tls = None;
    }
    if spec.clone.as_ref().is_some_and(|clone| clone.cluster.is_empty()) {
        spec.clone = None;
    }
    if spec.standby.as_ref().is_some_and(|standby| {
        [&standby.standby_host, &standby.s3_wal_path, &standby.gs_wal_path]
            .iter()
            .all(|place| place.is_empty())
    }) {
        spec.standby = None;
    }
}

impl Manifest {
    /// Why no new cluster may be made from this manifest although it is right: its data would have to come from elsewhere, and
    /// an empty, writable cluster would be taken for the restored one.
    #[must_use]
    pub fn needs_other_data(&self) -> Option<ManifestError> {
        self.missing_data.clone()
    }
}

/// Whether a spec asks for data that a new cluster cannot have: that of a backup or an archive.
#[must_use]
pub fn asks_for_missing_data(name: &str, spec: &Value) -> bool {
    origin::unavailable(name, &spec["clone"], &spec["standby"]).is_some()
}

/// Upstream gives both roles one Secret, with the password of one of them.
pub(crate) fn one_secret(other: &str) -> String {
    format!("would share its Secret with {other}, since _ is written as - there: rename one of them")
}

/// Takes out the values that a server would not start with. Names that it does not know are for the members to leave out.
fn take_wrong(spec: &mut PostgresqlSpec) -> BTreeMap<String, String> {
    let major = spec.postgresql.version.parse().unwrap_or(0);
    let mut wrong = BTreeMap::new();
    spec.postgresql
        .parameters
        .retain(|name, value| match parameter_error(name, value, major) {
            Some(why @ (Wrong::Value(_) | Wrong::ReadOnly)) => {
                wrong.insert(name.clone(), why.to_string());
                false
            }
            Some(Wrong::Unknown { .. }) | None => true,
        });
    if let Some(why) = no_plain_connections(spec) {
        spec.postgresql.parameters.remove("ssl");
        wrong.insert("ssl".into(), why.into());
    }
    wrong
}

/// Why TLS cannot be switched off: the image's lines of `pg_hba.conf`, and a user's own if they are like them, take no connection
/// without it. Neither clients nor replicas nor the operator would get in, and no correction would reach the members.
fn no_plain_connections(spec: &PostgresqlSpec) -> Option<&'static str> {
    let off = spec
        .postgresql
        .parameters
        .get("ssl")
        .is_some_and(|value| parse_bool(value) == Some(false));
    let env = spec.env.as_deref().unwrap_or_default();
    (off && !takes_plain_connections(&spec.patroni.pg_hba, env)).then_some(NO_PLAIN)
}

/// Whether a cluster with these lines and variables takes connections without TLS.
pub(crate) fn takes_plain_connections(pg_hba: &[String], env: &[Value]) -> bool {
    let plain = |line: &String| {
        let mut words = line.split_whitespace();
        let is_plain = matches!(words.next(), Some("host" | "hostnossl"));
        is_plain && words.last() != Some("reject")
    };
    let allows = |var: &Value| {
        var["name"] == "ALLOW_NOSSL" && var["value"].as_str().is_some_and(|value| !value.is_empty())
    };
    env.iter().any(allows) || pg_hba.iter().any(plain)
}

pub(crate) const NO_PLAIN: &str = "no line of pg_hba.conf takes connections without TLS, so no client could connect: add lines of type 'host' to patroni.pg_hba first";

fn skipped(spec: &PostgresqlSpec) -> Vec<String> {
    let mut out: Vec<String> = spec
        .databases
        .keys()
        .filter(|name| !is_database_name(name))
        .map(|name| format!("databases.{name}"))
        .collect();
    for (name, database) in spec.prepared_databases.iter().flatten() {
        if !is_database_name(name) {
            out.push(format!("preparedDatabases.{name}"));
        }
        out.extend(
            database
                .schemas
                .keys()
                .filter(|schema| !is_schema_name(schema))
                .map(|schema| format!("preparedDatabases.{name}.schemas.{schema}")),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> Map<String, Value> {
        let spec = json!({
            "teamId": "acid", "numberOfInstances": 2, "volume": {"size": "1Gi"},
            "users": {"zalando": ["superuser", "createdb"], "foo_user": null},
            "databases": {"foo": "zalando"}, "preparedDatabases": {"bar": {}},
            "postgresql": {"version": "18"},
        });
        spec.as_object().cloned().unwrap()
    }

    #[test]
    fn a_manifest_is_read_and_nothing_of_it_is_unsupported() {
        let manifest = Manifest::read(&Manifest::object("acid-minimal-cluster", spec())).unwrap();
        assert_eq!(manifest.spec.users["foo_user"], Vec::<String>::new());
        assert_eq!(manifest.unsupported, Vec::<String>::new());
        let bar = &manifest.spec.prepared("x")["bar"];
        assert!(bar.schemas().contains_key("data"));
    }

    #[test]
    fn old_names_are_understood() {
        let mut spec = spec();
        spec.insert("useLoadBalancer".into(), json!(true));
        spec.insert("pod_priority_class_name".into(), json!("high"));
        let manifest = Manifest::read(&Manifest::object("acid-x", spec)).unwrap();
        assert_eq!(manifest.spec.enable_master_load_balancer, Some(true));
        assert_eq!(manifest.spec.pod_priority_class_name.as_deref(), Some("high"));
    }

    #[test]
    fn a_cluster_that_needs_other_data_must_not_begin_empty() {
        let read = |field: &str, value: Value| {
            let mut spec = spec();
            spec.insert(field.into(), value);
            Manifest::read(&Manifest::object("acid-x", spec)).unwrap()
        };
        let clone = read(
            "clone",
            json!({"cluster": "other", "timestamp": "2026-01-01T00:00:00+01:00"}),
        );
        assert_eq!(clone.needs_other_data().unwrap().path, "spec.clone.uid");
        let fed = read("standby", json!({"s3_wal_path": "a"}));
        assert!(fed.needs_other_data().is_none() && fed.spec.standby.is_some());
        assert!(read("clone", Value::Null).needs_other_data().is_none());
        // Upstream's way of restoring in place: the manifest of the cluster that exists is read.
        let own = read(
            "clone",
            json!({"cluster": "acid-x", "timestamp": "2026-01-01T00:00:00+01:00"}),
        );
        assert!(own.needs_other_data().is_some());
        let nothing = read("standby", json!({}));
        assert!(nothing.needs_other_data().is_none() && nothing.spec.standby.is_none());
        let follows = read("standby", json!({"standby_host": "a.example.com"}));
        assert!(follows.needs_other_data().is_none());
        assert_eq!(follows.spec.standby.unwrap().port(), Some(5432));
    }

    #[test]
    fn tls_stays_on_where_nothing_else_is_let_in() {
        let wrong = |more: Value| {
            let mut spec = spec();
            spec.insert(
                "postgresql".into(),
                json!({"version": "15", "parameters": {"ssl": "OFF"}}),
            );
            spec.extend(more.as_object().cloned().unwrap());
            let manifest = Manifest::read(&Manifest::object("acid-x", spec)).unwrap();
            manifest.wrong_parameters.contains_key("ssl")
        };
        assert!(wrong(json!({})));
        assert!(wrong(
            json!({"patroni": {"pg_hba": ["hostssl all all all md5", "host all all all reject"]}})
        ));
        assert!(!wrong(json!({"patroni": {"pg_hba": ["host all all all md5"]}})));
        assert!(!wrong(json!({"env": [{"name": "ALLOW_NOSSL", "value": "true"}]})));
    }

    #[test]
    fn wrong_values_of_parameters_are_taken_out_and_named() {
        let mut spec = spec();
        spec.insert(
            "postgresql".into(),
            json!({"version": "15", "parameters": {"work_mem": "8MBB", "ssl": "perhaps", "shared_buffers": "32MB", "of_tomorrow": "1"}}),
        );
        let manifest = Manifest::read(&Manifest::object("acid-x", spec)).unwrap();
        let left: Vec<&str> = manifest
            .spec
            .postgresql
            .parameters
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(left, ["of_tomorrow", "shared_buffers"]);
        let wrong: Vec<&str> = manifest.wrong_parameters.keys().map(String::as_str).collect();
        assert_eq!(wrong, ["ssl", "work_mem"]);
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_place() {
        for (change, path) in [
            (
                json!({"postgresql": {"version": "9.6"}}),
                "spec.postgresql.version",
            ),
            (json!({"volume": {"size": "lots"}}), "spec.volume.size"),
            (json!({"users": {"Bad Name": []}}), "spec.users.Bad Name"),
            (json!({"users": {"a": ["login", "nologin"]}}), "spec.users.a"),
            (json!({"users": {"a_b": [], "a-b": []}}), "spec.users.a-b"),
            (json!({"numberOfInstances": "two"}), "spec"),
            (json!({"teamId": null}), "spec.teamId"),
            (
                json!({"standby": {"standby_host": "a", "standby_port": "0"}}),
                "spec.standby.standby_port",
            ),
            (
                json!({"standby": {"standby_host": "acid-x"}}),
                "spec.standby.standby_host",
            ),
            (
                json!({"standby": {"standby_host": "a:5433"}}),
                "spec.standby.standby_host",
            ),
            (
                json!({"standby": {"standby_host": "a", "standby_primary_slot_name": "My Slot"}}),
                "spec.standby.standby_primary_slot_name",
            ),
        ] {
            let mut spec = spec();
            spec.extend(change.as_object().cloned().unwrap());
            let found = Manifest::read(&Manifest::object("acid-x", spec)).unwrap_err();
            assert_eq!(found.path, path, "{found}");
        }
        let mut groups = spec();
        groups.insert("users".into(), json!({"a_b": ["nologin"], "a-b": []}));
        assert!(
            Manifest::read(&Manifest::object("acid-x", groups)).is_ok(),
            "one Secret"
        );
        assert!(Manifest::read(&Manifest::object(&"a".repeat(59), spec())).is_err());
    }
}
