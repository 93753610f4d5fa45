use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{ConfigError, reader::Reader, string_form};

/// A program of the user's that fills the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// How the configuration calls it.
    pub name: String,
    /// A command line for the shell, which gets its arguments behind it.
    pub command: String,
    /// Keys and values of its section, in their order.
    options: Vec<(String, String)>,
    /// Gets only the options of its section.
    no_params: bool,
    /// Begins with what lies in the data directory.
    pub keep_data: bool,
}

/// One way to make a replica (`postgresql.create_replica_methods`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaMethod {
    /// pg_basebackup.
    BaseBackup,
    /// A program of the user's.
    Custom(Method),
}

impl ReplicaMethod {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            ReplicaMethod::BaseBackup => BASEBACKUP,
            ReplicaMethod::Custom(method) => &method.name,
        }
    }
}

/// How a new cluster is made other than by initdb (`bootstrap.method`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomBootstrap {
    /// What fills the data directory.
    pub method: Method,
    /// The settings that it writes for recovery stay, and so does its signal file.
    pub keep_existing_recovery_conf: bool,
    /// Settings for recovery; recovery is done if there are any.
    pub recovery_conf: BTreeMap<String, String>,
}

const BASEBACKUP: &str = "basebackup";

/// Keys of a section that are for the agent.
const OURS: &[&str] = &["command", "no_params"];

impl Method {
    /// Its arguments: those of the agent, unless it wants none, and its own.
    #[must_use]
    pub fn arguments(&self, agents: &[(&str, &str)]) -> Vec<String> {
        let agents = agents.iter().filter(|_| !self.no_params);
        let is_agents = |key: &str| agents.clone().any(|(agents, _)| *agents == key);
        let own = self.options.iter().filter(|(key, _)| !is_agents(key));
        own.map(|(key, value)| format!("--{key}={value}"))
            .chain(agents.clone().map(|(key, value)| format!("--{key}={value}")))
            .collect()
    }

    fn read(name: &str, section: &Reader<'_>, withheld: &[&str]) -> Result<Self, ConfigError> {
        let flag = |key: &str| Ok::<_, ConfigError>(section.flag(key)?.unwrap_or(false));
        let no_params = flag("no_params")?;
        let mut options = Vec::new();
        for (key, value) in section.map() {
            let is_flag = no_params && matches!(key.as_str(), "no_leader" | "keep_data");
            if OURS.contains(&key.as_str()) || withheld.contains(&key.as_str()) || is_flag || value.is_null()
            {
                continue;
            }
            if value.is_object() || value.is_array() {
                return Err(section.error(&key, "must be a single value"));
            }
            // As Patroni passes it, in Python's words.
            let text = match value {
                Value::Bool(true) => "True".to_owned(),
                Value::Bool(false) => "False".to_owned(),
                other => string_form(&other),
            };
            options.push((key, text));
        }
        Ok(Method {
            name: name.to_owned(),
            // Without a command the name is one, as in Patroni.
            command: section.text("command")?.unwrap_or_else(|| name.to_owned()),
            options,
            no_params,
            keep_data: flag("keep_data")?,
        })
    }
}

/// Ways to make a replica, in the order in which they are tried.
pub(crate) fn replica_methods(postgresql: &Reader<'_>) -> Result<Vec<ReplicaMethod>, ConfigError> {
    listed_methods(postgresql, postgresql)
}

/// The methods that one section lists, which are described in another.
pub(crate) fn listed_methods(
    section: &Reader<'_>,
    postgresql: &Reader<'_>,
) -> Result<Vec<ReplicaMethod>, ConfigError> {
    let listed = method_names(&section.map());
    if listed.is_empty() {
        return Ok(vec![ReplicaMethod::BaseBackup]);
    }
    let method = |name: &String| {
        if name == BASEBACKUP {
            return Ok(ReplicaMethod::BaseBackup);
        }
        Method::read(name, &postgresql.section(name)?, &[]).map(ReplicaMethod::Custom)
    };
    listed.iter().map(method).collect()
}

/// The names that `create_replica_methods` lists.
pub(crate) fn method_names(postgresql: &Map<String, Value>) -> Vec<String> {
    let reader = Reader::root(postgresql, &crate::places::NOWHERE);
    let list = |key: &str| reader.list(key).ok().flatten();
    list("create_replica_methods")
        .or_else(|| list("create_replica_method"))
        .unwrap_or_default()
}

