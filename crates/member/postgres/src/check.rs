//! Whether PostgreSQL would take a value, asked of PostgreSQL itself: its own program knows every parameter's type, unit
//! and range, of every major. A value that it would not start with must not reach a file.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use howdah_clock::now;
use howdah_http::timeout_at;
use tokio::process::Command;

use crate::Programs;

/// The program answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// The guard waits five seconds for a sign of life of a new agent. What was not looked at by then is taken; a start that fails
/// with it is noticed too.
const LIMIT: Duration = Duration::from_secs(3);

/// A parameter that is not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadParameter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What PostgreSQL says to it.
    pub reason: String,
}

impl std::fmt::Display for BadParameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "parameter {} = '{}': {}", self.name, self.value, self.reason)
    }
}

/// The parameters that this PostgreSQL would not start with. Names that it does not know are not among them: they are left
/// out anyway. Values that are right by themselves and wrong for this machine (a library that is missing, more memory than
/// there is) are found by a start alone.
pub async fn bad_parameters(programs: &Programs, parameters: &BTreeMap<String, String>) -> Vec<BadParameter> {
    let mut left: BTreeMap<&str, &str> = parameters
        .iter()
        .filter(|(name, _)| programs.knows(name))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut bad = Vec::new();
    // All at once, since all are right most of the time; PostgreSQL stops at the first that is wrong, and names it.
    let limit = now() + LIMIT;
    while now() < limit
        && let Some(reason) = refusal(programs, &left).await
    {
        let named = left
            .keys()
            .copied()
            .find(|name| reason.contains(&format!("\"{name}\"")));
        let Some(name) = named else {
            // It complains of something else: each by itself then.
            let mut alone = Vec::new();
            for (name, value) in &left {
                if now() < limit
                    && let Some(reason) = refusal(programs, &BTreeMap::from([(*name, *value)])).await
                {
                    alone.push(of(name, value, reason));
                }
            }
            bad.extend(alone);
            break;
        };
        if let Some(value) = left.remove(name) {
            bad.push(of(name, value, reason));
        }
    }
    bad
}

/// Why this PostgreSQL would not start with these lines of `pg_hba.conf`, although their form is right.
#[must_use]
pub fn hba_refusal(programs: &Programs, lines: &[String]) -> Option<String> {
    let line = howdah_pgconf::hba_include(lines).filter(|_| programs.version.major() < 16)?;
    Some(format!(
        "postgresql.pg_hba: line {line} includes a file, which needs PostgreSQL 16; this one is {}",
        programs.version
    ))
}

fn of(name: &str, value: &str, reason: String) -> BadParameter {
    BadParameter {
        name: name.to_owned(),
        value: value.to_owned(),
        reason,
    }
}

/// What PostgreSQL says to these parameters; `None` when it takes them, or cannot be asked.
async fn refusal(programs: &Programs, parameters: &BTreeMap<&str, &str>) -> Option<String> {
    let mut command = Command::new(programs.path("postgres"));
    // No file is read, so no directory is needed.
    command.args(["-C", "port", "-D", "/", "--config-file=/dev/null"]);
    for (name, value) in parameters {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout_at(now() + PATIENCE, command.output()).await.ok()?.ok()?;
    if output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let part = |level: &str| {
        text.lines()
            .find_map(|line| line.split_once(level).map(|(_, rest)| rest.trim().to_owned()))
    };
    let fatal = part("FATAL:")?;
    let more = part("HINT:").or_else(|| part("DETAIL:"));
    Some(more.map_or_else(|| fatal.clone(), |more| format!("{fatal} ({more})")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use howdah_types::PgVersion;

    use super::*;

    #[test]
    fn a_line_that_includes_a_file_needs_postgresql_16() {
        let lines = ["local all all trust".to_owned(), "include_dir hba.d".to_owned()];
        let of = |version| Programs::of_version(PgVersion(version), BTreeSet::new());
        let why = hba_refusal(&of(150_018), &lines).unwrap();
        assert!(why.contains("line 2"), "{why}");
        assert_eq!(hba_refusal(&of(160_000), &lines), None);
        assert_eq!(hba_refusal(&of(150_018), &lines[..1]), None);
    }
}
