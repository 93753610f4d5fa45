use std::time::Duration;

use bytes::Bytes;
use howdah_backup::{BackupName, Layout};
use howdah_http::sleep_until;
use jiff::{SignedDuration, Timestamp};

use super::soon;
use crate::{ArchiveError, Store, catalogue::Running};

/// How long a note is believed, and how often it is renewed.
const BELIEVED: SignedDuration = SignedDuration::from_mins(15);
const RENEWED: Duration = Duration::from_secs(60);

/// The note that a backup of a name is being made: retention leaves it alone, and no second one writes the same objects.
///
/// It is believed for a while and renewed. Whoever finds it changed or over has lost the backup: others may have deleted of it.
pub(super) struct Lease {
    object: String,
    token: String,
}

impl Lease {
    fn note(&self) -> Result<Bytes, ArchiveError> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let until = Timestamp::now()
            .checked_add(BELIEVED)
            .map_err(|error| ArchiveError::Refused(error.to_string()))?;
        let running = Running {
            until,
            host,
            token: self.token.clone(),
        };
        let bytes = serde_json::to_vec(&running).map_err(|error| ArchiveError::Refused(error.to_string()))?;
        Ok(bytes.into())
    }

    /// Whether the note is ours still, and believed.
    ///
    /// # Errors
    /// It is not, or that is not known.
    pub(super) async fn check(&self, store: &Store) -> Result<(), ArchiveError> {
        let lost = |why: &str| {
            Err(ArchiveError::Refused(format!(
                "the backup was taken for given up: {why}"
            )))
        };
        match read(store, &self.object).await? {
            Some(running) if running.token != self.token => lost("another one is made under its name"),
            Some(running) if running.until <= Timestamp::now() => lost("its note has run out"),
            Some(_) => Ok(()),
            None => lost("its note is gone"),
        }
    }

    /// Renews the note until the work is over, which drops this. It returns only when the backup is lost.
    pub(super) async fn renew(&self, store: &Store) -> ArchiveError {
        let mut believed_until = howdah_clock::now() + Duration::from_secs(15 * 60);
        loop {
            sleep_until(howdah_clock::now() + RENEWED).await;
            let renewed = match (self.check(store).await, self.note()) {
                (Ok(()), Ok(note)) => store.replace(&self.object, note, soon()).await,
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
            match renewed {
                Ok(()) => believed_until = howdah_clock::now() + Duration::from_secs(15 * 60),
                Err(error @ ArchiveError::Refused(_)) => return error,
                // Others may take it for given up from now on.
                Err(error) if howdah_clock::now() >= believed_until => return error,
                Err(error) => {
                    tracing::warn!("The note that a backup is being made could not be renewed: {error}");
                }
            }
        }
    }

    /// Takes the note away. If that fails, it ends by itself.
    pub(super) async fn end(self, store: &Store) {
        let _ = store.delete(&[self.object], soon(), |_| {}).await;
    }
}

async fn read(store: &Store, object: &str) -> Result<Option<Running>, ArchiveError> {
    match store.read(object, soon()).await {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| ArchiveError::damaged(object, error)),
        Err(ArchiveError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes it.
pub(super) async fn take(store: &Store, name: &BackupName) -> Result<Lease, ArchiveError> {
    let name = name.to_string();
    match store.length(&Layout::sentinel(&name), soon()).await {
        Ok(_) => {
            return Err(ArchiveError::Refused(format!(
                "backup {name} is in the archive already, and another one would have its name: a replica begins a backup at its last \
                 restart point, so try again after the next checkpoint"
            )));
        }
        Err(ArchiveError::Missing(_)) => {}
        Err(error) => return Err(error),
    }
    let mut token = [0; 16];
    getrandom::fill(&mut token).map_err(|error| ArchiveError::Refused(error.to_string()))?;
    let lease = Lease {
        object: Layout::running(&name),
        token: crate::hex::encode(&token),
    };
    match store.create(&lease.object, lease.note()?, &[], soon()).await {
        Ok(()) => return clean(store, &name, lease).await,
        Err(ArchiveError::Exists(_)) => {}
        Err(error) => return Err(error),
    }
    match read(store, &lease.object).await? {
        // The answer to our own request was lost.
        Some(running) if running.token == lease.token => return clean(store, &name, lease).await,
        Some(running) if running.until > Timestamp::now() => {
            return Err(ArchiveError::Refused(format!(
                "backup {name} is being made on {}, or was until a moment ago: it is left alone until {}",
                running.host, running.until
            )));
        }
        Some(_) | None => {}
    }
    // It was given up: what it has stored is not complete, and goes. Should its maker wake up, it finds its note changed.
    let objects = store.list(&Layout::backup(&name), None, soon()).await?;
    let names: Vec<String> = objects.into_iter().map(|object| object.name).collect();
    store.delete(&names, soon(), |_| {}).await?;
    match store.create(&lease.object, lease.note()?, &[], soon()).await {
        Ok(()) => Ok(lease),
        Err(ArchiveError::Exists(_))
            if read(store, &lease.object)
                .await?
                .is_some_and(|running| running.token == lease.token) =>
        {
            Ok(lease)
        }
        Err(error) => Err(error),
    }
}

/// What an earlier try has left under the name is not of this backup.
async fn clean(store: &Store, name: &str, lease: Lease) -> Result<Lease, ArchiveError> {
    let objects = store.list(&Layout::backup(name), None, soon()).await?;
    let others = objects
        .into_iter()
        .map(|object| object.name)
        .filter(|object| *object != lease.object);
    let others: Vec<String> = others.collect();
    if !others.is_empty() {
        store.delete(&others, soon(), |_| {}).await?;
    }
    Ok(lease)
}

/// Takes a moment of a schedule; `false` if another server has taken it. Claims of last week are deleted.
///
/// # Errors
/// See [`ArchiveError`].
pub async fn claim(
    store: &Store,
    moment: &str,
    deadline: howdah_types::BootTime,
) -> Result<bool, ArchiveError> {
    let name = format!("{}/{}.json", Layout::CLAIMS, moment.replace(':', ""));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut token = [0; 16];
    getrandom::fill(&mut token).map_err(|error| ArchiveError::Refused(error.to_string()))?;
    let claim: Bytes = format!("{host} {}", crate::hex::encode(&token)).into();
    match store.create(&name, claim.clone(), &[], deadline).await {
        Ok(()) => {}
        // The answer to our own request may have been lost.
        Err(ArchiveError::Exists(_)) => return Ok(store.read(&name, deadline).await? == claim),
        Err(error) => return Err(error),
    }
    if let Err(error) = forget_claims(store, deadline).await {
        tracing::warn!("Old claims on moments of the schedule could not be deleted: {error}.");
    }
    Ok(true)
}

async fn forget_claims(store: &Store, deadline: howdah_types::BootTime) -> Result<(), ArchiveError> {
    let week_ago = Timestamp::now()
        .checked_sub(SignedDuration::from_hours(24 * 7))
        .ok();
    let old = store.list(Layout::CLAIMS, None, deadline).await?;
    let old = old
        .into_iter()
        .filter(|claim| week_ago.is_some_and(|week_ago| claim.modified < week_ago));
    let names: Vec<String> = old.map(|claim| claim.name).collect();
    store.delete(&names, deadline, |_| {}).await
}
