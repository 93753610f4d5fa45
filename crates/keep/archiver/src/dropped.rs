//! WAL that was given up because the disk would have filled (`HOWDAH_WAL_BACKLOG_LIMIT`): noted on this machine before
//! PostgreSQL is told that it was archived, then in the archive as soon as that answers. The note stays until there is a backup
//! that does not need it.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

/// The notes of a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Dropped {
    /// What the archive does not know yet.
    fresh: PathBuf,
    /// What it knows.
    told: PathBuf,
}

impl Dropped {
    /// Beside the socket.
    pub(crate) fn beside(socket: &Path) -> Self {
        let with = |ending: &str| {
            let mut path = socket.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        Dropped {
            fresh: with("-dropped"),
            told: with("-dropped-told"),
        }
    }

    /// Adds a name. It is on the disk when this returns.
    #[allow(clippy::disallowed_methods, reason = "this runs on a thread of its own")]
    pub(crate) fn note(&self, name: &str) -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.fresh)?;
        writeln!(file, "{name}")?;
        file.sync_all()
    }

    /// What the archive does not know yet, in the order in which it was given up.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.fresh)
    }

    /// How many names there are, known to the archive or not.
    pub(crate) fn count(&self) -> usize {
        names(&self.fresh).len() + names(&self.told).len()
    }

    /// The archive knows these. What was added meanwhile stays.
    pub(crate) fn told(&self, known: &[String]) -> std::io::Result<()> {
        let rest: Vec<String> = self
            .names()
            .into_iter()
            .filter(|name| !known.contains(name))
            .collect();
        let mut all = names(&self.told);
        all.extend(known.iter().cloned());
        std::fs::write(&self.told, all.join("\n") + "\n")?;
        if rest.is_empty() {
            std::fs::remove_file(&self.fresh)
        } else {
            std::fs::write(&self.fresh, rest.join("\n") + "\n")
        }
    }

    /// Whether a backup is needed since the archive knows of a gap.
    pub(crate) fn needs_backup(&self) -> bool {
        self.told.exists()
    }

    /// There is a backup of this moment: if it was made behind the gap, the gap is no trouble of today any longer.
    pub(crate) fn backed_up(&self, at: Timestamp) {
        let noted = std::fs::metadata(&self.told)
            .and_then(|of| of.modified())
            .ok()
            .and_then(|time| Timestamp::try_from(time).ok());
        if noted.is_some_and(|noted| noted < at)
            && let Err(error) = std::fs::remove_file(&self.told)
        {
            tracing::warn!("{}: {error}.", self.told.display());
        }
    }
}

fn names(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_until_there_is_a_later_backup() {
        let dir = tempfile::tempdir().unwrap();
        let dropped = Dropped::beside(&dir.path().join(".data.archiver"));
        assert!(dropped.names().is_empty() && !dropped.needs_backup());
        dropped.note("a").unwrap();
        dropped.note("b").unwrap();
        assert_eq!(dropped.names(), ["a", "b"]);
        dropped.told(&["a".to_owned()]).unwrap();
        assert_eq!((dropped.names(), dropped.count()), (vec!["b".to_owned()], 2));
        dropped.told(&["b".to_owned()]).unwrap();
        assert!(dropped.names().is_empty() && dropped.needs_backup());
        dropped.backed_up(Timestamp::UNIX_EPOCH);
        assert_eq!(dropped.count(), 2);
        dropped.backed_up(Timestamp::now() + jiff::SignedDuration::from_secs(5));
        assert_eq!(dropped.count(), 0);
    }
}
