//! Reads what an archive has into [`howdah_backup::Catalogue`].

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use howdah_backup::{
    Backup, Catalogue, Codec, Layout, Object, Proof, Receipt, SegmentSize, Sentinel, WalName,
};
use howdah_pgconf::parse_history;
use howdah_types::{BootTime, Timeline};
use serde::{Deserialize, Serialize};

use crate::{ArchiveError, Settings, Store, blocking::blocking, codec::unpack, wal};

/// Documents that are read at once.
const AT_ONCE: usize = 16;

/// The content of the object that says that a backup is being made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Until when that is believed.
    pub(crate) until: jiff::Timestamp,
    /// Where it is made, for people.
    pub(crate) host: String,
    /// By what its maker knows it.
    #[serde(default)]
    pub(crate) token: String,
}

/// The content of the object that says that a backup was verified.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Verified {
    /// When.
    pub(crate) at: jiff::Timestamp,
    /// What was found; `None` for a sound one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) damage: Option<String>,
}

/// The newest few sentinels, by backup, the newest first; an error for one that cannot be read.
pub(crate) async fn newest_sentinels(
    store: &Store,
    deadline: BootTime,
) -> Result<Vec<(String, Result<Sentinel, String>)>, ArchiveError> {
    let (_, objects) = store.children(Layout::BACKUPS, deadline).await?;
    let mut names: Vec<String> = objects
        .iter()
        .filter_map(|object| backup_of(&object.name))
        .collect();
    names.sort();
    let newest = names.into_iter().rev().take(3);
    let read = stream::iter(newest.map(|name| async move {
        let sentinel = parsed_of(store, &Layout::sentinel(&name), deadline).await?;
        Ok::<_, ArchiveError>((name, sentinel))
    }));
    read.buffered(AT_ONCE).try_collect().await
}

fn backup_of(object: &str) -> Option<String> {
    let file = object.strip_prefix(Layout::BACKUPS)?.strip_prefix('/')?;
    Some(Layout::backup_of_sentinel(file)?.to_owned())
}

/// Everything in an archive.
///
/// # Errors
/// See [`ArchiveError`]. A single document that cannot be read is noted at its backup.
pub async fn catalogue(
    store: &Store,
    settings: &Settings,
    deadline: BootTime,
) -> Result<Catalogue, ArchiveError> {
    let identity = wal::identity(store, settings, deadline).await?;
    let size = identity
        .and_then(|of| of.wal_segment_size)
        .unwrap_or(SegmentSize::DEFAULT);
    let mut catalogue = Catalogue::new(size);
    let objects = store.list(Layout::WAL, None, deadline).await?;
    let histories: Vec<(Timeline, String, Codec)> = objects
        .iter()
        .filter_map(|object| history_of(&object.name))
        .collect();
    for object in objects {
        catalogue.add_wal(object);
    }
    let read = stream::iter(histories.into_iter().map(|(timeline, name, codec)| async move {
        match document(store, settings, &name, codec, deadline).await {
            Ok(text) => Ok(Ok((timeline, parse_history(&text)))),
            Err(error @ ArchiveError::Damaged { .. }) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }));
    let read: Vec<Result<_, String>> = read.buffered(AT_ONCE).try_collect().await?;
    for history in read {
        match history {
            Ok((timeline, lines)) => {
                catalogue.histories.insert(timeline, lines);
            }
            Err(trouble) => catalogue.troubles.push(trouble),
        }
    }
    catalogue.backups = backups(store, deadline).await?;
    Ok(catalogue)
}

fn history_of(object: &str) -> Option<(Timeline, String, Codec)> {
    let file = object.strip_prefix(Layout::WAL)?.strip_prefix('/')?;
    let (name, codec) = Codec::split(file);
    match name.parse() {
        Ok(WalName::History(timeline)) => Some((timeline, object.to_owned(), codec)),
        Ok(_) | Err(_) => None,
    }
}

pub(crate) async fn document(
    store: &Store,
    settings: &Settings,
    name: &str,
    codec: Codec,
    deadline: BootTime,
) -> Result<String, ArchiveError> {
    let bytes = store.read(name, deadline).await?;
    let (name, key) = (name.to_owned(), settings.key.clone());
    blocking(move || {
        use std::io::Read;
        let mut text = String::new();
        unpack(&bytes[..], codec, key.as_ref())
            .and_then(|stream| stream.take(1 << 20).read_to_string(&mut text))
            .map_err(|error| ArchiveError::damaged(&name, error))?;
        Ok(text)
    })
    .await
}

async fn backups(store: &Store, deadline: BootTime) -> Result<Vec<Backup>, ArchiveError> {
    let objects = store.list(Layout::BACKUPS, None, deadline).await?;
    let mut of: BTreeMap<String, Vec<Object>> = BTreeMap::new();
    for object in objects {
        let Some(rest) = object
            .name
            .strip_prefix(Layout::BACKUPS)
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            continue;
        };
        let name = match rest.split_once('/') {
            Some((folder, _)) => folder.to_owned(),
            None => match Layout::backup_of_sentinel(rest) {
                Some(name) => name.to_owned(),
                None => continue,
            },
        };
        of.entry(name).or_default().push(object);
    }
    let known = of
        .into_iter()
        .filter_map(|(name, objects)| Some((name.parse().ok()?, name, objects)));
    let read = stream::iter(known.map(|(parsed, name, objects)| one(store, parsed, name, objects, deadline)));
    read.buffered(AT_ONCE).try_collect().await
}

