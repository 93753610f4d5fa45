use std::{collections::BTreeMap, fs, path::Path};

use howdah_config::{Dynamic, PostgresConfig};
use howdah_pgconf::{ConfFile, Conninfo, lines_file, managed_values, pgpass_line};

use crate::{PgError, Programs, auto_conf, files::write_atomically, local_trust};

/// Where a replica streams from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Host of the upstream.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// It is the server of the cluster that this one follows (`standby_cluster`); without a host only its archive is there.
    pub remote: bool,
}

/// What the generated files say besides the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// The upstream of a replica; `None` follows no server.
    pub upstream: Option<Source>,
    /// `application_name` towards the upstream, which is the member's name.
    pub member: String,
    /// The slot to stream through.
    pub slot: Option<String>,
    /// `synchronous_standby_names`; `None` leaves the user's own.
    pub sync_names: Option<String>,
    /// Its upstream must hear which rows of the catalogue are still needed (`hot_standby_feedback`).
    pub feedback: bool,
    /// Who says how far recovery goes.
    pub recovery: Recovery,
}

/// Who says how far recovery goes, and where WAL comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// A replica recovers for ever, along the leader's timelines.
    #[default]
    Replica,
    /// A new cluster is recovered from a backup with these settings.
    To(BTreeMap<String, String>),
    /// What has restored the backup has written them.
    AsRestored,
}

impl Conf {
    /// Writes `postgresql.conf`, `pg_hba.conf`, `pg_ident.conf` and the password file. Returns what was left out and
    /// why.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(
        &self,
        local: &PostgresConfig,
        dynamic: &Dynamic,
        programs: &Programs,
        bootstrap_hba: &[String],
    ) -> Result<Vec<String>, PgError> {
        let dir = &local.data_dir;
        keep_base(dir)?;
        let mut warnings = Vec::new();
        let base = local.custom_conf.as_ref().map_or_else(
            || "postgresql.base.conf".to_owned(),
            |path| path.display().to_string(),
        );
        let mut file = ConfFile::including(base);
        for (name, value) in &dynamic.parameters {
            if howdah_pgconf::MANAGED.iter().any(|guc| guc.name == name) {
                continue;
            }
            if is_recovery(name) {
                warnings.push(format!("parameter {name} is set by the agent and left out"));
            } else if programs.knows(name) {
                file.set(name.clone(), value.clone());
            } else {
                warnings.push(format!(
                    "parameter {name} is not known to PostgreSQL {} and left out",
                    programs.version.major()
                ));
            }
        }
        // What stands on the command line stands here too: a server that is started by hand is the same one.
        for (guc, value) in managed_values(&dynamic.parameters).0 {
            file.set(guc.name, value);
        }
        file.set("listen_addresses", local.listen.listen_addresses());
        file.set("port", local.listen.port.to_string());
        if let Some(names) = &self.sync_names {
            file.set("synchronous_standby_names", names.clone());
        }
        if self.feedback {
            file.set("hot_standby_feedback", "on");
        }
        if !dynamic.parameters.contains_key("wal_retrieve_retry_interval") {
            // PostgreSQL's 5 s would be added to every reconnection, and to every commit that waits for a standby.
            file.set("wal_retrieve_retry_interval", "500ms");
        }
        // Also before anybody leads: a server that begins with a backup from an archive needs its WAL to take connections.
        let remote = self.upstream.as_ref().is_none_or(|upstream| upstream.remote);
        let standby = dynamic.standby.as_ref().filter(|_| remote);
        let theirs = standby.map(|standby| &standby.recovery).into_iter().flatten();
        for (name, value) in dynamic.recovery_conf.iter().chain(theirs) {
            let is_ours = self.feedback && name == "hot_standby_feedback";
            if is_ours {
                warnings.push(format!(
                    "recovery_conf.{name} is overridden: logical slots need it on"
                ));
            } else if is_recovery(name) || !programs.knows(name) {
                warnings.push(format!("recovery_conf.{name} is not for a replica and left out"));
            } else {
                file.set(name.clone(), value.clone());
            }
        }
        if self.recovery != Recovery::AsRestored {
            // What the included file has would stop a replica, or be a second target.
            for target in TARGETS {
                file.set(*target, "");
            }
        }
        match &self.recovery {
            Recovery::Replica => file.set("recovery_target_timeline", "latest"),
            Recovery::To(settings) => {
                for (name, value) in settings {
                    file.set(name.clone(), value.clone());
                }
            }
            Recovery::AsRestored => {}
        }
        let conninfo = self.primary_conninfo(local, programs.version.major());
        file.set("primary_conninfo", conninfo);
        file.set("primary_slot_name", self.slot.clone().unwrap_or_default());
        write_atomically(&dir.join("postgresql.conf"), &file.render())?;
        let owned = |name: &str| match name {
            "primary_conninfo" | "primary_slot_name" => true,
            "synchronous_standby_names" => self.sync_names.is_some(),
            "hot_standby_feedback" => self.feedback,
            // A tool that restores a backup leaves its settings here, which would overrule those of the configuration.
            name if self.recovery != Recovery::AsRestored => {
                name.starts_with("recovery_target")
                    || dynamic.recovery_conf.contains_key(name)
                    || standby.is_some_and(|standby| standby.recovery.contains_key(name))
                    || matches!(&self.recovery, Recovery::To(settings) if settings.contains_key(name))
            }
            _ => false,
        };
        for name in auto_conf::take_out(dir, owned)? {
            warnings.push(format!(
                "{name} was set by ALTER SYSTEM, a copy or a restore: it is the agent's, and taken out of postgresql.auto.conf"
            ));
        }

        self.write_hba(
            local,
            local.pg_hba.as_ref().or(dynamic.pg_hba.as_ref()),
            bootstrap_hba,
        )?;
        if let Some(lines) = local.pg_ident.as_ref().or(dynamic.pg_ident.as_ref()) {
            write_atomically(&dir.join("pg_ident.conf"), &lines_file(lines))?;
        }
        write_pgpass(local)?;
        Ok(warnings)
    }

    /// The configured lines; else the file that is there, with those of the bootstrap behind it.
    fn write_hba(
        &self,
        local: &PostgresConfig,
        lines: Option<&Vec<String>>,
        bootstrap: &[String],
    ) -> Result<(), PgError> {
        let path = local.data_dir.join("pg_hba.conf");
        let old = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            // One with bytes that are no text is replaced only by configured lines.
            Err(_) if lines.is_some() => String::new(),
            other => other.map_err(PgError::file(&path))?,
        };
        let wanted = match lines {
            Some(lines) => lines_file(lines),
            None => appended(local_trust::without(local, &old), bootstrap),
        };
        let wanted = match self.recovery {
            Recovery::Replica => wanted,
            Recovery::To(_) | Recovery::AsRestored => local_trust::with(local, &wanted),
        };
        if wanted == old && lines.is_none() {
            return Ok(());
        }
        write_atomically(&path, &wanted)
    }

    /// The connection string towards the upstream; empty without one. The password is in a file, never here.
    #[must_use]
    pub fn primary_conninfo(&self, local: &PostgresConfig, major: u32) -> String {
        let Some(upstream) = self
            .upstream
            .as_ref()
            .filter(|upstream| !upstream.host.is_empty())
        else {
            return String::new();
        };
        let mut info = Conninfo::default()
            .with("user", &local.replication.username)
            .with("passfile", local.pgpass.display().to_string())
            .with("host", &upstream.host)
            .with("port", upstream.port.to_string());
        for (key, value) in &local.replication.libpq {
            info = info.with(key, value);
        }
        if !local.replication.libpq.contains_key("sslmode") {
            info = info.with("sslmode", "prefer");
        }
        if major >= SYNCS_SLOTS {
            // Where it copies slots, PostgreSQL connects to this database for it.
            info = info.with("dbname", &local.database);
        }
        info.with("application_name", &self.member).to_string()
    }
}

