//! The section `kubernetes`: where a cluster's state is on Kubernetes, and what its objects and pods are labelled with.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    ConfigError,
    reader::{Reader, parse_int},
    string_form,
};

/// `kubernetes`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// Where the cluster's objects are.
    pub namespace: String,
    /// Labels of all objects.
    pub labels: BTreeMap<String, String>,
    /// The label that holds the scope.
    pub scope_label: String,
    /// The label that holds a pod's role.
    pub role_label: String,
    /// Its value for the primary.
    pub leader_label_value: String,
    /// Its value for replicas.
    pub follower_label_value: String,
    /// Its value for the leader of a cluster that follows another one.
    pub standby_leader_label_value: String,
    /// A second label, with the role as it is.
    pub tmp_role_label: Option<String>,
    /// Labels of a pod while it is made.
    pub bootstrap_labels: BTreeMap<String, String>,
    /// The directory of the ServiceAccount's `token` and `ca.crt`.
    pub service_account: PathBuf,
    /// CA of the API server; that of the ServiceAccount unless set.
    pub cacert: Option<PathBuf>,
    /// The state is in Endpoints, and those of the leader lead to its pod (`use_endpoints`).
    pub endpoints: Option<LeaderEndpoints>,
}

/// Where the Endpoints of the leader lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderEndpoints {
    /// `pod_ip`; the pod's own address unless set.
    pub pod_ip: Option<String>,
    /// `ports`, as Kubernetes has them in Endpoints.
    pub ports: Vec<Value>,
}

/// Where Kubernetes mounts the credentials of a pod's ServiceAccount.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(crate) fn kubernetes(section: &Reader<'_>) -> Result<KubernetesConfig, ConfigError> {
    let texts = |key: &str| -> Result<BTreeMap<String, String>, ConfigError> {
        let map = section.section(key)?.map();
        Ok(map
            .iter()
            .map(|(name, value)| (name.clone(), string_form(value)))
            .collect())
    };
    let or =
        |key: &str, default: &str| Ok::<_, ConfigError>(section.text(key)?.unwrap_or_else(|| default.into()));
    let labels = texts("labels")?;
    if labels.is_empty() {
        return Err(section.error(
            "labels",
            "is required: the labels that the cluster's objects have",
        ));
    }
    Ok(KubernetesConfig {
        namespace: or("namespace", "default")?,
        labels,
        scope_label: or("scope_label", "cluster-name")?,
        role_label: or("role_label", "role")?,
        leader_label_value: or("leader_label_value", "primary")?,
        follower_label_value: or("follower_label_value", "replica")?,
        standby_leader_label_value: or("standby_leader_label_value", "primary")?,
        tmp_role_label: section.text("tmp_role_label")?,
        bootstrap_labels: texts("bootstrap_labels")?,
        service_account: or("service_account", SERVICE_ACCOUNT)?.into(),
        cacert: section.text("cacert")?.map(PathBuf::from),
        endpoints: match section.flag("use_endpoints")? {
            Some(true) => Some(LeaderEndpoints {
                pod_ip: section.text("pod_ip")?.filter(|address| !address.is_empty()),
                ports: leader_ports(section)?,
            }),
            Some(false) | None => None,
        },
    })
}

/// `kubernetes.ports`; without any, PostgreSQL's, which has no name.
fn leader_ports(section: &Reader<'_>) -> Result<Vec<Value>, ConfigError> {
    let wrong = |why: &str| section.error("ports", why);
    let Some(ports) = section.value("ports").filter(|ports| !ports.is_null()) else {
        return Ok(vec![json!({"port": 5432, "protocol": "TCP"})]);
    };
    let Value::Array(ports) = ports else {
        return Err(wrong("must be a list of {name, port, protocol}"));
    };
    let port = |port: &Value| {
        let number = port.get("port").map_or(Some(5432), |port| parse_int(port, ""));
        let number = number.filter(|number| (1..=65535).contains(number));
        let number = number.ok_or_else(|| wrong(&format!("{port} has no port between 1 and 65535")))?;
        let text = |key: &str| port.get(key).and_then(Value::as_str);
        let protocol = text("protocol").unwrap_or("TCP");
        Ok(match text("name") {
            Some(name) => json!({"port": number, "protocol": protocol, "name": name}),
            None => json!({"port": number, "protocol": protocol}),
        })
    };
    if ports.len() > 1 && ports.iter().any(|port| port.get("name").is_none()) {
        return Err(wrong("each of several ports needs a name"));
    }
    ports.iter().map(port).collect()
}
