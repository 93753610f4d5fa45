//! The keys of upstream's configuration, in both of its forms, and what each does.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use howdah_blueprint::Settings;
use serde_json::Value;

/// What the configuration says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) settings: Settings,
    pub(crate) watched_namespace: Option<String>,
    pub(crate) register_definition: Option<bool>,
    pub(crate) workers: Option<u16>,
    pub(crate) port: Option<u16>,
}

type Act = fn(&mut Said, &Value) -> Result<(), String>;

/// A key: its group in the OperatorConfiguration (empty: none; the flat ConfigMap has no groups), its name, what it does.
pub(crate) struct Key {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) act: Act,
}

const fn key(group: &'static str, name: &'static str, act: Act) -> Key {
    Key { group, name, act }
}

/// Keys that are acted on.
pub(crate) const KEYS: &[Key] = &[
    key("", "docker_image", |said, v| {
        set(&mut said.settings.docker_image, text(v)?)
    }),
    key("", "enable_crd_registration", |said, v| {
        set(&mut said.register_definition, Some(boolean(v)?))
    }),
    key("", "enable_pgversion_env_var", |said, v| {
        set(&mut said.settings.enable_pgversion_env_var, boolean(v)?)
    }),
    key("", "enable_shm_volume", |said, v| {
        set(&mut said.settings.enable_shm_volume, boolean(v)?)
    }),
    key("", "workers", |said, v| {
        let workers = number(v)?;
        let workers = u16::try_from(workers).ok().filter(|workers| *workers > 0);
        set(
            &mut said.workers,
            Some(workers.ok_or("1 to 65535 passes at a time are possible")?),
        )
    }),
    key("users", "super_username", |said, v| {
        set(&mut said.settings.super_username, role(text(v)?)?)
    }),
    key("users", "replication_username", |said, v| {
        set(&mut said.settings.replication_username, role(text(v)?)?)
    }),
    key("kubernetes", "cluster_labels", |said, v| {
        let labels = map(v)?;
        for (name, value) in &labels {
            label(name)?;
            if !is_label_value(value) {
                return Err(format!("'{value}' cannot be the value of a label"));
            }
        }
        if labels.is_empty() {
            return Err("at least one label is needed: by it the clusters' objects are found".to_owned());
        }
        set(&mut said.settings.cluster_labels, labels)
    }),
    key("kubernetes", "cluster_name_label", |said, v| {
        set(&mut said.settings.cluster_name_label, label(&text(v)?)?)
    }),
    key("kubernetes", "pod_role_label", |said, v| {
        set(&mut said.settings.pod_role_label, label(&text(v)?)?)
    }),
    key("kubernetes", "pod_service_account_name", |said, v| {
        set(
            &mut said.settings.pod_service_account_name,
            object_name(text(v)?)?,
        )
    }),
    key("kubernetes", "pod_terminate_grace_period", |said, v| {
        let seconds = i64::try_from(duration(v)?.as_secs()).map_err(|_| "it is too long")?;
        set(&mut said.settings.pod_terminate_grace_period, seconds)
    }),
    key("kubernetes", "enable_pod_disruption_budget", |said, v| {
        set(&mut said.settings.enable_pod_disruption_budget, boolean(v)?)
    }),
    key("kubernetes", "pdb_master_label_selector", |said, v| {
        set(&mut said.settings.pdb_master_label_selector, boolean(v)?)
    }),
    key("kubernetes", "spilo_runasuser", |said, v| {
        set(&mut said.settings.spilo_runasuser, Some(id(v)?))
    }),
    key("kubernetes", "spilo_runasgroup", |said, v| {
        set(&mut said.settings.spilo_runasgroup, Some(id(v)?))
    }),
    key("kubernetes", "spilo_fsgroup", |said, v| {
        set(&mut said.settings.spilo_fsgroup, Some(id(v)?))
    }),
    key("kubernetes", "spilo_allow_privilege_escalation", |said, v| {
        set(
            &mut said.settings.spilo_allow_privilege_escalation,
            Some(boolean(v)?),
        )
    }),
    key("kubernetes", "spilo_privileged", |said, v| {
        set(&mut said.settings.spilo_privileged, boolean(v)?)
    }),
    key("kubernetes", "watched_namespace", |said, v| {
        // Nothing: the operator's own namespace.
        let own = v.as_str() == Some("");
        set(
            &mut said.watched_namespace,
            Some(if own { String::new() } else { text(v)? }),
        )
    }),
    key("kubernetes", "enable_secrets_deletion", |said, v| {
        set(&mut said.settings.enable_secrets_deletion, boolean(v)?)
    }),
    key(
        "kubernetes",
        "enable_persistent_volume_claim_deletion",
        |said, v| {
            set(
                &mut said.settings.enable_persistent_volume_claim_deletion,
                boolean(v)?,
            )
        },
    ),
    key("patroni", "enable_patroni_failsafe_mode", |said, v| {
        set(&mut said.settings.enable_patroni_failsafe_mode, boolean(v)?)
    }),
    key("postgres_pod_resources", "default_cpu_request", |said, v| {
        amount(&mut said.settings.default_requests, "cpu", v)
    }),
    key("postgres_pod_resources", "default_memory_request", |said, v| {
        amount(&mut said.settings.default_requests, "memory", v)
    }),
    key("postgres_pod_resources", "default_cpu_limit", |said, v| {
        amount(&mut said.settings.default_limits, "cpu", v)
    }),
    key("postgres_pod_resources", "default_memory_limit", |said, v| {
        amount(&mut said.settings.default_limits, "memory", v)
    }),
    key("load_balancer", "db_hosted_zone", |said, v| {
        set(&mut said.settings.db_hosted_zone, text(v)?)
    }),
    key("load_balancer", "enable_master_load_balancer", |said, v| {
        set(&mut said.settings.enable_master_load_balancer, boolean(v)?)
    }),
    key("load_balancer", "enable_replica_load_balancer", |said, v| {
        set(&mut said.settings.enable_replica_load_balancer, boolean(v)?)
    }),
    key("load_balancer", "external_traffic_policy", |said, v| {
        let policy = text(v)?;
        if policy != "Cluster" && policy != "Local" {
            return Err("it is Cluster or Local".to_owned());
        }
        set(&mut said.settings.external_traffic_policy, policy)
    }),
    key("debug", "enable_database_access", |said, v| {
        set(&mut said.settings.enable_database_access, boolean(v)?)
    }),
    key("teams_api", "pam_role_name", |said, v| {
        set(&mut said.settings.pam_role_name, text(v)?)
    }),
    key("teams_api", "pam_configuration", |said, v| {
        set(&mut said.settings.pam_configuration, text(v)?)
    }),
    key("teams_api", "protected_role_names", |said, v| {
        set(&mut said.settings.protected_role_names, list(v)?)
    }),
    key("logging_rest_api", "api_port", |said, v| {
        let port = u16::try_from(number(v)?).ok().filter(|port| *port > 0);
        set(&mut said.port, Some(port.ok_or("a port is 1 to 65535")?))
    }),
];

