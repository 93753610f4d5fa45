use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use howdah_backup::SegmentSize;
use howdah_clock::now;
use howdah_http::{sleep_until, timeout_at};
use howdah_sql::{Session, SqlError, Target, Tls};
use howdah_types::{BootTime, Lsn};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use super::{programs::Programs, scratch::Scratch};
use crate::variables::Variables;

/// How often it is looked whether the server accepts connections.
const LOOK: Duration = Duration::from_millis(200);

/// How long a server may take to end before it is killed.
const END: Duration = Duration::from_secs(30);

/// Settings of the server, on its command line: they count before those of any file. It listens on a socket in a directory of its
/// owner's only, loads no library, follows no subscription, and writes to no archive.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "port=5432",
    "unix_socket_permissions=0700",
    "hot_standby=off",
    "archive_mode=off",
    "archive_command=",
    "shared_preload_libraries=",
    "session_preload_libraries=",
    "local_preload_libraries=",
    "max_logical_replication_workers=0",
    "max_wal_senders=0",
    "autovacuum=off",
    "fsync=off",
    "synchronous_commit=off",
    "synchronous_standby_names=",
    "shared_buffers=64MB",
    "checkpoint_timeout=30s",
    "huge_pages=off",
    "dynamic_shared_memory_type=mmap",
    "max_connections=20",
    "max_prepared_transactions=1000",
    "wal_level=replica",
    "ssl=off",
    "logging_collector=off",
    "log_destination=stderr",
    "external_pid_file=",
];

/// Settings of each session: what roles and databases set counts before what a command line does.
pub(super) const SESSION: &str = "-c session_preload_libraries= -c local_preload_libraries=";

/// Why there is nothing to look at.
pub(super) enum Stopped {
    /// What was restored is not sound.
    Damaged(String),
    /// Something of this machine or of the store: it says nothing of the backup.
    Here(String),
}

/// What a server says that could not do here what it can do elsewhere.
const HERE: &[&str] = &[
    "could not restore file",
    "No space left",
    "could not map",
    "could not create shared memory",
    "could not access file",
    "could not load library",
    "incompatible with server",
    "not compatible with this version",
    "was initialized by",
    "database locale",
    "Cannot allocate memory",
    "out of memory",
    "Too many open files",
];

/// Where replay has ended.
pub(super) struct Reached {
    pub(super) lsn: Option<Lsn>,
    pub(super) last_commit: Option<Timestamp>,
}

/// A server on the scratch directory.
pub(super) struct Scratchy {
    child: Child,
    host: PathBuf,
    log: PathBuf,
    user: String,
    /// The numbers of those that the backup has.
    tablespaces: BTreeSet<String>,
}

impl Scratchy {
    pub(super) fn start(
        programs: &Programs,
        scratch: &Scratch,
        variables: &Variables,
        tablespaces: BTreeSet<String>,
        segment_size: SegmentSize,
        is_confined: bool,
    ) -> Result<Self, String> {
        let said = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let data = scratch.data();
        let (conf, hba, ident) = (
            scratch.sockets().join("postgresql.conf"),
            scratch.sockets().join("pg_hba.conf"),
            scratch.sockets().join("pg_ident.conf"),
        );
        for (path, text) in [(&conf, ""), (&hba, "local all all trust\n"), (&ident, "")] {
            std::fs::write(path, text).map_err(|error| said(path, error))?;
        }
        let log = File::create(scratch.log()).map_err(|error| said(&scratch.log(), error))?;
        let errors = log.try_clone().map_err(|error| said(&scratch.log(), error))?;
        let program = programs.program("postgres");
        let mut command = if is_confined {
            let own = std::env::current_exe().map_err(|error| error.to_string())?;
            let mut command = Command::new(own);
            command
                .args(["confine", "--write"])
                .arg(scratch.sockets())
                .arg("--")
                .arg(&program);
            command
        } else {
            Command::new(&program)
        };
        command.arg("-D").arg(&data);
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        // In megabytes; a server refuses less than two segments.
        let segment = segment_size.bytes() >> 20;
        for (name, megabytes) in [("min_wal_size", 2 * segment), ("max_wal_size", 8 * segment)] {
            command.arg("-c").arg(format!("{name}={megabytes}MB"));
        }
        for (name, path) in [
            ("config_file", &conf),
            ("hba_file", &hba),
            ("ident_file", &ident),
            ("unix_socket_directories", &scratch.sockets().to_owned()),
        ] {
            command.arg("-c").arg(format!("{name}={}", path.display()));
        }
        // Signals of a terminal are for this program: it ends the server in order.
        for (name, _) in std::env::vars_os() {
            // The server and what it runs take options from these.
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| said(&program, error))?;
        Ok(Scratchy {
            child,
            host: scratch.sockets().to_owned(),
            log: scratch.log(),
            tablespaces,
            user: variables
                .get("PGUSER")
                .filter(|user| !user.is_empty())
                .unwrap_or_else(|| "postgres".to_owned()),
        })
    }

