use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use thiserror::Error;

use crate::{MAX_MESSAGE, Message, Reply, Request, WhyRefused, protocol::HEAD};

/// Why talking to the guard did not work.
#[derive(Debug, Error)]
pub enum GuardError {
    /// The guard is gone: the agent must end too.
    #[error("the guard is gone")]
    Gone,
    /// It does not read its messages: it is frozen.
    #[error("the guard does not answer")]
    Busy,
    /// It said no.
    #[error("the guard refuses: {0}")]
    Refused(WhyRefused),
    /// The system said no.
    #[error("talking to the guard: {0}")]
    System(#[from] io::Error),
}

/// The agent's end of the socket. Sends from any thread; one reader.
#[derive(Debug)]
pub struct GuardClient {
    socket: OwnedFd,
    next: AtomicU32,
}

impl GuardClient {
    /// Takes the descriptor that the guard left for its agent.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        GuardClient {
            socket,
            next: AtomicU32::new(1),
        }
    }

    /// Sends a request and returns its number. `tail` is the command line of a start, else empty: texts, each ended by
    /// a zero byte, the data directory first.
    ///
    /// # Errors
    /// The guard is gone or does not read.
    pub fn send(&self, body: Request, tail: &[u8]) -> Result<u32, GuardError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed).max(1);
        let head = Message { id, body }.encode();
        let mut buffer = [0u8; MAX_MESSAGE];
        let length = HEAD + tail.len();
        let room = buffer
            .get_mut(..length)
            .ok_or_else(|| GuardError::System(io::Error::other("PostgreSQL's command line is too long")))?;
        room[..HEAD].copy_from_slice(&head);
        room[HEAD..].copy_from_slice(tail);
        match send(&self.socket, room, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => Ok(id),
            Err(rustix::io::Errno::AGAIN) => Err(GuardError::Busy),
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Err(GuardError::Gone),
            Err(error) => Err(GuardError::System(error.into())),
        }
    }

    /// The next reply, if one is waiting.
    ///
    /// # Errors
    /// The guard is gone, or speaks another version.
    pub fn receive(&self) -> Result<Option<Message<Reply>>, GuardError> {
        let mut buffer = [0u8; HEAD];
        match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(GuardError::Gone),
            Ok((length, _)) => Message::<Reply>::decode(buffer.get(..length).unwrap_or_default())
                .map(Some)
                .map_err(GuardError::Refused),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(rustix::io::Errno::INTR) => Ok(None),
            Err(rustix::io::Errno::CONNRESET) => Err(GuardError::Gone),
            Err(error) => Err(GuardError::System(error.into())),
        }
    }
}

impl AsFd for GuardClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
