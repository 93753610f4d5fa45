//! What Linux says of processes and of the machine, read from `/proc`.
//!
//! Each answer is of one moment; a process that has ended in between is absent. The guard has a reader of its own
//! (`guard/src/tree.rs`), which allocates nothing. A read takes microseconds, a walk over all processes some milliseconds: both may
//! stand on an async thread.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::{
    fs::{self, Metadata},
    net::SocketAddrV4,
    path::PathBuf,
};

/// The numbers of all processes.
#[must_use]
pub fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// A line of `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `D`, `T`, `Z`, …
    pub state: char,
    /// The process that has started it, or has inherited it.
    pub parent: i32,
    /// When it began, in ticks since boot: with its number it names the process for good.
    pub started: u64,
}

impl Stat {
    /// Of a process; `None` if it does not exist.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(line: &str) -> Option<Self> {
        // The name may hold spaces and parentheses; the rest follows its last parenthesis.
        let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
        Some(Stat {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            started: fields.nth(17)?.parse().ok()?,
        })
    }

    /// It has ended, and its parent has not taken note of that yet.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }
}

/// When a process began, in ticks since boot; `None` if it does not exist or is a zombie.
#[must_use]
pub fn started(pid: i32) -> Option<u64> {
    Stat::of(pid)
        .filter(|stat| !stat.is_zombie())
        .map(|stat| stat.started)
}

/// The children of a process.
#[must_use]
pub fn children(parent: i32) -> Vec<i32> {
    let is_child = |pid: &i32| Stat::of(*pid).is_some_and(|stat| stat.parent == parent);
    pids().into_iter().filter(is_child).collect()
}

/// The directory that a process works in. `None` also where this user may not see it.
#[must_use]
pub fn working_directory(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// That directory itself, by device and inode: also where its path leads elsewhere by now.
#[must_use]
pub fn working_directory_metadata(pid: i32) -> Option<Metadata> {
    fs::metadata(format!("/proc/{pid}/cwd")).ok()
}

/// The command line, its arguments separated by spaces; empty for one that does not exist.
#[must_use]
pub fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// A number of `/proc/<pid>/status`, such as `VmRSS` (in KiB) or `Threads`.
#[must_use]
pub fn status_number(pid: i32, name: &str) -> Option<u64> {
    number(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, name)
}

/// The memory of the machine in bytes.
#[must_use]
pub fn memory_total() -> Option<u64> {
    number(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")?.checked_mul(1024)
}

/// The number behind `name:` at the beginning of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether the socket at the other end of a connection of this machine has been closed: its owner is gone, or it has said that
/// nothing more comes. What it sent before may still be on its way, as long as nobody reads it here. `None`: that socket is not of
/// this machine, or not of IPv4.
#[must_use]
pub fn other_end_has_closed(ours: SocketAddrV4, theirs: SocketAddrV4) -> Option<bool> {
    if !theirs.ip().is_loopback() {
        return None;
    }
    let sockets = fs::read_to_string("/proc/net/tcp").ok()?;
    Some(has_closed(&sockets, ours, theirs))
}

/// The state of an open connection, and of one whose other end has closed first.
const OPEN: [&str; 2] = ["01", "08"];

fn has_closed(sockets: &str, ours: SocketAddrV4, theirs: SocketAddrV4) -> bool {
    let shown = |address: SocketAddrV4| {
        let ip = u32::from_ne_bytes(address.ip().octets());
        format!("{ip:08X}:{:04X}", address.port())
    };
    let (local, remote) = (shown(theirs), shown(ours));
    let open = sockets.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next() == Some(local.as_str())
            && fields.next() == Some(remote.as_str())
            && fields.next().is_some_and(|state| OPEN.contains(&state))
    });
    !open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let line = "42 (a) R 1 (b)) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 2";
        let stat = Stat {
            state: 'S',
            parent: 7,
            started: 12345,
        };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("42 (a"), None);
    }

    #[test]
    fn this_process_is_there() {
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        assert!(started(me).is_some() && pids().contains(&me));
        assert_eq!(working_directory(me), std::env::current_dir().ok());
        assert!(memory_total() > status_number(me, "VmRSS"));
    }

    #[test]
    fn numbers_are_found_by_their_whole_name() {
        assert_eq!(number("VmRSSx: 1 kB\nVmRSS:\t 12 kB\n", "VmRSS"), Some(12));
    }

    #[test]
    fn a_socket_that_was_closed_with_unread_data_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let address = |address: std::net::SocketAddr| match address {
            std::net::SocketAddr::V4(address) => address,
            std::net::SocketAddr::V6(_) => unreachable!(),
        };
        let ours = address(server.local_addr().unwrap());
        let theirs = address(client.local_addr().unwrap());
        assert_eq!(other_end_has_closed(ours, theirs), Some(false));
        // More than both buffers hold.
        client.set_nonblocking(true).unwrap();
        while std::io::Write::write(&mut &client, &[0; 65536]).is_ok() {}
        drop(client);
        assert_eq!(other_end_has_closed(ours, theirs), Some(true));
    }
}