/// `bootstrap.method`; `None` for initdb.
pub(crate) fn custom_bootstrap(bootstrap: &Reader<'_>) -> Result<Option<CustomBootstrap>, ConfigError> {
    let Some(name) = bootstrap.text("method")?.filter(|name| name != "initdb") else {
        return Ok(None);
    };
    let section = bootstrap.section(&name)?;
    section.required("command")?;
    let recovery = section.section("recovery_conf")?;
    let mut recovery_conf = recovery_settings(&recovery)?;
    if !recovery_conf.is_empty() {
        let action = recovery_conf
            .entry("recovery_target_action".to_owned())
            .or_insert_with(|| "promote".to_owned());
        if action != "promote" {
            return Err(recovery.error(
                "recovery_target_action",
                "must be promote: a cluster that is being made is usable only after its recovery has ended",
            ));
        }
    }
    let withheld = ["keep_existing_recovery_conf", "recovery_conf", "scope", "datadir"];
    Ok(Some(CustomBootstrap {
        method: Method::read(&name, &section, &withheld)?,
        keep_existing_recovery_conf: section.flag("keep_existing_recovery_conf")?.unwrap_or(false),
        recovery_conf,
    }))
}

/// Settings for recovery by their names in lower case. Those of PostgreSQL 11 that signal files replace are passed over.
pub(crate) fn recovery_settings(section: &Reader<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut settings = BTreeMap::new();
    for (key, value) in section.map() {
        let name = key.to_ascii_lowercase();
        if value.is_object() || value.is_array() {
            return Err(section.error(&key, "must be a single value"));
        }
        if !value.is_null() && !["standby_mode", "trigger_file"].contains(&name.as_str()) {
            settings.insert(name, string_form(&value));
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;
    use crate::places::NOWHERE;

    fn methods(section: Value) -> Result<Vec<ReplicaMethod>, ConfigError> {
        let Value::Object(map) = section else {
            unreachable!()
        };
        replica_methods(&Reader::root(&map, &NOWHERE))
    }

    #[test]
    fn replica_methods_are_tried_in_their_order() {
        assert_eq!(methods(json!({})).unwrap(), [ReplicaMethod::BaseBackup]);
        let section = json!({
            "create_replica_methods": ["backrest", "/bin/copy", "basebackup"],
            "backrest": {"command": "restore --delta", "keep_data": true, "no_params": true, "stanza": "db"},
        });
        let read = methods(section).unwrap();
        let names: Vec<&str> = read.iter().map(ReplicaMethod::name).collect();
        assert_eq!(names, ["backrest", "/bin/copy", "basebackup"]);
        let [ReplicaMethod::Custom(backrest), ReplicaMethod::Custom(copy), _] = &read[..] else {
            unreachable!()
        };
        let agents = [("scope", "db"), ("datadir", "/d")];
        assert_eq!(
            (backrest.command.as_str(), backrest.keep_data),
            ("restore --delta", true)
        );
        assert_eq!(
            backrest.arguments(&agents),
            ["--stanza=db"],
            "no parameters of the agent"
        );
        assert_eq!(
            copy.command, "/bin/copy",
            "a name without a section is its command"
        );
        assert_eq!(copy.arguments(&agents), ["--scope=db", "--datadir=/d"]);
    }

    #[test]
    fn a_bootstrap_ends_its_recovery_by_itself() {
        let read = |section: Value| {
            let Value::Object(map) = section else {
                unreachable!()
            };
            custom_bootstrap(&Reader::root(&map, &NOWHERE))
        };
        assert_eq!(read(json!({"initdb": []})).unwrap(), None);
        assert_eq!(read(json!({"method": "initdb"})).unwrap(), None);
        let custom = read(json!({"method": "pitr", "pitr": {
            "command": "restore", "backup": "latest",
            "recovery_conf": {"Restore_Command": "cp /a/%f %p", "standby_mode": "off"},
        }}));
        let custom = custom.unwrap().unwrap();
        assert_eq!(
            custom.method.arguments(&[("scope", "db")]),
            ["--backup=latest", "--scope=db"]
        );
        let recovery: Vec<(&str, &str)> = custom
            .recovery_conf
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            recovery,
            [
                ("recovery_target_action", "promote"),
                ("restore_command", "cp /a/%f %p")
            ]
        );
        let missing = read(json!({"method": "pitr"})).unwrap_err().to_string();
        assert!(missing.contains("pitr.command"), "{missing}");
        let paused = json!({"method": "p", "p": {"command": "x", "recovery_conf": {"recovery_target_action": "pause"}}});
        assert!(read(paused).unwrap_err().to_string().contains("must be promote"));
    }
}
