//! Archives that stay open, so that their connections are used again.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use howdah_archive::{ArchiveError, Got, Pushed, Settings, Store, wal_fetch, wal_get, wal_push};
use howdah_backup::{Fence, Segment};
use howdah_http::sleep_until;
use howdah_types::BootTime;
use parking_lot::Mutex;
use tokio::sync::watch;

/// How long an archive may take to answer a standby that can stream.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What the agent says of this member's right to archive; `None` until it has said anything.
pub type FenceWatch = watch::Receiver<Option<Fence>>;

/// Waits until the right has run out and was not renewed.
async fn run_out(fence: Option<FenceWatch>) {
    let Some(mut fence) = fence else {
        return std::future::pending().await;
    };
    loop {
        let until = fence.borrow_and_update().and_then(|fence| fence.until);
        match until {
            Some(until) if howdah_clock::now() >= until => return,
            Some(until) => {
                tokio::select! {
                    () = sleep_until(until) => {}
                    changed = fence.changed() => {
                        if changed.is_err() {
                            return std::future::pending().await;
                        }
                    }
                }
            }
            None => {
                if fence.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// How long a failure counts: until then WAL is given up without another try.
const RECENT: Duration = Duration::from_secs(10);

/// Files that settings name (keys, certificates) may be replaced: then the archive is opened again.
const FRESH: Duration = Duration::from_secs(300);

/// Whether it is the archive that cannot be written to, and not one file.
pub(crate) fn is_away(error: &ArchiveError) -> bool {
    matches!(
        error,
        ArchiveError::Outage { .. } | ArchiveError::Denied { .. } | ArchiveError::NoPlace(_)
    )
}

/// Archives of different settings that are kept open: a cluster's own, and one that it is restored from.
const KEPT: usize = 4;

/// An archive with its settings. Stores stay open, so that connections are used again.
#[derive(Debug)]
pub struct Opened {
    settings: Settings,
    /// By how long a request is tried again.
    stores: Mutex<Vec<(Duration, Store)>>,
    /// When the archive could not be written to last.
    away: Mutex<Option<BootTime>>,
}

impl Opened {
    /// Nothing is asked of the store yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Opened {
            settings,
            stores: Mutex::default(),
            away: Mutex::default(),
        }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A store whose own tries end before `patience` does, and so with a reason.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn store(&self, patience: Duration) -> Result<Store, ArchiveError> {
        let mut stores = self.stores.lock();
        if let Some((_, store)) = stores.iter().find(|(of, _)| *of == patience) {
            return Ok(store.clone());
        }
        let store = Store::open(&self.settings.place, patience.mul_f32(0.8))?;
        stores.push((patience, store.clone()));
        Ok(store)
    }

    /// Archives a file, as long as the fence allows it: it is renewed while a slow store takes its time.
    ///
    /// # Errors
    /// See [`wal_push`].
    pub async fn push(&self, path: &Path, fence: Option<FenceWatch>) -> Result<Pushed, ArchiveError> {
        let patience = self.settings.push_patience;
        let deadline = howdah_clock::now() + patience;
        let term = fence
            .as_ref()
            .and_then(|fence| fence.borrow().and_then(|fence| fence.term));
        let pushing = async {
            let pushed = match self.store(patience) {
                Ok(store) => wal_push(&store, &self.settings, path, term, deadline).await,
                Err(error) => Err(error),
            };
            let is_away = pushed.as_ref().is_err_and(is_away);
            *self.away.lock() = is_away.then(howdah_clock::now);
            pushed
        };
        tokio::select! {
            biased;
            () = run_out(fence) => Err(ArchiveError::Refused(
                "this member's right to lead has run out, and its agent does not answer".to_owned(),
            )),
            pushed = pushing => pushed,
        }
    }

    /// Whether the archive could not be written to a moment ago.
    pub(crate) fn is_away(&self) -> bool {
        self.away
            .lock()
            .is_some_and(|at| howdah_clock::now().since(at) < RECENT)
    }

    /// How long a get may take.
    #[must_use]
    pub fn get_patience(&self, streams: bool) -> Duration {
        let patience = self.settings.get_patience;
        if streams { AT_ONCE.min(patience) } else { patience }
    }

    /// Fetches a file for a server that asks for it. With `streams` an archive that does not answer counts as one without the file.
    ///
    /// # Errors
    /// See [`wal_get`].
    pub async fn get(
        &self,
        name: &str,
        target: &Path,
        data: Option<&Path>,
        streams: bool,
    ) -> Result<Got, ArchiveError> {
        let patience = self.get_patience(streams);
        let begin = howdah_clock::now() + patience;
        // An archive that answers may take its time for the file itself.
        let end = howdah_clock::now() + self.settings.get_patience;
        let got = match self.store(patience) {
            Ok(store) => wal_get(&store, &self.settings, name, target, data, begin, end).await,
            Err(error) => Err(error),
        };
        got.map_err(|error| match error {
            error
            @ (ArchiveError::Outage { .. } | ArchiveError::Denied { .. } | ArchiveError::NoPlace(_))
                if streams =>
            {
                tracing::warn!("{error}. The server streams instead.");
                ArchiveError::Missing(name.to_owned())
            }
            error => error,
        })
    }

    /// Fetches a segment before it is asked for.
    ///
    /// # Errors
    /// See [`wal_fetch`].
    pub(crate) async fn fetch(
        &self,
        segment: Segment,
        target: &Path,
        data: &Path,
        deadline: BootTime,
    ) -> Result<Option<Got>, ArchiveError> {
        let store = self.store(self.settings.get_patience)?;
        wal_fetch(&store, &self.settings, segment, target, data, deadline).await
    }
}

/// Archives by the variables that name them.
#[derive(Default)]
pub(crate) struct Archives(Mutex<Vec<Kept>>);

/// An archive, the variables that name it, and since when it is open.
struct Kept {
    variables: BTreeMap<String, String>,
    opened: Arc<Opened>,
    since: BootTime,
}

impl std::fmt::Debug for Archives {
    /// Without the variables: they have secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} archives", self.0.lock().len())
    }
}

impl Archives {
    pub(crate) fn of(&self, variables: &BTreeMap<String, String>) -> Result<Arc<Opened>, ArchiveError> {
        let now = howdah_clock::now();
        let mut kept = self.0.lock();
        kept.retain(|kept| now.since(kept.since) < FRESH);
        if let Some(at) = kept.iter().position(|kept| kept.variables == *variables) {
            // The one that is used most recently is the last to go.
            let found = kept.remove(at);
            let opened = Arc::clone(&found.opened);
            kept.push(found);
            return Ok(opened);
        }
        let settings = Settings::from_variables(&|name| variables.get(name).cloned())?;
        let opened = Arc::new(Opened::new(settings));
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(Kept {
            variables: variables.clone(),
            opened: Arc::clone(&opened),
            since: now,
        });
        Ok(opened)
    }

    /// The store refuses what it was opened with: the next request reads files of keys again.
    pub(crate) fn forget(&self, opened: &Arc<Opened>) {
        self.0.lock().retain(|kept| !Arc::ptr_eq(&kept.opened, opened));
    }
}
