use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use howdah_backup::{Codec, Identity, Layout, PageHeader, Segment, WalName, check_place};
use howdah_pgconf::parse_history;
use howdah_types::{BootTime, SystemId};
use object_store::Attribute;
use ring::digest::{SHA256, digest};

use super::{find::variants, whose};
use crate::{ArchiveError, Settings, Store, blocking::blocking, codec::unpack, hex, store::Reading};

/// How long a hole is looked at: segments may be archived out of their order.
const HOLE: Duration = Duration::from_secs(10);

/// How often.
const LOOK: Duration = Duration::from_millis(500);

/// What a get has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Got {
    /// Bytes of the file.
    pub bytes: u64,
}

/// Fetches one file of WAL to `target`, which is there complete or not at all.
///
/// `data` is the data directory that asks, when it is one: its system identifier is compared, and while it recovers to a
/// target, a segment that is missing between others is an error of the archive and not its end. The archive must have begun to answer by
/// `begin`, and the file be there by `end`.
///
/// # Errors
/// [`ArchiveError::Missing`] only if the archive is there, answers, and does not have the file.
pub async fn get(
    store: &Store,
    settings: &Settings,
    name: &str,
    target: &Path,
    data: Option<&Path>,
    begin: BootTime,
    end: BootTime,
) -> Result<Got, ArchiveError> {
    let deadline = begin;
    let name: WalName = name.parse()?;
    let is_standby = data.is_some_and(|data| data.join("standby.signal").exists());
    let patience = (howdah_clock::now() + HOLE).min(deadline);
    let (object, codec, reading) = loop {
        if let Some(found) = find(store, settings, &name, deadline).await? {
            break found;
        }
        ours(store, data, deadline).await?;
        match hole(store, settings, &name, data, is_standby, deadline).await? {
            None => return absent(store, &name, is_standby, deadline).await,
            // It may have come since it was asked for, or be on its way beside later ones.
            Some(_) if howdah_clock::now() < patience => {
                howdah_http::sleep_until(howdah_clock::now() + LOOK).await;
            }
            Some(witness) => {
                return Err(ArchiveError::Refused(format!(
                    "{name} is missing from the archive, and {witness}: recovery would end before its target, so it stops. \
                     Find the segment in the pg_wal of a former primary and archive it, or restore to a moment before it"
                )));
            }
        }
    };
    if !matches!(name, WalName::Segment(_)) {
        // They say nothing of their cluster.
        ours(store, data, deadline).await?;
    }
    take(store, settings, name, (object, codec, reading), target, data, end).await
}

/// Fetches a segment that is not asked for yet; `None` if the archive does not have it. Whether it is missing between others
/// is left to [`get`].
///
/// # Errors
/// See [`ArchiveError`].
pub async fn fetch(
    store: &Store,
    settings: &Settings,
    segment: Segment,
    target: &Path,
    data: &Path,
    deadline: BootTime,
) -> Result<Option<Got>, ArchiveError> {
    let name = WalName::Segment(segment);
    match find(store, settings, &name, deadline).await? {
        Some(found) => take(store, settings, name, found, target, Some(data), deadline)
            .await
            .map(Some),
        None => Ok(None),
    }
}

/// Reads an object, compares it with what is known of it, and puts it in its place.
async fn take(
    store: &Store,
    settings: &Settings,
    name: WalName,
    (object, codec, reading): (String, Codec, Reading),
    target: &Path,
    data: Option<&Path>,
    deadline: BootTime,
) -> Result<Got, ArchiveError> {
    let expected = [super::SHA256, super::OLD_SHA256]
        .into_iter()
        .find_map(|name| reading.attributes.get(&Attribute::Metadata(name.into())));
    let expected = expected.map(|value| value.as_ref().to_owned());
    let bytes = store.whole(&object, reading, deadline).await?;
    let (key, target, data) = (settings.key.clone(), target.to_owned(), data.map(Path::to_owned));
    let place = store.name().to_owned();
    let bytes = blocking(move || {
        let mut plain = Vec::new();
        unpack(&bytes[..], codec, key.as_ref())
            .and_then(|stream| stream.take(super::LARGEST + 1).read_to_end(&mut plain))
            .map_err(|error| ArchiveError::damaged(&object, error))?;
        if expected.is_some_and(|expected| expected != hex::encode(digest(&SHA256, &plain).as_ref())) {
            return Err(ArchiveError::damaged(
                &object,
                "its SHA-256 is not that of the file that was archived",
            ));
        }
        if let WalName::Segment(segment) = name {
            check(
                &place,
                &object,
                segment,
                &plain,
                data.as_deref().and_then(whose::of_directory),
            )?;
        }
        write(&target, &plain)?;
        Ok(plain.len() as u64)
    });
    Ok(Got { bytes: bytes.await? })
}

/// Whether the archive is the one of the cluster that asks.
async fn ours(store: &Store, data: Option<&Path>, deadline: BootTime) -> Result<(), ArchiveError> {
    let Some(system) = data.and_then(whose::of_directory) else {
        return Ok(());
    };
    match whose::known(store, deadline).await? {
        Some(identity) => identity
            .check_system(system)
            .map_err(|reason| ArchiveError::Foreign {
                place: store.name().to_owned(),
                reason,
            }),
        None => Ok(()),
    }
}

