//! An archive's objects: every call with a deadline, every answer of one class, no name above the archive's root.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use howdah_backup::{Codec, Identity, Layout, Object};
use howdah_http::timeout_at;
use howdah_types::BootTime;
use jiff::Timestamp;
use object_store::{
    Attribute, AttributeValue, Attributes, Error as StoreError, GetOptions, GetRange, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, path::Path,
};
use parking_lot::Mutex;

use crate::{
    ArchiveError,
    blocking::blocking,
    error::short,
    local, open,
    settings::Place,
    words::{causes, in_words},
};

fn inode(path: &std::path::Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let of = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir)?;
    Some((of.dev(), of.ino()))
}

/// A request that is tried again: `object_store` does so itself for what a store answers, and not for an answer that is torn.
struct Again {
    deadline: BootTime,
    pause: Duration,
    tries: u32,
}

impl Again {
    fn new(deadline: BootTime) -> Self {
        Again {
            deadline,
            pause: Duration::from_millis(200),
            tries: 0,
        }
    }

    fn has_tried(&self) -> bool {
        self.tries > 0
    }

    /// Waits before the next try, or gives the error back when there is no time for one.
    async fn wait(&mut self, error: ArchiveError) -> Result<(), ArchiveError> {
        let next = howdah_clock::now() + self.pause;
        if next >= self.deadline || self.tries >= TRIES {
            return Err(error);
        }
        self.tries += 1;
        self.pause = (self.pause * 2).min(Duration::from_secs(5));
        howdah_http::sleep_until(next).await;
        Ok(())
    }
}

/// Tries after the first one. Each may have taken the patience of `object_store` already.
const TRIES: u32 = 6;

/// How long a process that archives many files does not ask again whose archive it is.
const IDENTITY: Duration = Duration::from_secs(60);

/// An archive, opened.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    root: Path,
    name: String,
    directory: Option<PathBuf>,
    /// Device and inode of the directory when it was opened: below the mount point of a disk that is gone it is another one.
    inode: Option<(u64, u64)>,
    identity: Arc<Mutex<Option<(Identity, BootTime)>>>,
}

impl std::fmt::Debug for Store {
    /// Without what the store is opened with: that has secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// An object's bytes as they come.
pub(crate) type Stream = stream::BoxStream<'static, object_store::Result<Bytes>>;

/// An object that is read.
pub(crate) struct Reading {
    /// The bytes.
    pub(crate) stream: Stream,
    /// How many they are.
    pub(crate) length: u64,
    /// What was stored with it.
    pub(crate) attributes: Attributes,
}

impl Store {
    /// Opens it.
    ///
    /// Nothing is asked of a remote store yet. `patience` is how long a request is tried again.
    ///
    /// # Errors
    /// Settings that do not fit, a certificate that cannot be read, a directory that is not there.
    pub fn open(place: &Place, patience: Duration) -> Result<Self, ArchiveError> {
        let (inner, prefix) = open::open(place, patience)?;
        let directory = match place {
            Place::Directory(path) => Some(path.clone()),
            Place::S3(_) | Place::Gcs { .. } | Place::Azure(_) => None,
        };
        let root = Path::parse(prefix).map_err(|error| {
            ArchiveError::Setting(format!("the prefix '{prefix}' is not usable: {error}"))
        })?;
        Ok(Store {
            inner,
            root,
            name: place.name(),
            inode: directory.as_deref().and_then(inode),
            directory,
            identity: Arc::default(),
        })
    }

    /// Whose archive it is, if that was read a moment ago.
    pub(crate) fn known_identity(&self) -> Option<Identity> {
        if self.directory.is_some() {
            return None;
        }
        let known = self.identity.lock();
        let (identity, at) = known.as_ref()?;
        (howdah_clock::now().since(*at) < IDENTITY).then(|| identity.clone())
    }

    pub(crate) fn know_identity(&self, identity: &Identity) {
        *self.identity.lock() = Some((identity.clone(), howdah_clock::now()));
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self, name: &str) -> Path {
        name.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.root.clone(), Path::join)
    }

    /// The name of an object relative to the root.
    fn relative(&self, path: &Path) -> Option<String> {
        path.prefix_match(&self.root).map(|parts| {
            parts
                .map(|part| part.as_ref().to_owned())
                .collect::<Vec<_>>()
                .join("/")
        })
    }

