use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use howdah_clock::now;
use howdah_types::BootTime;

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
    /// A line before the last is malformed: something other than a crash has changed the file.
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
/// deletion. When most lines are outdated a new file with what counts takes its place; a thread writes it while lines go on to be
/// appended to the old one.
///
/// Lines go to the kernel at once and to the disk when it likes: a killed process loses nothing, a machine that loses
/// power may lose the last seconds. Databases do not depend on it: they keep their own WAL.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    lines: usize,
    /// A write has failed: the file may end in the middle of a line, and a new one takes its place.
    dirty: bool,
    /// When a new file was begun last: on a full disk it is not tried again with every change.
    tried: Option<BootTime>,
    compaction: Option<Compaction>,
}

/// The pause between two tries to replace a broken file.
const PAUSE: Duration = Duration::from_secs(1);

/// A new file that is being written.
struct Compaction {
    /// Ends with the file, on the disk, and the number of its lines.
    writer: JoinHandle<io::Result<(File, usize)>>,
    /// What has been appended to the old file since.
    since: String,
    lines: usize,
    /// That was too much to keep: the old file stays.
    given_up: bool,
}

/// A compaction during which more is written than this is given up, bytes.
const SINCE: usize = 16 << 20;

type Objects = BTreeMap<Key, Value>;
/// All objects at one revision.
pub(super) type Snapshot = Vec<(Key, Arc<Value>)>;

impl Log {
    pub(super) fn open(directory: &Path) -> Result<(Self, Objects, u64), LogError> {
        let path = directory.join("store.log");
        let fail = |error: io::Error| LogError::Io(path.clone(), error);
        let (mut objects, mut revision) = (Objects::new(), 1);
        if path.exists() {
            let mut reader = BufReader::new(File::open(&path).map_err(fail)?);
            let mut first = Vec::new();
            reader.read_until(b'\n', &mut first).map_err(fail)?;
            let header: Value = serde_json::from_slice(&first).unwrap_or_default();
            if header[HEADER] != FORMAT {
                return Err(LogError::Format {
                    have: header[HEADER].to_string(),
                    path,
                });
            }
            revision = header["revision"].as_u64().unwrap_or(1);
            // Bytes, since a crash or a bad disk leaves anything behind.
            let mut reader = reader.split(b'\n').peekable();
            while let Some(line) = reader.next() {
                let mut entry = match serde_json::from_slice::<Value>(&line.map_err(fail)?) {
                    Ok(entry) => entry,
                    // A crash may have cut the last line off.
                    Err(_) if reader.peek().is_none() => break,
                    Err(error) => return Err(LogError::Broken { path, error }),
                };
                let part = |n: usize| entry["key"][n].as_str().unwrap_or_default().to_owned();
                let key = (part(0), part(1), part(2));
                revision = revision.max(entry["revision"].as_u64().unwrap_or(0));
                match entry["object"].take() {
                    Value::Null => objects.remove(&key),
                    object => objects.insert(key, object),
                };
            }
        }
        let next = path.with_extension("next");
        let (file, lines) = write_all(&next, revision, objects.iter()).map_err(fail)?;
        fs::rename(&next, &path).map_err(fail)?;
        let log = Log {
            file,
            path,
            lines,
            dirty: false,
            tried: None,
            compaction: None,
        };
        Ok((log, objects, revision))
    }

    /// Appends a change. It is part of the new file too, if one is being written. A change that `must` be kept is not made when
    /// it fails; any other is made, and is in the next new file.
    pub(super) fn append(
        &mut self,
        key: &Key,
        revision: u64,
        object: Option<&str>,
        must: bool,
    ) -> io::Result<()> {
        let line = line(key, revision, object);
        let written = if self.dirty {
            Err(io::Error::other(
                "an earlier change could not be written; try again",
            ))
        } else {
            // Until it has succeeded it may have been cut off.
            self.dirty = true;
            self.file.write_all(line.as_bytes())
        };
        self.dirty = written.is_err();
        if written.is_ok() || !must {
            self.note(&line);
        }
        written
    }

