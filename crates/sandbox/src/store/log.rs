use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use thiserror::Error;

use super::Key;

/// The version of the format on disk. It is in the first line of the file; a version that is not known is refused.
const FORMAT: u64 = 1;

const HEADER: &str = "howdah-sandbox-store";

/// Why the store on disk cannot be used.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file system.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// A line in its middle is none: something else than a crash has changed the file.
    #[error(
        "{path} is damaged ({error}): put a copy of it back, or remove the sandbox with 'howdah down --purge'"
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// Another version wrote it.
    #[error(
        "{path} has format {have}, this version of howdah knows {FORMAT}: use the version that wrote it, or remove the sandbox \
         with 'howdah down --purge'"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its version.
        have: String,
    },
}

/// Every change is one line: `{"revision": 7, "key": [resource, namespace, name], "object": {…}}`, without an object for a
/// deletion. When most lines are outdated the file is written anew and swapped in.
///
/// Lines go to the kernel at once and to the disk when it likes: a killed process loses nothing, a machine that loses
/// power may lose the last seconds. Databases do not depend on it: they keep their own WAL.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    lines: usize,
    /// A write has failed: the file may end in the middle of a line, and is written anew with the next change.
    dirty: bool,
}

type Objects = BTreeMap<Key, Value>;

impl Log {
    pub(super) fn open(directory: &Path) -> Result<(Self, Objects, u64), LogError> {
        let path = directory.join("store.log");
        let fail = |error: io::Error| LogError::Io(path.clone(), error);
        let (mut objects, mut revision, mut lines) = (Objects::new(), 1, 0);
        if path.exists() {
            let mut reader = BufReader::new(File::open(&path).map_err(fail)?);
            let mut first = String::new();
            reader.read_line(&mut first).map_err(fail)?;
            let header: Value = serde_json::from_str(&first).unwrap_or_default();
            if header[HEADER] != FORMAT {
                return Err(LogError::Format {
                    have: header[HEADER].to_string(),
                    path,
                });
            }
            revision = header["revision"].as_u64().unwrap_or(1);
            let mut reader = reader.lines().peekable();
            while let Some(line) = reader.next() {
                let mut entry = match serde_json::from_str::<Value>(&line.map_err(fail)?) {
                    Ok(entry) => entry,
                    // A crash may have cut the last line off.
                    Err(_) if reader.peek().is_none() => break,
                    Err(error) => return Err(LogError::Broken { path, error }),
                };
                let part = |n: usize| entry["key"][n].as_str().unwrap_or_default().to_owned();
                let key = (part(0), part(1), part(2));
                revision = revision.max(entry["revision"].as_u64().unwrap_or(0));
                lines += 1;
                match entry["object"].take() {
                    Value::Null => objects.remove(&key),
                    object => objects.insert(key, object),
                };
            }
        }
        let mut log = Log {
            file: OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .map_err(fail)?,
            path,
            lines,
            dirty: false,
        };
        let all: Vec<(&Key, &Value)> = objects.iter().collect();
        log.rewrite(all.into_iter(), revision)
            .map_err(|e| LogError::Io(log.path.clone(), e))?;
        Ok((log, objects, revision))
    }

    pub(super) fn append(&mut self, key: &Key, revision: u64, object: Option<&Value>) -> io::Result<()> {
        self.lines += 1;
        if self.dirty {
            return Ok(());
        }
        // Until it has succeeded it may have been cut off.
        self.dirty = true;
        self.file.write_all(line(key, revision, object).as_bytes())?;
        self.dirty = false;
        Ok(())
    }

    pub(super) fn wants_compaction(&self, objects: usize) -> bool {
        self.dirty || (self.lines > 1024 && self.lines > objects * 4)
    }

    /// Writes only what counts. `key` is being changed just now: its object is the one given here.
    pub(super) fn compact<'a>(
        &mut self,
        objects: impl Iterator<Item = (&'a Key, &'a Value)>,
        revision: u64,
        key: &Key,
        object: Option<&Value>,
    ) -> io::Result<()> {
        let others = objects.filter(|(other, _)| *other != key);
        self.rewrite(others, revision)?;
        match object {
            Some(object) => self.append(key, revision, Some(object)),
            None => Ok(()),
        }
    }

    fn rewrite<'a>(
        &mut self,
        objects: impl Iterator<Item = (&'a Key, &'a Value)>,
        revision: u64,
    ) -> io::Result<()> {
        let next = self.path.with_extension("next");
        let mut text = format!("{}\n", json!({ HEADER: FORMAT, "revision": revision }));
        let mut lines = 0;
        for (key, object) in objects {
            let at = crate::meta::revision(object);
            text.push_str(&line(key, at, Some(object)));
            lines += 1;
        }
        let mut file = File::create(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.lines = lines;
        self.dirty = false;
        Ok(())
    }
}

fn line(key: &Key, revision: u64, object: Option<&Value>) -> String {
    let mut entry = json!({"revision": revision, "key": [key.0, key.1, key.2]});
    if let Some(object) = object {
        entry["object"] = object.clone();
    }
    format!("{entry}\n")
}
