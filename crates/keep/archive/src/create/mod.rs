//! A base backup: the server says where it begins and ends, its files go into archives, and the sentinel comes last.

mod document;
mod lease;
mod part;
mod scan;
mod server;
mod upload;

use std::{path::PathBuf, sync::Arc, time::Duration};

use howdah_backup::{BackupName, Layout, Pages, Segment, WalName, backup_name};
use howdah_http::sleep_until;
use howdah_types::BootTime;
use jiff::Timestamp;
use serde_json::Value;

pub use lease::claim as claim_backup;
pub use server::{Server, is_replica};

use self::{part::Part, server::Stopped, upload::Shared};
use crate::{ArchiveError, Progress, Settings, Store, blocking::blocking, throttle::Throttle, wal};

/// How a backup is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory.
    pub data: PathBuf,
    /// Whether retention leaves it alone.
    pub permanent: bool,
    /// What a user attaches.
    pub user_data: Option<Value>,
    /// Whether the server makes its checkpoint at once, or spreads it.
    pub fast: bool,
    /// How long the backup waits for its WAL to be in the archive.
    pub wal_patience: Duration,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// Bytes of the files.
    pub files: u64,
    /// Bytes of the objects.
    pub stored: u64,
    /// What a look at every page has shown.
    pub pages: Pages,
}

/// How long any single request may take beside the moving of data.
const REQUEST: Duration = Duration::from_secs(120);

pub(crate) fn soon() -> BootTime {
    howdah_clock::now() + REQUEST
}

/// Makes a full backup.
///
/// What it stores is no backup until the sentinel is there, and that is written only when all WAL is archived that a
/// restore needs. When anything fails, its objects are deleted.
///
/// # Errors
/// See [`ArchiveError`].
pub async fn create(
    store: &Store,
    settings: &Settings,
    server: &Server,
    options: &Options,
    progress: &Progress,
) -> Result<Made, ArchiveError> {
    let session = progress
        .run(server::begin(server, &options.data, options.fast))
        .await?;
    let begun = session.begun.clone();
    if let Some(identity) = wal::identity(store, settings, soon()).await? {
        identity
            .check_system(begun.system_id)
            .map_err(|reason| ArchiveError::Foreign {
                place: store.name().to_owned(),
                reason,
            })?;
    }
    let size = begun.segment_size;
    let name = backup_name(begun.timeline, begun.start, begun.is_replica, size);
    let lease = progress.run(lease::take(store, &name)).await?;
    let made = {
        // Its parts end by themselves when the work is given up; so it is never dropped while they write.
        let work = make(store, settings, options, progress, session, &name, &lease);
        tokio::pin!(work);
        tokio::select! {
            biased;
            made = &mut work => made,
            lost = lease.renew(store) => {
                progress.give_up();
                let _ = work.await;
                Err(lost)
            }
        }
    };
    match made {
        Ok(made) => {
            lease.end(store).await;
            Ok(made)
        }
        Err(error) => {
            if lease.check(store).await.is_ok() {
                discard(store, &name).await;
            }
            Err(error)
        }
    }
}

/// Takes away what a failed backup has stored. What cannot be deleted now, retention deletes later.
async fn discard(store: &Store, name: &BackupName) {
    let name = name.to_string();
    // Its sentinel may be there although the answer was lost: then it is a backup.
    match store.length(&Layout::sentinel(&name), soon()).await {
        Err(ArchiveError::Missing(_)) => {}
        Ok(_) | Err(_) => return,
    }
    let Ok(objects) = store.list(&Layout::backup(&name), None, soon()).await else {
        return;
    };
    let names: Vec<String> = objects.into_iter().map(|object| object.name).collect();
    if let Err(error) = store.delete(&names, soon(), |_| {}).await {
        tracing::warn!(
            "What the unfinished backup {name} has stored is still there: {error}. Retention deletes it."
        );
        return;
    }
    store.tidy(&Layout::backup(&name)).await;
}

