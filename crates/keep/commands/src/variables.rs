//! Where settings come from: the environment, a directory with a file for each variable, a file of WAL-G's.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use howdah_archive::{ArchiveError, Server, Settings};
use howdah_sql::Dsn;

use crate::failure::Failure;

/// Options that every command has.
#[derive(Clone, Debug, Default, Args)]
pub struct Sources {
    /// A directory with a file for each variable, as envdir reads it; it overrides the environment
    #[arg(long, global = true, value_name = "DIR")]
    pub env_dir: Option<PathBuf>,
    /// A file of WAL-G's with variables as keys, in YAML or JSON; the environment overrides it
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Variables by name; `None` in the map is one that is taken away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables {
    below: BTreeMap<String, String>,
    above: BTreeMap<String, Option<String>>,
}

fn setting(text: String) -> anyhow::Error {
    Failure::of(ArchiveError::Setting(text))
}

/// The variables that a directory sets or takes away, by envdir's rules: the first line counts, spaces at its end do not,
/// and an empty file takes its variable away.
pub(crate) fn directory(dir: &Path) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let unreadable = |path: &Path, error: std::io::Error| setting(format!("{}: {error}", path.display()));
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(|error| unreadable(dir, error))? {
        let path = entry.map_err(|error| unreadable(dir, error))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') || name.contains('=') || !path.is_file() {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, error))?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text
            .lines()
            .next()
            .map(|line| line.trim_end().replace('\0', "\n"));
        found.insert(name, line.filter(|_| !bytes.is_empty()));
    }
    Ok(found)
}

fn file(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let said = |why: String| setting(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| said(error.to_string()))?;
    // JSON is YAML.
    let values: BTreeMap<String, serde_json::Value> =
        serde_saphyr::from_str(&text).map_err(|error| said(error.to_string()))?;
    values
        .into_iter()
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => Ok((name, text)),
            serde_json::Value::Number(number) => Ok((name, number.to_string())),
            serde_json::Value::Bool(is) => Ok((name, is.to_string())),
            _ => Err(said(format!("{name} is neither a text nor a number"))),
        })
        .collect()
}

impl Sources {
    pub(crate) fn read(&self) -> anyhow::Result<Variables> {
        Ok(Variables {
            below: self.config.as_deref().map(file).transpose()?.unwrap_or_default(),
            above: self
                .env_dir
                .as_deref()
                .map(directory)
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

impl Variables {
    /// The same with one set by an option.
    pub(crate) fn with(mut self, name: &str, value: Option<String>) -> Self {
        if value.is_some() {
            self.above.insert(name.to_owned(), value);
        }
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        if let Some(value) = self.above.get(name) {
            return value.clone();
        }
        std::env::var(name).ok().or_else(|| self.below.get(name).cloned())
    }

    pub(crate) fn settings(&self) -> Result<Settings, ArchiveError> {
        let settings = Settings::from_variables(&|name| self.get(name))?;
        for remark in &settings.remarks {
            tracing::warn!("{remark}.");
        }
        Ok(settings)
    }

    /// How to connect to the server of a data directory: what `PG*` say, else what its `postmaster.pid` says.
    pub(crate) fn server(&self, data: &Path) -> Result<Server, ArchiveError> {
        let set = |name: &str| self.get(name).filter(|value| !value.is_empty());
        let pid = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let line = |number: usize| {
            pid.lines()
                .nth(number)
                .map(str::trim)
                .filter(|line| !line.is_empty())
        };
        let port = match set("PGPORT") {
            Some(text) => text
                .parse()
                .map_err(|_| ArchiveError::Setting(format!("PGPORT is '{text}', which is no port")))?,
            None => line(3).and_then(|line| line.parse().ok()).unwrap_or(5432),
        };
        let user = set("PGUSER").unwrap_or_else(|| "postgres".to_owned());
        Ok(Server {
            dsn: Dsn {
                host: set("PGHOST")
                    .or_else(|| line(4).map(str::to_owned))
                    .unwrap_or_else(|| "/var/run/postgresql".to_owned()),
                port,
                password: set("PGPASSWORD"),
                database: set("PGDATABASE").unwrap_or_else(|| "postgres".to_owned()),
                needs_tls: matches!(
                    set("PGSSLMODE").as_deref(),
                    Some("require" | "verify-ca" | "verify-full")
                ),
                user,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_sets_and_takes_away() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("WALG_FILE_PREFIX"), "/backups  \nsecond line\n").unwrap();
        std::fs::write(dir.path().join("PATH"), "").unwrap();
        std::fs::write(dir.path().join(".hidden"), "x").unwrap();
        let sources = Sources {
            env_dir: Some(dir.path().to_owned()),
            config: None,
        };
        let variables = sources.read().unwrap();
        assert_eq!(variables.get("WALG_FILE_PREFIX").as_deref(), Some("/backups"));
        assert_eq!(variables.get("PATH"), None);
        assert!(variables.get("HOME").is_some());
    }

    #[test]
    fn a_file_of_wal_g() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("walg.json");
        std::fs::write(
            &path,
            r#"{"WALG_FILE_PREFIX": "/b", "WALG_UPLOAD_CONCURRENCY": 3}"#,
        )
        .unwrap();
        let sources = Sources {
            env_dir: None,
            config: Some(path.clone()),
        };
        assert_eq!(
            sources.read().unwrap().get("WALG_UPLOAD_CONCURRENCY").as_deref(),
            Some("3")
        );
        std::fs::write(&path, "- a").unwrap();
        assert!(sources.read().unwrap_err().to_string().contains("walg.json"));
    }

    #[test]
    fn a_server_by_its_pid_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("postmaster.pid"),
            "12\n/d\n1764000000\n6543\n/run/pg\n*\n",
        )
        .unwrap();
        let mut variables = Variables::default();
        let names = [
            "PGHOST",
            "PGPORT",
            "PGUSER",
            "PGPASSWORD",
            "PGDATABASE",
            "PGSSLMODE",
        ];
        variables.above.extend(names.map(|name| (name.to_owned(), None)));
        let dsn = variables.server(dir.path()).unwrap().dsn;
        assert_eq!(
            (dsn.host.as_str(), dsn.port, dsn.user.as_str()),
            ("/run/pg", 6543, "postgres")
        );
    }
}
