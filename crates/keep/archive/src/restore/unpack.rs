use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use howdah_backup::{BLOCK, Increment};
use tar::EntryType;

use super::{Archive, place::Target, place::directory};
use crate::{ArchiveError, Key, Progress, codec::unpack};

/// What is done with the members of a backup's archives.
pub(super) struct Rules {
    /// Members that have only changed pages, by their name with its slash.
    pub(super) increments: BTreeSet<String>,
    /// Members that a later backup of the chain still has; `None` for all.
    pub(super) wanted: Option<BTreeSet<String>>,
}

impl Rules {
    fn wants(&self, name: &str, kind: EntryType) -> bool {
        kind == EntryType::Directory || self.wanted.as_ref().is_none_or(|wanted| wanted.contains(name))
    }
}

/// Writes the members of an archive.
pub(super) fn archive(
    from: impl Read + Send,
    archive: &Archive,
    key: Option<&Key>,
    rules: &Rules,
    target: &Target,
    progress: &Progress,
) -> Result<(), ArchiveError> {
    let object = &archive.object;
    let damaged = |error: io::Error| ArchiveError::damaged(object, error);
    let mut plain = Tail::new(unpack(from, archive.codec, key).map_err(damaged)?);
    let mut count = 0_u64;
    {
        let mut members = tar::Archive::new(&mut plain);
        for member in members.entries().map_err(damaged)? {
            let mut member = member.map_err(damaged)?;
            let kind = member.header().entry_type();
            let name = member.path().map_err(damaged)?.into_owned();
            let Some(path) = target.path(&name) else {
                return Err(ArchiveError::damaged(
                    object,
                    format!("its member {} leads out of the data directory", name.display()),
                ));
            };
            count += 1;
            let text = name.to_string_lossy();
            if !rules.wants(&text, kind) {
                continue;
            }
            match kind {
                EntryType::Directory => directory(&path)?,
                EntryType::Regular | EntryType::Continuous => {
                    let size = member.header().entry_size().map_err(damaged)?;
                    if text == "tablespace_map"
                        && let Some(map) = target.tablespace_map()
                    {
                        whole(&mut map.as_bytes(), &path, object)?;
                    } else if rules.increments.contains(&*text) {
                        increment(&mut member, &path, object)?;
                    } else {
                        whole(&mut member, &path, object)?;
                    }
                    progress.add_done(size);
                }
                // WAL-G stores a link to a configuration file without the file.
                EntryType::Symlink | EntryType::Link => {
                    tracing::warn!("{} is a link, and is not restored.", path.display());
                }
                other => {
                    return Err(ArchiveError::damaged(
                        object,
                        format!(
                            "its member {} is neither a file nor a directory ({other:?})",
                            name.display()
                        ),
                    ));
                }
            }
        }
    }
    // What follows the end of the archive is read too: checksums are at the end of everything.
    io::copy(&mut plain, &mut io::sink()).map_err(damaged)?;
    if count == 0 {
        return Err(ArchiveError::damaged(object, "it is empty"));
    }
    plain.check().map_err(damaged)
}

/// Passes bytes on and looks whether an archive ends as archives do: one that was cut between two members looks whole else.
pub(crate) struct Tail<R> {
    from: R,
    /// Zero bytes at the end so far.
    zeros: u64,
}

impl<R: Read> Tail<R> {
    pub(crate) fn new(from: R) -> Self {
        Tail { from, zeros: 0 }
    }

    /// Two blocks of zeros end an archive.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.zeros >= 1024 {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the end of the archive is missing",
            ))
        }
    }
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        let read = into.get(..count).unwrap_or_default();
        let zeros = read.iter().rev().take_while(|byte| **byte == 0).count() as u64;
        self.zeros = if zeros == count as u64 {
            self.zeros + zeros
        } else {
            zeros
        };
        Ok(count)
    }
}

fn whole(member: &mut impl Read, path: &Path, object: &str) -> Result<(), ArchiveError> {
    if let Some(parent) = path.parent() {
        directory(parent)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| ArchiveError::local(path, error))?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = member
            .read(&mut buffer)
            .map_err(|error| ArchiveError::damaged(object, error))?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        file.write_all(bytes)
            .map_err(|error| ArchiveError::local(path, error))?;
    }
}

/// Puts changed pages over the file that the backup before has brought.
fn increment(member: &mut impl Read, path: &Path, object: &str) -> Result<(), ArchiveError> {
    let read = |error: io::Error| ArchiveError::damaged(object, error);
    let local = |error: io::Error| ArchiveError::local(path, error);
    let no_increment = |error| ArchiveError::damaged(object, format!("{}: {error}", path.display()));
    let mut head = [0; Increment::HEAD];
    member.read_exact(&mut head).map_err(read)?;
    let (size, pages) = Increment::head(&head).map_err(no_increment)?;
    let mut numbers = Vec::new();
    let wanted = u64::from(pages) * 4;
    member.take(wanted).read_to_end(&mut numbers).map_err(read)?;
    if numbers.len() as u64 != wanted {
        return Err(no_increment(howdah_backup::IncrementError::Short));
    }
    let increment = Increment::new(size, &numbers).map_err(no_increment)?;
    let file = File::options().write(true).open(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            ArchiveError::damaged(
                object,
                format!(
                    "it changes {}, which the backup before does not have",
                    path.display()
                ),
            )
        } else {
            ArchiveError::local(path, error)
        }
    })?;
    file.set_len(increment.size).map_err(local)?;
    let mut file = BufWriter::with_capacity(16 * BLOCK, file);
    let mut page = vec![0; BLOCK];
    for number in increment.blocks {
        member.read_exact(&mut page).map_err(read)?;
        file.seek(SeekFrom::Start(u64::from(number) * BLOCK as u64))
            .map_err(local)?;
        file.write_all(&page).map_err(local)?;
    }
    file.flush().map_err(local)
}
