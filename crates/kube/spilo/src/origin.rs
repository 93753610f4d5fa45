//! Where the data of a new cluster comes from, when it is that of another cluster.

use std::path::PathBuf;

use howdah_pgconf::{Conninfo, pgpass_line};
use serde_json::{Map, Value, json};

use crate::{
    Choice, Environment, Facts, SpiloError,
    archive::{Archive, Target, Whose, archive},
    objects::quoted,
    variables,
};

/// The section `standby_cluster` of a cluster that follows another one.
pub(crate) fn standby_cluster(
    env: &Environment,
    facts: &Facts,
    choice: &Choice,
) -> Result<Option<Value>, SpiloError> {
    let archive = archive(env, facts, Whose::Standby, choice.major)?;
    let Some(host) = env.get("STANDBY_HOST") else {
        if let Some(archive) = archive {
            return Ok(Some(from_archive(json!({}), &archive, facts)));
        }
        for name in ["STANDBY_PORT", "STANDBY_PRIMARY_SLOT_NAME"] {
            if env.get(name).is_some() {
                return Err(bad(
                    name,
                    "is set without STANDBY_HOST: which cluster is followed?",
                ));
            }
        }
        return Ok(None);
    };
    let mut section = json!({"host": host, "port": port(env, "STANDBY_PORT")?});
    if let Some(slot) = env.get("STANDBY_PRIMARY_SLOT_NAME") {
        section["primary_slot_name"] = json!(slot);
    }
    Ok(Some(match archive {
        Some(archive) => from_archive(section, &archive, facts),
        None => section,
    }))
}

/// The method of a standby cluster's first member that is restored from its archive. Its section is among those of `postgresql`.
const STANDBY_METHOD: &str = "bootstrap_standby_with_wale";

/// A standby cluster that is fed by an archive, and begins with a backup from it.
fn from_archive(mut section: Value, archive: &Archive, facts: &Facts) -> Value {
    section["restore_command"] = json!(archive.get(facts));
    section["create_replica_methods"] = json!([STANDBY_METHOD, "basebackup"]);
    section
}

/// What makes the first member of a standby cluster, as a section of `postgresql`.
pub(crate) fn standby_method(
    archive: &Archive,
    facts: &Facts,
    choice: &Choice,
    data_dir: &str,
) -> (String, Value) {
    let command = archive.restore(facts, data_dir, choice.major, &Target::default());
    let section = json!({"command": command, "keep_data": true, "no_leader": true, "no_params": true});
    (STANDBY_METHOD.to_owned(), section)
}

/// How a new cluster is bootstrapped from another one.
pub(crate) struct Method {
    /// Keys of the section `bootstrap`.
    pub(crate) keys: Map<String, Value>,
    /// A password file that it needs, and its text.
    pub(crate) passfile: Option<(PathBuf, String)>,
    /// The archive that it reads.
    pub(crate) archive: Option<Archive>,
}

impl Method {
    fn named(name: &str, command: &str) -> Self {
        let mut keys = Map::new();
        keys.insert("method".into(), json!(name));
        keys.insert(name.into(), json!({"command": command, "no_params": true}));
        Method {
            keys,
            passfile: None,
            archive: None,
        }
    }

    /// One that makes nothing and says why. A member of a cluster that exists never comes to it.
    fn refusing(name: &str, why: &str) -> Self {
        let script = quoted("echo \"$0\" >&2; exit 1");
        Method::named(name, &format!("/bin/sh -c {script} {}", quoted(why)))
    }
}