    /// Writes elsewhere from now on.
    #[cfg(test)]
    pub(super) fn write_to(&mut self, file: File) {
        self.file = file;
    }

    fn note(&mut self, line: &str) {
        self.lines += 1;
        if let Some(compaction) = &mut self.compaction {
            compaction.since.push_str(line);
            compaction.lines += 1;
            if compaction.since.len() > SINCE {
                compaction.given_up = true;
                compaction.since = String::new();
            }
        }
    }

    /// Whether the last line may be cut off: nothing is appended until a new file is in place.
    pub(super) fn is_broken(&self) -> bool {
        self.dirty
    }

    /// Whether most lines are outdated, or one is cut off, and no new file is being written.
    pub(super) fn wants_compaction(&self, objects: usize) -> bool {
        let is_broken = self.dirty && self.tried.is_none_or(|tried| tried + PAUSE <= now());
        self.compaction.is_none() && (is_broken || (self.lines > 1024 && self.lines > objects * 4))
    }

    /// Begins to write a new file with these objects.
    pub(super) fn begin_compaction(&mut self, objects: Snapshot, revision: u64) -> io::Result<()> {
        self.tried = Some(now());
        let next = self.path.with_extension("next");
        let writer = std::thread::Builder::new()
            .name("store-compaction".to_owned())
            .spawn(move || {
                let objects = objects.iter().map(|(key, object)| (key, object.as_ref()));
                write_all(&next, revision, objects)
            })?;
        self.compaction = Some(Compaction {
            writer,
            since: String::new(),
            lines: 0,
            given_up: false,
        });
        Ok(())
    }

    /// Puts the new file in the place of the old one when it is on the disk. Does not wait for that.
    pub(super) fn finish_compaction(&mut self) -> io::Result<()> {
        let Some(compaction) = self
            .compaction
            .take_if(|compaction| compaction.writer.is_finished())
        else {
            return Ok(());
        };
        self.swap(compaction)
    }

    /// Waits for the new file and puts it in place.
    fn swap(&mut self, compaction: Compaction) -> io::Result<()> {
        let (mut file, lines) = compaction
            .writer
            .join()
            .map_err(|_| io::Error::other("the writer has failed"))??;
        if compaction.given_up {
            return Ok(());
        }
        file.write_all(compaction.since.as_bytes())?;
        fs::rename(self.path.with_extension("next"), &self.path)?;
        self.file = file;
        self.lines = lines + compaction.lines;
        self.dirty = false;
        Ok(())
    }
}

impl Drop for Log {
    /// After a write that has failed the new file is the only one that has everything. The next log of this path must not write
    /// beside this one's thread.
    fn drop(&mut self) {
        if let Some(compaction) = self.compaction.take()
            && let Err(error) = self.swap(compaction)
        {
            tracing::error!(%error, "The sandbox's state was not written.");
        }
    }
}

/// Writes a whole file, and waits until it is on the disk. Returns it, and the number of its objects.
#[expect(
    clippy::disallowed_methods,
    reason = "at the start, or on a thread of its own"
)]
fn write_all<'a>(
    path: &Path,
    revision: u64,
    objects: impl Iterator<Item = (&'a Key, &'a Value)>,
) -> io::Result<(File, usize)> {
    let mut text = format!("{}\n", json!({ HEADER: FORMAT, "revision": revision }));
    let mut lines = 0;
    for (key, object) in objects {
        let json = object.to_string();
        text.push_str(&line(key, crate::meta::revision(object), Some(&json)));
        lines += 1;
    }
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok((file, lines))
}

/// A line; `object` is JSON.
fn line(key: &Key, revision: u64, object: Option<&str>) -> String {
    let key = json!([key.0, key.1, key.2]);
    match object {
        Some(object) => format!("{{\"revision\":{revision},\"key\":{key},\"object\":{object}}}\n"),
        None => format!("{{\"revision\":{revision},\"key\":{key}}}\n"),
    }
}
