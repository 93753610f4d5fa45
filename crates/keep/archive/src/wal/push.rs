use std::{
    io::{Read, Write},
    path::Path,
};

use bytes::Bytes;
use howdah_backup::{Codec, Foreign, Layout, PageHeader, WalName, check_place};
use howdah_pgconf::parse_history;
use howdah_types::{BootTime, Timeline};
use ring::digest::{SHA256, digest};

use super::{find::variants, whose};
use crate::{
    ArchiveError, Settings, Store,
    blocking::blocking,
    codec::{Pack, unpack},
    hex,
};

/// What a push has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The file is in the archive now.
    Stored {
        /// Bytes of the object.
        bytes: u64,
    },
    /// It was there already, with the same content.
    WasThere,
}

/// Archives one file.
///
/// It is created if absent. If something is there under its name, whatever the codec, that stays: equal content is
/// success, other content an error. Success means that the store has answered for the whole object. `term` is that of the
/// leader who archives it, where there is one; it is kept with the object.
///
/// # Errors
/// See [`ArchiveError`].
pub async fn push(
    store: &Store,
    settings: &Settings,
    path: &Path,
    term: Option<u64>,
    deadline: BootTime,
) -> Result<Pushed, ArchiveError> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let name: WalName = file.parse()?;
    let plain = read(path).await?;
    check(store, settings, &name, &plain, path, deadline).await?;

    let there = variants(store, &name, deadline).await?;
    for (object, codec) in &there {
        compare(store, settings, &name, object, *codec, &plain, deadline).await?;
    }
    if !there.is_empty() {
        return Ok(Pushed::WasThere);
    }
    let object = Layout::wal(&name, settings.codec);
    let (bytes, sha256) = pack(plain.clone(), settings).await?;
    let length = bytes.len() as u64;
    let mut attributes = vec![(super::SHA256, sha256.clone())];
    attributes.extend(term.map(|term| (super::TERM, term.to_string())));
    match store.create(&object, bytes, &attributes, deadline).await {
        Ok(()) => {}
        Err(ArchiveError::Exists(_)) => {
            compare(store, settings, &name, &object, settings.codec, &plain, deadline).await?;
            return Ok(Pushed::WasThere);
        }
        Err(error) => return Err(error),
    }
    let (stored, digest_there) = store.head(&object, super::SHA256, deadline).await?;
    if stored != length {
        return Err(ArchiveError::damaged(
            &object,
            format!("{stored} bytes are stored, and {length} were sent"),
        ));
    }
    // A store that does not know create-if-absent lets two succeed; the one whose content is there has.
    if digest_there.is_some_and(|there| there != sha256) {
        return Err(ArchiveError::OtherContent {
            name: name.to_string(),
        });
    }
    // Another one may have stored it with another codec at the same time.
    for (other, codec) in variants(store, &name, deadline).await? {
        if other != object {
            compare(store, settings, &name, &other, codec, &plain, deadline).await?;
        }
    }
    Ok(Pushed::Stored { bytes: length })
}

async fn read(path: &Path) -> Result<Bytes, ArchiveError> {
    let path = path.to_owned();
    blocking(move || {
        let mut bytes = Vec::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(super::LARGEST + 1).read_to_end(&mut bytes))
            .map_err(|error| ArchiveError::local(&path, error))?;
        Ok(Bytes::from(bytes))
    })
    .await
}

/// Whose file it is, and whether it is what its name says.
async fn check(
    store: &Store,
    settings: &Settings,
    name: &WalName,
    plain: &Bytes,
    path: &Path,
    deadline: BootTime,
) -> Result<(), ArchiveError> {
    let foreign = |reason: Foreign| ArchiveError::Foreign {
        place: store.name().to_owned(),
        reason,
    };
    match name {
        WalName::Segment(segment) | WalName::Partial(segment) => {
            let no_segment = |reason| ArchiveError::NoSegment {
                name: name.to_string(),
                reason,
            };
            let header = PageHeader::parse(plain).map_err(no_segment)?;
            check_place(*segment, &header).map_err(|reason| ArchiveError::Refused(reason.to_string()))?;
            let (length, expected) = (plain.len() as u64, header.segment_size.bytes());
            if length != expected {
                return Err(ArchiveError::Refused(format!(
                    "{name} has {length} bytes, and a segment of this cluster has {expected}"
                )));
            }
            whose::claim(store, settings, &header, deadline).await
        }
        WalName::History(_) | WalName::Label(..) => {
            if let WalName::History(timeline) = name {
                check_history(*timeline, plain)?;
            }
            // They say nothing of their cluster; the directory that they lie in does.
            let data = path.parent().and_then(Path::parent).unwrap_or(Path::new(""));
            let data = if data.as_os_str().is_empty() {
                Path::new(".")
            } else {
                data
            };
            let system = whose::of_directory(data);
            match (system, whose::identity(store, settings, deadline).await?) {
                (Some(system), Some(identity)) => identity.check_system(system).map_err(foreign),
                _ => Ok(()),
            }
        }
    }
}

/// Whether a history is one: nothing could take the place of rubbish, and whoever restores would be led astray.
fn check_history(timeline: Timeline, plain: &[u8]) -> Result<(), ArchiveError> {
    let text = String::from_utf8_lossy(plain);
    let lines = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    let parsed = parse_history(&text);
    let ids = parsed.iter().map(|line| line.timeline);
    let is_history = !parsed.is_empty()
        && parsed.len() == lines.count()
        && ids.clone().zip(ids.skip(1)).all(|(one, next)| one < next)
        && parsed.last().is_some_and(|line| line.timeline < timeline);
    if is_history {
        Ok(())
    } else {
        Err(ArchiveError::Refused(format!(
            "{:08X}.history does not say which timelines lead to it: it is no history of PostgreSQL's",
            timeline.0
        )))
    }
}

async fn pack(plain: Bytes, settings: &Settings) -> Result<(Bytes, String), ArchiveError> {
    let (codec, key) = (settings.codec, settings.key.clone());
    blocking(move || {
        let mut pack = Pack::new(Vec::with_capacity(plain.len() / 4), codec, key.as_ref())
            .map_err(|error| ArchiveError::Refused(error.to_string()))?;
        let packed = pack.write_all(&plain).and_then(|()| pack.finish());
        let packed = packed.map_err(|error| ArchiveError::Refused(format!("compressing: {error}")))?;
        Ok((packed.into(), hex::encode(digest(&SHA256, &plain).as_ref())))
    })
    .await
}

/// Success if what is there has the same content.
async fn compare(
    store: &Store,
    settings: &Settings,
    name: &WalName,
    object: &str,
    codec: Codec,
    plain: &Bytes,
    deadline: BootTime,
) -> Result<(), ArchiveError> {
    let stored = store.read(object, deadline).await?;
    let (key, object, plain) = (settings.key.clone(), object.to_owned(), plain.clone());
    let is_same = blocking(move || {
        let mut there = Vec::with_capacity(plain.len());
        unpack(&stored[..], codec, key.as_ref())
            .and_then(|stream| stream.take(super::LARGEST + 1).read_to_end(&mut there))
            .map_err(|error| ArchiveError::damaged(&object, error))?;
        Ok(there == plain)
    });
    if is_same.await? {
        Ok(())
    } else {
        Err(ArchiveError::OtherContent {
            name: name.to_string(),
        })
    }
}
