use std::collections::BTreeMap;

use crate::{
    ConfigError,
    methods::{ReplicaMethod, listed_methods},
    reader::Reader,
};

/// Another cluster that this one follows (`standby_cluster` of the dynamic configuration): from its server, from its archive, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyCluster {
    /// Its server, or several with commas between them; `None`: only its archive.
    pub host: Option<String>,
    /// The port of its server.
    pub port: u16,
    /// The slot on its server to stream through.
    pub slot: Option<String>,
    /// Settings for recovery, of the member that follows it: `restore_command`, `archive_cleanup_command`,
    /// `recovery_min_apply_delay`.
    pub recovery: BTreeMap<String, String>,
    /// Ways to make the first member.
    pub methods: Vec<ReplicaMethod>,
}

/// Settings for recovery in the section.
const RECOVERY: &[&str] = &[
    "restore_command",
    "archive_cleanup_command",
    "recovery_min_apply_delay",
];

/// PostgreSQL's default.
const PORT: i64 = 5432;

/// `None`: the cluster follows no other one. It does if any of `host`, `port` and `restore_command` is there (Patroni's rule).
pub(crate) fn standby_cluster(
    root: &Reader<'_>,
    postgresql: &Reader<'_>,
) -> Result<Option<StandbyCluster>, ConfigError> {
    let section = root.section("standby_cluster")?;
    let text = |key: &str| Ok::<_, ConfigError>(section.text(key)?.filter(|text| !text.is_empty()));
    let host = text("host")?;
    let port = section.int("port", "")?;
    let mut recovery = BTreeMap::new();
    for key in RECOVERY {
        if let Some(value) = text(key)? {
            recovery.insert((*key).to_owned(), value);
        }
    }
    if host.is_none() && port.is_none() && !recovery.contains_key("restore_command") {
        return Ok(None);
    }
    // Without a host and with a port it is this machine's, as libpq has it.
    let host = host.or_else(|| port.map(|_| "localhost".to_owned()));
    let port = port.unwrap_or(PORT);
    let port = u16::try_from(port)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| section.error("port", "must be a port, 1 to 65535"))?;
    Ok(Some(StandbyCluster {
        host,
        port,
        slot: text("primary_slot_name")?,
        recovery,
        methods: listed_methods(&section, postgresql)?,
    }))
}