/// The bootstrap method that brings another cluster's data.
pub(crate) fn clone(
    env: &Environment,
    facts: &Facts,
    choice: &Choice,
    data_dir: &str,
) -> Result<Option<Method>, SpiloError> {
    if let Some((variable, what)) = variables::of_other_data(env) {
        let why =
            format!("{variable} asks {what}: that is not supported, and this would be an empty cluster");
        return Ok(Some(Method::refusing("standby_from_backup", &why)));
    }
    let Some(method) = env.get("CLONE_METHOD") else {
        return Ok(None);
    };
    match method {
        "CLONE_WITH_BASEBACKUP" => {}
        "CLONE_WITH_WALE" | "CLONE_WITH_WALG" => {
            let Some(archive) = archive(env, facts, Whose::Clone, choice.major)? else {
                let why = "CLONE_METHOD asks for data from a backup, and no variable names the archive: set \
                    CLONE_WAL_S3_BUCKET, CLONE_WALE_S3_PREFIX or the like";
                return Ok(Some(Method::refusing("clone_with_wale", why)));
            };
            let target = Target::of_clone(env);
            let command = archive.restore(facts, data_dir, choice.major, &target);
            let mut method = Method::named("clone_with_wale", &command);
            method.keys["clone_with_wale"]["recovery_conf"] =
                Value::Object(target.recovery(&archive.get(facts)));
            method.archive = Some(archive);
            return Ok(Some(method));
        }
        other => {
            return Err(bad(
                "CLONE_METHOD",
                &format!(
                    "'{other}' is not known: CLONE_WITH_BASEBACKUP is, which copies the running cluster CLONE_HOST"
                ),
            ));
        }
    }
    for name in ["CLONE_TARGET_TIME", "CLONE_TARGET_TIMELINE"] {
        if env.get(name).is_some_and(|value| value != "latest") {
            return Err(bad(
                name,
                "a copy of a running cluster has no earlier states: that needs a backup",
            ));
        }
    }
    let host = env.get("CLONE_HOST").ok_or(SpiloError::Missing {
        name: "CLONE_HOST",
        why: "it is the cluster that CLONE_METHOD=CLONE_WITH_BASEBACKUP copies",
    })?;
    let port = port(env, "CLONE_PORT")?;
    let user = env.get("CLONE_USER").ok_or(SpiloError::Missing {
        name: "CLONE_USER",
        why: "it is the role that copies CLONE_HOST, with the attribute REPLICATION",
    })?;
    let (passfile, line) = match (env.get("CLONE_PGPASS"), env.get("CLONE_PASSWORD")) {
        // A file of the user's, or, with a password, the one that Spilo's own scripts write there.
        (Some(path), password) => {
            let line = password.map(|password| pgpass_line(host, port, "*", user, password));
            (facts.path(path), line)
        }
        (None, Some(password)) => {
            let line = pgpass_line(host, port, "*", user, password);
            (facts.run_dir.join("pgpass-clone"), Some(line))
        }
        // The Secret of a cluster that was copied long ago may be gone: only a new cluster needs it.
        (None, None) => {
            let why = format!("CLONE_PASSWORD is not set: it is the password of {user}, who copies {host}");
            return Ok(Some(Method::refusing("clone_with_basebackup", &why)));
        }
    };
    let info = Conninfo::default()
        .with("host", host)
        .with("port", port.to_string())
        .with("user", user)
        .with("passfile", passfile.display().to_string())
        .with("connect_timeout", "10")
        .with("application_name", format!("{} clone", facts.hostname))
        .to_string();
    let command = format!(
        "{} --pgdata={} --wal-method=stream --checkpoint=fast --no-password --dbname={}",
        quoted(&choice.bin_dir.join("pg_basebackup").display().to_string()),
        quoted(data_dir),
        quoted(&info)
    );
    let mut method = Method::named("clone_with_basebackup", &command);
    method.passfile = line.map(|line| (passfile, line));
    Ok(Some(method))
}

fn port(env: &Environment, name: &str) -> Result<u16, SpiloError> {
    let text = env.or(name, "5432");
    text.parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| bad(name, &format!("'{text}' is not a port")))
}

fn bad(name: &str, reason: &str) -> SpiloError {
    SpiloError::Bad {
        name: name.to_owned(),
        reason: reason.to_owned(),
    }
}
