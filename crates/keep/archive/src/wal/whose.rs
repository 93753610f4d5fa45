use std::path::Path;

use bytes::Bytes;
use howdah_backup::{Codec, Identity, Layout, PageHeader, WalName};
use howdah_pgconf::ControlData;
use howdah_types::{BootTime, SystemId};

use crate::{ArchiveError, Settings, Store, catalogue, codec::unpack};

/// Whose archive it is; `None` for one that has nothing yet.
///
/// An archive that WAL-G has begun does not say it: then a segment does, or a backup's sentinel.
///
/// # Errors
/// See [`ArchiveError`].
pub async fn identity(
    store: &Store,
    settings: &Settings,
    deadline: BootTime,
) -> Result<Option<Identity>, ArchiveError> {
    match document(store, deadline).await? {
        Some(identity) => Ok(Some(identity)),
        None => inferred(store, settings, deadline).await,
    }
}

async fn inferred(
    store: &Store,
    settings: &Settings,
    deadline: BootTime,
) -> Result<Option<Identity>, ArchiveError> {
    // A sentinel is small, and plain.
    let of_backup = of_newest_backup(store, deadline).await?;
    if of_backup.as_ref().is_some_and(|of| of.wal_segment_size.is_some()) {
        return Ok(of_backup);
    }
    match of_newest_segment(store, settings, deadline).await {
        Ok(Some(identity)) => Ok(Some(identity)),
        // One that cannot be read says nothing: half of one, or encrypted with another key.
        Ok(None) | Err(ArchiveError::Damaged { .. }) => Ok(of_backup),
        Err(error) => Err(error),
    }
}

/// Whose archive it is, as far as that is known without reading WAL: what asks for it does so again and again.
///
/// # Errors
/// See [`ArchiveError`].
pub(super) async fn known(store: &Store, deadline: BootTime) -> Result<Option<Identity>, ArchiveError> {
    match document(store, deadline).await? {
        Some(identity) => Ok(Some(identity)),
        None => of_newest_backup(store, deadline).await,
    }
}

async fn document(store: &Store, deadline: BootTime) -> Result<Option<Identity>, ArchiveError> {
    let bytes = match store.read(Layout::IDENTITY, deadline).await {
        Ok(bytes) => bytes,
        Err(ArchiveError::Missing(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let identity: Identity =
        serde_json::from_slice(&bytes).map_err(|error| ArchiveError::damaged(Layout::IDENTITY, error))?;
    if identity.format > Identity::FORMAT {
        return Err(ArchiveError::Refused(format!(
            "{} was begun by a newer version (format {}): use that version",
            store.name(),
            identity.format
        )));
    }
    Ok(Some(identity))
}

async fn of_newest_segment(
    store: &Store,
    settings: &Settings,
    deadline: BootTime,
) -> Result<Option<Identity>, ArchiveError> {
    let objects = store.list(Layout::WAL, None, deadline).await?;
    let newest = objects.iter().rev().find_map(|object| {
        let file = object.name.strip_prefix(Layout::WAL)?.strip_prefix('/')?;
        let (name, codec) = Codec::split(file);
        matches!(name.parse(), Ok(WalName::Segment(_))).then_some((object, codec))
    });
    let Some((object, codec)) = newest else {
        return Ok(None);
    };
    let bytes = store.read(&object.name, deadline).await?;
    let header = first_page(&object.name, bytes, codec, settings).await?;
    Ok(Some(Identity::of(&header)))
}

async fn first_page(
    name: &str,
    bytes: Bytes,
    codec: Codec,
    settings: &Settings,
) -> Result<PageHeader, ArchiveError> {
    let (name, key) = (name.to_owned(), settings.key.clone());
    crate::blocking::blocking(move || {
        use std::io::Read;
        let mut page = Vec::new();
        unpack(&bytes[..], codec, key.as_ref())
            .and_then(|stream| stream.take(8192).read_to_end(&mut page))
            .map_err(|error| ArchiveError::damaged(&name, error))?;
        PageHeader::parse(&page).map_err(|reason| ArchiveError::damaged(&name, reason))
    })
    .await
}

async fn of_newest_backup(store: &Store, deadline: BootTime) -> Result<Option<Identity>, ArchiveError> {
    for (_, sentinel) in catalogue::newest_sentinels(store, deadline).await? {
        if let Ok(sentinel) = sentinel
            && let Some(system_identifier) = sentinel.system_identifier
        {
            return Ok(Some(Identity {
                format: Identity::FORMAT,
                system_identifier,
                major: sentinel.major(),
                wal_segment_size: None,
            }));
        }
    }
    Ok(None)
}

/// Makes sure that an archive is this cluster's, and begins it with the first file.
pub(super) async fn claim(
    store: &Store,
    settings: &Settings,
    header: &PageHeader,
    deadline: BootTime,
) -> Result<(), ArchiveError> {
    let foreign = |reason| ArchiveError::Foreign {
        place: store.name().to_owned(),
        reason,
    };
    if let Some(identity) = store.known_identity() {
        return identity.check(header).map_err(foreign);
    }
    if let Some(identity) = document(store, deadline).await? {
        store.know_identity(&identity);
        return identity.check(header).map_err(foreign);
    }
    if let Some(identity) = inferred(store, settings, deadline).await? {
        identity.check(header).map_err(foreign)?;
    }
    let text = serde_json::to_vec_pretty(&Identity::of(header))
        .map_err(|error| ArchiveError::Refused(error.to_string()))?;
    match store.create(Layout::IDENTITY, text.into(), &[], deadline).await {
        Ok(()) => Ok(()),
        // Another one was faster; who it was decides.
        Err(ArchiveError::Exists(_)) => match document(store, deadline).await? {
            Some(identity) => identity.check(header).map_err(foreign),
            None => Ok(()),
        },
        Err(error) => Err(error),
    }
}

/// The cluster that a file of WAL lies in, by `global/pg_control` of its data directory: histories do not say it.
pub(super) fn of_directory(data: &Path) -> Option<SystemId> {
    let bytes = std::fs::read(data.join("global/pg_control")).ok()?;
    ControlData::parse(&bytes).ok().map(|control| control.system_id)
}
