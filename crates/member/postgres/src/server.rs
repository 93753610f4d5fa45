use std::{fs, path::PathBuf, time::Duration};

use howdah_config::{Dynamic, LocalConfig, PostgresConfig};
use howdah_pgconf::{HistoryLine, parse_history};
use howdah_types::{BootTime, MemberName, Scope, Timeline};
use serde_json::{Map, Value};

use crate::{
    Conf, DataDir, PgError, Programs, Recovery, Session, Source, command_line, conf::write_pgpass,
    files::write_atomically, roles, session,
};

/// One local PostgreSQL: its configuration, its directory and its programs. Holds no connection and no process.
#[derive(Clone, Debug)]
pub struct Server {
    /// `postgresql` of the local configuration.
    pub local: PostgresConfig,
    /// The data directory.
    pub dir: DataDir,
    /// The programs.
    pub programs: Programs,
    name: MemberName,
    scope: Scope,
    bootstrap_hba: Vec<String>,
}

/// Patroni's name for it.
const KEPT_CONFIGURATION: &str = "patroni.dynamic.json";

/// The one that PostgreSQL has started with; a copy of the data brings it along.
const STARTED_CONFIGURATION: &str = "howdah.started.json";

/// Between two looks at something that another process does, where nothing tells when it has happened.
const LOOK: Duration = Duration::from_millis(10);

impl Server {
    /// The server that a configuration describes. Blocks while it asks the programs for their version.
    ///
    /// # Errors
    /// The programs are missing or too old.
    pub fn new(config: &LocalConfig) -> Result<Self, PgError> {
        let local = config.postgresql.clone();
        let programs = Programs::find(local.bin_dir.as_deref(), &local.bin_name)?;
        Ok(Server {
            dir: DataDir::new(&local.data_dir),
            programs,
            name: config.name.clone(),
            scope: config.scope.clone(),
            bootstrap_hba: config
                .bootstrap
                .as_ref()
                .map(|b| b.pg_hba.clone())
                .unwrap_or_default(),
            local,
        })
    }

