use std::{io, os::fd::OwnedFd};

use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchown, fcntl_setfl, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Our side of a pseudo-terminal.
pub(super) struct Terminal(AsyncFd<OwnedFd>);

/// A terminal and the program's side of it, which belongs to the user of the program.
///
/// # Errors
/// The system has none left.
pub(super) fn open_terminal(owner: Option<(u32, u32)>) -> io::Result<(Terminal, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = open(
        name.as_c_str(),
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if let Some((user, group)) = owner {
        fchown(&theirs, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    fcntl_setfl(&ours, OFlags::RDWR | OFlags::NONBLOCK)?;
    #[expect(
        deprecated,
        reason = "the successor is unsafe for types that can change their descriptor; an OwnedFd cannot"
    )]
    let ours = AsyncFd::new(ours)?;
    Ok((Terminal(ours), theirs))
}

impl Terminal {
    /// What the program shows. Nothing: every process has closed its side.
    pub(super) async fn read(&self, piece: &mut [u8]) -> usize {
        let read = self
            .0
            .async_io(Interest::READABLE, |ours| {
                Ok(rustix::io::read(ours, &mut *piece)?)
            })
            .await;
        // EIO is how Linux says that the other side is closed.
        read.unwrap_or(0)
    }

    /// What the user types. `false`: nothing reads it any more.
    pub(super) async fn write(&self, mut typed: &[u8]) -> bool {
        while !typed.is_empty() {
            let written = self
                .0
                .async_io(Interest::WRITABLE, |ours| Ok(rustix::io::write(ours, typed)?))
                .await;
            match written {
                Ok(written) if written > 0 => typed = typed.get(written..).unwrap_or_default(),
                _ => return false,
            }
        }
        true
    }

    /// Sets the size, which sends the program SIGWINCH.
    pub(super) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        if let Err(error) = tcsetwinsize(self.0.get_ref(), size) {
            tracing::debug!(%error, "a terminal keeps its size");
        }
    }
}
