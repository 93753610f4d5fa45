use serde_json::{Map, Value, json};

use crate::{Environment, Facts, SpiloError};

/// The section of the configuration that names the store.
pub(crate) fn section(env: &Environment, facts: &Facts) -> Result<(&'static str, Value), SpiloError> {
    if env.on("DCS_ENABLE_KUBERNETES_API") || env.get("KUBERNETES_SERVICE_HOST").is_some() {
        return Ok(("kubernetes", kubernetes(env, facts)?));
    }
    let etcd3: Map<String, Value> = env
        .with_prefix("ETCD3_")
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_ascii_lowercase(), json!(value)))
        .collect();
    if !etcd3.is_empty() {
        return Ok(("etcd3", Value::Object(etcd3)));
    }
    Err(SpiloError::Missing {
        name: "DCS_ENABLE_KUBERNETES_API",
        why: "no store is named: set it to true on Kubernetes, or ETCD3_HOSTS to etcd's endpoints",
    })
}

fn kubernetes(env: &Environment, facts: &Facts) -> Result<Value, SpiloError> {
    let mut labels = env.mapping("KUBERNETES_LABELS")?;
    if labels.is_empty() {
        labels.insert("application".into(), json!("spilo"));
    }
    let mut section = json!({
        "labels": labels,
        "namespace": env.or("POD_NAMESPACE", "default"),
        "scope_label": env.or("KUBERNETES_SCOPE_LABEL", "version"),
        "role_label": env.or("KUBERNETES_ROLE_LABEL", "spilo-role"),
        "leader_label_value": env.or("KUBERNETES_LEADER_LABEL_VALUE", "master"),
        "follower_label_value": env.or("KUBERNETES_FOLLOWER_LABEL_VALUE", "replica"),
        "standby_leader_label_value": env.or("KUBERNETES_STANDBY_LEADER_LABEL_VALUE", "master"),
        "use_endpoints": !env.on("KUBERNETES_USE_CONFIGMAPS"),
        "pod_ip": env.or("POD_IP", "127.0.0.1"),
        "ports": [{"port": env.or("PGPORT", "5432"), "name": "postgresql"}],
        // Where the credentials of the pod's ServiceAccount are mounted.
        "service_account": facts.path("/var/run/secrets/kubernetes.io/serviceaccount"),
    });
    let bootstrap = env.mapping("KUBERNETES_BOOTSTRAP_LABELS")?;
    if !bootstrap.is_empty() {
        section["bootstrap_labels"] = Value::Object(bootstrap);
    }
    Ok(section)
}
