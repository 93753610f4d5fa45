use std::collections::BTreeMap;

/// A GUC that only the agent sets, because primary and replicas must agree on it (Patroni's list).
#[derive(Clone, Copy, Debug)]
pub struct ManagedGuc {
    /// Its name.
    pub name: &'static str,
    /// The value when the dynamic configuration has none.
    pub default: &'static str,
    /// Values the dynamic configuration may give.
    accepts: Accepts,
    /// Passed on the command line, so that neither files nor `ALTER SYSTEM` change it. Otherwise in the file.
    pub on_command_line: bool,
}

#[derive(Clone, Copy, Debug)]
enum Accepts {
    AtLeast(i64),
    MegabytesAtLeast(i64),
    Words(&'static [&'static str]),
    Bool,
}

/// GUCs that only the agent sets and whose value in a configuration has no effect: where the server listens, whom it
/// follows, where its files are.
pub const AGENT_OWNED: &[&str] = &[
    "listen_addresses",
    "port",
    "cluster_name",
    "hot_standby",
    "data_directory",
    "config_file",
    "hba_file",
    "ident_file",
    "external_pid_file",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
    "recovery_target_timeline",
    "wal_log_hints",
];

/// The list, for PostgreSQL 13 and later.
pub const MANAGED: &[ManagedGuc] = &[
    guc("hot_standby", "on", Accepts::Words(&["on", "true", "yes", "1"])),
    guc("max_connections", "100", Accepts::AtLeast(25)),
    guc("max_locks_per_transaction", "64", Accepts::AtLeast(32)),
    guc("max_prepared_transactions", "0", Accepts::AtLeast(0)),
    guc("max_replication_slots", "10", Accepts::AtLeast(4)),
    guc("max_wal_senders", "10", Accepts::AtLeast(3)),
    guc("max_worker_processes", "8", Accepts::AtLeast(2)),
    guc("track_commit_timestamp", "off", Accepts::Bool),
    guc(
        "wal_level",
        "replica",
        Accepts::Words(&["replica", "hot_standby", "logical"]),
    ),
    guc("wal_log_hints", "on", Accepts::Bool),
    ManagedGuc {
        name: "wal_keep_size",
        default: "128MB",
        accepts: Accepts::MegabytesAtLeast(16),
        on_command_line: false,
    },
];

const fn guc(name: &'static str, default: &'static str, accepts: Accepts) -> ManagedGuc {
    ManagedGuc {
        name,
        default,
        accepts,
        on_command_line: true,
    }
}

impl ManagedGuc {
    fn accepts(&self, value: &str) -> bool {
        match self.accepts {
            Accepts::AtLeast(min) => super::parse_number(value, "").is_some_and(|n| n >= min as f64),
            Accepts::MegabytesAtLeast(min) => {
                super::parse_number(value, "MB").is_some_and(|n| n >= min as f64)
            }
            Accepts::Words(words) => words.contains(&value.to_ascii_lowercase().as_str()),
            Accepts::Bool => super::guc::parse_bool(value).is_some(),
        }
    }
}

/// The values of the managed GUCs: the dynamic configuration's where it is acceptable, else the default; with a
/// warning for each value that is not.
#[must_use]
pub fn managed_values(
    dynamic: &BTreeMap<String, String>,
) -> (Vec<(&'static ManagedGuc, String)>, Vec<String>) {
    let mut warnings = Vec::new();
    let values = MANAGED
        .iter()
        .map(|guc| {
            let value = match dynamic.get(guc.name) {
                Some(value) if guc.accepts(value) => match value.as_str() {
                    "hot_standby" if guc.name == "wal_level" => "replica".to_owned(),
                    _ => value.clone(),
                },
                Some(value) => {
                    warnings.push(format!(
                        "{} cannot be '{value}': {} is used",
                        guc.name, guc.default
                    ));
                    guc.default.to_owned()
                }
                None => guc.default.to_owned(),
            };
            (guc, value)
        })
        .collect();
    (values, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_fall_back_with_a_warning() {
        let dynamic = BTreeMap::from([
            ("max_connections".to_owned(), "10".to_owned()),
            ("wal_level".to_owned(), "hot_standby".to_owned()),
            ("wal_keep_size".to_owned(), "1GB".to_owned()),
        ]);
        let (values, warnings) = managed_values(&dynamic);
        let value = |name: &str| values.iter().find(|(g, _)| g.name == name).unwrap().1.clone();
        assert_eq!(value("max_connections"), "100");
        assert_eq!(value("wal_level"), "replica");
        assert_eq!(value("wal_keep_size"), "1GB");
        assert_eq!(warnings, ["max_connections cannot be '10': 100 is used"]);
    }
}