/// From this major on PostgreSQL copies slots with `failover` itself (`sync_replication_slots`).
const SYNCS_SLOTS: u32 = 17;

/// Where recovery may end; PostgreSQL takes one of them at most.
const TARGETS: &[&str] = &[
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
];

fn is_recovery(name: &str) -> bool {
    name.starts_with("recovery_target")
        || matches!(
            name,
            "primary_conninfo" | "primary_slot_name" | "promote_trigger_file"
        )
}

/// The first time, the user's file becomes the base that is included; never twice.
fn keep_base(dir: &Path) -> Result<(), PgError> {
    let (conf, base) = (dir.join("postgresql.conf"), dir.join("postgresql.base.conf"));
    if !base.exists() {
        if conf.exists() {
            fs::rename(&conf, &base).map_err(PgError::file(&conf))?;
        } else {
            write_atomically(&base, "")?;
        }
    }
    Ok(())
}

/// The passwords of all roles that tools and replicas connect with.
pub(crate) fn write_pgpass(local: &PostgresConfig) -> Result<(), PgError> {
    let accounts = [
        Some(&local.replication),
        local.rewind.as_ref(),
        Some(&local.superuser),
    ];
    let mut seen = BTreeMap::new();
    for account in accounts.into_iter().flatten() {
        if let Some(password) = &account.password {
            seen.entry(&account.username).or_insert(password);
        }
    }
    let text: String = seen
        .iter()
        .map(|(user, password)| any_host_line(user, password))
        .collect();
    write_atomically(&local.pgpass, &text)
}

fn any_host_line(user: &str, password: &str) -> String {
    // The host and port of the leader are not known beforehand.
    pgpass_line("*", 0, "*", user, password).replacen(":0:", ":*:", 1)
}

fn appended(old: &str, lines: &[String]) -> String {
    let missing = lines
        .iter()
        .filter(|line| !old.lines().any(|known| known == line.as_str()));
    let ends = if old.is_empty() || old.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    missing.fold(format!("{old}{ends}"), |text, line| text + line + "\n")
}
