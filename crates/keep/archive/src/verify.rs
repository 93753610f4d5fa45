//! Reads a backup or WAL as a restore would, without writing anything.

use std::io::Read;

use futures_util::{StreamExt, TryStreamExt, stream};
use howdah_backup::{Backup, Codec, Layout, Object, PageHeader, Segment, check_place};
use jiff::Timestamp;

use crate::{
    ArchiveError, Progress, Settings, Store,
    blocking::blocking,
    catalogue::Verified,
    codec::unpack,
    create::soon,
    restore::{Tail, archives_of, fetch, has_control, key_of, pieces},
};

/// What a verification has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Objects that were read.
    pub objects: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Whether they were compared with a receipt; else only with what their codecs say.
    pub against_receipt: bool,
}

/// Reads every archive of a backup, compares it with the receipt, and unpacks it to its end. What was found is noted beside
/// the backup, and counts for retention.
///
/// # Errors
/// The first object that is damaged or missing.
pub async fn verify(
    store: &Store,
    settings: &Settings,
    backup: &Backup,
    progress: &Progress,
) -> Result<Verification, ArchiveError> {
    let verified = read_all(store, settings, backup, progress).await;
    let damage = match &verified {
        Ok(_) => None,
        Err(error @ ArchiveError::Damaged { .. }) if backup.receipt.is_some() => Some(error.to_string()),
        // Without a receipt a missing or wrong key looks like damage.
        Err(_) => return verified,
    };
    let note = Verified {
        at: Timestamp::now(),
        damage,
    };
    let note = serde_json::to_vec(&note).map_err(|error| ArchiveError::Refused(error.to_string()))?;
    // A reader's rights are enough to verify; then it is only not noted.
    match store
        .replace(&Layout::verified(&backup.name), note.into(), soon())
        .await
    {
        Ok(()) => verified,
        Err(error @ ArchiveError::Denied { .. }) => {
            tracing::warn!("What was found is not noted, so that it counts for no retention: {error}.");
            verified
        }
        Err(error) => Err(error),
    }
}

async fn read_all(
    store: &Store,
    settings: &Settings,
    backup: &Backup,
    progress: &Progress,
) -> Result<Verification, ArchiveError> {
    let key = key_of(settings, backup)?;
    let archives = archives_of(backup)?;
    has_control(backup, &archives)?;
    progress.set_total(
        backup
            .sentinel
            .as_ref()
            .map_or(0, |sentinel| sentinel.uncompressed_size),
    );
    let objects = archives.len() as u64;
    let key = &key;
    let read = stream::iter(archives).map(|archive| async move {
        let (send, reader) = pieces();
        let (codec, key, object) = (archive.codec, key.clone(), archive.object.clone());
        let counted = progress.clone();
        let unpacking = blocking(move || {
            let damaged = |error| ArchiveError::damaged(&object, error);
            let plain = unpack(reader, codec, key.as_ref()).map_err(damaged)?;
            members(plain, &counted).map_err(damaged)
        });
        let fetching = progress.run(fetch(
            store,
            &archive.object,
            archive.stored.as_ref(),
            send,
            progress,
        ));
        let (unpacked, fetched) = tokio::join!(unpacking, fetching);
        fetched.and(unpacked)
    });
    read.buffer_unordered(settings.downloads.max(1))
        .try_collect::<Vec<()>>()
        .await?;
    Ok(Verification {
        objects,
        bytes: progress.see().moved,
        against_receipt: backup.receipt.is_some(),
    })
}

/// Reads an archive's members to the end.
fn members(plain: impl Read, progress: &Progress) -> std::io::Result<()> {
    let mut plain = Tail::new(plain);
    let mut count = 0_u64;
    {
        let mut archive = tar::Archive::new(&mut plain);
        for member in archive.entries()? {
            let mut member = member?;
            count += 1;
            let size = member.header().entry_size()?;
            let read = std::io::copy(&mut member, &mut std::io::sink())?;
            if read != size {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    "a member is cut off",
                ));
            }
            progress.add_done(size);
        }
    }
    std::io::copy(&mut plain, &mut std::io::sink())?;
    if count == 0 {
        return Err(std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            "it is empty",
        ));
    }
    plain.check()
}

/// Reads segments and looks whether each is what its name says.
///
/// # Errors
/// The first that is not.
pub async fn verify_wal(
    store: &Store,
    settings: &Settings,
    segments: &[(Segment, &Object)],
    progress: &Progress,
) -> Result<Verification, ArchiveError> {
    progress.set_total(segments.iter().map(|(_, object)| object.size).sum());
    let read = stream::iter(segments).map(|(segment, object)| async move {
        let bytes = store.read(&object.name, soon()).await?;
        progress.add_moved(bytes.len() as u64);
        progress.add_done(bytes.len() as u64);
        let (segment, name, key) = (*segment, object.name.clone(), settings.key.clone());
        blocking(move || {
            let (_, codec) = Codec::split(&name);
            let mut plain = Vec::new();
            unpack(&bytes[..], codec, key.as_ref())
                .and_then(|stream| stream.take((1 << 30) + 1).read_to_end(&mut plain))
                .map_err(|error| ArchiveError::damaged(&name, error))?;
            let header = PageHeader::parse(&plain).map_err(|reason| ArchiveError::damaged(&name, reason))?;
            check_place(segment, &header).map_err(|reason| ArchiveError::damaged(&name, reason))?;
            if plain.len() as u64 != header.segment_size.bytes() {
                return Err(ArchiveError::damaged(
                    &name,
                    format!("it has {} bytes unpacked", plain.len()),
                ));
            }
            Ok(())
        })
        .await
    });
    read.buffer_unordered(settings.downloads.max(1))
        .try_collect::<Vec<()>>()
        .await?;
    Ok(Verification {
        objects: segments.len() as u64,
        bytes: progress.see().moved,
        against_receipt: false,
    })
}
