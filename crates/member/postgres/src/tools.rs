use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use howdah_clock::now;
use howdah_config::{Account, PostgresConfig};
use howdah_http::timeout_at;
use howdah_pgconf::Conninfo;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};

use crate::{PgError, Programs, Source, files::write_atomically};

/// A tool that has ended gets this long for its last lines to be read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lines of a tool's output that are kept for an error.
const KEPT_LINES: usize = 6;

/// Makes a new data directory.
///
/// # Errors
/// initdb fails.
pub async fn initdb(local: &PostgresConfig, programs: &Programs, options: &[String]) -> Result<(), PgError> {
    let mut pwfile = local.data_dir.clone().into_os_string();
    pwfile.push(".pwfile");
    let pwfile = std::path::PathBuf::from(pwfile);
    let mut command = Command::new(programs.path("initdb"));
    command
        .arg("--pgdata")
        .arg(&local.data_dir)
        .arg(format!("--username={}", local.superuser.username));
    if let Some(password) = &local.superuser.password {
        write_atomically(&pwfile, password)?;
        command.arg(format!("--pwfile={}", pwfile.display()));
    }
    let result = run("initdb", command.args(options), None).await;
    let _ = std::fs::remove_file(&pwfile);
    result
}

/// Copies a running server into the (empty) data directory.
///
/// # Errors
/// pg_basebackup fails.
pub async fn base_backup(local: &PostgresConfig, programs: &Programs, from: &Source) -> Result<(), PgError> {
    let mut command = Command::new(programs.path("pg_basebackup"));
    command
        .arg(format!("--pgdata={}", local.data_dir.display()))
        .arg("--wal-method=stream")
        .arg(format!(
            "--dbname={}",
            // Not the member's name: what receives the copy would be taken for a synchronous standby of that name.
            conninfo(&local.replication, from, None, "howdah_basebackup")
        ))
        .env("PGPASSFILE", &local.pgpass);
    if !local
        .basebackup
        .iter()
        .any(|option| option.starts_with("--checkpoint"))
    {
        command.arg("--checkpoint=fast");
    }
    run("pg_basebackup", command.args(&local.basebackup), None).await
}

/// A connection string to `from` as the replication role, for a program that makes a replica. The password is in the
/// password file.
#[must_use]
pub fn replication_conninfo(local: &PostgresConfig, from: &Source) -> String {
    conninfo(&local.replication, from, Some(&local.database), "howdah_copy")
}

/// What pg_rewind says with `--progress` when it has found out what to do. It writes from then on.
const REWIND_WRITES: &str = "need to copy";

/// A rewind did not come to its end.
#[derive(Debug)]
pub struct RewindFailed {
    /// Why.
    pub error: PgError,
    /// It has written, and the data can only be replaced: pg_rewind overwrites the WAL that tells which blocks have left the
    /// leader's history, and after that the blocks. A second run that reads what the first has left misses some.
    pub has_written: bool,
}

/// Makes the stopped data directory a possible replica of a leader whose history it has left.
///
/// # Errors
/// pg_rewind fails.
pub async fn rewind(local: &PostgresConfig, programs: &Programs, from: &Source) -> Result<(), RewindFailed> {
    let account = local
        .rewind
        .as_ref()
        .filter(|account| !account.username.is_empty())
        .unwrap_or(&local.superuser);
    let mut command = Command::new(programs.path("pg_rewind"));
    command
        .arg(format!("--target-pgdata={}", local.data_dir.display()))
        .arg(format!(
            "--source-server={}",
            conninfo(account, from, Some(&local.database), "howdah_rewind")
        ))
        .arg("--progress")
        .env("PGPASSFILE", &local.pgpass)
        .env("PGOPTIONS", "-c statement_timeout=0")
        .env("LC_ALL", "C");
    let mut has_written = false;
    run_watched("pg_rewind", &mut command, None, is_withheld, |line| {
        has_written |= line.contains(REWIND_WRITES);
    })
    .await
    .map_err(|error| RewindFailed { error, has_written })
}

/// Runs a user's script through the shell, with arguments appended. Line breaks are blanks, as they are to Patroni: YAML's
/// block texts end with one.
///
/// # Errors
/// It does not end with success.
pub async fn run_script(script: &str, args: &[&str], pgpass: Option<&Path>) -> Result<(), PgError> {
    let script = script.trim().replace(['\r', '\n'], " ");
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!("{script} \"$@\""))
        .arg("sh")
        .args(args);
    // A script may be a client of Kubernetes, or of PostgreSQL with settings of its own.
    let withheld = |variable: &str| {
        let of_pods = ["KUBERNETES_SERVICE_", "KUBERNETES_PORT"];
        let is_password = pgpass.is_some() && matches!(variable, "PGPASSWORD" | "PGPASSFILE");
        is_ours(variable) && !of_pods.iter().any(|prefix| variable.starts_with(prefix)) || is_password
    };
    run_watched(&shortened(&script), &mut command, pgpass, withheld, |_| {}).await
}