/// Keys of upstream that have no effect here, since what they configure is done otherwise.
pub(crate) const WITHOUT_EFFECT: &[&str] = &[
    "kubernetes_use_configmaps",
    "crd_categories",
    "resync_period",
    "repair_period",
    "resource_check_interval",
    "resource_check_timeout",
    "pod_label_wait_timeout",
    "pod_deletion_wait_timeout",
    "ready_wait_interval",
    "ready_wait_timeout",
    "patroni_api_check_interval",
    "patroni_api_check_timeout",
    "ring_log_lines",
    "cluster_history_entries",
    "enable_load_balancer",
    "enable_readiness_probe",
];

/// Keys of upstream that are not acted on yet.
pub(crate) const NOT_YET: &[&str] = &[
    "enable_lazy_spilo_upgrade",
    "enable_spilo_wal_path_compat",
    "enable_team_id_clustername_prefix",
    "etcd_host",
    "enable_maintenance_windows",
    "maintenance_windows",
    "set_memory_request_to_limit",
    "sidecar_docker_images",
    "sidecars",
    "min_instances",
    "max_instances",
    "ignore_instance_limits_annotation_key",
    "ignore_resources_limits_annotation_key",
    "additional_owner_roles",
    "enable_password_rotation",
    "password_rotation_interval",
    "password_rotation_user_retention",
    "major_version_upgrade_mode",
    "major_version_upgrade_team_allow_list",
    "minimal_major_version",
    "target_major_version",
    "enable_owner_references",
    "pod_service_account_definition",
    "pod_service_account_role_binding_definition",
    "liveness_probe",
    "additional_pod_capabilities",
    "pdb_name_format",
    "storage_resize_mode",
    "enable_init_containers",
    "enable_sidecars",
    "share_pgsocket_with_sidecars",
    "secret_name_template",
    "cluster_domain",
    "oauth_token_secret_name",
    "infrastructure_roles_secret_name",
    "infrastructure_roles_secrets",
    "inherited_labels",
    "inherited_annotations",
    "downscaler_annotations",
    "ignored_annotations",
    "delete_annotation_date_key",
    "delete_annotation_name_key",
    "node_readiness_label",
    "node_readiness_label_merge",
    "custom_pod_annotations",
    "toleration",
    "pod_environment_configmap",
    "pod_environment_secret",
    "pod_priority_class_name",
    "master_pod_move_timeout",
    "enable_pod_antiaffinity",
    "pod_antiaffinity_preferred_during_scheduling",
    "pod_antiaffinity_topology_key",
    "pod_management_policy",
    "persistent_volume_claim_retention_policy",
    "enable_cross_namespace_secret",
    "enable_finalizers",
    "min_cpu_limit",
    "min_memory_limit",
    "max_cpu_request",
    "max_memory_request",
    "enable_master_pooler_load_balancer",
    "enable_replica_pooler_load_balancer",
    "enable_master_node_port",
    "enable_replica_node_port",
    "enable_master_pooler_node_port",
    "enable_replica_pooler_node_port",
    "custom_service_annotations",
    "master_dns_name_format",
    "replica_dns_name_format",
    "master_legacy_dns_name_format",
    "replica_legacy_dns_name_format",
    "wal_s3_bucket",
    "wal_gs_bucket",
    "gcp_credentials",
    "wal_az_storage_account",
    "log_s3_bucket",
    "kube_iam_role",
    "irsa_role_arn",
    "additional_secret_mount",
    "additional_secret_mount_path",
    "aws_region",
    "debug_logging",
    "enable_teams_api",
    "teams_api_url",
    "team_api_role_configuration",
    "enable_team_superuser",
    "team_admin_role",
    "enable_admin_role_for_users",
    "postgres_superuser_teams",
    "enable_postgres_team_crd",
    "enable_postgres_team_crd_superusers",
    "enable_team_member_deprecation",
    "role_deletion_suffix",
];