async fn make(
    store: &Store,
    settings: &Settings,
    options: &Options,
    progress: &Progress,
    session: server::Session,
    name: &BackupName,
    lease: &lease::Lease,
) -> Result<Made, ArchiveError> {
    let begun = session.begun.clone();
    let started = Timestamp::now();
    let (data, workers, most) = (options.data.clone(), settings.uploads, settings.part_size);
    let scanned = blocking(move || scan::scan(&data, workers, most)).await?;
    progress.set_total(scanned.bytes);
    let shared = Arc::new(Shared {
        store: store.clone(),
        codec: settings.codec,
        key: settings.key.clone(),
        folder: Layout::parts(&name.to_string()),
        data: options.data.clone(),
        checked_below: begun.has_checksums.then_some(begun.start),
        disk: Throttle::new(settings.disk_rate),
        network: Throttle::new(settings.network_rate),
        progress: progress.clone(),
    });
    let mut told = upload::all(&shared, scanned.parts, workers).await?;
    // The control file is older than what it controls in no case: a restore begins at the checkpoint of the label.
    let data = options.data.clone();
    let control = blocking(move || Part::control(&data)).await?;
    told.add(upload::one(&shared, "pg_control.tar", control).await?);
    let stopped = progress.run(session.stop()).await?;
    told.add(
        upload::one(
            &shared,
            "backup_label.tar",
            Part::label(&stopped.label, &stopped.tablespaces),
        )
        .await?,
    );
    let finished = Timestamp::now();
    progress
        .run(wait_for_wal(
            store,
            &begun,
            &stopped,
            options.wal_patience,
            progress,
        ))
        .await?;

    let facts = document::Facts {
        name: name.to_string(),
        begun,
        stopped,
        started,
        finished,
        tablespaces: scanned.tablespaces,
        data: options.data.display().to_string(),
        permanent: options.permanent,
        user_data: options.user_data.clone(),
        key: settings.key.as_ref().map(crate::Key::id),
        told,
    };
    // Whatever has happened meanwhile (a frozen machine, another's deletion): nothing but a whole backup gets a sentinel.
    lease.check(store).await?;
    check_parts(store, name, &facts.told).await?;
    document::write(store, &facts).await?;
    Ok(Made {
        name: facts.name,
        files: facts.told.files,
        stored: facts.told.stored(),
        pages: facts.told.pages,
    })
}

/// Whether all archives are there as they were stored.
async fn check_parts(store: &Store, name: &BackupName, told: &upload::Told) -> Result<(), ArchiveError> {
    let folder = Layout::parts(&name.to_string());
    let there = store.list(&folder, None, soon()).await?;
    if there.len() != told.objects.len() {
        let (there, told) = (there.len(), told.objects.len());
        return Err(ArchiveError::damaged(
            &folder,
            format!("it has {there} archives, and {told} were stored"),
        ));
    }
    for (part, stored) in &told.objects {
        let object = format!("{folder}/{part}");
        if !there
            .iter()
            .any(|found| found.name == object && found.size == stored.length)
        {
            return Err(ArchiveError::damaged(
                &object,
                "it is not in the archive any more as it was stored",
            ));
        }
    }
    Ok(())
}

/// A backup without its WAL cannot be restored, so it is none before that is in the archive.
async fn wait_for_wal(
    store: &Store,
    begun: &server::Begun,
    stopped: &Stopped,
    patience: Duration,
    progress: &Progress,
) -> Result<(), ArchiveError> {
    let deadline = howdah_clock::now() + patience;
    let size = begun.segment_size;
    let needed: Vec<Segment> = (size.number_at(begun.start)..=size.number_before(stopped.finish))
        .map(|number| Segment::new(begun.timeline, number, size))
        .collect();
    let mut pause = Duration::from_millis(100);
    let mut missing = 0;
    let began = howdah_clock::now();
    loop {
        while let Some(segment) = needed.get(missing) {
            let bare = Layout::wal(&WalName::Segment(*segment), howdah_backup::Codec::None);
            match store.named(&bare, soon()).await {
                Ok(found) if found.iter().any(|found| is_of(found, &bare)) => missing += 1,
                Ok(_) => break,
                // A store that is away for a while is no reason to give up the work of hours.
                Err(ArchiveError::Outage { .. }) if howdah_clock::now() < deadline => break,
                Err(error) => return Err(error),
            }
        }
        let Some(first) = needed.get(missing) else {
            progress.set_waiting(None);
            return Ok(());
        };
        if howdah_clock::now() >= deadline {
            return Err(ArchiveError::Refused(format!(
                "segment {first} is not in the archive {} s after the end of the backup, which cannot be restored without it: \
                 look at the server's log for archive_command{}",
                patience.as_secs(),
                if begun.is_replica {
                    ", and at the primary, which archives it once it is full or archive_timeout is over"
                } else {
                    ""
                }
            )));
        }
        if howdah_clock::now().since(began) > Duration::from_secs(2) {
            progress.set_waiting(Some(format!(
                "All files are stored. Segment {first} is waited for: the backup is complete when the server has archived it"
            )));
        }
        sleep_until((howdah_clock::now() + pause).min(deadline)).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

fn is_of(found: &str, bare: &str) -> bool {
    howdah_backup::Codec::split(found).0 == bare
}