fn check(
    place: &str,
    object: &str,
    segment: Segment,
    plain: &[u8],
    system: Option<SystemId>,
) -> Result<(), ArchiveError> {
    let header = PageHeader::parse(plain).map_err(|reason| ArchiveError::damaged(object, reason))?;
    check_place(segment, &header).map_err(|reason| ArchiveError::damaged(object, reason))?;
    if plain.len() as u64 != header.segment_size.bytes() {
        return Err(ArchiveError::damaged(
            object,
            format!("it has {} bytes unpacked", plain.len()),
        ));
    }
    match system {
        Some(system) => Identity::of(&header)
            .check_system(system)
            .map_err(|reason| ArchiveError::Foreign {
                place: place.to_owned(),
                reason,
            }),
        None => Ok(()),
    }
}

/// Complete or absent: written beside the target, then renamed.
fn write(target: &Path, plain: &[u8]) -> Result<(), ArchiveError> {
    // Always the same name: what a killed one has left does not pile up.
    let mut beside = target.as_os_str().to_owned();
    beside.push(".howdah");
    let beside = PathBuf::from(beside);
    let written = File::create(&beside)
        .and_then(|mut file| {
            file.write_all(plain)?;
            sync(&file)
        })
        .and_then(|()| std::fs::rename(&beside, target));
    written.map_err(|error| {
        // Half a segment takes room on a disk that may be full, and is of no use.
        let _ = std::fs::remove_file(&beside);
        ArchiveError::local(target, error)
    })
}

#[allow(clippy::disallowed_methods, reason = "this runs on a thread of its own")]
fn sync(file: &File) -> std::io::Result<()> {
    file.sync_data()
}

/// The object that a file is archived as, opened.
async fn find(
    store: &Store,
    settings: &Settings,
    name: &WalName,
    deadline: BootTime,
) -> Result<Option<(String, Codec, Reading)>, ArchiveError> {
    let likely = Layout::wal(name, settings.codec);
    match store.open_at(&likely, 0, deadline).await {
        Ok(reading) => return Ok(Some((likely, settings.codec, reading))),
        Err(ArchiveError::Missing(_)) => {}
        Err(error) => return Err(error),
    }
    let Some((object, codec)) = variants(store, name, deadline).await?.into_iter().next() else {
        return Ok(None);
    };
    match store.open_at(&object, 0, deadline).await {
        Ok(reading) => Ok(Some((object, codec, reading))),
        // It is listed: a link that leads nowhere, a directory, a store that contradicts itself.
        Err(ArchiveError::Missing(_)) => {
            Err(ArchiveError::damaged(&object, "it is there and cannot be read"))
        }
        Err(error) => Err(error),
    }
}

/// What shows that a missing segment is a hole and not the end; `None` for the end, and for a standby, which asks again.
async fn hole(
    store: &Store,
    settings: &Settings,
    name: &WalName,
    data: Option<&Path>,
    is_standby: bool,
    deadline: BootTime,
) -> Result<Option<String>, ArchiveError> {
    let recovers = data.is_some_and(|data| data.join("recovery.signal").exists()) && !is_standby;
    match name {
        WalName::Segment(segment) if recovers => witness(store, settings, *segment, deadline).await,
        _ => Ok(None),
    }
}

/// The archive does not have the file. An archive without anything has nothing for a standby either; for a recovery it is the
/// wrong one.
async fn absent<T>(
    store: &Store,
    name: &WalName,
    is_standby: bool,
    deadline: BootTime,
) -> Result<T, ArchiveError> {
    match store.missing(&name.to_string(), deadline).await {
        Err(ArchiveError::Empty(_)) if is_standby => Err(ArchiveError::Missing(name.to_string())),
        other => other,
    }
}

/// What shows that a segment was there: a later one of its timeline, or another timeline that began behind it.
async fn witness(
    store: &Store,
    settings: &Settings,
    segment: Segment,
    deadline: BootTime,
) -> Result<Option<String>, ArchiveError> {
    let bare = Layout::wal(&WalName::Segment(segment), Codec::None);
    // In the order of names later timelines come behind, with their histories.
    let later = store.list(Layout::WAL, Some(&bare), deadline).await?;
    let size = whose::known(store, deadline)
        .await?
        .and_then(|of| of.wal_segment_size)
        .unwrap_or_default();
    for object in later {
        let Some(file) = object
            .name
            .strip_prefix(Layout::WAL)
            .and_then(|file| file.strip_prefix('/'))
        else {
            continue;
        };
        let (name, codec) = Codec::split(file);
        match name.parse() {
            Ok(WalName::Segment(found)) if found.timeline == segment.timeline => {
                return Ok(Some(format!("a later one is there ({found})")));
            }
            Ok(WalName::History(timeline)) => {
                let text = crate::catalogue::document(store, settings, &object.name, codec, deadline).await?;
                let ends = parse_history(&text)
                    .into_iter()
                    .find(|line| line.timeline == segment.timeline);
                let number = segment.number(size);
                if ends.is_some_and(|line| number.is_some_and(|number| size.number_at(line.switch) > number))
                {
                    return Ok(Some(format!("timeline {timeline} began behind it")));
                }
            }
            _ => {}
        }
    }
    Ok(None)
}
