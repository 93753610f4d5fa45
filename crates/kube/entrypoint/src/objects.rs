//! Roles, schemas, functions and extensions that scripts of Spilo's users call, by psql.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::Context;
use clap::{Args, ValueEnum};

const ROLES: &str = include_str!("../sql/roles.sql");
const EXTENSIONS: &str = include_str!("../sql/extensions.sql");
const USERS: &str = include_str!("../sql/user_management.sql");
const METRICS: &str = include_str!("../sql/metric_helpers.sql");
const LOG: &str = include_str!("../sql/log_tables.sql");

/// What is made, and how.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The program psql.
    #[arg(long)]
    pub(crate) psql: PathBuf,
    /// The role that manages others.
    #[arg(long)]
    pub(crate) admin_role: String,
    /// The role of people.
    #[arg(long)]
    pub(crate) human_role: String,
    /// Make tables over the server's log, by how its files are rotated.
    #[arg(long)]
    pub(crate) log_tables: Option<Rotation>,
}

/// How the log's files change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rotation {
    Daily,
    Hourly,
}

/// Makes everything that is not there. Nothing that is there is dropped. Each database has a process of its own: what its owner has
/// set for it can end a session.
///
/// # Errors
/// What was not made, and why; the rest was.
pub(crate) fn make(options: &Options, conninfo: &str, databases: &[String]) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for (place, database) in databases.iter().enumerate() {
        let mut script = String::new();
        // Roles belong to all of them.
        if place == 0 {
            section(&mut script, "roles", ROLES);
        }
        if let (Some(rotation), "postgres") = (options.log_tables, database.as_str()) {
            let hourly = rotation == Rotation::Hourly;
            script.push_str(&format!("\\set hourly {hourly}\n"));
            section(&mut script, "tables over the log", LOG);
        }
        section(&mut script, "extensions", EXTENSIONS);
        section(&mut script, "schema user_management", USERS);
        section(&mut script, "schema metric_helpers", METRICS);
        let told = match run(options, &to(conninfo, database), &[], &script) {
            Ok((_, said)) => failures(&said).join("; "),
            Err(error) => format!("{error:#}"),
        };
        if !told.is_empty() {
            failed.push(format!("database {database}: {told}"));
        }
    }
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

/// What a cluster has when it has been made.
pub(crate) fn first_databases() -> Vec<String> {
    ["postgres", "template1"].map(str::to_owned).to_vec()
}

/// Every database that takes connections.
pub(crate) fn all_databases(options: &Options, conninfo: &str) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn ORDER BY datname <> 'postgres', datname";
    let names = ask(options, conninfo, sql)?;
    Ok(names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}

/// A script that goes on after an error, with a word before it that errors are told by. Each is one transaction.
fn section(script: &mut String, title: &str, text: &str) {
    script.push_str(&format!("\\warn '{MARK}{title}'\n{text}\nROLLBACK;\n"));
}

const MARK: &str = "section: ";

/// What went wrong in which section.
fn failures(said: &str) -> Vec<String> {
    let mut failed: Vec<String> = Vec::new();
    let mut title = "";
    let mut told = "";
    for line in said.lines() {
        if let Some(next) = line.strip_prefix(MARK) {
            title = next;
        } else if let Some((_, error)) = line.split_once("ERROR:").or_else(|| line.split_once("FATAL:"))
            // What follows the first one says that the transaction is over.
            && told != title
        {
            told = title;
            failed.push(format!("{title}: {}", error.trim()));
        }
    }
    failed
}

/// A connection string to another database. The last word of one counts.
fn to(conninfo: &str, database: &str) -> String {
    let name = database.replace('\\', "\\\\").replace('\'', "\\'");
    format!("{conninfo} dbname='{name}'")
}

/// The rows of a query, each with a zero byte after it: a name may have a line break in it.
pub(crate) fn ask(options: &Options, conninfo: &str, sql: &str) -> anyhow::Result<String> {
    let (rows, _) = run(
        options,
        conninfo,
        &[
            "--tuples-only",
            "--no-align",
            "--record-separator-zero",
            "--set=ON_ERROR_STOP=1",
        ],
        &format!("{sql};\n"),
    )?;
    Ok(rows)
}

/// Output and messages of psql.
fn run(options: &Options, conninfo: &str, more: &[&str], script: &str) -> anyhow::Result<(String, String)> {
    let mut psql = Command::new(&options.psql)
        .args(["--no-psqlrc", "--quiet", "--no-password"])
        .arg(format!("--set=admin={}", options.admin_role))
        .arg(format!("--set=human={}", options.human_role))
        .args(more)
        .arg("--dbname")
        .arg(conninfo)
        .env("PGCONNECT_TIMEOUT", "10")
        .env("LC_ALL", "C")
        .env("PGAPPNAME", "howdah entrypoint")
        // Commits wait for no disk and no standby, since all of it can be made again; and nothing waits for a user's lock.
        .env(
            "PGOPTIONS",
            "-c role=none -c default_transaction_read_only=off -c search_path=pg_catalog,pg_temp -c synchronous_commit=off \
             -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=5s -c statement_timeout=60s \
             -c client_min_messages=warning -c lc_messages=C -c log_statement=none -c log_min_duration_statement=-1",
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{}", options.psql.display()))?;
    if let Some(mut input) = psql.stdin.take() {
        // One that ends early says why.
        let _ = input.write_all(script.as_bytes());
    }
    let output = psql.wait_with_output().context("psql")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "psql: {}",
        said.trim().replace('\n', " | ")
    );
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_with_its_section() {
        let said = "section: roles\nsection: schema x in database a\npsql:<stdin>:12: ERROR:  no room\nLINE 1: x\n\
            psql:<stdin>:13: ERROR:  current transaction is aborted\nsection: database b\n\
            psql: error: connection to server failed: FATAL:  database \"b\" does not exist\n";
        assert_eq!(
            failures(said),
            [
                "schema x in database a: no room",
                "database b: database \"b\" does not exist",
            ]
        );
        assert_eq!(to("host=/run", "it's"), "host=/run dbname='it\\'s'");
    }
}
