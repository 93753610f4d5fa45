//! Who is at the other end of the socket.

use std::os::fd::AsFd;

use rustix::{net::sockopt::socket_peercred, process::geteuid};

/// Whether it is this user, or root: whoever answers for an archive must not be somebody else.
pub(crate) fn is_trusted(socket: impl AsFd) -> bool {
    socket_peercred(socket).is_ok_and(|peer| peer.uid == geteuid() || peer.uid.is_root())
}
