//! WAL that a server which has stopped did not archive any more.

use std::{path::Path, process::Stdio, time::Duration};

use howdah_clock::now;
use howdah_config::{Dynamic, PostgresConfig};
use howdah_http::timeout_at;
use howdah_types::BootTime;
use tokio::process::Command;

/// Codes of `howdah wal push` that say something of one file: another cluster's, other content, a wrong name.
const OF_ONE_FILE: &[i32] = &[44, 45, 64];

/// How long one file may take.
const ONE: Duration = Duration::from_secs(40);

/// Runs `archive_command` for files that the stopped server has marked `.ready`, as the server would, if `wanted` says so of a name and the
/// length of the file. A rewind removes them, and PostgreSQL archives nothing as a replica. Answers how many were archived.
///
/// # Errors
/// In words, why one could not be archived. One that is refused for itself keeps no other one back.
pub async fn archive_ready(
    local: &PostgresConfig,
    dynamic: &Dynamic,
    wanted: impl Fn(&str, u64) -> bool,
    deadline: BootTime,
) -> Result<usize, String> {
    let parameter = |name: &str| dynamic.parameters.get(name).cloned();
    let is_off = |mode: &str| matches!(mode.to_ascii_lowercase().as_str(), "off" | "false" | "no" | "0");
    let archives = parameter("archive_mode").is_some_and(|mode| !is_off(&mode));
    let Some(template) =
        parameter("archive_command").filter(|command| archives && !command.trim().is_empty())
    else {
        return Ok(0);
    };
    let status = local.data_dir.join("pg_wal/archive_status");
    let names = ready(&status);
    let mut done = 0;
    let mut refused = None;
    for name in names {
        let length = std::fs::metadata(local.data_dir.join("pg_wal").join(&name)).map_or(0, |of| of.len());
        if !wanted(&name, length) {
            continue;
        }
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(command_for(&template, &name))
            .current_dir(&local.data_dir)
            // Our own archiver must not go on with what is behind it.
            .env("HOWDAH_ARCHIVE_ALONE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let limit = deadline.min(now() + ONE);
        let ended = timeout_at(limit, command.output()).await;
        match ended {
            Ok(Ok(output)) if output.status.success() => {}
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let last = said.lines().last().unwrap_or_default();
                let why = format!("{name}: {}, {last}", output.status);
                if output
                    .status
                    .code()
                    .is_some_and(|code| OF_ONE_FILE.contains(&code))
                {
                    refused = Some(why);
                    continue;
                }
                return Err(why);
            }
            Ok(Err(error)) => return Err(format!("{name}: {error}")),
            Err(_) => return Err(format!("{name}: archive_command has not ended in time")),
        }
        let mark = |ending: &str| status.join(format!("{name}.{ending}"));
        std::fs::rename(mark("ready"), mark("done")).map_err(|error| format!("{name}: {error}"))?;
        done += 1;
    }
    refused.map_or(Ok(done), Err)
}

/// What waits, histories first, as the server's own archiver takes it.
fn ready(status: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(status).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".ready")?.to_owned()))
        .collect();
    names.sort_by_key(|name| (!name.ends_with(".history"), name.clone()));
    names
}

/// PostgreSQL's placeholders: the path relative to the data directory, the name, a percent sign.
fn command_for(template: &str, name: &str) -> String {
    let mut out = String::new();
    let mut chars = template.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            out.push(char);
            continue;
        }
        match chars.next() {
            Some('p') => out.push_str(&format!("pg_wal/{name}")),
            Some('f') => out.push_str(name),
            Some('%') | None => out.push('%'),
            Some(other) => {
                out.push('%');
                out.push(other);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_postgresqls() {
        assert_eq!(
            command_for("cp \"%p\" /a/%f && date +%%s", "0001"),
            "cp \"pg_wal/0001\" /a/0001 && date +%s"
        );
    }

    #[test]
    fn histories_come_first() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.ready", "a.ready", "00000002.history.ready", "c.done"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(ready(dir.path()), ["00000002.history", "a", "b"]);
        assert!(ready(&dir.path().join("none")).is_empty());
    }
}
