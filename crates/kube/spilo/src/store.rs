use serde_json::{Map, Value, json};

use crate::{Environment, Facts, SpiloError};

/// The section of the configuration that names the store.
pub(crate) fn section(env: &Environment, facts: &Facts) -> Result<(&'static str, Value), SpiloError> {
    if env.on("DCS_ENABLE_KUBERNETES_API") || env.get("KUBERNETES_SERVICE_HOST").is_some() {
        return Ok(("kubernetes", kubernetes(env, facts)?));
    }
    for (prefix, section) in [
        ("ZOOKEEPER_", "zookeeper"),
        ("CONSUL_", "consul"),
        ("ETCD3_", "etcd3"),
    ] {
        let keys: Map<String, Value> = env
            .with_prefix(prefix)
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| match name {
                "HOSTS" => ("hosts".to_owned(), hosts(value)),
                "DISCOVERY_DOMAIN" => ("srv".to_owned(), json!(value)),
                _ => (name.to_ascii_lowercase(), json!(value)),
            })
            .collect();
        if !keys.is_empty() {
            return Ok((section, Value::Object(keys)));
        }
    }
    Err(SpiloError::Missing {
        name: "DCS_ENABLE_KUBERNETES_API",
        why: "no store is named: set it to true on Kubernetes; elsewhere ETCD3_HOSTS names etcd's endpoints, or CONSUL_HOST or \
              ZOOKEEPER_HOSTS the others'",
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

/// Hosts as Spilo takes them: a YAML list, with or without its brackets, or words between commas.
fn hosts(text: &str) -> Value {
    let is_list = text.starts_with('[') || text.starts_with('-');
    let list = if is_list {
        text.to_owned()
    } else {
        format!("[{text}]")
    };
    let words = |list: Vec<String>| json!(list.iter().map(|word| word.trim()).collect::<Vec<_>>());
    serde_saphyr::from_str(&list).map_or_else(|_| json!(text), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_has_its_prefix() {
        let env = |vars: &[(&str, &str)]| -> Environment {
            vars.iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect()
        };
        let section = |vars: &[(&str, &str)]| section(&env(vars), &Facts::default()).unwrap();
        let two = json!({"hosts": ["a:1", "b:2"]});
        for text in ["'a:1','b:2'", "a:1, b:2", "[a:1, b:2]", "- a:1\n- b:2"] {
            assert_eq!(
                section(&[("ZOOKEEPER_HOSTS", text)]),
                ("zookeeper", two.clone()),
                "{text}"
            );
        }
        assert_eq!(
            section(&[("CONSUL_HOST", "c:8500")]),
            ("consul", json!({"host": "c:8500"}))
        );
        let secure = section(&[
            ("ETCD3_HOSTS", "a:1,b:2"),
            ("ETCD3_CACERT", "/ca"),
            ("ETCD3_PROTOCOL", "https"),
        ]);
        assert_eq!(
            secure,
            (
                "etcd3",
                json!({"hosts": ["a:1", "b:2"], "cacert": "/ca", "protocol": "https"})
            )
        );
    }
}
