use std::{
    io,
    net::SocketAddrV4,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use howdah_clock::now;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionread},
    net::{SocketAddrAny, getpeername, getsockname},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::sleep_until;

/// What carries HTTP here.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn socket(&self) -> BorrowedFd<'_>;
}

impl Carrier for TcpStream {
    fn socket(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Carrier for TlsStream<TcpStream> {
    fn socket(&self) -> BorrowedFd<'_> {
        self.get_ref().0.as_fd()
    }
}

/// A connection after it has left HTTP.
pub struct Raw {
    /// What the client has sent behind its request.
    before: Bytes,
    carrier: Box<dyn Carrier>,
}

impl Raw {
    pub(crate) fn new(before: Bytes, carrier: impl Carrier) -> Self {
        Raw {
            before,
            carrier: Box::new(carrier),
        }
    }

    /// Sees the end of the connection while nothing reads from it.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn hangup(&self) -> io::Result<Hangup> {
        Ok(Hangup(self.carrier.socket().try_clone_to_owned()?))
    }
}

impl AsyncRead for Raw {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.carrier).poll_read(context, buffer);
        }
        let length = self.before.len().min(buffer.remaining());
        buffer.put_slice(self.before.get(..length).unwrap_or_default());
        self.before.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.carrier).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.carrier).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.carrier).poll_shutdown(context)
    }
}

/// Between two looks at a connection.
const LOOK: Duration = Duration::from_secs(1);

/// A second look at a connection's socket.
pub struct Hangup(OwnedFd);

impl Hangup {
    /// Waits until the client has closed its side. What it sent before may not be read yet: one that waits for a slow reader
    /// behind it would not see the end.
    pub async fn seen(&self) {
        let mut waits = 0;
        while !self.is_there() {
            // Behind full buffers the end of a client of this machine does not even arrive.
            waits = if ioctl_fionread(&self.0).is_ok_and(|bytes| bytes > 0) {
                waits + 1
            } else {
                0
            };
            if waits > 1 && self.other_end_has_closed() {
                return;
            }
            sleep_until(now() + LOOK).await;
        }
    }

    fn other_end_has_closed(&self) -> bool {
        let address =
            |found: Option<SocketAddrAny>| found.and_then(|found| SocketAddrV4::try_from(found).ok());
        let (ours, theirs) = (
            address(getsockname(&self.0).ok()),
            address(getpeername(&self.0).ok().flatten()),
        );
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => howdah_proc::other_end_has_closed(ours, theirs).unwrap_or(false),
            _ => false,
        }
    }

    fn is_there(&self) -> bool {
        let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut looked = [PollFd::new(&self.0, ended)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match poll(&mut looked, Some(&at_once)) {
            Ok(_) => looked.iter().any(|look| look.revents().intersects(ended)),
            Err(error) => error != Errno::INTR,
        }
    }
}
