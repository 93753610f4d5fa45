//! Standard output and error that never block their writers: the guard, the agent, PostgreSQL and its commands.
//!
//! The reader of a log may stop reading: `howdah agent | less`, a log driver whose disk is full. A pipe holds 64 KiB, and then
//! a write waits. PostgreSQL writes its log between two steps of a commit, so every session would wait. It ignores that a write
//! did not succeed, so it is enough that none waits: lines are lost instead.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::{
    fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, open},
    io::Errno,
    stdio,
};

use crate::log::say;

/// Makes both non-blocking for this process and all that it starts. A file stays as it is: it does not block.
pub(crate) fn never_block() {
    make(stdio::stdout(), "/proc/self/fd/1", stdio::dup2_stdout);
    make(stdio::stderr(), "/proc/self/fd/2", stdio::dup2_stderr);
}

type Replace = fn(OwnedFd) -> Result<(), Errno>;

fn make(fd: BorrowedFd<'_>, path: &str, replace: Replace) {
    let kind = fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let done = match kind {
        Ok(FileType::Fifo) => reopen(path, replace).or_else(|_| set(fd)),
        // A terminal's description belongs to the shell too: it is left alone if it cannot be opened again.
        Ok(FileType::CharacterDevice) => reopen(path, replace),
        // A socket cannot be opened again. It is systemd's, and this service has it for itself.
        Ok(FileType::Socket) => set(fd),
        _ => Ok(()),
    };
    if let Err(error) = done {
        say!("PostgreSQL will wait for its log when it is not read: {error}");
    }
}

/// Opens the same pipe or terminal again. Other holders of the old description keep it unchanged.
fn reopen(path: &str, replace: Replace) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    replace(open(path, flags, Mode::empty())?)
}

/// The description may be another user's, as in a container whose runtime is root's: it is changed itself.
fn set(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)
}