    /// An object of a listing; `None` for one that is not below the root.
    fn object(&self, meta: &ObjectMeta) -> Option<Object> {
        Some(Object {
            name: self.relative(&meta.location)?,
            size: meta.size,
            modified: Timestamp::from_microsecond(meta.last_modified.timestamp_micros()).ok()?,
        })
    }

    fn outage(&self, reason: impl Into<String>) -> ArchiveError {
        ArchiveError::Outage {
            place: self.name.clone(),
            reason: reason.into(),
        }
    }

    fn late(&self) -> ArchiveError {
        self.outage("it has not answered in time")
    }

    /// The class of a store's error.
    fn class(&self, name: &str, error: &StoreError) -> ArchiveError {
        let text = short(&in_words(&causes(error)));
        // A store that says 404 for a whole bucket has said nothing about an object.
        if text.contains("NoSuchBucket")
            || text.contains("ContainerNotFound")
            || text.contains("specified bucket does not exist")
        {
            return ArchiveError::NoPlace(self.name.clone());
        }
        match error {
            StoreError::NotFound { .. } => ArchiveError::Missing(name.to_owned()),
            StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => {
                ArchiveError::Exists(name.to_owned())
            }
            // Answers to a batch of deletions, and a disk's, are of no class of their own.
            _ if text.contains("AccessDenied") || text.contains("Permission denied") => {
                ArchiveError::Denied {
                    place: self.name.clone(),
                    reason: text,
                }
            }
            _ if text.contains("Read-only file system") => ArchiveError::Denied {
                place: self.name.clone(),
                reason: text,
            },
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                let skew = text.contains("RequestTimeTooSkewed");
                let text = if skew {
                    format!("this machine's clock differs from the store's: {text}")
                } else {
                    text
                };
                ArchiveError::Denied {
                    place: self.name.clone(),
                    reason: text,
                }
            }
            _ if text.contains("No space left") => self.outage("its disk has no space left"),
            _ => self.outage(text),
        }
    }

    /// A directory is never made by a write: its disk may be missing, and was there when the store was opened.
    fn is_mounted(&self) -> Result<(), ArchiveError> {
        match &self.directory {
            Some(path) if inode(path) != self.inode => Err(ArchiveError::NoPlace(self.name.clone())),
            Some(_) | None => Ok(()),
        }
    }

    async fn call<T>(
        &self,
        name: &str,
        deadline: BootTime,
        future: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ArchiveError> {
        // A process that was frozen does nothing that it had the right to do before.
        if howdah_clock::now() >= deadline {
            return Err(self.late());
        }
        match timeout_at(deadline, future).await {
            Ok(answer) => answer.map_err(|error| self.class(name, &error)),
            Err(_) => Err(self.late()),
        }
    }

    /// Stores an object under a name that has none yet. Of two who try at once one succeeds.
    ///
    /// # Errors
    /// [`ArchiveError::Exists`] if there is one: also when this very call has stored it and its answer was lost.
    pub async fn create(
        &self,
        name: &str,
        bytes: Bytes,
        attributes: &[(&'static str, String)],
        deadline: BootTime,
    ) -> Result<(), ArchiveError> {
        let options = PutOptions {
            mode: PutMode::Create,
            attributes: self.attributes(attributes),
            ..PutOptions::default()
        };
        let path = self.path(name);
        let mut again = Again::new(deadline);
        loop {
            self.is_mounted()?;
            let put = self.inner.put_opts(&path, bytes.clone().into(), options.clone());
            match self.call(name, deadline, put).await.map(|_| ()) {
                // The answer to an earlier try may have been lost.
                Err(ArchiveError::Exists(_))
                    if again.has_tried() && self.read(name, deadline).await? == bytes =>
                {
                    return Ok(());
                }
                Err(error) if error.is_outage() => again.wait(error).await?,
                other => {
                    self.hand_over(name).await;
                    return other;
                }
            }
        }
    }

    /// Stores an object, in place of one that is there.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub async fn replace(&self, name: &str, bytes: Bytes, deadline: BootTime) -> Result<(), ArchiveError> {
        let path = self.path(name);
        let mut again = Again::new(deadline);
        loop {
            self.is_mounted()?;
            let put = self.inner.put(&path, bytes.clone().into());
            match self.call(name, deadline, put).await.map(|_| ()) {
                Err(error) if error.is_outage() => again.wait(error).await?,
                other => {
                    self.hand_over(name).await;
                    return other;
                }
            }
        }
    }

    /// A directory's files have no attributes.
    fn attributes(&self, pairs: &[(&'static str, String)]) -> Attributes {
        if self.directory.is_some() {
            return Attributes::new();
        }
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    Attribute::Metadata((*name).into()),
                    AttributeValue::from(value.clone()),
                )
            })
            .collect()
    }

    /// Makes the directory of an archive; nothing for one in a store.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn init(place: &Place) -> Result<(), ArchiveError> {
        match place {
            Place::Directory(path) => {
                std::fs::create_dir_all(path).map_err(|error| ArchiveError::local(path, error))
            }
            Place::S3(_) | Place::Gcs { .. } | Place::Azure(_) => Ok(()),
        }
    }

    /// An object's length, and what was stored with it by name; `None` where the store keeps no such things.
    pub(crate) async fn head(
        &self,
        name: &str,
        attribute: &'static str,
        deadline: BootTime,
    ) -> Result<(u64, Option<String>), ArchiveError> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let path = self.path(name);
        let got = self
            .call(name, deadline, self.inner.get_opts(&path, options))
            .await?;
        let value = got.attributes.get(&Attribute::Metadata(attribute.into()));
        Ok((got.meta.size, value.map(|value| value.as_ref().to_owned())))
    }

    /// An object's length.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`] if the store says so.
    pub async fn length(&self, name: &str, deadline: BootTime) -> Result<u64, ArchiveError> {
        let path = self.path(name);
        self.call(name, deadline, self.inner.head(&path))
            .await
            .map(|meta| meta.size)
    }

    /// A small object, whole.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub async fn read(&self, name: &str, deadline: BootTime) -> Result<Bytes, ArchiveError> {
        let reading = self.open_at(name, 0, deadline).await?;
        self.whole(name, reading, deadline).await
    }

    /// All bytes of what was opened.
    ///
    /// # Errors
    /// See [`ArchiveError`]; fewer bytes than announced are damage.
    pub(crate) async fn whole(
        &self,
        name: &str,
        reading: Reading,
        deadline: BootTime,
    ) -> Result<Bytes, ArchiveError> {
        let length = reading.length;
        if length > LARGEST {
            return Err(ArchiveError::damaged(name, format!("it has {length} bytes")));
        }
        let whole = reading.stream.try_fold(Vec::new(), async |mut whole, piece| {
            whole.extend_from_slice(&piece);
            Ok(whole)
        });
        let whole = self.call(name, deadline, whole).await?;
        if whole.len() as u64 != length {
            return Err(self.outage(format!("{name}: {} of {length} bytes came", whole.len())));
        }
        Ok(whole.into())
    }

    /// The objects whose names are this one, with or without an ending that begins with a dot.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub(crate) async fn named(&self, name: &str, deadline: BootTime) -> Result<Vec<String>, ArchiveError> {
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        if let Some(directory) = &self.directory {
            // A listing would look at every file of the folder.
            let bare = directory.join(folder).join(file);
            let looking = blocking(move || {
                let mut found = Vec::new();
                for codec in Codec::ALL {
                    let mut path = bare.clone().into_os_string();
                    path.push(codec.ending());
                    // A disk that cannot be read has said nothing of the file, and neither has a link that leads nowhere.
                    match std::fs::symlink_metadata(&path) {
                        Ok(_) => found.push(codec.ending()),
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        Err(error) => return Err(ArchiveError::local(&bare, error)),
                    }
                }
                Ok(found)
            });
            let found = timeout_at(deadline, looking).await.map_err(|_| self.late())??;
            return Ok(found
                .into_iter()
                .map(|ending| format!("{name}{ending}"))
                .collect());
        }
        // What begins with the name comes behind all but the last character of it, with little before.
        let before = name.get(..name.len().saturating_sub(1)).unwrap_or_default();
        let prefix = self.path(folder);
        let mut again = Again::new(deadline);
        let found = loop {
            let listed = self.inner.list_with_offset(Some(&prefix), &self.path(before));
            let near = listed
                .map_ok(|meta| self.relative(&meta.location).unwrap_or_default())
                .try_take_while(|found| {
                    std::future::ready(Ok(found.starts_with(name) || found.as_str() < name))
                })
                .try_collect::<Vec<String>>();
            match self.call(name, deadline, near).await {
                Ok(found) => break found,
                Err(ArchiveError::Missing(_)) => break Vec::new(),
                Err(error) if error.is_outage() => again.wait(error).await?,
                Err(error) => return Err(error),
            }
        };
        let is_named = |found: &String| {
            found
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        Ok(found.into_iter().filter(is_named).collect())
    }

    /// An object from a byte on; `deadline` is for the beginning of the answer.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub(crate) async fn open_at(
        &self,
        name: &str,
        from: u64,
        deadline: BootTime,
    ) -> Result<Reading, ArchiveError> {
        let options = GetOptions {
            range: (from > 0).then_some(GetRange::Offset(from)),
            ..GetOptions::default()
        };
        let path = self.path(name);
        let got = self
            .call(name, deadline, self.inner.get_opts(&path, options))
            .await?;
        Ok(Reading {
            length: got.meta.size,
            attributes: got.attributes.clone(),
            stream: got.into_stream(),
        })
    }

    /// The objects below a folder, those behind `after` in the order of names.
    ///
    /// # Errors
    /// See [`ArchiveError`]. A folder that is not there has none.
    pub async fn list(
        &self,
        folder: &str,
        after: Option<&str>,
        deadline: BootTime,
    ) -> Result<Vec<Object>, ArchiveError> {
        self.listing(folder, after, usize::MAX, deadline).await
    }

    /// Whether a folder has anything.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub async fn has_any(&self, folder: &str, deadline: BootTime) -> Result<bool, ArchiveError> {
        Ok(!self.listing(folder, None, 1, deadline).await?.is_empty())
    }

    async fn listing(
        &self,
        folder: &str,
        after: Option<&str>,
        most: usize,
        deadline: BootTime,
    ) -> Result<Vec<Object>, ArchiveError> {
        if let Some(directory) = &self.directory {
            let (directory, folder) = (directory.clone(), folder.to_owned());
            let listing = blocking(move || local::listing(&directory, &folder, most));
            let mut objects = timeout_at(deadline, listing).await.map_err(|_| self.late())??;
            objects.retain(|object| after.is_none_or(|after| object.name.as_str() > after));
            return Ok(objects);
        }
        let prefix = self.path(folder);
        let mut again = Again::new(deadline);
        let found = loop {
            let listed = match after {
                Some(after) => self.inner.list_with_offset(Some(&prefix), &self.path(after)),
                None => self.inner.list(Some(&prefix)),
            };
            let objects = listed.take(most).try_collect::<Vec<_>>();
            match self.call(folder, deadline, objects).await {
                Ok(found) => break found,
                Err(ArchiveError::Missing(_)) => break Vec::new(),
                Err(error) if error.is_outage() => again.wait(error).await?,
                Err(error) => return Err(error),
            }
        };
        let mut objects: Vec<Object> = found.into_iter().filter_map(|meta| self.object(&meta)).collect();
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(objects)
    }

    /// The names directly below a folder: of folders and of objects.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub async fn children(
        &self,
        folder: &str,
        deadline: BootTime,
    ) -> Result<(Vec<String>, Vec<Object>), ArchiveError> {
        if let Some(directory) = &self.directory {
            let (directory, folder) = (directory.clone(), folder.to_owned());
            let listing = blocking(move || local::children(&directory, &folder));
            return timeout_at(deadline, listing).await.map_err(|_| self.late())?;
        }
        let prefix = self.path(folder);
        let mut again = Again::new(deadline);
        let found = loop {
            let listed = self.inner.list_with_delimiter(Some(&prefix));
            match self.call(folder, deadline, listed).await {
                Ok(found) => break found,
                Err(ArchiveError::Missing(_)) => return Ok((Vec::new(), Vec::new())),
                Err(error) if error.is_outage() => again.wait(error).await?,
                Err(error) => return Err(error),
            }
        };
        let folders = found
            .common_prefixes
            .iter()
            .filter_map(|path| self.relative(path))
            .collect();
        let objects = found
            .objects
            .into_iter()
            .filter_map(|meta| self.object(&meta))
            .collect();
        Ok((folders, objects))
    }

    /// The archives of earlier major versions beside this one, whose prefix ends with its major (`…/wal/15`).
    ///
    /// # Errors
    /// The prefix does not end so, or see [`ArchiveError`].
    pub async fn earlier_majors(
        &self,
        place: &Place,
        deadline: BootTime,
    ) -> Result<Vec<Place>, ArchiveError> {
        let prefix = place.prefix();
        let major = |name: &str| name.parse::<u32>().ok().filter(|major| (9..=99).contains(major));
        let Some((parent, own)) = prefix
            .rsplit_once('/')
            .and_then(|(parent, own)| Some((parent, major(own)?)))
        else {
            return Err(ArchiveError::Setting(format!(
                "the prefix '{prefix}' does not end with a major version, so there are no others beside it"
            )));
        };
        let beside = Store::open(&place.with_prefix(parent), Duration::from_secs(60))?;
        let (folders, _) = beside.children("", deadline).await?;
        let others = folders
            .into_iter()
            .filter(|name| major(name).is_some_and(|major| major < own));
        Ok(others
            .map(|name| place.with_prefix(&format!("{parent}/{name}")))
            .collect())
    }

    /// Deletes objects in their order; those that are gone count as deleted. Says after each batch how many are.
    ///
    /// # Errors
    /// The first one that could not be deleted.
    pub async fn delete(
        &self,
        names: &[String],
        deadline: BootTime,
        mut told: impl FnMut(usize),
    ) -> Result<(), ArchiveError> {
        let mut done = 0;
        for batch in names.chunks(1000) {
            let paths: Vec<object_store::Result<Path>> =
                batch.iter().map(|name| Ok(self.path(name))).collect();
            let mut deleting = self.inner.delete_stream(stream::iter(paths).boxed());
            let deleted = async {
                while let Some(result) = deleting.next().await {
                    match result {
                        Ok(_) | Err(StoreError::NotFound { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            };
            self.call(batch.first().map_or("", String::as_str), deadline, deleted)
                .await?;
            done += batch.len();
            told(done);
        }
        Ok(())
    }

    /// What root has written into a directory is its owner's, who could not read it otherwise.
    pub(crate) async fn hand_over(&self, name: &str) {
        let Some(directory) = self.directory.clone() else {
            return;
        };
        if rustix::process::geteuid().is_root() {
            let name = name.to_owned();
            let handed = blocking(move || {
                local::hand_over(&directory, &name);
                Ok(())
            });
            let _ = handed.await;
        }
    }

    /// Takes away what a directory keeps of deleted objects: halves that a killed process has left, and empty folders.
    pub(crate) async fn tidy(&self, folder: &str) {
        if let Some(directory) = &self.directory {
            let path = directory.join(folder);
            let tidied = blocking(move || {
                local::tidy(&path);
                Ok(())
            });
            let _ = tidied.await;
        }
    }

    /// Begins an object that is written in pieces, and is there only when all are.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub(crate) async fn begin(
        &self,
        name: &str,
        deadline: BootTime,
    ) -> Result<Box<dyn object_store::MultipartUpload>, ArchiveError> {
        self.is_mounted()?;
        let path = self.path(name);
        let begun = self
            .inner
            .put_multipart_opts(&path, PutMultipartOptions::default());
        self.call(name, deadline, begun).await
    }

    pub(crate) fn error(&self, name: &str, error: &StoreError) -> ArchiveError {
        self.class(name, error)
    }

    /// What an archive says for something that is not in it: "missing" only if the archive itself is there.
    ///
    /// # Errors
    /// Always: [`ArchiveError::Missing`], or why that cannot be said.
    pub async fn missing<T>(&self, name: &str, deadline: BootTime) -> Result<T, ArchiveError> {
        if let Some(path) = &self.directory {
            // A folder may be a link to a disk that is not there.
            let is_away = |folder: &str| {
                let folder = path.join(folder);
                std::fs::symlink_metadata(&folder).is_ok() && !folder.is_dir()
            };
            if !path.is_dir() || is_away(Layout::WAL) || is_away(Layout::BACKUPS) {
                return Err(ArchiveError::NoPlace(self.name.clone()));
            }
        }
        match self.read(Layout::IDENTITY, deadline).await {
            Ok(_) => return Err(ArchiveError::Missing(name.to_owned())),
            Err(ArchiveError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
        for folder in [Layout::BACKUPS, Layout::WAL] {
            if self.has_any(folder, deadline).await? {
                return Err(ArchiveError::Missing(name.to_owned()));
            }
        }
        Err(ArchiveError::Empty(self.name.clone()))
    }
}

/// The largest document that is read whole: a list of files of a backup can have hundreds of megabytes.
const LARGEST: u64 = 1 << 30;
