//! A restore: the archives of a chain of backups become files, the full backup's first, `pg_control` last of all.

mod place;
mod stream;
mod unpack;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use futures_util::{StreamExt, stream as futures};
use howdah_backup::{Backup, Catalogue, Codec, FilesMetadata, Layout, Stored};

pub use self::place::Tablespaces;
pub(crate) use self::stream::{channel as pieces, fetch};
pub(crate) use self::unpack::Tail;
use self::{place::Target, unpack::Rules};
use crate::{ArchiveError, Progress, Settings, Store, blocking::blocking, create::soon, progress::all};

/// How a backup is restored.
#[derive(Clone, Debug)]
pub struct Options {
    /// The new data directory: absent or empty.
    pub target: PathBuf,
    /// Where tablespaces go.
    pub tablespaces: Tablespaces,
}

/// Restores a backup and what it builds on.
///
/// The control file comes last, so that a server starts on nothing that is half restored. When anything fails, what was
/// written is removed.
///
/// # Errors
/// See [`ArchiveError`].
pub async fn restore(
    store: &Store,
    settings: &Settings,
    catalogue: &Catalogue,
    backup: &Backup,
    options: &Options,
    progress: &Progress,
) -> Result<(), ArchiveError> {
    let chain = catalogue.chain(backup).map_err(|missing| {
        ArchiveError::Refused(format!(
            "backup {} builds on {missing}, which is not there",
            backup.name
        ))
    })?;
    let steps = steps(store, settings, &chain).await?;
    progress.set_total(
        chain
            .iter()
            .filter_map(|of| of.sentinel.as_ref())
            .map(|of| of.uncompressed_size)
            .sum(),
    );

    let spec = backup
        .sentinel
        .as_ref()
        .and_then(|sentinel| sentinel.spec.clone());
    let (target, spaces) = (options.target.clone(), options.tablespaces.clone());
    let target = Arc::new(blocking(move || Target::prepare(&target, spec.as_ref(), &spaces)).await?);
    let restored = run(store, settings, &steps, &target, progress).await;
    let target = Arc::clone(&target);
    match restored {
        Ok(()) => blocking(move || target.sync()).await,
        Err(error) => {
            let cleared = blocking(move || target.clear()).await;
            if let Err(left) = cleared {
                tracing::warn!("What was restored so far could not be removed: {left}");
            }
            Err(error)
        }
    }
}

/// One backup of a chain.
struct Step {
    name: String,
    /// Archives in any order.
    parts: Vec<Archive>,
    /// `pg_control` and the label, after all others.
    last: Vec<Archive>,
    rules: Arc<Rules>,
    key: Option<crate::Key>,
}

/// One archive.
#[derive(Clone)]
pub(crate) struct Archive {
    pub(crate) object: String,
    pub(crate) codec: Codec,
    /// What it must be, where a receipt says it.
    pub(crate) stored: Option<Stored>,
}

async fn steps(store: &Store, settings: &Settings, chain: &[&Backup]) -> Result<Vec<Step>, ArchiveError> {
    let newest = chain.last().map(|backup| backup.name.clone()).unwrap_or_default();
    let mut lists = Vec::new();
    for backup in chain {
        lists.push(files_of(store, backup).await?);
    }
    // A file that the newest backup does not have was dropped since.
    let wanted: Option<BTreeSet<String>> = match lists.last() {
        Some(Some(list)) if chain.len() > 1 => Some(list.files.keys().cloned().collect()),
        _ => None,
    };
    let mut steps = Vec::new();
    for (backup, list) in chain.iter().zip(&lists) {
        let is_newest = backup.name == newest;
        let mut archives = archives_of(backup)?;
        let key = key_of(settings, backup)?;
        if let Some(list) = list {
            let files = archives
                .iter()
                .filter_map(|archive| archive.object.rsplit('/').next());
            let there: BTreeSet<&str> = files.map(|file| Codec::split(file).0).collect();
            // WAL-G names them with their endings or without.
            let is_there = |name: &&String| there.contains(Codec::split(name.as_str()).0);
            if let Some(missing) = list.tars.keys().find(|name| !is_there(name)) {
                return Err(ArchiveError::damaged(
                    &format!("{}/{missing}", Layout::parts(&backup.name)),
                    "it is not there, and the backup's list of files names it",
                ));
            }
        }
        let is_last = |archive: &Archive| {
            let file = archive.object.rsplit('/').next().unwrap_or_default();
            file.starts_with("pg_control.tar") || file.starts_with("backup_label.tar")
        };
        let mut last: Vec<Archive> = archives
            .iter()
            .filter(|archive| is_last(archive))
            .cloned()
            .collect();
        archives.retain(|archive| !is_last(archive));
        // The label first: what has a control file is taken for whole.
        last.sort_by_key(|archive| archive.object.contains("/pg_control.tar"));
        has_control(backup, &last)?;
        steps.push(Step {
            name: backup.name.clone(),
            parts: archives,
            key,
            // Older ones' control files and labels are those of the past.
            last: if is_newest { last } else { Vec::new() },
            rules: Arc::new(Rules {
                increments: list
                    .iter()
                    .flat_map(|list| &list.files)
                    .filter(|(_, entry)| entry.is_incremented)
                    .map(|(path, _)| path.clone())
                    .collect(),
                wanted: wanted.clone().filter(|_| !is_newest),
            }),
        });
    }
    Ok(steps)
}