/// As much of a command as tells which one it is: in an error what it has said comes after it, and must not be cut off.
fn shortened(script: &str) -> String {
    const LONGEST: usize = 60;
    match script.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &script[..end]),
        None => script.to_owned(),
    }
}

/// A connection string for a tool. The password comes from the password file.
fn conninfo(account: &Account, to: &Source, database: Option<&str>, application: &str) -> String {
    let mut info = Conninfo::default()
        .with("user", &account.username)
        .with("host", &to.host)
        .with("port", to.port.to_string())
        .with("dbname", database.unwrap_or_default())
        // A source that is gone without a word is noticed.
        .with("connect_timeout", "10")
        .with("keepalives_idle", "10")
        .with("keepalives_interval", "5")
        .with("keepalives_count", "3")
        .with("tcp_user_timeout", "30000");
    for (key, value) in &account.libpq {
        info = info.with(key, value);
    }
    info.with("application_name", application).to_string()
}

/// What a tool must not inherit: our own configuration and its secrets, and what libpq would prefer to the arguments and the
/// password file.
fn is_withheld(variable: &str) -> bool {
    is_ours(variable)
        || matches!(
            variable,
            "PGHOST"
                | "PGHOSTADDR"
                | "PGPORT"
                | "PGUSER"
                | "PGPASSWORD"
                | "PGPASSFILE"
                | "PGDATABASE"
                | "PGSERVICE"
                | "PGSERVICEFILE"
                | "PGOPTIONS"
                | "PGTARGETSESSIONATTRS"
                | "PGREQUIREAUTH"
                | "PGDATA"
        )
}

/// The agent's own configuration, with its secrets.
fn is_ours(variable: &str) -> bool {
    let ours = ["PATRONI_", "KUBERNETES_", "HOWDAH_"];
    ours.iter().any(|prefix| variable.starts_with(prefix))
}

async fn run(name: &str, command: &mut Command, pgpass: Option<&Path>) -> Result<(), PgError> {
    run_watched(name, command, pgpass, is_withheld, |_| {}).await
}

/// Also shows each line of its stderr.
async fn run_watched(
    name: &str,
    command: &mut Command,
    pgpass: Option<&Path>,
    withheld: impl Fn(&str) -> bool,
    see: impl FnMut(&str),
) -> Result<(), PgError> {
    if let Some(path) = pgpass {
        command.env("PGPASSFILE", path);
    }
    let given: Vec<OsString> = command
        .as_std()
        .get_envs()
        .map(|(key, _)| key.to_owned())
        .collect();
    for (key, _) in std::env::vars_os() {
        if withheld(&key.to_string_lossy()) && !given.contains(&key) {
            command.env_remove(key);
        }
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|cause| PgError::File {
            path: name.into(),
            cause,
        })?;
    let mut group = Group::of(&child);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut from_out, mut from_err) = (Vec::new(), Vec::new());
    let status = {
        let reading = async {
            tokio::join!(
                lines(name, out, &mut from_out, |_| {}),
                lines(name, err, &mut from_err, see)
            )
        };
        tokio::pin!(reading);
        tokio::select! {
            status = child.wait() => {
                // A process that it has left behind may keep them open for ever.
                let _ = timeout_at(now() + LAST_LINES, &mut reading).await;
                status
            }
            _ = &mut reading => child.wait().await,
        }
    };
    let status = status.map_err(|cause| PgError::File {
        path: name.into(),
        cause,
    })?;
    group.ended();
    if status.success() {
        return Ok(());
    }
    let output = if from_err.is_empty() { from_out } else { from_err };
    Err(PgError::Tool {
        program: name.to_owned(),
        status: describe(status),
        output: output.join("; "),
    })
}

/// The processes of a tool. They end with the one who waits for it: a script's own children would go on otherwise.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Group(pid.and_then(Pid::from_raw))
    }

    /// Its number may be another's from now on.
    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "unknown".to_owned(),
    }
}

/// Logs a tool's lines and keeps the last ones. Bytes that are no text are shown as such.
async fn lines(
    name: &str,
    pipe: Option<impl AsyncRead + Unpin>,
    kept: &mut Vec<String>,
    mut see: impl FnMut(&str),
) {
    let Some(pipe) = pipe else { return };
    let mut reader = BufReader::new(pipe).split(b'\n');
    while let Ok(Some(bytes)) = reader.next_segment().await {
        let line = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
        tracing::debug!(tool = name, "{line}");
        see(&line);
        if !line.trim().is_empty() {
            kept.push(line);
        }
        if kept.len() > KEPT_LINES {
            kept.remove(0);
        }
    }
}