    pub(super) fn host(&self) -> &Path {
        &self.host
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    async fn session(&self, database: &str, deadline: BootTime) -> Result<Session, SqlError> {
        let host = self.host.display().to_string();
        let target = Target {
            host: &host,
            port: 5432,
            user: &self.user,
            password: None,
            database,
            application: "howdah-drill",
            options: SESSION,
            tls: Tls::Off,
        };
        Session::connect(&target, deadline).await
    }

    /// The rows of a statement, as texts.
    pub(super) async fn query(
        &self,
        database: &str,
        sql: &str,
        deadline: BootTime,
    ) -> Result<Vec<Vec<Option<String>>>, String> {
        let session = self
            .session(database, deadline)
            .await
            .map_err(|error| error.to_string())?;
        let rows = session
            .rows(sql, deadline)
            .await
            .map_err(|error| error.to_string())?;
        let texts = rows
            .iter()
            .map(|row| (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
        Ok(texts.collect())
    }

    /// Waits until the server has replayed everything and can be written to.
    pub(super) async fn replayed(&mut self, deadline: BootTime) -> Result<Reached, Stopped> {
        const ASK: &str = "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn(), \
            to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.why(status));
            }
            let by = deadline.min(now() + Duration::from_secs(5));
            match self.query("postgres", ASK, by).await {
                Ok(rows) => {
                    let value = |at: usize| rows.first()?.get(at)?.as_deref();
                    if value(0) == Some("f") {
                        return Ok(Reached {
                            lsn: value(1).and_then(|lsn| lsn.parse().ok()),
                            last_commit: value(2).and_then(|at| at.parse().ok()),
                        });
                    }
                }
                Err(reason) if now() >= deadline => {
                    return Err(Stopped::Here(format!(
                        "the server has not replayed the archive in time (--timeout): {reason}"
                    )));
                }
                Err(reason) if reason.contains("does not exist") => {
                    return Err(Stopped::Here(format!(
                        "{reason}: PGUSER names a superuser of the cluster"
                    )));
                }
                // It starts.
                Err(_) => {}
            }
            sleep_until(now() + LOOK).await;
        }
    }

    /// The databases that accept connections.
    pub(super) async fn databases(&self, deadline: BootTime) -> Result<Vec<String>, String> {
        let rows = self
            .query(
                "postgres",
                "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname",
                deadline,
            )
            .await?;
        let names: Vec<String> = rows.into_iter().flatten().flatten().collect();
        for name in &names {
            self.query(name, "SELECT count(*) FROM pg_class", deadline)
                .await
                .map_err(|error| format!("database {name}: {error}"))?;
        }
        Ok(names)
    }

    pub(super) async fn has_amcheck(&self, deadline: BootTime) -> Result<bool, String> {
        let sql = "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'";
        let rows = self.query("postgres", sql, deadline).await?;
        Ok(rows.first().and_then(|row| row.first()?.as_deref()) == Some("1"))
    }

    /// What the server has said last.
    fn why(&self, status: ExitStatus) -> Stopped {
        let mut text = String::new();
        if let Ok(mut log) = File::open(&self.log) {
            let length = log.metadata().map_or(0, |of| of.len());
            let _ = log.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)));
            let mut bytes = Vec::new();
            let _ = log.read_to_end(&mut bytes);
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        let is_cause = |line: &&str| {
            (line.contains("FATAL:") || line.contains("PANIC:"))
                && !line.contains("is starting up")
                && !line.contains("not yet accepting connections")
        };
        let lines: Vec<&str> = text.lines().collect();
        let line = lines
            .iter()
            .rev()
            .copied()
            .find(is_cause)
            .or_else(|| lines.last().copied())
            .unwrap_or_default()
            .trim();
        let said = format!("the server on the restored files has ended ({status}): {line}");
        // A drill makes no tablespace where the original has it.
        let number = line
            .split_once("pg_tblspc/")
            .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        let is_new = number.is_some_and(|number| !self.tablespaces.contains(&number));
        let is_tablespace = is_new
            || (line.contains("Permission denied") && line.contains("director"))
            || line.contains("tablespace directory");
        if is_tablespace {
            return Stopped::Here(format!(
                "WAL since the backup makes a tablespace, which a drill cannot do ({line}). Make a backup: it has the tablespace, and \
                 can be proved"
            ));
        }
        let is_here = !line.contains("PANIC:") && HERE.iter().any(|word| text.contains(word));
        if is_here || line.is_empty() {
            Stopped::Here(said)
        } else {
            Stopped::Damaged(said)
        }
    }

    /// Ends the server.
    pub(super) async fn stop(mut self) {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let Some(pid) = pid else { return };
        let _ = kill_process(pid, Signal::INT);
        if timeout_at(now() + END, self.child.wait()).await.is_err() {
            // It is the leader of a group, so that its children end with it.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = self.child.wait().await;
        }
    }
}
