//! The log in a file (`log.dir`), written by a thread of its own: a disk that hangs delays nothing else. Lines that find the queue full are
//! lost, and counted.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    time::Duration,
};

use anyhow::Context;
use howdah_config::LogFile;

/// At the end of the process the disk has this long.
const LAST: Duration = Duration::from_secs(1);

/// What the thread gets.
enum Item {
    Line(Vec<u8>),
    /// Everything before it is written.
    End(SyncSender<()>),
}

/// Where lines are put for the thread.
pub struct Lines(SyncSender<Item>);

impl Lines {
    /// Opens the file and begins to write; `queue`: lines that may wait.
    pub fn open(config: &LogFile, queue: usize) -> anyhow::Result<Self> {
        let mut rotating = Rotating::open(config.clone())
            .with_context(|| format!("log.dir: {} cannot be written to", config.dir.display()))?;
        let (sender, items): (SyncSender<Item>, Receiver<Item>) = sync_channel(queue);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                for item in items {
                    match item {
                        Item::Line(line) => {
                            if rotating.write(&line).is_err() {
                                crate::logging::count_lost();
                            }
                        }
                        Item::End(done) => {
                            // Who has waited too long is gone.
                            let _ = done.send(());
                        }
                    }
                }
            })?;
        Ok(Lines(sender))
    }

    /// False: the line is lost.
    pub fn put(&self, line: &[u8]) -> bool {
        match self.0.try_send(Item::Line(line.to_vec())) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Waits until what was put before is written, for a second at most.
    pub fn finish(&self) {
        let (done, finished) = sync_channel(1);
        if self.0.try_send(Item::End(done)).is_ok() {
            let _ = finished.recv_timeout(LAST);
        }
    }
}

/// A file that is renamed when it has grown.
struct Rotating {
    config: LogFile,
    path: PathBuf,
    file: File,
    length: u64,
}

impl Rotating {
    fn open(config: LogFile) -> std::io::Result<Self> {
        fs::create_dir_all(&config.dir)?;
        let path = config.dir.join("patroni.log");
        let file = open(&path, config.mode)?;
        let length = file.metadata()?.len();
        Ok(Rotating {
            config,
            path,
            file,
            length,
        })
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        let grown = self.length + line.len() as u64;
        if self.config.keep > 0 && self.config.size > 0 && grown > self.config.size && self.length > 0 {
            // Where no new file can be made, lines go on in this one.
            let rotated = self.rotate();
            if rotated.is_err() {
                self.length = 0;
            }
        }
        self.file.write_all(line)?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// The last one goes, the others move up by one.
    fn rotate(&mut self) -> std::io::Result<()> {
        let numbered = |number: usize| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.config.keep).rev() {
            rename(&numbered(number), &numbered(number + 1))?;
        }
        rename(&self.path, &numbered(1))?;
        self.file = open(&self.path, self.config.mode)?;
        self.length = 0;
        Ok(())
    }
}

fn open(path: &Path, mode: Option<u32>) -> std::io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(mode.unwrap_or(0o666))
        .open(path)?;
    if let Some(mode) = mode {
        // The process's mask may have taken some of it.
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        file.set_permissions(permissions)?;
    }
    Ok(file)
}

fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_kept_up_to_their_number() {
        let dir = std::env::temp_dir().join(format!("howdah-log-{}", std::process::id()));
        let config = LogFile {
            dir: dir.clone(),
            mode: Some(0o600),
            keep: 2,
            size: 20,
        };
        let mut rotating = Rotating::open(config.clone()).unwrap();
        for number in 0..5 {
            rotating
                .write(format!("line number {number}\n").as_bytes())
                .unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        assert_eq!(read("patroni.log"), "line number 4\n");
        assert_eq!(read("patroni.log.1"), "line number 3\n");
        assert_eq!(read("patroni.log.2"), "line number 2\n");
        assert!(!dir.join("patroni.log.3").exists());
        // Without any to keep the file grows.
        let grows = LogFile {
            keep: 0,
            size: 1,
            ..config.clone()
        };
        Rotating::open(grows).unwrap().write(b"more\n").unwrap();
        assert_eq!(read("patroni.log"), "line number 4\nmore\n");
        // The next process goes on where this one ended: the file is full.
        drop(rotating);
        Rotating::open(config).unwrap().write(b"a\n").unwrap();
        assert_eq!(read("patroni.log"), "a\n");
        assert_eq!(read("patroni.log.1"), "line number 4\nmore\n");
        for name in ["patroni.log", "patroni.log.1", "patroni.log.2"] {
            fs::remove_file(dir.join(name)).unwrap();
        }
        fs::remove_dir(&dir).unwrap();
    }
}
