//! The process: who asks, and what is done for it.

use std::{
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use howdah_archive::{ArchiveError, Pushed};
use howdah_backup::{ArchiveState, Backlog, Layout, Report, SegmentSize, WalName};
use howdah_clock::now;
use howdah_http::{sleep_until, timeout_at};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Notify,
    task::JoinSet,
};

use crate::{
    Answer, Request, Work,
    ahead::Ahead,
    backlog::{self, Growth},
    blocking::blocking,
    dropped::Dropped,
    opened::{Archives, FenceWatch, Opened, is_away},
    peer,
    prefetch::Prefetch,
    protocol::{BEAT_MS, LONGEST},
    report::report,
    socket_of,
    tally::Tally,
};

/// Askers at once. PostgreSQL has one archiver and one process that recovers.
const ASKERS: usize = 16;

/// How long an asker may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the backlog is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// What the archiver is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server's data directory. It need not be there yet.
    pub data: PathBuf,
    /// Bytes of WAL that may wait; beyond that it is given up. `None`: never.
    pub backlog_limit: Option<u64>,
}

/// The archiver of a data directory.
#[derive(Debug)]
pub struct Archiver {
    data: PathBuf,
    socket: PathBuf,
    backlog_limit: Option<u64>,
    fence: FenceWatch,
    archives: Archives,
    ahead: Ahead,
    prefetch: Prefetch,
    tally: Tally,
    dropped: Dropped,
    backlog: Mutex<Backlog>,
    archive: Mutex<Option<ArchiveState>>,
    /// Told when WAL was given up: only a new backup can be restored from then on.
    wants_backup: Notify,
    has_looked: AtomicBool,
}

/// The path without links, also of a directory that is not there yet.
fn canonical(path: &Path) -> std::io::Result<PathBuf> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
            _ => Err(error),
        },
    }
}

impl Archiver {
    /// Prepares it; nothing listens yet.
    ///
    /// # Errors
    /// The directory that the data directory lies in is not there.
    pub fn new(options: Options, fence: FenceWatch) -> std::io::Result<Self> {
        let data = canonical(&options.data)?;
        let socket = socket_of(&data).ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(Archiver {
            backlog_limit: options.backlog_limit,
            archives: Archives::default(),
            ahead: Ahead::new(data.clone(), fence.clone()),
            prefetch: Prefetch::new(data.clone()),
            tally: Tally::default(),
            dropped: Dropped::beside(&socket),
            backlog: Mutex::default(),
            archive: Mutex::default(),
            wants_backup: Notify::new(),
            has_looked: AtomicBool::new(false),
            fence,
            data,
            socket,
        })
    }

    /// Waits until a backup is wanted because WAL was given up.
    pub async fn backup_wanted(&self) {
        let dropped = self.dropped.clone();
        // A life before may have told the archive; that is looked at once.
        let is_first = !self.has_looked.swap(true, Ordering::SeqCst);
        if !is_first || blocking(move || dropped.needs_backup()).await != Some(true) {
            self.wants_backup.notified().await;
        }
    }

    /// What the archive had when it was looked at.
    pub async fn seen(&self, archive: Option<ArchiveState>) {
        let last = archive.as_ref().and_then(|archive| archive.last_backup_at);
        *self.archive.lock() = archive;
        if let Some(last) = last {
            let dropped = self.dropped.clone();
            blocking(move || dropped.backed_up(last)).await;
        }
    }

    /// How things are.
    pub async fn report(&self) -> Report {
        let dropped = self.dropped.clone();
        let dropped = blocking(move || dropped.count()).await.unwrap_or(0);
        report(
            self.backlog.lock().clone(),
            self.tally.counts(),
            u64::try_from(dropped).unwrap_or(u64::MAX),
            self.archive.lock().clone(),
        )
    }

