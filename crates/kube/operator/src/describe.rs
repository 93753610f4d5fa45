//! Clusters as upstream's debug API shows them: its fields, without what may be a password.

use std::collections::BTreeMap;

use howdah_blueprint::Names;
use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Value, json};

use crate::{Operator, objects::ClusterKey};

impl Operator {
    /// The clusters of each team, by name.
    #[must_use]
    pub fn clusters_by_team(&self) -> BTreeMap<String, Vec<String>> {
        let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for cluster in self.context.known() {
            let team = cluster.data["spec"]["teamId"].as_str().unwrap_or_default();
            out.entry(team.to_owned()).or_default().push(cluster.name_any());
        }
        out.values_mut().for_each(|names| names.sort_unstable());
        out
    }

    /// The databases that each cluster's manifest names.
    #[must_use]
    pub fn databases_by_cluster(&self) -> BTreeMap<String, Vec<String>> {
        let names = |cluster: &DynamicObject| {
            let databases = cluster.data["spec"]["databases"].as_object();
            databases
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect()
        };
        self.context
            .known()
            .iter()
            .map(|cluster| (cluster.name_any(), names(cluster)))
            .collect()
    }

    /// How many clusters there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.context.known().len()
    }

    /// One cluster with its objects. `None`: there is none of this name.
    #[must_use]
    pub fn described(&self, namespace: &str, name: &str) -> Option<Value> {
        let is_it = |cluster: &DynamicObject| {
            cluster.name_any() == name && cluster.namespace().as_deref() == Some(namespace)
        };
        let cluster = self.context.known().into_iter().find(|cluster| is_it(cluster))?;
        let objects = self.context.index().objects(&ClusterKey {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
        let names = Names(name);
        let status = &cluster.data["status"];
        let conditions = status["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Ready");
        let phase = status["PostgresClusterStatus"].as_str().unwrap_or_default();
        let error = ready
            .filter(|_| phase.ends_with("Failed") || phase == "Invalid")
            .map_or("", |condition| condition["message"].as_str().unwrap_or_default());
        let mut out = json!({
            "Team": cluster.data["spec"]["teamId"],
            "Cluster": name,
            "Namespace": namespace,
            "MasterService": objects.services.get(&names.cluster()),
            "ReplicaService": objects.services.get(&names.replica_service()),
            "StatefulSet": objects.sets.get(&names.cluster()),
            "PrimaryPodDisruptionBudget": objects.budgets.get(&self.context.settings.primary_budget(name)),
            "CriticalOpPodDisruptionBudget": objects.budgets.get(&names.critical_budget()),
            "CurrentProcess": {"Name": "", "StartTime": "0001-01-01T00:00:00Z"},
            "Worker": 0,
            "Status": status,
            "Spec": cluster.data["spec"],
            "Error": error,
        });
        redact(&mut out);
        Some(out)
    }
}

/// Words in the names of secret things.
const SECRET: [&str; 9] = [
    "pass",
    "secret",
    "token",
    "key",
    "credential",
    "private",
    "_url",
    "dsn",
    "salt",
];

/// Names that have such a word and are of nothing secret.
const PLAIN: [&str; 9] = [
    "key",
    "topologykey",
    "configmapkeyref",
    "secretkeyref",
    "imagepullsecrets",
    "userswithsecretrotation",
    "userswithinplacesecretrotation",
    "pod_environment_secret",
    "secret_name_template",
];

/// Whether a name is that of something secret. Switches and names of objects are not.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_plain = name.starts_with("enable_")
        || name.ends_with("_name")
        || name.ends_with("secretname")
        || PLAIN.contains(&name.as_str());
    !is_plain && SECRET.iter().any(|word| name.contains(word))
}

/// Whether a text has something secret in it: an option of pg_hba, a connection string, a URL with a password.
fn tells_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let has_login = text.split("://").skip(1).any(|rest| {
        let place = rest.split(['/', ' ', '"']).next().unwrap_or_default();
        place.contains('@')
    });
    has_login || text.contains("passw") || text.contains("secret")
}

/// Takes everything away that may be secret: what is below such a key, the value of a variable that has such a name, a text
/// with a password in it.
pub fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let named = map.get("name").and_then(Value::as_str).is_some_and(is_secret);
            for (key, value) in map {
                if is_secret(key) || (named && key == "value") {
                    hide(value);
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(redact),
        Value::String(text) if tells_secret(text) => *value = json!("(hidden)"),
        _ => {}
    }
}

/// Hides every text and number below.
fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(hide),
        Value::Array(list) => list.iter_mut().for_each(hide),
        Value::String(_) | Value::Number(_) => *value = json!("(hidden)"),
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        let mut value = json!({"env": [
            {"name": "AWS_SECRET_ACCESS_KEY", "value": "s3cret"},
            {"name": "SCOPE", "value": "db"},
            {"name": "PGPASSWORD_STANDBY", "valueFrom": {"secretKeyRef": {"name": "x", "key": "password"}}},
            {"name": "WALG_PGP_KEY", "value": "s3cret"},
            {"name": "DATABASE_URL", "value": "postgres://u:s3cret@h/d"},
            {"name": "OTHER", "value": "see https://u:s3cret@h/x"},
        ], "standby": {"password": "s3cret"}, "keys": ["s3cret"], "passwords": {"alice": "s3cret"},
            "tolerations": [{"key": "shown-key"}], "imagePullSecrets": [{"name": "shown-pull"}],
            "pg_hba": ["host all all all ldap ldapbindpasswd=s3cret", "local all all trust"],
            "logical_backup_s3_secret_access_key": "s3cret", "infrastructure_roles_secret_name": "roles"});
        redact(&mut value);
        let text = value.to_string();
        assert!(!text.contains("s3cret"), "{text}");
        for shown in [
            "db",
            "x",
            "roles",
            "shown-key",
            "shown-pull",
            "local all all trust",
        ] {
            assert!(text.contains(&format!("\"{shown}\"")), "{shown}: {text}");
        }
    }
}
