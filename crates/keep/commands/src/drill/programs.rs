use std::path::{Path, PathBuf};

/// Where PostgreSQL's programs are.
#[derive(Debug)]
pub(super) struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Of a directory that is named, of Debian's for the major, or of the search path.
    pub(super) async fn find(named: Option<&Path>, major: Option<u32>) -> Result<Self, String> {
        let found = Programs::look(named, major)?;
        let Some(major) = major else { return Ok(found) };
        let asked = tokio::process::Command::new(found.program("postgres"))
            .arg("--version")
            .output()
            .await
            .map_err(|error| format!("{}: {error}", found.program("postgres").display()))?;
        let said = String::from_utf8_lossy(&asked.stdout).into_owned();
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-1)"
        let version = said.split_whitespace().nth(2).unwrap_or_default();
        let is_major = version.split('.').next().and_then(|text| text.parse().ok()) == Some(major);
        if is_major {
            Ok(found)
        } else {
            Err(format!(
                "the backup is of PostgreSQL {major}, and {} is {}: name the directory of its programs with --bin",
                found.program("postgres").display(),
                said.trim()
            ))
        }
    }

    fn look(named: Option<&Path>, major: Option<u32>) -> Result<Self, String> {
        let has = |dir: &Path| dir.join("postgres").is_file();
        if let Some(dir) = named {
            return if has(dir) {
                Ok(Programs { dir: dir.to_owned() })
            } else {
                Err(format!("there is no 'postgres' in {}", dir.display()))
            };
        }
        let debian = major.map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = debian
            .into_iter()
            .chain(std::env::split_paths(&path))
            .find(|dir| has(dir));
        found.map(|dir| Programs { dir }).ok_or_else(|| {
            let version = major.map_or_else(String::new, |major| format!(" {major}"));
            format!("PostgreSQL{version}'s programs are not found: name their directory with --bin")
        })
    }

    /// A program that every installation has.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// One that some lack.
    pub(super) fn optional(&self, name: &str) -> Option<PathBuf> {
        Some(self.program(name)).filter(|path| path.is_file())
    }
}