    /// Writes the configuration files for following `upstream`, or no server, and for recovery as it says. `feedback`: the upstream must
    /// hear which rows of the catalogue are still needed.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_conf(
        &self,
        dynamic: &Dynamic,
        upstream: Option<Source>,
        sync_names: Option<String>,
        feedback: bool,
        recovery: Recovery,
    ) -> Result<(), PgError> {
        let slot = match &upstream {
            Some(Source { remote: true, .. }) => {
                dynamic.standby.as_ref().and_then(|standby| standby.slot.clone())
            }
            Some(_) if dynamic.use_slots => Some(self.name.slot_name()),
            Some(_) | None => None,
        };
        let conf = Conf {
            upstream,
            member: self.name.to_string(),
            slot,
            sync_names,
            feedback,
            recovery,
        };
        for warning in conf.write(&self.local, dynamic, &self.programs, &self.bootstrap_hba)? {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// Writes the file with the passwords for tools.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_pgpass(&self) -> Result<(), PgError> {
        write_pgpass(&self.local)
    }

    /// The postmaster's command line.
    ///
    /// # Errors
    /// `pg_controldata` cannot be run.
    pub async fn command_line(&self, dynamic: &Dynamic, as_replica: bool) -> Result<Vec<String>, PgError> {
        command_line(&self.local, dynamic, &self.programs, &self.scope, as_replica).await
    }

    /// Makes PostgreSQL start as replica, or as primary.
    ///
    /// # Errors
    /// The signal file cannot be written or removed.
    pub fn set_standby(&self, standby: bool) -> Result<(), PgError> {
        let path = self.dir.path().join("standby.signal");
        if standby {
            return write_atomically(&path, "");
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(PgError::file(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Makes PostgreSQL recover a restored backup, or start it as it is.
    ///
    /// # Errors
    /// The signal file cannot be written or removed.
    pub fn set_recovery(&self, recovery: &Recovery) -> Result<(), PgError> {
        let path = self.dir.path().join("recovery.signal");
        match recovery {
            // A tool that restores for a replica of its own: here the cluster begins at the end of the WAL.
            Recovery::AsRestored if self.dir.is_standby() => write_atomically(&path, ""),
            Recovery::AsRestored => Ok(()),
            Recovery::To(settings) if !settings.is_empty() => write_atomically(&path, ""),
            // What a tool has left would make the next primary recover from an archive.
            Recovery::To(_) | Recovery::Replica => match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(PgError::file(&path)(error))
                }
                _ => Ok(()),
            },
        }
    }

    /// Forgets the configurations that were kept beside the data: a backup brings those of the cluster it was made of.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn forget_configurations(&self) -> Result<(), PgError> {
        for name in [KEPT_CONFIGURATION, STARTED_CONFIGURATION] {
            let path = self.dir.path().join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(PgError::file(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells a running PostgreSQL to read its configuration again.
    pub fn reload(&self) {
        if let Some(postmaster) = self.dir.postmaster()
            && let Some(pid) = i32::try_from(postmaster.pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::HUP);
        }
    }

    /// Connects to the local server as superuser.
    ///
    /// # Errors
    /// It does not answer by `deadline`.
    pub async fn connect(&self, deadline: BootTime) -> Result<Session, PgError> {
        self.connect_database(&self.local.database, deadline).await
    }

    /// Connects to a database of the local server as superuser.
    ///
    /// # Errors
    /// It does not answer by `deadline`, or has no such database.
    pub async fn connect_database(&self, database: &str, deadline: BootTime) -> Result<Session, PgError> {
        let socket = self.socket_dir();
        let host = socket
            .as_deref()
            .unwrap_or_else(|| self.local.listen.local_host());
        session::connect(
            host,
            self.local.listen.port,
            &self.local.superuser,
            database,
            deadline,
        )
        .await
    }

    /// Connects to another member as a role that may read its timeline files.
    ///
    /// # Errors
    /// It does not answer by `deadline`.
    pub async fn connect_to(&self, other: &Source, deadline: BootTime) -> Result<Session, PgError> {
        let account = self
            .local
            .rewind
            .as_ref()
            .filter(|a| !a.username.is_empty())
            .unwrap_or(&self.local.superuser);
        session::connect(&other.host, other.port, account, &self.local.database, deadline).await
    }

    /// A connection string for a user's script.
    #[must_use]
    pub fn script_conninfo(&self) -> String {
        let socket = self.socket_dir();
        let host = socket.unwrap_or_else(|| self.local.listen.local_host().to_owned());
        howdah_pgconf::Conninfo::default()
            .with("host", host)
            .with("port", self.local.listen.port.to_string())
            .with("user", &self.local.superuser.username)
            .with("dbname", &self.local.database)
            .to_string()
    }

    /// Where a tablespace of another member lies here: `basebackup` may map it.
    #[must_use]
    pub fn local_tablespace(&self, location: &str) -> String {
        let mapping = self
            .local
            .basebackup
            .iter()
            .filter_map(|option| option.strip_prefix("--tablespace-mapping="))
            .filter_map(|mapping| mapping.split_once('='))
            .find(|(from, _)| *from == location);
        mapping.map_or(location, |(_, to)| to).to_owned()
    }

    /// Creates the roles of a new cluster.
    ///
    /// # Errors
    /// PostgreSQL refuses.
    pub async fn create_roles(&self, session: &Session, deadline: BootTime) -> Result<(), PgError> {
        roles::create_roles(session, &self.local, deadline).await
    }

    /// Waits until the postmaster takes connections; an error when it has ended.
    ///
    /// # Errors
    /// It has ended, or does not come up by `deadline`.
    pub async fn wait_ready(&self, deadline: BootTime) -> Result<(), PgError> {
        loop {
            match self.dir.postmaster() {
                Some(postmaster) if postmaster.accepts => return Ok(()),
                _ if howdah_clock::now() >= deadline => return Err(PgError::Timeout("starting PostgreSQL")),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Waits until the server is out of recovery.
    ///
    /// # Errors
    /// It is not by `deadline`, or does not answer.
    pub async fn wait_promoted(&self, session: &Session, deadline: BootTime) -> Result<(), PgError> {
        loop {
            let row = session.row("SELECT pg_is_in_recovery()", deadline).await?;
            if row.get(0) == Some("f") {
                return Ok(());
            }
            if howdah_clock::now() >= deadline {
                return Err(PgError::Timeout("promoting PostgreSQL"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Keeps the dynamic configuration beside the data, as Patroni does: it serves when the store has none, or a wrong one.
    pub fn keep_configuration(&self, config: &Map<String, Value>) {
        self.keep(KEPT_CONFIGURATION, config);
    }

    /// What was kept last.
    #[must_use]
    pub fn kept_configuration(&self) -> Option<Map<String, Value>> {
        self.kept(KEPT_CONFIGURATION)
    }

    /// Keeps the dynamic configuration that PostgreSQL has started with: the one to fall back to, also for the next agent.
    pub fn keep_started_configuration(&self, config: &Map<String, Value>) {
        self.keep(STARTED_CONFIGURATION, config);
    }

    /// What PostgreSQL has started with last.
    #[must_use]
    pub fn started_configuration(&self) -> Option<Map<String, Value>> {
        self.kept(STARTED_CONFIGURATION)
    }

    pub(crate) fn keep(&self, name: &str, config: &Map<String, Value>) {
        let path = self.dir.path().join(name);
        if self.dir.path().join("PG_VERSION").exists()
            && self.kept(name).as_ref() != Some(config)
            && let Err(error) = write_atomically(&path, &Value::Object(config.clone()).to_string())
        {
            tracing::warn!("The configuration was not kept: {error}.");
        }
    }

    pub(crate) fn kept(&self, name: &str) -> Option<Map<String, Value>> {
        let text = fs::read_to_string(self.dir.path().join(name)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The lines of a timeline's local history file; empty for timeline 1 or when the file is gone.
    #[must_use]
    pub fn history(&self, timeline: Timeline) -> (Vec<HistoryLine>, Option<std::time::SystemTime>) {
        let path = self.history_path(timeline);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let modified = fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        (parse_history(&text), modified)
    }

    fn history_path(&self, timeline: Timeline) -> PathBuf {
        self.dir
            .path()
            .join("pg_wal")
            .join(format!("{:08X}.history", timeline.0))
    }

    /// The directory of the Unix socket, when that is to be used. A relative one is relative to the data directory.
    fn socket_dir(&self) -> Option<String> {
        if !self.local.use_unix_socket {
            return None;
        }
        let configured = self.local.parameters.get("unix_socket_directories");
        let first = configured.map_or("/var/run/postgresql", |dirs| {
            dirs.split(',').next().unwrap_or("").trim()
        });
        Some(self.dir.path().join(first).display().to_string())
    }
}
