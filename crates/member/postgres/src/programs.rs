use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use howdah_pgconf::{CATALOGUED, Context, parameter};
use howdah_types::PgVersion;

use crate::PgError;

/// PostgreSQL's programs on this machine.
#[derive(Clone, Debug)]
pub struct Programs {
    dir: Option<PathBuf>,
    names: BTreeMap<String, String>,
    /// The server's version.
    pub version: PgVersion,
    /// The GUCs that this server knows; a setting of another version is left out instead of stopping the start.
    pub gucs: BTreeSet<String>,
}

/// Debian's servers describe it, and others do not have it.
const DEBIAN_ONLY: &str = "extension_destdir";

/// Where Debian puts each major.
const DEBIAN: &str = "/usr/lib/postgresql";

impl Programs {
    /// Finds the programs: in `dir`, or on `PATH`, or the newest that Debian has installed. Blocks while it asks the
    /// server for its version.
    ///
    /// # Errors
    /// There is no server, or one that is too old.
    pub fn find(dir: Option<&Path>, names: &BTreeMap<String, String>) -> Result<Self, PgError> {
        let mut programs = Programs {
            dir: dir.map(Path::to_owned),
            names: names.clone(),
            version: PgVersion(0),
            gucs: BTreeSet::new(),
        };
        if programs.dir.is_none() && programs.output("postgres", &["--version"]).is_err() {
            programs.dir = newest_debian();
        }
        let banner = programs.output("postgres", &["--version"])?;
        programs.version =
            PgVersion::from_banner(&banner).ok_or_else(|| PgError::Version(banner.trim().to_owned()))?;
        if programs.version.major() < PgVersion::OLDEST {
            return Err(PgError::Version(programs.version.to_string()));
        }
        let described = programs.output("postgres", &["--describe-config"])?;
        programs.gucs = described
            .lines()
            .filter_map(|line| line.split('\t').next())
            .map(str::to_lowercase)
            .collect();
        Ok(programs)
    }

    #[cfg(test)]
    pub(crate) fn of_version(version: PgVersion, gucs: BTreeSet<String>) -> Self {
        Programs {
            dir: None,
            names: BTreeMap::new(),
            version,
            gucs,
        }
    }

    /// The program to run for PostgreSQL's `name`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        let name = self.names.get(name).map_or(name, String::as_str);
        match &self.dir {
            Some(dir) => dir.join(name),
            None => on_path(name)
                .or_else(|| self.beside_server(name))
                .unwrap_or_else(|| PathBuf::from(name)),
        }
    }

    /// Debian links only some programs into `PATH`; the others are where the server's own file is.
    fn beside_server(&self, name: &str) -> Option<PathBuf> {
        let server = on_path(self.names.get("postgres").map_or("postgres", String::as_str))?;
        let file = server.canonicalize().ok()?.parent()?.join(name);
        if file.is_file() {
            return Some(file);
        }
        let major = PathBuf::from(DEBIAN)
            .join(self.version.major().to_string())
            .join("bin")
            .join(name);
        major.is_file().then_some(major)
    }

    /// Whether the server takes a setting of this name: it knows it, or it belongs to an extension. Those that PostgreSQL
    /// keeps out of its sample file (`zero_damaged_pages`) are not in its own description, but in the catalogue.
    #[must_use]
    pub fn knows(&self, guc: &str) -> bool {
        let major = self.version.major();
        let settable = (CATALOGUED.0..=CATALOGUED.1).contains(&major)
            && guc != DEBIAN_ONLY
            && parameter(guc, major).is_some_and(|found| found.context != Context::Internal);
        guc.contains('.') || self.gucs.is_empty() || self.gucs.contains(&guc.to_lowercase()) || settable
    }

    fn output(&self, program: &str, args: &[&str]) -> Result<String, PgError> {
        let path = self.path(program);
        let output = Command::new(&path)
            .args(args)
            .output()
            .map_err(|_| PgError::NoProgram {
                program: program.to_owned(),
                place: self
                    .dir
                    .as_ref()
                    .map_or_else(|| "PATH".to_owned(), |dir| dir.display().to_string()),
            })?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

fn newest_debian() -> Option<PathBuf> {
    std::fs::read_dir(DEBIAN)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let major: u32 = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            bin.join("postgres").is_file().then_some((major, bin))
        })
        .max()
        .map(|(_, bin)| bin)
}