/// How keys that are not acted on yet begin.
pub(crate) const NOT_YET_PREFIXES: &[&str] = &["logical_backup_", "connection_pooler_", "scalyr_"];

/// The groups of the OperatorConfiguration.
pub(crate) const GROUPS: &[&str] = &[
    "users",
    "major_version_upgrade",
    "kubernetes",
    "postgres_pod_resources",
    "timeouts",
    "load_balancer",
    "aws_or_gcp",
    "logical_backup",
    "debug",
    "patroni",
    "teams_api",
    "logging_rest_api",
    "scalyr",
    "connection_pooler",
];

#[expect(clippy::unnecessary_wraps, reason = "it ends what may fail")]
fn set<T>(place: &mut T, value: T) -> Result<(), String> {
    *place = value;
    Ok(())
}

/// The listener's address with another port.
pub(crate) fn with_port(port: Option<u16>) -> SocketAddr {
    SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port.unwrap_or(8080)))
}

/// The name of a label: `name` or `domain/name`.
fn label(name: &str) -> Result<String, String> {
    let (domain, bare) = name.split_once('/').unwrap_or(("a", name));
    let is_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let fits =
        !domain.is_empty() && domain.chars().all(is_domain) && !bare.is_empty() && is_label_value(bare);
    if fits {
        Ok(name.to_owned())
    } else {
        Err(format!("'{name}' cannot be the name of a label"))
    }
}

fn is_label_value(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    text.len() <= 63 && text.chars().all(inner) && ends(text.chars().next()) && ends(text.chars().last())
}

/// The name of an object.
fn object_name(name: String) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.len() <= 253 && name.chars().all(inner) {
        Ok(name)
    } else {
        Err(format!("'{name}' cannot be the name of an object"))
    }
}

