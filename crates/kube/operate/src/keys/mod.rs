//! The keys of upstream's configuration, in both of its forms, and what each does.

#[cfg(test)]
mod about;
mod objects;
mod roles;
mod values;

use std::net::SocketAddr;

use howdah_blueprint::Settings;
use serde_json::Value;

use values::{
    amount, boolean, container_name, containers, dns_format, duration, id, is_label_value, label, list, map,
    number, object_name, one_of, role, text,
};

/// What the configuration says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) settings: Settings,
    pub(crate) watched_namespace: Option<String>,
    pub(crate) register_definition: Option<bool>,
    pub(crate) workers: Option<u16>,
    pub(crate) port: Option<u16>,
    pub(crate) additional_secret: Option<String>,
    pub(crate) additional_secret_path: Option<String>,
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

/// The keys that are acted on.
pub(crate) fn keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(objects::KEYS).chain(roles::KEYS)
}

const KEYS: &[Key] = &[
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
    key("", "enable_spilo_wal_path_compat", |said, v| {
        set(&mut said.settings.pods.enable_spilo_wal_path_compat, boolean(v)?)
    }),
    key("", "set_memory_request_to_limit", |said, v| {
        set(&mut said.settings.pods.set_memory_request_to_limit, boolean(v)?)
    }),
    key("", "sidecar_docker_images", |said, v| {
        let images = map(v)?;
        images.keys().try_for_each(|name| container_name(name))?;
        set(&mut said.settings.pods.sidecar_docker_images, images)
    }),
    key("", "sidecars", |said, v| {
        set(&mut said.settings.pods.sidecars, containers(v)?)
    }),
    key("kubernetes", "enable_sidecars", |said, v| {
        set(&mut said.settings.pods.enable_sidecars, boolean(v)?)
    }),
    key("kubernetes", "enable_init_containers", |said, v| {
        set(&mut said.settings.pods.enable_init_containers, boolean(v)?)
    }),
    key("kubernetes", "share_pgsocket_with_sidecars", |said, v| {
        set(&mut said.settings.pods.share_pgsocket_with_sidecars, boolean(v)?)
    }),
    key("kubernetes", "liveness_probe", |said, v| {
        serde_json::from_value::<k8s_openapi::api::core::v1::Probe>(v.clone())
            .map_err(|error| format!("it is not a Kubernetes Probe: {error}"))?;
        set(&mut said.settings.pods.liveness_probe, Some(v.clone()))
    }),
    key("kubernetes", "additional_pod_capabilities", |said, v| {
        let names = list(v)?.iter().map(|name| name.to_uppercase()).collect();
        set(&mut said.settings.pods.additional_pod_capabilities, names)
    }),
    key("kubernetes", "storage_resize_mode", |said, v| {
        // Of 'mixed', upstream's calls to EC2 are left out; 'ebs' leaves the claims alone.
        let mode = one_of(v, &["pvc", "mixed", "ebs", "off"])?;
        set(
            &mut said.settings.resize_volumes,
            mode == "pvc" || mode == "mixed",
        )
    }),
    key("kubernetes", "inherited_labels", |said, v| {
        set(&mut said.settings.inherited_labels, list(v)?)
    }),
    key("kubernetes", "inherited_annotations", |said, v| {
        set(&mut said.settings.inherited_annotations, list(v)?)
    }),
    key("kubernetes", "custom_pod_annotations", |said, v| {
        set(&mut said.settings.pods.custom_pod_annotations, map(v)?)
    }),
    key("kubernetes", "pod_priority_class_name", |said, v| {
        set(
            &mut said.settings.pods.pod_priority_class_name,
            Some(object_name(text(v)?)?),
        )
    }),
    key("kubernetes", "toleration", |said, v| {
        let words = map(v)?;
        let known = ["key", "operator", "value", "effect"];
        if let Some(word) = words.keys().find(|word| !known.contains(&word.as_str())) {
            return Err(format!("'{word}' is none of {}", known.join(", ")));
        }
        for (word, values) in [
            ("operator", &["Exists", "Equal"][..]),
            ("effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"]),
        ] {
            if let Some(value) = words.get(word).filter(|value| !values.contains(&value.as_str())) {
                return Err(format!("{word}: '{value}' is none of {}", values.join(", ")));
            }
        }
        set(&mut said.settings.pods.toleration, words)
    }),
    key("kubernetes", "node_readiness_label", |said, v| {
        let labels = map(v)?;
        for (name, value) in &labels {
            label(name)?;
            if !is_label_value(value) {
                return Err(format!("'{value}' cannot be the value of a label"));
            }
        }
        set(&mut said.settings.pods.node_readiness_label, labels)
    }),
    key("kubernetes", "node_readiness_label_merge", |said, v| {
        let merge = one_of(v, &["AND", "OR"])?;
        set(
            &mut said.settings.pods.node_readiness_label_merge_and,
            merge == "AND",
        )
    }),
    key("kubernetes", "enable_pod_antiaffinity", |said, v| {
        set(&mut said.settings.pods.enable_pod_antiaffinity, boolean(v)?)
    }),
    key(
        "kubernetes",
        "pod_antiaffinity_preferred_during_scheduling",
        |said, v| {
            set(
                &mut said.settings.pods.pod_antiaffinity_preferred_during_scheduling,
                boolean(v)?,
            )
        },
    ),
    key("kubernetes", "pod_antiaffinity_topology_key", |said, v| {
        set(
            &mut said.settings.pods.pod_antiaffinity_topology_key,
            label(&text(v)?)?,
        )
    }),
    key("kubernetes", "pod_management_policy", |said, v| {
        let policy = one_of(v, &["ordered_ready", "parallel"])?;
        set(&mut said.settings.pods.is_parallel, policy == "parallel")
    }),
    key(
        "kubernetes",
        "persistent_volume_claim_retention_policy",
        |said, v| {
            for (name, value) in map(v)? {
                let place = match name.as_str() {
                    "when_deleted" => &mut said.settings.pods.delete_claims_when_deleted,
                    "when_scaled" => &mut said.settings.pods.delete_claims_when_scaled,
                    other => return Err(format!("'{other}' is neither when_deleted nor when_scaled")),
                };
                *place = one_of(&Value::from(value), &["retain", "delete"])? == "delete";
            }
            Ok(())
        },
    ),
    key("postgres_pod_resources", "min_cpu_limit", |said, v| {
        amount(&mut said.settings.pods.min_limits, "cpu", v)
    }),
    key("postgres_pod_resources", "min_memory_limit", |said, v| {
        amount(&mut said.settings.pods.min_limits, "memory", v)
    }),
    key("postgres_pod_resources", "max_cpu_request", |said, v| {
        amount(&mut said.settings.pods.max_requests, "cpu", v)
    }),
    key("postgres_pod_resources", "max_memory_request", |said, v| {
        amount(&mut said.settings.pods.max_requests, "memory", v)
    }),
    key("load_balancer", "enable_master_node_port", |said, v| {
        set(&mut said.settings.enable_master_node_port, boolean(v)?)
    }),
    key("load_balancer", "enable_replica_node_port", |said, v| {
        set(&mut said.settings.enable_replica_node_port, boolean(v)?)
    }),
    key("load_balancer", "custom_service_annotations", |said, v| {
        set(&mut said.settings.custom_service_annotations, map(v)?)
    }),
    key("load_balancer", "master_dns_name_format", |said, v| {
        set(&mut said.settings.master_dns_name_format, dns_format(v)?)
    }),
    key("load_balancer", "replica_dns_name_format", |said, v| {
        set(&mut said.settings.replica_dns_name_format, dns_format(v)?)
    }),
    key("load_balancer", "master_legacy_dns_name_format", |said, v| {
        set(&mut said.settings.master_legacy_dns_name_format, dns_format(v)?)
    }),
    key("load_balancer", "replica_legacy_dns_name_format", |said, v| {
        set(&mut said.settings.replica_legacy_dns_name_format, dns_format(v)?)
    }),
    key("aws_or_gcp", "kube_iam_role", |said, v| {
        set(&mut said.settings.pods.kube_iam_role, text(v)?)
    }),
    key("aws_or_gcp", "additional_secret_mount", |said, v| {
        set(&mut said.additional_secret, Some(object_name(text(v)?)?))
    }),
    key("aws_or_gcp", "additional_secret_mount_path", |said, v| {
        let path = text(v)?;
        let taken = [
            "/",
            "/tls",
            "/tlsca",
            "/tmp",
            "/run",
            "/dev/shm",
            "/home",
            "/home/postgres",
        ];
        let bare = path.trim_end_matches('/');
        let on_data = bare.starts_with(howdah_manifest::DATA_PATH);
        if !path.starts_with('/')
            || bare.is_empty()
            || taken.contains(&bare)
            || on_data
            || path.contains("..")
        {
            return Err("it must be an absolute path that the members do not use themselves".to_owned());
        }
        set(&mut said.additional_secret_path, Some(path))
    }),
    key(
        "connection_pooler",
        "connection_pooler_number_of_instances",
        |said, v| {
            let instances = u32::try_from(number(v)?).ok().filter(|count| *count > 0);
            let instances = instances.ok_or("a pooler has at least one pod")?;
            set(&mut said.settings.pooler.number_of_instances, instances)
        },
    ),
    key("connection_pooler", "connection_pooler_schema", |said, v| {
        let schema = text(v)?;
        let of_others = ["public", "information_schema"].contains(&schema.as_str());
        if !howdah_manifest::is_schema_name(&schema) || schema.starts_with("pg_") || of_others {
            return Err(format!("'{schema}' cannot be the schema of the lookup function"));
        }
        set(&mut said.settings.pooler.schema, schema)
    }),
    key("connection_pooler", "connection_pooler_user", |said, v| {
        set(&mut said.settings.pooler.user, role(text(v)?)?)
    }),
    key("connection_pooler", "connection_pooler_image", |said, v| {
        set(&mut said.settings.pooler.image, Some(text(v)?))
    }),
    key("connection_pooler", "connection_pooler_mode", |said, v| {
        let mode = one_of(v, &["session", "transaction"])?;
        set(&mut said.settings.pooler.mode, mode.to_owned())
    }),
    key(
        "connection_pooler",
        "connection_pooler_max_db_connections",
        |said, v| {
            let count = u32::try_from(number(v)?).ok().filter(|count| *count > 0);
            set(
                &mut said.settings.pooler.max_db_connections,
                count.ok_or("at least one connection is needed")?,
            )
        },
    ),
    key(
        "connection_pooler",
        "connection_pooler_default_cpu_request",
        |said, v| amount(&mut said.settings.pooler.default_requests, "cpu", v),
    ),
    key(
        "connection_pooler",
        "connection_pooler_default_memory_request",
        |said, v| amount(&mut said.settings.pooler.default_requests, "memory", v),
    ),
    key(
        "connection_pooler",
        "connection_pooler_default_cpu_limit",
        |said, v| amount(&mut said.settings.pooler.default_limits, "cpu", v),
    ),
    key(
        "connection_pooler",
        "connection_pooler_default_memory_limit",
        |said, v| amount(&mut said.settings.pooler.default_limits, "memory", v),
    ),
    key(
        "load_balancer",
        "enable_master_pooler_load_balancer",
        |said, v| set(&mut said.settings.pooler.enable_master_load_balancer, boolean(v)?),
    ),
    key(
        "load_balancer",
        "enable_replica_pooler_load_balancer",
        |said, v| {
            set(
                &mut said.settings.pooler.enable_replica_load_balancer,
                boolean(v)?,
            )
        },
    ),
    key("load_balancer", "enable_master_pooler_node_port", |said, v| {
        set(&mut said.settings.pooler.enable_master_node_port, boolean(v)?)
    }),
    key("load_balancer", "enable_replica_pooler_node_port", |said, v| {
        set(&mut said.settings.pooler.enable_replica_node_port, boolean(v)?)
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
    "ignored_annotations",
    "cluster_domain",
    "master_pod_move_timeout",
    "enable_finalizers",
    "aws_region",
    "debug_logging",
];

/// Keys of upstream that are not acted on yet.
pub(crate) const NOT_YET: &[&str] = &[
    "etcd_host",
    "major_version_upgrade_mode",
    "major_version_upgrade_team_allow_list",
    "minimal_major_version",
    "target_major_version",
];

/// How keys that are not acted on yet begin.
pub(crate) const NOT_YET_PREFIXES: &[&str] = &["logical_backup_", "scalyr_"];

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

#[cfg(test)]
mod tests {
    use super::*;

    /// With HOWDAH_WRITE=1 the page is written.
    #[test]
    fn the_page_has_every_key_and_what_becomes_of_it() {
        use std::fmt::Write as _;

        let mut text = String::from(
            "# The operator's configuration\n\n\
             Every key of the old operator, by its group in an `OperatorConfiguration`; in a ConfigMap the groups vanish. \
             The table is written from the operator's own (`operate/src/keys`). Changes take effect within 15 seconds, without \
             a restart. Lists and maps are written with commas in a ConfigMap: `a,b` and `a:b,c:d`.\n\n\
             A wrong value ends the start with its reason; at run time the last configuration stays in effect, and the log says \
             why. Keys that are unknown, without effect or not acted on yet are named in the log.\n",
        );
        let mut named: Vec<&str> = Vec::new();
        for group in [""].iter().chain(GROUPS) {
            let all: Vec<_> = about::ABOUT.iter().filter(|about| about.0 == *group).collect();
            let later = about::GROUPS_NOT_YET.iter().find(|about| about.0 == *group);
            let title = if group.is_empty() { "no group" } else { group };
            write!(text, "\n## {title}\n\n").unwrap();
            if let Some((_, why)) = later {
                writeln!(text, "{why}").unwrap();
                continue;
            }
            text.push_str("| key | unless set | | |\n|---|---|---|---|\n");
            for (_, name, default, what) in all {
                named.push(name);
                let default = if default.is_empty() {
                    String::new()
                } else {
                    format!("`{default}`")
                };
                let acted = keys().find(|key| key.name == *name);
                if let Some(key) = acted {
                    assert_eq!(key.group, *group, "{name}");
                }
                let becomes = match (acted.is_some(), WITHOUT_EFFECT.contains(name)) {
                    (true, _) => "acted on",
                    (false, true) => "without effect",
                    (false, false) => "not yet",
                };
                writeln!(text, "| `{name}` | {default} | {becomes} | {what} |").unwrap();
            }
        }
        named.sort_unstable();
        let mut all: Vec<&str> = keys().map(|key| key.name).collect();
        all.extend(WITHOUT_EFFECT.iter().chain(NOT_YET));
        all.sort_unstable();
        assert_eq!(named, all);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/configuration.md");
        if std::env::var_os("HOWDAH_WRITE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let have = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(have, text, "run this test with HOWDAH_WRITE=1");
    }

    #[test]
    fn every_key_is_in_one_list() {
        let mut all: Vec<&str> = keys().map(|key| key.name).collect();
        all.extend(WITHOUT_EFFECT.iter().chain(NOT_YET));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        for key in keys() {
            assert!(
                key.group.is_empty() || GROUPS.contains(&key.group),
                "{}",
                key.name
            );
        }
    }
}
