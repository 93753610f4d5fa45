use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Component, Path, PathBuf},
};

use howdah_backup::TablespaceSpec;

use crate::ArchiveError;

/// Where the directories of tablespaces go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tablespaces {
    /// By their old directory or their name below `pg_tblspc`, the new one. Others go where they were.
    pub moved: BTreeMap<String, PathBuf>,
}

/// The directories that are restored into.
#[derive(Debug)]
pub(super) struct Target {
    data: PathBuf,
    /// By `pg_tblspc/NAME`.
    spaces: BTreeMap<PathBuf, PathBuf>,
    /// Whether the data directory was made here.
    made: bool,
    /// While this is there, no other restore writes into them.
    claims: Claims,
}

/// The file that says that a restore writes into a directory.
const CLAIM: &str = ".howdah-restore";

/// Directories that are claimed; they are given back with the value.
#[derive(Debug)]
struct Claims(Vec<PathBuf>);

impl Claims {
    /// Of two restores one gets a directory, and it is empty then.
    fn claim(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let claim = path.join(CLAIM);
        match fs::File::create_new(&claim) {
            Ok(_) => self.0.push(claim),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(ArchiveError::Refused(format!(
                    "another restore writes into {}, or was killed there: choose another directory, or empty it",
                    path.display()
                )));
            }
            Err(error) => return Err(ArchiveError::local(&claim, error)),
        }
        // Another one may have ended since it was looked at.
        must_be_empty(path)
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        for claim in &self.0 {
            let _ = fs::remove_file(claim);
        }
    }
}

impl Target {
    /// Looks whether everything is empty, and makes what is not there. Nothing is touched when anything is not.
    pub(super) fn prepare(
        data: &Path,
        spec: Option<&TablespaceSpec>,
        tablespaces: &Tablespaces,
    ) -> Result<Self, ArchiveError> {
        let mut spaces = BTreeMap::new();
        let mut unused: BTreeMap<&str, &PathBuf> = tablespaces
            .moved
            .iter()
            .map(|(old, new)| (old.as_str(), new))
            .collect();
        for (name, place) in spec.iter().flat_map(|spec| &spec.places) {
            let old = unused
                .remove(place.loc.as_str())
                .or_else(|| unused.remove(name.as_str()));
            let new = old.cloned().unwrap_or_else(|| PathBuf::from(&place.loc));
            let link = relative(Path::new(&place.link))
                .filter(|link| link.parent() == Some(Path::new("pg_tblspc")))
                .ok_or_else(|| {
                    ArchiveError::Refused(format!("the backup names a tablespace '{}'", place.link))
                })?;
            if !new.is_absolute() {
                return Err(ArchiveError::Setting(format!(
                    "the directory of a tablespace is absolute, and '{}' is not",
                    new.display()
                )));
            }
            if spaces.values().any(|other| *other == new) || new == data {
                return Err(ArchiveError::Setting(format!(
                    "two directories would be restored to {}",
                    new.display()
                )));
            }
            spaces.insert(link, new);
        }
        if let Some((old, _)) = unused.first_key_value() {
            return Err(ArchiveError::Setting(format!(
                "the backup has no tablespace '{old}'"
            )));
        }
        for path in spaces.values().map(PathBuf::as_path).chain([data]) {
            must_be_empty(path)?;
        }
        let made = !data.exists();
        let mut claims = Claims(Vec::new());
        for path in spaces.values().map(PathBuf::as_path).chain([data]) {
            directory(path)?;
            claims.claim(path)?;
        }
        fs::set_permissions(data, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(|error| ArchiveError::local(data, error))?;
        for (link, place) in &spaces {
            let path = data.join(link);
            directory(path.parent().unwrap_or(data))?;
            symlink(place, &path).map_err(|error| ArchiveError::local(&path, error))?;
        }
        Ok(Target {
            data: data.to_owned(),
            spaces,
            made,
            claims,
        })
    }

    /// Where a member of an archive belongs; `None` for a name that leads out of the data directory.
    pub(super) fn path(&self, member: &Path) -> Option<PathBuf> {
        Some(self.data.join(relative(member)?))
    }

    /// What says to the server where tablespaces are. It makes the links again by it, so it must say the new places.
    pub(super) fn tablespace_map(&self) -> Option<String> {
        let line = |(link, place): (&PathBuf, &PathBuf)| {
            let name = link.file_name()?.to_string_lossy().into_owned();
            let place = place.display().to_string();
            let escaped: String = place
                .chars()
                .flat_map(|char| {
                    matches!(char, '\\' | '\n' | '\r')
                        .then_some('\\')
                        .into_iter()
                        .chain([char])
                })
                .collect();
            Some(format!("{name} {escaped}\n"))
        };
        (!self.spaces.is_empty()).then(|| self.spaces.iter().filter_map(line).collect())
    }

    /// Gives the directories back and makes everything durable. One call a file system, since a call a file takes minutes.
    pub(super) fn sync(&self) -> Result<(), ArchiveError> {
        for claim in &self.claims.0 {
            fs::remove_file(claim).map_err(|error| ArchiveError::local(claim, error))?;
        }
        for path in self.spaces.values().chain([&self.data]) {
            let opened = fs::File::open(path).map_err(|error| ArchiveError::local(path, error))?;
            rustix::fs::syncfs(&opened).map_err(|error| ArchiveError::local(path, error.into()))?;
        }
        Ok(())
    }

    /// Takes away what was restored. Only who has claimed the directories does.
    pub(super) fn clear(&self) -> Result<(), ArchiveError> {
        for path in self.spaces.values().chain([&self.data]) {
            empty(path).map_err(|error| ArchiveError::local(path, error))?;
        }
        if self.made {
            fs::remove_dir(&self.data).map_err(|error| ArchiveError::local(&self.data, error))?;
        }
        Ok(())
    }
}

/// A member's path without its slash, of ordinary names only.
fn relative(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => out.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(out)
}

fn must_be_empty(path: &Path) -> Result<(), ArchiveError> {
    match fs::read_dir(path) {
        // A mount point has this one.
        Ok(entries) => match entries
            .flatten()
            .find(|entry| entry.file_name() != "lost+found" && entry.file_name() != CLAIM)
        {
            Some(entry) => Err(ArchiveError::Refused(format!(
                "{} is not empty (it has {}): a restore needs an empty directory",
                path.display(),
                entry.file_name().to_string_lossy()
            ))),
            None => Ok(()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ArchiveError::local(path, error)),
    }
}

/// Makes a directory that only its owner can enter.
pub(super) fn directory(path: &Path) -> Result<(), ArchiveError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| ArchiveError::local(path, error))
}

