use std::process::Stdio;

use howdah_http::timeout_at;
use howdah_types::BootTime;

use super::{
    programs::Programs,
    server::{SESSION, Scratchy, Stopped},
};

/// What of a program's output is quoted.
const QUOTED: usize = 3;

/// Looks at tables and indexes of all databases, if this installation can.
pub(super) async fn amcheck(
    programs: &Programs,
    server: &Scratchy,
    deadline: BootTime,
) -> Result<String, Stopped> {
    let (Some(program), true) = (
        programs.optional("pg_amcheck"),
        server.has_amcheck(deadline).await.map_err(Stopped::Here)?,
    ) else {
        return Ok("pg_amcheck is not installed here: tables and indexes were not looked at".to_owned());
    };
    let mut command = tokio::process::Command::new(program);
    command
        .args(["--all", "--install-missing", "--jobs=2", "--host"])
        .arg(server.host())
        .args(["--port", "5432", "--username", server.user()])
        .env("PGOPTIONS", SESSION)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match timeout_at(deadline, command.output()).await {
        Ok(output) => output.map_err(|error| Stopped::Here(format!("pg_amcheck: {error}")))?,
        Err(_) => {
            return Err(Stopped::Here(
                "pg_amcheck has not ended in time (--timeout)".to_owned(),
            ));
        }
    };
    if output.status.success() {
        return Ok("pg_amcheck finds all tables and indexes sound".to_owned());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(QUOTED)
        .collect();
    let said = format!("pg_amcheck: {}", lines.join("; "));
    // 2: it has found something; 1: it could not look.
    Err(if output.status.code() == Some(2) {
        Stopped::Damaged(said)
    } else {
        Stopped::Here(said)
    })
}

/// Runs a statement of the user's. It fails by an error, or by answering false or nothing.
pub(super) async fn sql(
    server: &Scratchy,
    database: &str,
    sql: &str,
    deadline: BootTime,
) -> Result<String, String> {
    let rows = server
        .query(database, sql, deadline)
        .await
        .map_err(|error| format!("'{sql}': {error}"))?;
    let first = rows.first().map(|row| {
        row.iter()
            .map(|value| value.as_deref().unwrap_or(""))
            .collect::<Vec<_>>()
            .join(", ")
    });
    match (first, rows.len()) {
        (Some(value), 1) if value == "f" || value.is_empty() => Err(format!("'{sql}' is not true")),
        (Some(value), 1) => Ok(format!("'{sql}' is {value}")),
        (_, count) => Ok(format!("'{sql}' has {count} rows")),
    }
}
