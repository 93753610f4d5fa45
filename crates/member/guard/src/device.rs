//! The watchdog device itself. Nothing here waits: a device answers at once, and a pipe that is full is an error.

use std::{
    ffi::CStr,
    io::{self, Error},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::fs::{Mode, OFlags};

use crate::{Watchdog, log::say, sys};

/// The longest path of a device, and the zero byte behind it.
const MAX_PATH: usize = 4096;

/// The device: where it is, and its descriptor while it is open.
pub(crate) struct Device {
    path: Box<[u8; MAX_PATH]>,
    testing: bool,
    open: Option<(OwnedFd, Duration)>,
}

impl Device {
    /// None yet. The room for its path is taken here: nothing is allocated later.
    pub(crate) fn none() -> Self {
        Device {
            path: Box::new([0; MAX_PATH]),
            testing: false,
            open: None,
        }
    }

    fn path(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.path[..]).unwrap_or_default()
    }

    /// Whether it is this one already.
    pub(crate) fn is(&self, path: &CStr) -> bool {
        self.path() == path
    }

    /// Another path; one that is open stays so until it is closed. One that is too long is no path.
    pub(crate) fn point_at(&mut self, path: &CStr) {
        self.path[0] = 0;
        let path = path.to_bytes_with_nul();
        if let Some(room) = self.path.get_mut(..path.len()) {
            room.copy_from_slice(path);
        }
    }

    /// Opens it, which starts it, and sets its timeout; gives the one that it has.
    ///
    /// # Errors
    /// It is not there, is used by another process, may not be written, or does not answer as a watchdog does.
    pub(crate) fn open(&mut self, wanted: &Watchdog, timeout: Duration) -> io::Result<Duration> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open(self.path(), flags, Mode::empty())?;
        self.testing = wanted.testing;
        let set = self.set(&fd, timeout);
        self.open = Some((fd, *set.as_ref().unwrap_or(&timeout)));
        if set.is_err() {
            self.close();
        }
        set
    }

    /// Starts its time from the beginning, with this timeout. Gives the one that it has since then; `None` if it was not fed.
    pub(crate) fn feed(&mut self, timeout: Duration) -> Option<Duration> {
        let (fd, known) = self.open.take()?;
        let set = if known == timeout {
            Ok(known)
        } else {
            self.set(&fd, timeout)
        };
        let fed = set.and_then(|timeout| put(&fd, b"1").map(|()| timeout));
        match fed {
            Ok(timeout) => {
                self.open = Some((fd, timeout));
                Some(timeout)
            }
            Err(error) => {
                say!("the watchdog device was not fed: {error}");
                self.open = Some((fd, known));
                None
            }
        }
    }

    /// Closes it in the way that stops it.
    pub(crate) fn close(&mut self) {
        let Some((fd, timeout)) = self.open.take() else {
            return;
        };
        let stops = self.stops_when_closed(&fd);
        match put(&fd, b"V") {
            Ok(()) if stops => say!("the watchdog device is closed"),
            Ok(()) => say!(
                "the watchdog device is closed, but it cannot be stopped: it resets the machine in {}s",
                timeout.as_secs()
            ),
            Err(error) => say!(
                "the watchdog device could not be stopped ({error}): it resets the machine in {}s",
                timeout.as_secs()
            ),
        }
    }

    /// Whether it stops when it is closed: a driver with `nowayout` does not.
    pub(crate) fn stops(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|(fd, _)| self.stops_when_closed(fd))
    }

    fn stops_when_closed(&self, fd: &OwnedFd) -> bool {
        self.testing || sys::watchdog_stops_when_closed(fd.as_fd())
    }

    fn set(&self, fd: &OwnedFd, timeout: Duration) -> io::Result<Duration> {
        if self.testing {
            let mut text = [0u8; 32];
            let mut rest = &mut text[..];
            io::Write::write_fmt(&mut rest, format_args!("Ctimeout={}\n", timeout.as_secs()))?;
            let left = rest.len();
            let length = text.len() - left;
            put(fd, text.get(..length).unwrap_or_default())?;
            return Ok(timeout);
        }
        sys::set_watchdog_timeout(fd.as_fd(), timeout)
    }
}

fn put(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    match rustix::io::retry_on_intr(|| rustix::io::write(fd, bytes))? {
        length if length == bytes.len() => Ok(()),
        _ => Err(Error::other("it takes only a part of what is written")),
    }
}
