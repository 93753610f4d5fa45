use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use howdah_clock::now;
use howdah_http::client_tls;
use howdah_pgconf::pgpass_password;
use howdah_sql::{Session, Target, Tls};
use serde_json::Value;

use crate::{
    cli::{Format, QueryArgs},
    context::Context,
    one::{address, one},
    prompt,
    table::{column, python_json, render, yaml},
};

/// To connect.
const CONNECT: Duration = Duration::from_secs(5);

/// A statement may take long; whoever has asked can break off.
const STATEMENT: Duration = Duration::from_secs(24 * 3600);

/// Runs SQL on one member and prints the rows.
pub(crate) async fn query(context: &Context, args: &QueryArgs) -> anyhow::Result<()> {
    let sql = match (&args.command, &args.file) {
        (Some(command), _) => command.clone(),
        (None, Some(path)) => fs::read_to_string(path).with_context(|| path.display().to_string())?,
        (None, None) => anyhow::bail!("You need to specify either --command or --file"),
    };
    let asked = args.password.then(|| prompt::secret("Password")).transpose()?;
    let every = args.watch.or(args.watch_2.then_some(2.0));
    loop {
        let answer = once(context, args, &sql, asked.as_deref()).await;
        match (answer, every) {
            (Ok(text), _) => print!("{text}"),
            (Err(error), None) => return Err(error),
            // The next member with this role may answer.
            (Err(error), Some(_)) => eprintln!("Error: {error:#}"),
        }
        let Some(seconds) = every else { return Ok(()) };
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
}

async fn once(context: &Context, args: &QueryArgs, sql: &str, asked: Option<&str>) -> anyhow::Result<String> {
    let cluster = context.cluster(args.cluster_name.as_deref()).await?;
    let (name, member) = one(&cluster, &args.which)?;
    let (host, port) = address(name, member)?;
    let user = match &args.username {
        Some(user) => user.clone(),
        None => variable("PGUSER")
            .or_else(system_user)
            .context("the system's user has no name: name a role with --username")?,
    };
    let database = args.dbname.clone().or_else(|| variable("PGDATABASE"));
    let database = database.unwrap_or_else(|| user.clone());
    let password = asked
        .map(str::to_owned)
        .or_else(|| variable("PGPASSWORD"))
        .or_else(|| from_file(host, port, &database, &user));
    let target = Target {
        host,
        port,
        user: &user,
        password: password.as_deref(),
        database: &database,
        application: "howdah ctl",
        options: "",
        tls: Tls::Prefer(client_tls(None, None, true)?),
    };
    let session = Session::connect(&target, now() + CONNECT)
        .await
        .with_context(|| format!("connecting to {name} at {host}:{port} as {user}"))?;
    let (titles, rows) = session.table(sql, now() + STATEMENT).await?;
    let cells: Vec<Vec<Value>> = rows
        .iter()
        .map(|row| {
            (0..row.len())
                .map(|column| row.get(column).map_or(Value::Null, Value::from))
                .collect()
        })
        .collect();
    let objects = || -> Vec<Value> { cells.iter().map(|row| object(&titles, row)).collect() };
    Ok(match args.format {
        Format::Tsv => delimited(&titles, &cells, &args.delimiter),
        Format::Json => python_json(&Value::Array(objects())) + "\n",
        Format::Yaml => yaml(&objects()),
        Format::Pretty => {
            let columns: Vec<_> = titles.iter().map(|title| column(title, false)).collect();
            render(&columns, &cells, Format::Pretty, "")
        }
    })
}

/// Also the values that are null.
fn object(titles: &[String], row: &[Value]) -> Value {
    Value::Object(titles.iter().cloned().zip(row.iter().cloned()).collect())
}

/// As patronictl prints them: no value is `None`.
fn delimited(titles: &[String], rows: &[Vec<Value>], delimiter: &str) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| "None".to_owned(), str::to_owned);
    let header = (!titles.is_empty()).then(|| titles.join(delimiter));
    let lines = rows.iter().map(|row| {
        let cells: Vec<String> = row.iter().map(text).collect();
        cells.join(delimiter)
    });
    header.into_iter().chain(lines).map(|line| line + "\n").collect()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The name of who runs this, as libpq takes it.
fn system_user() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let name = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        (fields.nth(1)? == uid).then_some(name)
    };
    passwd.lines().find_map(name)
}

/// The password file, as libpq finds it.
fn from_file(host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let path = variable("PGPASSFILE")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".pgpass")))?;
    pgpass_password(&fs::read_to_string(path).ok()?, host, port, database, user)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_have_their_titles_above() {
        let titles = ["a".to_owned(), "b".to_owned()];
        let rows = [vec![json!("1"), Value::Null]];
        assert_eq!(delimited(&titles, &rows, ";"), "a;b\n1;None\n");
        assert_eq!(delimited(&[], &[], ";"), "");
    }
}