async fn one(
    store: &Store,
    parsed: howdah_backup::BackupName,
    name: String,
    mut objects: Vec<Object>,
    deadline: BootTime,
) -> Result<Backup, ArchiveError> {
    let sentinel_name = Layout::sentinel(&name);
    objects.sort_by_key(|object| (object.name != sentinel_name, object.name.clone()));
    let has = |wanted: &str| objects.iter().any(|object| object.name == wanted);
    let mut trouble = None;
    let mut sentinel: Option<Sentinel> = None;
    if has(&sentinel_name) {
        match parsed_of(store, &sentinel_name, deadline).await? {
            Ok(found) => sentinel = Some(found),
            Err(why) => trouble = Some(why),
        }
    }
    let mut receipt: Option<Receipt> = None;
    if has(&Layout::receipt(&name)) {
        match parsed_of::<Receipt>(store, &Layout::receipt(&name), deadline).await? {
            Ok(found) if found.format <= Receipt::FORMAT => receipt = Some(found),
            Ok(found) => {
                trouble = Some(format!(
                    "its receipt is of format {}, a newer version's",
                    found.format
                ));
            }
            Err(why) => trouble = Some(why),
        }
    }
    let mut running_until = None;
    if sentinel.is_none() && has(&Layout::running(&name)) {
        let running: Result<Running, _> = parsed_of(store, &Layout::running(&name), deadline).await?;
        running_until = running.ok().map(|running| running.until);
    }
    let (mut verified, mut damage) = (None, None);
    if has(&Layout::verified(&name)) {
        let note: Result<Verified, _> = note_of(store, &Layout::verified(&name), deadline).await?;
        if let Ok(note) = note {
            damage = note.damage;
            verified = Some(note.at).filter(|_| damage.is_none());
        }
    }
    let mut proof = None;
    if has(&Layout::proof(&name)) {
        let note: Result<Proof, _> = note_of(store, &Layout::proof(&name), deadline).await?;
        proof = note.ok();
    }
    if trouble.is_some() {
        sentinel = None;
    }
    let newest = objects
        .iter()
        .map(|object| object.modified)
        .max()
        .unwrap_or_default();
    let modified = objects
        .first()
        .filter(|object| object.name == sentinel_name)
        .map_or(newest, |object| object.modified);
    Ok(Backup {
        name,
        parsed,
        sentinel,
        trouble,
        receipt,
        modified,
        stored: objects.iter().map(|object| object.size).sum(),
        sizes: objects
            .iter()
            .map(|object| (object.name.clone(), object.size))
            .collect(),
        objects: objects.into_iter().map(|object| object.name).collect(),
        verified,
        damage,
        proof,
        running_until,
    })
}

/// A note that no restore depends on: one that may not be read is passed over.
async fn note_of<T: serde::de::DeserializeOwned>(
    store: &Store,
    name: &str,
    deadline: BootTime,
) -> Result<Result<T, String>, ArchiveError> {
    match parsed_of(store, name, deadline).await {
        Err(error @ ArchiveError::Denied { .. }) => {
            tracing::warn!("{name} is passed over: {error}.");
            Ok(Err(error.to_string()))
        }
        other => other,
    }
}

/// A document, or in words why it is none. One that is gone by now counts as that too: a backup may end or be deleted.
async fn parsed_of<T: serde::de::DeserializeOwned>(
    store: &Store,
    name: &str,
    deadline: BootTime,
) -> Result<Result<T, String>, ArchiveError> {
    match store.read(name, deadline).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))),
        Err(ArchiveError::Missing(_)) => Ok(Err(format!("{name} is gone"))),
        Err(error) => Err(error),
    }
}
