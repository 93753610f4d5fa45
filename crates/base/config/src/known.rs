use serde_json::{Map, Value};

use crate::methods::method_names;

/// What became of the keys of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// Patroni's keys that this version accepts and does not act on.
    pub not_acted_on: Vec<String>,
    /// Keys that neither Patroni nor Howdah knows: misspelt, or of a newer version.
    pub unknown: Vec<String>,
}

impl KeyReport {
    /// One line for the log; `None` when there is nothing to say.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let mut parts = Vec::new();
        if !self.not_acted_on.is_empty() {
            parts.push(format!(
                "accepted but not acted on: {}",
                self.not_acted_on.join(", ")
            ));
        }
        if !self.unknown.is_empty() {
            parts.push(format!("unknown (kept): {}", self.unknown.join(", ")));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// The keys of the local configuration. `+` acts, `-` is accepted only, `*` stands for any key, `**` for anything
/// below.
const LOCAL: &[&str] = &[
    "+name",
    "+scope",
    "+namespace",
    "-thread_pool_size",
    "-thread_stack_size",
    "-site",
    "+log.type",
    "+log.level",
    "-log.traceback_level",
    "+log.format",
    "+log.dateformat",
    "+log.static_fields.**",
    "+log.max_queue_size",
    "+log.dir",
    "+log.mode",
    "+log.file_num",
    "+log.file_size",
    "-log.loggers.**",
    "-log.deduplicate_heartbeat_logs",
    "+bootstrap.dcs.**",
    "+bootstrap.initdb.**",
    "+bootstrap.pg_hba",
    "+bootstrap.post_bootstrap",
    "+bootstrap.post_init",
    "+bootstrap.method",
    "-bootstrap.users.**",
    "-bootstrap.*.**",
    "+restapi.listen",
    "+restapi.connect_address",
    "+restapi.authentication.username",
    "+restapi.authentication.password",
    "+restapi.certfile",
    "+restapi.keyfile",
    "-restapi.keyfile_password",
    "+restapi.cafile",
    "-restapi.ciphers",
    "+restapi.verify_client",
    "+restapi.allowlist",
    "+restapi.allowlist_include_members",
    "+restapi.http_extra_headers.**",
    "+restapi.https_extra_headers.**",
    "-restapi.request_queue_size",
    "-restapi.thread_pool_size",
    "-restapi.server_tokens",
    "+ctl.authentication.username",
    "+ctl.authentication.password",
    "+ctl.insecure",
    "+ctl.cacert",
    "+ctl.certfile",
    "+ctl.keyfile",
    "-ctl.keyfile_password",
    "+postgresql.listen",
    "+postgresql.connect_address",
    "+postgresql.proxy_address",
    "+postgresql.data_dir",
    "-postgresql.config_dir",
    "-postgresql.config_base_name",
    "+postgresql.bin_dir",
    "+postgresql.bin_name.*",
    "+postgresql.database",
    "+postgresql.pgpass",
    "+postgresql.authentication.*.username",
    "+postgresql.authentication.*.password",
    "+postgresql.authentication.*.sslmode",
    "+postgresql.authentication.*.sslcert",
    "+postgresql.authentication.*.sslkey",
    "+postgresql.authentication.*.sslrootcert",
    "+postgresql.authentication.*.sslcrl",
    "+postgresql.authentication.*.sslcrldir",
    "+postgresql.authentication.*.sslpassword",
    "+postgresql.authentication.*.sslnegotiation",
    "+postgresql.authentication.*.gssencmode",
    "+postgresql.authentication.*.channel_binding",
    "-postgresql.authentication.*.*",
    "+postgresql.parameters.**",
    "+postgresql.pg_hba",
    "+postgresql.pg_ident",
    "+postgresql.recovery_conf.**",
    "+postgresql.custom_conf",
    "+postgresql.callbacks.on_start",
    "+postgresql.callbacks.on_stop",
    "+postgresql.callbacks.on_restart",
    "+postgresql.callbacks.on_reload",
    "+postgresql.callbacks.on_role_change",
    "+postgresql.create_replica_methods",
    "+postgresql.create_replica_method",
    "+postgresql.basebackup.**",
    "+postgresql.use_unix_socket",
    "+postgresql.use_unix_socket_repl",
    "+postgresql.pg_ctl_timeout",
    "+postgresql.use_pg_rewind",
    "-postgresql.rewind.**",
    "+postgresql.remove_data_directory_on_rewind_failure",
    "+postgresql.remove_data_directory_on_diverged_timelines",
    "+postgresql.pre_promote",
    "+postgresql.before_stop",
    "+postgresql.krbsrvname",
    "+postgresql.use_slots",
    "-postgresql.parameters_primary.**",
    "-postgresql.parameters_replica.**",
    "-postgresql.parameters_standby_leader.**",
    "-postgresql.pg_hba_primary",
    "-postgresql.pg_hba_replica",
    "-postgresql.pg_hba_standby_leader",
    "-postgresql.pg_ident_primary",
    "-postgresql.pg_ident_replica",
    "-postgresql.pg_ident_standby_leader",
    "+watchdog.mode",
    "+watchdog.device",
    "+watchdog.safety_margin",
    "+watchdog.driver",
    "+tags.**",
    "+howdah.notes",
    "+howdah.machine",
    "+howdah.archive.env_dir",
    "+howdah.archive.backup_schedule",
    "+howdah.archive.keep",
    "+howdah.archive.from_replica",
    "+howdah.archive.drill_schedule",
    "-citus.**",
    "+etcd3.host",
    "+etcd3.hosts",
    "+etcd3.url",
    "-etcd3.proxy",
    "-etcd3.srv",
    "-etcd3.srv_suffix",
    "+etcd3.protocol",
    "-etcd3.use_proxies",
    "+etcd3.username",
    "+etcd3.password",
    "+etcd3.cacert",
    "+etcd3.cert",
    "+etcd3.key",
    "+consul.host",
    "+consul.url",
    "+consul.port",
    "+consul.scheme",
    "+consul.token",
    "+consul.verify",
    "+consul.cacert",
    "+consul.cert",
    "+consul.key",
    "+consul.dc",
    "-consul.consistency",
    "-consul.checks",
    "+consul.register_service",
    "+consul.service_tags",
    "+consul.service_check_interval",
    "+consul.service_check_tls_server_name",
    "+zookeeper.hosts",
    "+zookeeper.use_ssl",
    "+zookeeper.cacert",
    "+zookeeper.cert",
    "+zookeeper.key",
    "-zookeeper.key_password",
    "+zookeeper.verify",
    "+zookeeper.set_acls.**",
    "+zookeeper.auth_data.**",
    "-exhibitor.**",
    "-raft.**",
    "+kubernetes.namespace",
    "+kubernetes.labels.**",
    "+kubernetes.scope_label",
    "+kubernetes.role_label",
    "+kubernetes.leader_label_value",
    "+kubernetes.follower_label_value",
    "+kubernetes.tmp_role_label",
    "+kubernetes.bootstrap_labels.**",
    "+kubernetes.use_endpoints",
    "+kubernetes.pod_ip",
    "+kubernetes.cacert",
    "+kubernetes.service_account",
    "-kubernetes.context",
    "+kubernetes.ports",
    "-kubernetes.bypass_api_service",
    "-kubernetes.retriable_http_codes",
    "+kubernetes.standby_leader_label_value",
    "-ttl",
    "-loop_wait",
    "-retry_timeout",
    "-standby_cluster.**",
];

/// The keys of the dynamic configuration.
const DYNAMIC: &[&str] = &[
    "+ttl",
    "+loop_wait",
    "+retry_timeout",
    "+maximum_lag_on_failover",
    "+maximum_lag_on_syncnode",
    "+max_timelines_history",
    "+primary_start_timeout",
    "+master_start_timeout",
    "+primary_stop_timeout",
    "+master_stop_timeout",
    "+synchronous_mode",
    "+synchronous_mode_strict",
    "+synchronous_node_count",
    "+check_timeline",
    "+failsafe_mode",
    "-primary_race_backoff",
    "+member_slots_ttl",
    "+slots.**",
    "+permanent_slots.**",
    "+permanent_replication_slots.**",
    "+ignore_slots.**",
    "+pause",
    "+standby_cluster.**",
    "+howdah.ttl",
    "+howdah.closed_after_handover",
    "+postgresql.**",
];

/// Sorts the keys of a local configuration.
#[must_use]
pub fn key_report(config: &Map<String, Value>) -> KeyReport {
    let mut report = KeyReport::default();
    walk(config, &mut Vec::new(), LOCAL, &mut report);
    let sections = method_sections(config);
    let is_methods = |key: &String| {
        let rest = sections.iter().filter_map(|section| key.strip_prefix(section));
        rest.into_iter()
            .any(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    report.not_acted_on.retain(|key| !is_methods(key));
    report.unknown.retain(|key| !is_methods(key));
    report
}

/// Where the sections of the user's own methods begin, which have the names that the user gives.
fn method_sections(config: &Map<String, Value>) -> Vec<String> {
    let section = |key: &str| config.get(key).and_then(Value::as_object);
    let replica = section("postgresql").map(method_names).unwrap_or_default();
    let bootstrap = section("bootstrap").and_then(|section| section.get("method")?.as_str());
    // The first member of a standby cluster may be made in other ways.
    let standby =
        section("bootstrap").and_then(|section| section.get("dcs")?.get("standby_cluster")?.as_object());
    let standby = standby.map(method_names).unwrap_or_default();
    let replica = replica
        .into_iter()
        .chain(standby)
        .map(|name| format!("postgresql.{name}"));
    replica
        .chain(bootstrap.map(|name| format!("bootstrap.{name}")))
        .collect()
}

/// Sorts the keys of a dynamic configuration.
pub(crate) fn dynamic_key_report(config: &Map<String, Value>) -> KeyReport {
    let mut report = KeyReport::default();
    walk(config, &mut Vec::new(), DYNAMIC, &mut report);
    report
}

fn walk<'a>(map: &'a Map<String, Value>, path: &mut Vec<&'a str>, table: &[&str], report: &mut KeyReport) {
    for (key, value) in map {
        path.push(key);
        match (find(path, table), value) {
            (Some(Match::Acted), _) => {}
            (Some(Match::Accepted), _) => report.not_acted_on.push(path.join(".")),
            (Some(Match::Inside), Value::Object(inner)) => walk(inner, path, table, report),
            (Some(Match::Inside), _) => {}
            (None, _) => report.unknown.push(path.join(".")),
        }
        path.pop();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Match {
    Acted,
    Accepted,
    /// Some listed key lies below.
    Inside,
}

fn find(path: &[&str], table: &[&str]) -> Option<Match> {
    let mut inside = None;
    for entry in table {
        let (acted, pattern) = entry.split_at(1);
        let mut segments = pattern.split('.');
        let mut here = path.iter();
        loop {
            match (segments.next(), here.next()) {
                (None | Some("**"), None) => {
                    return Some(if acted == "+" {
                        Match::Acted
                    } else {
                        Match::Accepted
                    });
                }
                (Some("**"), Some(_)) => {
                    return Some(if acted == "+" {
                        Match::Acted
                    } else {
                        Match::Accepted
                    });
                }
                (Some(_), None) => {
                    inside = Some(Match::Inside);
                    break;
                }
                (None, Some(_)) => break,
                (Some(pattern), Some(key)) if pattern == "*" || pattern == *key => {}
                _ => break,
            }
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_docs_name_every_key_that_is_not_acted_on() {
        let docs = include_str!("../../../../docs/agent.md");
        let missing: Vec<&str> = LOCAL
            .iter()
            .chain(DYNAMIC)
            .filter_map(|key| key.strip_prefix('-'))
            .filter(|key| !docs.contains(&format!("`{key}`")))
            .collect();
        assert!(missing.is_empty(), "docs/agent.md lacks {missing:?}");
    }

    #[test]
    fn every_key_is_named_once_or_acted_on() {
        let config = json!({
            "name": "a", "nmae": "b",
            "log": {"level": "INFO", "traceback_level": "ERROR"},
            "watchdog": {"mode": "off"},
            "postgresql": {"parameters": {"work_mem": "1MB"}, "callbacks": {"on_start": "x", "on_role_change": "y"},
                "create_replica_methods": ["own", "pg"], "own": {"command": "z", "anything": 1}, "pg_hba_replica": [],
                           "authentication": {"superuser": {"username": "u", "sslcompression": "0"}}},
            "exhibitor": {"hosts": "x"},
        });
        let report = key_report(config.as_object().unwrap());
        assert_eq!(report.unknown, ["nmae"]);
        assert_eq!(
            report.not_acted_on,
            [
                "log.traceback_level",
                "postgresql.pg_hba_replica",
                "postgresql.authentication.superuser.sslcompression",
                "exhibitor"
            ]
        );
        assert!(report.warning().unwrap().contains("unknown (kept): nmae"));
    }
}
