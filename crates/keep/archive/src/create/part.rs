use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use howdah_backup::{BLOCK, Pages, is_relation, is_sound};
use howdah_pgconf::ControlData;
use howdah_types::Lsn;
use tar::{Builder, EntryType, Header};

use crate::{ArchiveError, Progress};

/// One entry of an archive.
#[derive(Clone, Debug)]
pub(super) enum Member {
    /// A directory, by its path below the data directory.
    Directory(PathBuf),
    /// A file, with the size that it had when it was listed.
    File {
        /// Below the data directory.
        path: PathBuf,
        /// In bytes.
        size: u64,
    },
    /// A file that was read already.
    Bytes {
        /// Below the data directory.
        path: PathBuf,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// What the server has said.
    Text {
        /// Its name, without a slash before it.
        name: &'static str,
        /// Its content.
        text: String,
    },
}

impl Member {
    pub(super) fn size(&self) -> u64 {
        match self {
            Member::Directory(_) => 0,
            Member::File { size, .. } => *size,
            Member::Bytes { bytes, .. } => bytes.len() as u64,
            Member::Text { text, .. } => text.len() as u64,
        }
    }
}

/// The content of one archive.
#[derive(Clone, Debug)]
pub(super) struct Part(Vec<Member>);

/// What was written of a part.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// Bytes of files.
    pub(super) files: u64,
    pub(super) pages: Pages,
}

/// How often the control file is read until it is whole.
const READS: usize = 100;

/// Read at once: sixteen pages.
const READ: usize = 16 * BLOCK;

/// Pages in one file of a relation, of 1 GiB.
const PAGES_IN_A_FILE: u32 = (1 << 30) / 8192;

/// Damaged pages that are named for one file; all are counted.
const NAMED: usize = 5;

impl Part {
    pub(super) fn files(members: Vec<Member>) -> Self {
        Part(members)
    }

    /// The control file, read until its checksum fits: the server writes it now and then.
    pub(super) fn control(data: &Path) -> Result<Self, ArchiveError> {
        let path = data.join("global/pg_control");
        let mut last = String::new();
        for _ in 0..READS {
            let bytes = fs::read(&path).map_err(|error| ArchiveError::local(&path, error))?;
            match ControlData::parse(&bytes) {
                Ok(_) => {
                    return Ok(Part(vec![Member::Bytes {
                        path: PathBuf::from("global/pg_control"),
                        bytes,
                    }]));
                }
                Err(error) => last = error.to_string(),
            }
        }
        Err(ArchiveError::Refused(format!("{}: {last}", path.display())))
    }

    /// What the server says at the end of the backup.
    pub(super) fn label(label: &str, tablespaces: &str) -> Self {
        let mut members = vec![Member::Text {
            name: "backup_label",
            text: label.to_owned(),
        }];
        if !tablespaces.is_empty() {
            members.push(Member::Text {
                name: "tablespace_map",
                text: tablespaces.to_owned(),
            });
        }
        Part(members)
    }

    /// Writes the archive. Pages of relations that were last changed before `checked_below` are checked.
    pub(super) fn write(
        &self,
        data: &Path,
        checked_below: Option<Lsn>,
        progress: &Progress,
        out: impl Write,
    ) -> Result<Written, ArchiveError> {
        let mut builder = Builder::new(out);
        let mut written = Written::default();
        for member in &self.0 {
            match member {
                Member::Directory(path) => directory(&mut builder, data, path)?,
                Member::File { path, .. } => {
                    file(&mut builder, data, path, checked_below, progress, &mut written)?;
                }
                Member::Bytes { path, bytes } => {
                    let name = member_name(path);
                    let mut header = header(EntryType::Regular, bytes.len() as u64, 0o600, 0);
                    append(&mut builder, &mut header, &name, bytes.as_slice(), path)?;
                    written.files += bytes.len() as u64;
                }
                Member::Text { name, text } => {
                    let mut header = header(EntryType::Regular, text.len() as u64, 0o600, 0);
                    append(
                        &mut builder,
                        &mut header,
                        name.as_bytes(),
                        text.as_bytes(),
                        Path::new(name),
                    )?;
                    written.files += text.len() as u64;
                }
            }
        }
        builder
            .into_inner()
            .and_then(|mut out| out.flush())
            .map_err(|error| writing(Path::new("the end of an archive"), error))?;
        Ok(written)
    }
}

/// An error of a file that is read; a broken pipe is the sender's, who says why.
fn writing(path: &Path, error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => ArchiveError::Interrupted,
        _ => ArchiveError::local(path, error),
    }
}

/// The name of a member: it begins with a slash, as WAL-G writes it.
fn member_name(path: &Path) -> Vec<u8> {
    let mut name = b"/".to_vec();
    name.extend(path.as_os_str().as_encoded_bytes());
    name
}

