//! What waits to be archived, how fast it grows, and when the disk is full. Pure but for one look at the disk.

use std::{collections::VecDeque, path::Path, time::Duration};

use howdah_backup::Backlog;
use howdah_types::BootTime;

/// How far back the rate is measured.
const SPAN: Duration = Duration::from_secs(300);

/// A shorter span says nothing.
const LEAST: Duration = Duration::from_secs(20);

/// Looks at `pg_wal`.
pub(crate) fn look(data: &Path) -> std::io::Result<Backlog> {
    let wal = data.join("pg_wal");
    let mut backlog = Backlog::default();
    let mut oldest = None;
    for entry in std::fs::read_dir(wal.join("archive_status"))? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|name| name.strip_suffix(".ready")) else {
            continue;
        };
        backlog.files += 1;
        backlog.bytes += std::fs::metadata(wal.join(name)).map_or(0, |of| of.len());
        // It is written when the file is complete. A file that vanishes was archived.
        if let Ok(marked) = entry.metadata().and_then(|of| of.modified())
            && oldest.as_ref().is_none_or(|(than, _)| marked < *than)
        {
            oldest = Some((marked, name.to_owned()));
        }
    }
    if let Some((marked, name)) = oldest {
        backlog.oldest_seconds = Some(marked.elapsed().map_or(0, |age| age.as_secs()));
        backlog.oldest = Some(name);
    }
    let disk = rustix::fs::statvfs(&wal)?;
    backlog.free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(backlog)
}

/// Earlier looks.
#[derive(Debug, Default)]
pub(crate) struct Growth(VecDeque<(BootTime, u64)>);

impl Growth {
    /// Adds what earlier looks say of the rate.
    pub(crate) fn complete(&mut self, mut backlog: Backlog, now: BootTime) -> Backlog {
        self.0.push_back((now, backlog.bytes));
        while self.0.front().is_some_and(|(at, _)| now.since(*at) > SPAN) {
            self.0.pop_front();
        }
        let Some((then, before)) = self.0.front() else {
            return backlog;
        };
        let span = now.since(*then);
        if span >= LEAST {
            backlog.growth = backlog.bytes.saturating_sub(*before) / span.as_secs().max(1);
            backlog.full_in = backlog.free.checked_div(backlog.growth);
        }
        backlog
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> BootTime {
        BootTime(second * 1_000_000_000)
    }

    fn of(bytes: u64) -> Backlog {
        Backlog {
            bytes,
            free: 1000,
            ..Backlog::default()
        }
    }

    #[test]
    fn growth_is_measured_and_a_backlog_that_shrinks_fills_nothing() {
        let mut growth = Growth::default();
        assert_eq!(growth.complete(of(0), at(0)).full_in, None);
        let later = growth.complete(of(300), at(30));
        assert_eq!((later.growth, later.full_in), (10, Some(100)));
        assert_eq!(growth.complete(of(0), at(60)).full_in, None);
        // The first looks are too long ago by now.
        assert_eq!(growth.complete(of(3600), at(360)).growth, 12);
    }

    #[test]
    fn what_is_ready_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let status = dir.path().join("pg_wal/archive_status");
        std::fs::create_dir_all(&status).unwrap();
        std::fs::write(dir.path().join("pg_wal/000000010000000000000002"), [0; 64]).unwrap();
        for name in [
            "000000010000000000000001.done",
            "000000010000000000000002.ready",
            "00000002.history.ready",
        ] {
            std::fs::write(status.join(name), "").unwrap();
        }
        let backlog = look(dir.path()).unwrap();
        assert_eq!((backlog.files, backlog.bytes), (2, 64));
        assert!(backlog.oldest.is_some() && backlog.free > 0);
    }
}