#[allow(clippy::disallowed_methods, reason = "this runs on a thread of its own")]
fn empty(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == "lost+found" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stay_below_the_directory() {
        assert_eq!(
            relative(Path::new("/base/1/112")),
            Some(PathBuf::from("base/1/112"))
        );
        assert_eq!(
            relative(Path::new("backup_label")),
            Some(PathBuf::from("backup_label"))
        );
        assert_eq!(relative(Path::new("/base/../../etc/passwd")), None);
    }

    #[test]
    fn a_directory_with_something_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("PG_VERSION"), "15").unwrap();
        let refused = Target::prepare(dir.path(), None, &Tablespaces::default()).unwrap_err();
        assert!(
            refused.to_string().contains("is not empty (it has PG_VERSION)"),
            "{refused}"
        );
    }

    #[test]
    fn of_two_restores_one_gets_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Target::prepare(&data, None, &Tablespaces::default()).unwrap();
        let second = Target::prepare(&data, None, &Tablespaces::default()).unwrap_err();
        assert!(second.to_string().contains("another restore"), "{second}");
        fs::write(data.join("PG_VERSION"), "15").unwrap();
        first.sync().unwrap();
        drop(first);
        assert!(Target::prepare(&data, None, &Tablespaces::default()).is_err());
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
    }

    #[test]
    fn tablespaces_move_by_directory_or_name() {
        let dir = tempfile::tempdir().unwrap();
        let spec: TablespaceSpec = serde_json::from_str(
            r#"{"base_prefix":"/d","tablespaces":["16422"],"16422":{"loc":"/old","link":"pg_tblspc/16422"}}"#,
        )
        .unwrap();
        let moved = |old: &str| Tablespaces {
            moved: BTreeMap::from([(old.to_owned(), dir.path().join("space"))]),
        };
        let data = dir.path().join("data");
        let target = Target::prepare(&data, Some(&spec), &moved("/old")).unwrap();
        assert_eq!(
            fs::read_link(data.join("pg_tblspc/16422")).unwrap(),
            dir.path().join("space")
        );
        let map = format!("16422 {}\n", dir.path().join("space").display());
        assert_eq!(target.tablespace_map(), Some(map));
        target.clear().unwrap();
        assert!(!data.exists());
        assert!(Target::prepare(&data, Some(&spec), &moved("16422")).is_ok());
        assert!(Target::prepare(&dir.path().join("b"), Some(&spec), &moved("/other")).is_err());
    }
}