/// The head of a member without its name, which [`append`] puts in.
fn header(kind: EntryType, size: u64, mode: u32, modified: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(modified);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Names of up to 100 bytes are in the head; longer ones are said before it, as POSIX does.
fn append<W: Write>(
    builder: &mut Builder<W>,
    header: &mut Header,
    name: &[u8],
    content: impl Read,
    path: &Path,
) -> Result<(), ArchiveError> {
    let failed = |error| writing(path, error);
    let field = &mut header.as_old_mut().name;
    match field.get_mut(..name.len()) {
        Some(room) => room.copy_from_slice(name),
        None => {
            let end = name.get(name.len() - field.len()..).unwrap_or_default();
            field.copy_from_slice(end);
            builder.append_pax_extensions([("path", name)]).map_err(failed)?;
        }
    }
    header.set_cksum();
    builder.append(header, content).map_err(failed)
}

fn directory<W: Write>(builder: &mut Builder<W>, data: &Path, path: &Path) -> Result<(), ArchiveError> {
    let whole = data.join(path);
    let meta = match fs::metadata(&whole) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ArchiveError::local(&whole, error)),
    };
    let name = member_name(path);
    let mut header = header(
        EntryType::Directory,
        0,
        meta.mode() & 0o777,
        meta.mtime().unsigned_abs(),
    );
    append(builder, &mut header, &name, io::empty(), path)
}

fn file<W: Write>(
    builder: &mut Builder<W>,
    data: &Path,
    path: &Path,
    checked_below: Option<Lsn>,
    progress: &Progress,
    written: &mut Written,
) -> Result<(), ArchiveError> {
    let whole = data.join(path);
    let opened = File::open(&whole).and_then(|file| Ok((file.metadata()?, file)));
    let (meta, file) = match opened {
        Ok(opened) => opened,
        // A table was dropped.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ArchiveError::local(&whole, error)),
    };
    let size = meta.len();
    let name = member_name(path);
    let mut header = header(
        EntryType::Regular,
        size,
        meta.mode() & 0o777,
        meta.mtime().unsigned_abs(),
    );
    let mut content = Content {
        file,
        at: 0,
        size,
        check: checked_below.zip(is_relation(path)),
        damaged: Vec::new(),
        checked: 0,
        progress: progress.clone(),
        buffer: Vec::with_capacity(READ),
        given: 0,
    };
    append(builder, &mut header, &name, &mut content, &whole)?;
    written.files += size;
    written.pages.checked += content.checked;
    for number in content.damaged.iter().take(NAMED) {
        written
            .pages
            .damaged
            .push(format!("{} page {number}", path.display()));
    }
    Ok(())
}

/// A file's bytes: exactly as many as its head says, whatever the server does with it meanwhile.
struct Content {
    file: File,
    at: u64,
    size: u64,
    check: Option<(Lsn, u32)>,
    damaged: Vec<u32>,
    checked: u64,
    progress: Progress,
    buffer: Vec<u8>,
    given: usize,
}

impl Content {
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.given = 0;
        let left = self.size - self.at;
        let count = left.min(READ as u64);
        let read = (&mut self.file).take(count).read_to_end(&mut self.buffer)?;
        // A file that was cut is filled with zeros: replay cuts it again.
        self.buffer.resize(usize::try_from(count).unwrap_or(read), 0);
        if let Some((below, segment)) = self.check {
            let first = u32::try_from(self.at / BLOCK as u64).unwrap_or(0);
            let (pages, _) = self.buffer.get(..read).unwrap_or_default().as_chunks::<BLOCK>();
            for (number, page) in (first..).zip(pages) {
                self.checked += 1;
                if !is_intact(page, number + segment * PAGES_IN_A_FILE, below)
                    && !is_intact_now(&self.file, number, segment, below)
                {
                    self.damaged.push(number);
                }
            }
        }
        self.at += count;
        self.progress.add_done(count);
        Ok(())
    }
}

/// A page that changed after the backup began is replaced by replay, whatever it looks like.
fn is_intact(page: &[u8; BLOCK], number: u32, below: Lsn) -> bool {
    let half = |at: usize| {
        page.get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u32::from_ne_bytes)
    };
    let changed = Lsn((u64::from(half(0)) << 32) | u64::from(half(4)));
    changed >= below || is_sound(page, number)
}

/// The server may have been writing the page: it is read once more.
fn is_intact_now(file: &File, number: u32, segment: u32, below: Lsn) -> bool {
    let mut page = [0; BLOCK];
    match file.read_exact_at(&mut page, u64::from(number) * BLOCK as u64) {
        Ok(()) => is_intact(&page, number + segment * PAGES_IN_A_FILE, below),
        // It was cut off meanwhile.
        Err(_) => true,
    }
}

impl Read for Content {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.buffer.len() {
            if self.at == self.size {
                return Ok(0);
            }
            self.fill()?;
        }
        let rest = self.buffer.get(self.given..).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.given += count;
        Ok(count)
    }
}