/// The name of a role: part of the names of Secrets.
fn role(name: String) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.len() <= 63 && name.chars().all(inner) {
        Ok(name)
    } else {
        Err(format!(
            "'{name}' cannot be a role: a-z, 0-9, '-' and '_' can be part of a Secret's name"
        ))
    }
}

/// A user's or group's number.
fn id(value: &Value) -> Result<i64, String> {
    let id = number(value)?;
    if id >= 0 {
        Ok(id)
    } else {
        Err("it must not be negative".to_owned())
    }
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) if text.is_empty() => Err("it is empty".to_owned()),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err("it must be a text".to_owned()),
    }
}

fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        // What Go's ParseBool takes.
        Value::String(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err("it must be true or false".to_owned()),
        },
        _ => Err("it must be true or false".to_owned()),
    }
}

fn number(value: &Value) -> Result<i64, String> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| "it must be a whole number".to_owned())
}

/// A list, or texts with commas between them.
fn list(value: &Value) -> Result<Vec<String>, String> {
    let words = |text: &str| {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    match value {
        Value::String(text) => Ok(words(text)),
        Value::Array(values) => values.iter().map(text).collect(),
        _ => Err("it must be a list".to_owned()),
    }
}

/// A map, or `key:value` pairs with commas between them.
fn map(value: &Value) -> Result<BTreeMap<String, String>, String> {
    match value {
        Value::Object(pairs) => pairs
            .iter()
            .map(|(name, value)| {
                let text = text(value).map_err(|reason| format!("{name}: {reason}"))?;
                Ok((name.clone(), text))
            })
            .collect(),
        Value::String(_) => list(value)?
            .iter()
            .map(|pair| {
                let (name, value) = pair
                    .split_once(':')
                    .ok_or_else(|| format!("'{pair}' is not of the form key:value"))?;
                let bare = |text: &str| text.trim().trim_matches('"').to_owned();
                Ok((bare(name), bare(value)))
            })
            .collect(),
        _ => Err("it must be a map".to_owned()),
    }
}

/// An amount of a resource; an empty one takes the default away.
fn amount(amounts: &mut BTreeMap<String, String>, resource: &str, value: &Value) -> Result<(), String> {
    if value.as_str() == Some("") {
        amounts.remove(resource);
        return Ok(());
    }
    let text = text(value)?;
    if text.parse::<howdah_manifest::Quantity>().is_err() {
        return Err("it must be an amount like 100m or 500Mi".to_owned());
    }
    amounts.insert(resource.to_owned(), text);
    Ok(())
}

/// Go's durations: `5m`, `1h30m`, `90s`; a number without a unit is not one, except 0.
fn duration(value: &Value) -> Result<Duration, String> {
    let wrong = || "it must be a duration like 5m or 90s".to_owned();
    let text = text(value)?;
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut sum) = (text.as_str(), 0.0);
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (count, more) = rest.split_at(digits);
        let units = more.find(|c: char| c.is_ascii_digit()).unwrap_or(more.len());
        let (unit, more) = more.split_at(units);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(wrong()),
        };
        sum += count.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = more;
    }
    Duration::try_from_secs_f64(sum).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_both_forms_are_read() {
        assert_eq!(boolean(&json!("True")), Ok(true));
        assert!(boolean(&json!("yes")).is_err());
        assert_eq!(duration(&json!("1h30m")), Ok(Duration::from_secs(5400)));
        assert_eq!(duration(&json!("1.5s")), Ok(Duration::from_millis(1500)));
        for wrong in ["5", "m", "5d", "5m5", ""] {
            assert!(duration(&json!(wrong)).is_err(), "{wrong}");
        }
        let pairs = map(&json!("application:spilo, \"a\":\"b\"")).unwrap();
        assert_eq!(pairs, map(&json!({"application": "spilo", "a": "b"})).unwrap());
        assert_eq!(list(&json!("a, b")), list(&json!(["a", "b"])));
        assert_eq!(number(&json!("42")), Ok(42));
        assert!(number(&json!(1.5)).is_err());
    }

    #[test]
    fn every_key_is_in_one_list() {
        let mut all: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        all.extend(WITHOUT_EFFECT.iter().chain(NOT_YET));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        for key in KEYS {
            assert!(
                key.group.is_empty() || GROUPS.contains(&key.group),
                "{}",
                key.name
            );
        }
    }
}