async fn files_of(store: &Store, backup: &Backup) -> Result<Option<FilesMetadata>, ArchiveError> {
    let name = Layout::files(&backup.name);
    if !backup.objects.contains(&name) {
        let needs = backup
            .sentinel
            .as_ref()
            .is_some_and(howdah_backup::Sentinel::is_delta);
        return if needs {
            Err(ArchiveError::Refused(format!(
                "backup {} is a delta, and {name} is missing: which of its files are only changed pages is not known",
                backup.name
            )))
        } else {
            Ok(None)
        };
    }
    let bytes = store.read(&name, soon()).await?;
    blocking(move || serde_json::from_slice(&bytes).map_err(|error| ArchiveError::damaged(&name, error)))
        .await
        .map(Some)
}

/// The archives of a backup, each with what its receipt says of it.
pub(crate) fn archives_of(backup: &Backup) -> Result<Vec<Archive>, ArchiveError> {
    let folder = format!("{}/", Layout::parts(&backup.name));
    let mut archives = Vec::new();
    let mut unmatched: BTreeSet<&str> = BTreeSet::new();
    let receipt = backup.receipt.as_ref();
    unmatched.extend(
        receipt
            .iter()
            .flat_map(|receipt| receipt.objects.keys().map(String::as_str)),
    );
    for object in &backup.objects {
        let Some(file) = object.strip_prefix(&folder) else {
            continue;
        };
        let (name, codec) = Codec::split(file);
        if !name.ends_with(".tar") {
            return Err(ArchiveError::Refused(format!(
                "{object} is of a form that is not known"
            )));
        }
        let stored = receipt.and_then(|receipt| receipt.objects.get(file)).cloned();
        if receipt.is_some() && stored.is_none() {
            return Err(ArchiveError::damaged(
                object,
                "the backup's receipt does not name it",
            ));
        }
        unmatched.remove(file);
        archives.push(Archive {
            object: object.clone(),
            codec,
            stored,
        });
    }
    match unmatched.first() {
        Some(file) => Err(ArchiveError::damaged(
            &format!("{folder}{file}"),
            "it is not there, and the backup's receipt names it",
        )),
        None if archives.is_empty() => Err(ArchiveError::Refused(format!(
            "backup {} has no archives",
            backup.name
        ))),
        None => Ok(archives),
    }
}

/// Without the control file a backup is none. WAL-E has it among the others.
pub(crate) fn has_control(backup: &Backup, archives: &[Archive]) -> Result<(), ArchiveError> {
    let has = archives
        .iter()
        .any(|archive| archive.object.contains("/pg_control.tar"));
    if has || backup.parsed.offset.is_some() {
        return Ok(());
    }
    let object = format!("{}/pg_control.tar", Layout::parts(&backup.name));
    Err(ArchiveError::damaged(
        &object,
        "it is not there, and the backup is not complete without it",
    ))
}

/// The key of a backup's archives; a wrong one is said before anything is written. Plain backups stay readable when a key is
/// introduced.
pub(crate) fn key_of(settings: &Settings, backup: &Backup) -> Result<Option<crate::Key>, ArchiveError> {
    let needed = backup.receipt.as_ref().and_then(|receipt| receipt.key.clone());
    let given = settings.key.as_ref().map(crate::Key::id);
    match (needed, given) {
        (Some(needed), None) => Err(ArchiveError::Setting(format!(
            "backup {} is encrypted with key {needed}: set WALG_LIBSODIUM_KEY",
            backup.name
        ))),
        (Some(needed), Some(given)) if needed != given => Err(ArchiveError::Setting(format!(
            "backup {} is encrypted with key {needed}, and WALG_LIBSODIUM_KEY is key {given}",
            backup.name
        ))),
        (None, Some(_)) if backup.receipt.is_some() => Ok(None),
        _ => Ok(settings.key.clone()),
    }
}

async fn run(
    store: &Store,
    settings: &Settings,
    steps: &[Step],
    target: &Arc<Target>,
    progress: &Progress,
) -> Result<(), ArchiveError> {
    for step in steps {
        tracing::info!(
            "Restoring {}: {} archives.",
            step.name,
            step.parts.len() + step.last.len()
        );
        let parts = futures::iter(&step.parts)
            .map(|archive| one(store, archive, step, target, progress))
            .buffer_unordered(settings.downloads.max(1));
        // All of them end before this does, also when one fails: what they wrote is taken away afterwards.
        all(parts.collect().await)?;
        for archive in &step.last {
            one(store, archive, step, target, progress).await?;
        }
    }
    Ok(())
}

/// Restores one archive: bytes come by one task and become files on another thread.
async fn one(
    store: &Store,
    archive: &Archive,
    step: &Step,
    target: &Arc<Target>,
    progress: &Progress,
) -> Result<(), ArchiveError> {
    let (pieces, reader) = stream::channel();
    let writing = {
        let (rules, target) = (Arc::clone(&step.rules), Arc::clone(target));
        let (archive, key, progress) = (archive.clone(), step.key.clone(), progress.clone());
        blocking(move || unpack::archive(reader, &archive, key.as_ref(), &rules, &target, &progress))
    };
    let reading = progress.run(stream::fetch(
        store,
        &archive.object,
        archive.stored.as_ref(),
        pieces,
        progress,
    ));
    let (written, read) = tokio::join!(writing, reading);
    match (written, read) {
        // Bytes that are wrong or did not come are the cause, and what could not be unpacked the consequence.
        (_, Err(error)) => Err(error),
        (Err(error), Ok(())) => {
            progress.give_up();
            Err(error)
        }
        (Ok(()), Ok(())) => Ok(()),
    }
}