    /// Serves until it is dropped.
    ///
    /// # Errors
    /// The socket cannot be made, or another archiver listens on it.
    pub async fn run(self: Arc<Self>) -> std::io::Result<()> {
        let this = Arc::clone(&self);
        let _lock = blocking(move || this.lock())
            .await
            .unwrap_or_else(|| Err(std::io::ErrorKind::Other.into()))?;
        let spool = Arc::clone(&self.prefetch.spool);
        blocking(move || spool.clear()).await;
        let listener = self.listen()?;
        tracing::info!("The archiver listens on {}.", self.socket.display());
        tokio::select! {
            ended = self.accept(listener) => ended,
            () = self.ahead.run() => Ok(()),
            () = self.prefetch.run() => Ok(()),
            () = self.watch_backlog() => Ok(()),
        }
    }

    /// One archiver for a data directory: another one would take its socket and its files.
    fn lock(&self) -> std::io::Result<std::fs::File> {
        let mut path = self.socket.as_os_str().to_owned();
        path.push("-lock");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            std::io::Error::new(
                error.kind(),
                format!("another archiver serves {}", self.data.display()),
            )
        })?;
        Ok(file)
    }

    fn listen(&self) -> std::io::Result<UnixListener> {
        // A process that was killed leaves its socket behind.
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket)?;
        std::fs::set_permissions(&self.socket, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    async fn accept(self: &Arc<Self>, listener: UnixListener) -> std::io::Result<()> {
        let mut askers: JoinSet<()> = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if askers.len() < ASKERS => {
                    match accepted {
                        Ok((stream, _)) if peer::is_trusted(&stream) => {
                            let this = Arc::clone(self);
                            askers.spawn(async move { this.serve(stream).await });
                        }
                        Ok(_) => {}
                        // No descriptor is free, or the asker is gone already.
                        Err(error) => {
                            tracing::warn!("An asker could not be accepted: {error}.");
                            sleep_until(now() + Duration::from_secs(1)).await;
                        }
                    }
                }
                Some(_) = askers.join_next() => {}
            }
        }
    }

    /// One asker: what it wants, signs of life, the answer. An asker that goes away ends the work.
    async fn serve(&self, stream: UnixStream) {
        let (reading, mut writing) = stream.into_split();
        let mut reader = BufReader::new(reading);
        let mut line = String::new();
        let mut limited = (&mut reader).take(LONGEST);
        let Ok(Ok(_)) = timeout_at(now() + PATIENCE, limited.read_line(&mut line)).await else {
            return;
        };
        if writing.write_all(b"\n").await.is_err() {
            return;
        }
        let work = async {
            match serde_json::from_str(&line) {
                Ok(request) => self.answer(request).await,
                Err(error) => Answer::not_here(error.to_string()),
            }
        };
        tokio::pin!(work);
        let answer = loop {
            tokio::select! {
                answer = &mut work => break answer,
                () = sleep_until(now() + Duration::from_millis(BEAT_MS)) => {
                    if writing.write_all(b"\n").await.is_err() {
                        return;
                    }
                }
            }
        };
        let mut text = serde_json::to_vec(&answer).unwrap_or_default();
        text.push(b'\n');
        let is_sent = timeout_at(now() + PATIENCE, writing.write_all(&text)).await;
        if let (false, Some(file)) = (matches!(is_sent, Ok(Ok(()))), answer.file) {
            blocking(move || std::fs::remove_file(file)).await;
        }
    }

    async fn answer(&self, request: Request) -> Answer {
        if matches!(request.work, Work::Report) {
            let report = serde_json::to_string(&self.report().await).unwrap_or_default();
            return Answer::of(0, report);
        }
        let asked = request.data;
        let is_ours = blocking(move || asked.canonicalize()).await;
        if !matches!(is_ours, Some(Ok(data)) if data == self.data) {
            return Answer::not_here("it is the archiver of another data directory");
        }
        // Settings may name files relative to the asker, so that it tries by itself what cannot be read here.
        let opened = match self.archives.of(&request.variables) {
            Ok(opened) => opened,
            Err(error) => return Answer::not_here(error.to_string()),
        };
        match request.work {
            Work::Push { path, alone } => self.push(&opened, &path, alone).await,
            Work::Get { name, streams } => self.get(&opened, &name, streams).await,
            Work::Report => Answer::not_here("asked twice"),
        }
    }

    async fn push(&self, opened: &Arc<Opened>, path: &Path, alone: bool) -> Answer {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let fence = self.fence.borrow().unwrap_or_default();
        if fence.has_run_out(now()) {
            let why = format!(
                "{name} is not archived: this member's right to lead has run out, and its agent does not answer"
            );
            self.tally.failed(&why);
            return Answer::of(75, why);
        }
        let parsed = name.parse();
        // Without a history nothing finds the way to its timeline: it is never given up.
        let may_go = matches!(
            parsed,
            Ok(WalName::Segment(_) | WalName::Partial(_) | WalName::Label(..))
        );
        if may_go && self.gives_up(opened) {
            return self.give_up(&name).await;
        }
        let is_segment = matches!(parsed, Ok(WalName::Segment(_)));
        let is_own = self.data.join(path) == self.data.join("pg_wal").join(&name);
        let deadline = now() + opened.settings().push_patience;
        let is_there = is_segment && is_own && !alone && self.ahead.asked(&name, opened, deadline).await;
        let pushed = if is_there {
            Ok(Pushed::WasThere)
        } else {
            opened.push(&self.data.join(path), Some(self.fence.clone())).await
        };
        match pushed {
            Ok(_) => {
                self.tally.archived(&name);
                self.tell_dropped(opened).await;
                Answer::of(0, "")
            }
            Err(error) => {
                self.tally.failed(&error.to_string());
                // What it was opened with may have been replaced: keys, or the directory by a mount.
                if matches!(
                    error,
                    ArchiveError::Denied { .. } | ArchiveError::Setting(_) | ArchiveError::NoPlace(_)
                ) {
                    self.archives.forget(opened);
                }
                if may_go && is_away(&error) && self.backlog_limit.is_some() {
                    let data = self.data.clone();
                    if let Some(Ok(seen)) = blocking(move || backlog::look(&data)).await {
                        self.backlog.lock().bytes = seen.bytes;
                    }
                    if self.gives_up(opened) {
                        return self.give_up(&name).await;
                    }
                }
                Answer::of(error.of_archive_command(), error.to_string())
            }
        }
    }

    /// Whether more WAL waits than may, because the archive cannot be written to.
    fn gives_up(&self, opened: &Opened) -> bool {
        opened.is_away()
            && self
                .backlog_limit
                .is_some_and(|limit| self.backlog.lock().bytes > limit)
    }

    async fn give_up(&self, name: &str) -> Answer {
        let (dropped, of) = (self.dropped.clone(), name.to_owned());
        match blocking(move || dropped.note(&of)).await {
            Some(Ok(())) => {
                let path = self.data.join("pg_wal").join(name);
                let length = blocking(move || std::fs::metadata(path).map_or(0, |of| of.len())).await;
                {
                    let mut backlog = self.backlog.lock();
                    backlog.bytes = backlog.bytes.saturating_sub(length.unwrap_or(0));
                }
                let text = format!(
                    "{name} is given up: more WAL waits than HOWDAH_WAL_BACKLOG_LIMIT allows, and the archive cannot be written to. \
                     Moments from here to the next backup cannot be restored"
                );
                tracing::error!("{text}.");
                Answer::of(0, text)
            }
            Some(Err(error)) => Answer::of(1, format!("{name} cannot be given up: {error}")),
            None => Answer::of(1, format!("{name} cannot be given up")),
        }
    }

    /// The archive answers: it learns what was given up, and a backup is made that does not need it.
    async fn tell_dropped(&self, opened: &Arc<Opened>) {
        let dropped = self.dropped.clone();
        let names = blocking(move || dropped.names()).await.unwrap_or_default();
        let Some(first) = names.first() else {
            return;
        };
        let document = serde_json::json!({"given_up": names, "noted": jiff::Timestamp::now()});
        let object = Layout::given_up(first);
        let patience = opened.settings().push_patience;
        let stored = match opened.store(patience) {
            Ok(store) => {
                let text = document.to_string().into_bytes();
                store.replace(&object, text.into(), now() + patience).await
            }
            Err(error) => Err(error),
        };
        match stored {
            Ok(()) => {
                let dropped = self.dropped.clone();
                match blocking(move || dropped.told(&names)).await {
                    Some(Err(error)) => tracing::warn!("What was given up is noted no further: {error}."),
                    Some(Ok(())) | None => self.wants_backup.notify_one(),
                }
            }
            Err(error) => tracing::warn!("The archive is not told yet what was given up: {error}."),
        }
    }

    async fn get(&self, opened: &Arc<Opened>, name: &str, streams: bool) -> Answer {
        let segment = match name.parse() {
            Ok(WalName::Segment(segment)) => Some(segment),
            Ok(_) | Err(_) => None,
        };
        let deadline = now() + opened.get_patience(streams);
        let (fetched, was_ready) = match segment {
            Some(segment) => self.prefetch.take(segment, opened, deadline).await,
            None => (None, false),
        };
        let file = match fetched {
            Some(file) => file,
            None => match self.fetch(opened, name, streams).await {
                Ok(file) => file,
                // This process may lack what the asker has: room, a directory that was made again.
                Err(error @ (ArchiveError::Local { .. } | ArchiveError::Interrupted)) => {
                    return Answer::not_here(error.to_string());
                }
                Err(error) => {
                    self.prefetch.ended();
                    if matches!(error, ArchiveError::Denied { .. } | ArchiveError::Setting(_)) {
                        self.archives.forget(opened);
                    }
                    return Answer::of(error.of_restore_command(), error.to_string());
                }
            },
        };
        self.tally.fetched(was_ready);
        if let Some(segment) = segment {
            let of = file.clone();
            let length = blocking(move || std::fs::metadata(of).map(|of| of.len())).await;
            let size = length
                .and_then(Result::ok)
                .and_then(|length| SegmentSize::try_from(length).ok());
            if let Some(size) = size {
                self.prefetch.asked(segment, size, was_ready, opened);
            }
        }
        Answer {
            code: Some(0),
            text: String::new(),
            file: Some(file),
        }
    }

    async fn fetch(&self, opened: &Opened, name: &str, streams: bool) -> Result<PathBuf, ArchiveError> {
        let (spool, of) = (Arc::clone(&self.prefetch.spool), name.to_owned());
        let target = match blocking(move || spool.path(&of)).await {
            Some(Ok(target)) => target,
            Some(Err(source)) => {
                return Err(ArchiveError::Local {
                    path: self.data.join("pg_wal"),
                    source,
                });
            }
            None => return Err(ArchiveError::Interrupted),
        };
        opened.get(name, &target, Some(&self.data), streams).await?;
        Ok(target)
    }

    async fn watch_backlog(&self) {
        let mut growth = Growth::default();
        let mut told = Told::default();
        loop {
            let data = self.data.clone();
            // A directory that is not there has no backlog.
            if let Some(seen) = blocking(move || backlog::look(&data)).await {
                let seen = growth.complete(seen.unwrap_or_default(), now());
                told.tell(&seen);
                *self.backlog.lock() = seen;
            }
            sleep_until(now() + LOOK).await;
        }
    }
}

/// A disk that fills up is told once, and again when an hour has become a quarter.
#[derive(Debug, Default)]
struct Told(Option<u64>);

impl Told {
    fn tell(&mut self, backlog: &Backlog) {
        let step = backlog
            .full_in
            .and_then(|left| [900, 3600, 6 * 3600].into_iter().find(|step| left < *step));
        if let Some(step) = step
            && self.0.is_none_or(|before| step < before)
        {
            tracing::warn!(
                "WAL that waits to be archived fills the disk in about {} minutes: {} files with {} bytes, growing by {} bytes a second.",
                backlog.full_in.unwrap_or_default() / 60,
                backlog.files,
                backlog.bytes,
                backlog.growth
            );
        }
        if backlog.files <= 1 {
            self.0 = None;
        } else if step.is_some() {
            self.0 = match (self.0, step) {
                (Some(before), Some(step)) => Some(before.min(step)),
                (None, step) | (step, None) => step,
            };
        }
    }
}
