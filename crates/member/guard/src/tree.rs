//! Finds and kills all processes of one PostgreSQL.
//!
//! Killing the postmaster, or its process group, is not a fence: every backend has a session of its own, and one that
//! loops over COMMIT goes on writing. What belongs to a PostgreSQL is: the descendants of its postmaster, and every
//! process whose working directory is its data directory (where backends stay when the postmaster has died and they
//! have another parent).

use std::{
    ffi::CStr,
    fmt::Write,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, RawDir, Stat},
    process::{Pid, Signal, kill_process},
};

/// Processes on one machine at most, where the kernel does not say.
const USUAL_LIMIT: usize = 65_536;

/// And at most in any case: the kernel's own limit on 64-bit machines.
const LARGEST_LIMIT: usize = 4_194_304;

/// What a process is to the PostgreSQL that is to be killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kin {
    /// Not known yet.
    Unknown,
    /// It belongs to it.
    Ours,
    /// It belongs to the agent, which is spared.
    Spared,
    /// It has nothing to do with either.
    Stranger,
}

#[derive(Clone, Copy)]
struct Entry {
    pid: u32,
    parent: u32,
    dead: bool,
    kin: Kin,
}

/// A reusable picture of all processes. Allocates once, when it is made.
pub struct ProcessTable {
    proc: OwnedFd,
    /// Sorted by pid.
    entries: Vec<Entry>,
}

/// A data directory, by identity: its path may be renamed, and links may lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirId {
    device: u64,
    inode: u64,
}

impl DirId {
    /// The identity of the directory at `path`.
    ///
    /// # Errors
    /// It does not exist, or must not be looked at.
    pub fn of(path: &CStr) -> io::Result<Self> {
        Ok(Self::from_stat(&rustix::fs::stat(path)?))
    }

    fn from_stat(stat: &Stat) -> Self {
        DirId {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

impl ProcessTable {
    /// Opens `/proc`, and makes room for as many processes as the kernel allows (pages that are not used cost nothing).
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn new() -> io::Result<Self> {
        let proc = rustix::fs::open(
            "/proc",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let limit = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
        let limit = limit.trim().parse().unwrap_or(USUAL_LIMIT);
        Ok(ProcessTable {
            proc,
            entries: Vec::with_capacity(limit.min(LARGEST_LIMIT)),
        })
    }

    /// Kills what belongs to a PostgreSQL, once. Returns how many processes were still alive; call again until it is
    /// zero. `spare` and its descendants (the agent) are never touched, nor is the caller.
    ///
    /// With a postmaster, that is frozen first, so that it cannot start new processes, and killed last. Its own children,
    /// which are all the sessions, die before the rest of the machine is looked at: with ten thousands of processes that
    /// look takes longer than the margin.
    pub fn kill_postgres(
        &mut self,
        postmaster: Option<u32>,
        data: Option<DirId>,
        spare: Option<u32>,
    ) -> usize {
        if let Some(pid) = postmaster {
            signal(pid, Signal::STOP);
            self.kill_children(pid);
        }
        let me = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
        let seen = self.refresh();
        self.relate(&[postmaster], &[spare]);
        if let Some(data) = data {
            self.claim_working_in(data);
        }
        let mut alive = self.kill_ours(|entry| Some(entry.pid) != postmaster && entry.pid != me);
        if alive == 0
            && let Some(pid) = postmaster
            && self.find(pid).is_some_and(|entry| !entry.dead)
        {
            signal(pid, Signal::KILL);
            alive += 1;
        }
        // Who could not look does not know that nothing is left.
        if seen { alive } else { alive.max(1) }
    }

    /// Kills the descendants of `root` except those of `spare`. Returns how many were still alive.
    pub fn kill_descendants(&mut self, root: u32, spare: &[Option<u32>]) -> usize {
        self.refresh();
        self.relate(&[Some(root)], spare);
        self.kill_ours(|entry| entry.pid != root)
    }

    fn kill_ours(&self, fits: impl Fn(&Entry) -> bool) -> usize {
        let mut alive = 0;
        let ours = self.entries.iter().filter(|e| e.kin == Kin::Ours && !e.dead);
        for entry in ours.filter(|entry| fits(entry)) {
            signal(entry.pid, Signal::KILL);
            alive += 1;
        }
        alive
    }

    /// Kills the children that the kernel lists for a process. It may leave some out while others end, so this is only
    /// the first stroke.
    fn kill_children(&self, parent: u32) {
        let mut path = Path::new();
        if write!(path, "{parent}/task/{parent}/children\0").is_err() {
            return;
        }
        let Some(Ok(file)) = path.as_cstr().map(|path| {
            rustix::fs::openat(&self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        }) else {
            return;
        };
        let mut buffer = [0u8; 4096];
        let mut pid = 0u32;
        while let Ok(length @ 1..) = rustix::io::read(&file, &mut buffer) {
            // A number may go on in the next piece.
            for byte in buffer.get(..length).unwrap_or_default() {
                if byte.is_ascii_digit() {
                    pid = pid.saturating_mul(10).saturating_add(u32::from(byte - b'0'));
                } else if pid > 0 {
                    signal(pid, Signal::KILL);
                    pid = 0;
                }
            }
        }
        if pid > 0 {
            signal(pid, Signal::KILL);
        }
    }

    /// False when the kernel's list could not be read to its end.
    fn refresh(&mut self) -> bool {
        self.entries.clear();
        let mut buffer = [MaybeUninit::<u8>::uninit(); 8192];
        let Ok(dir) = rustix::fs::openat(
            &self.proc,
            c".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        ) else {
            return false;
        };
        let mut dir = RawDir::new(&dir, &mut buffer);
        let mut whole = true;
        while let Some(found) = dir.next() {
            let Ok(found) = found else {
                whole = false;
                break;
            };
            let Some(pid) = number(found.file_name().to_bytes()) else {
                continue;
            };
            if self.entries.len() == self.entries.capacity() {
                break;
            }
            if let Some(entry) = read_stat(self.proc.as_fd(), pid) {
                self.entries.push(entry);
            }
        }
        self.entries.sort_unstable_by_key(|entry| entry.pid);
        whole
    }

    fn index_of(&self, pid: u32) -> Option<usize> {
        self.entries.binary_search_by_key(&pid, |entry| entry.pid).ok()
    }

    fn find(&self, pid: u32) -> Option<&Entry> {
        self.entries.get(self.index_of(pid)?)
    }

    /// Says of every process what it is, by its nearest ancestor (or itself) that is in one of the lists. Each process is
    /// walked over twice at most, since what was found is noted along the way.
    fn relate(&mut self, ours: &[Option<u32>], spared: &[Option<u32>]) {
        for i in 0..self.entries.len() {
            let found = self.ancestor(i, ours, spared);
            self.note(i, found, |pid| {
                ours.contains(&Some(pid)) || spared.contains(&Some(pid))
            });
        }
    }

    fn ancestor(&self, from: usize, ours: &[Option<u32>], spared: &[Option<u32>]) -> Kin {
        let mut at = from;
        // Pids are read one by one while processes end and are begun: what looks like a cycle is not ours.
        for _ in 0..self.entries.len() {
            let Some(entry) = self.entries.get(at) else {
                return Kin::Stranger;
            };
            if entry.kin != Kin::Unknown {
                return entry.kin;
            }
            if spared.contains(&Some(entry.pid)) {
                return Kin::Spared;
            }
            if ours.contains(&Some(entry.pid)) {
                return Kin::Ours;
            }
            match self.index_of(entry.parent) {
                Some(parent) if parent != at => at = parent,
                _ => return Kin::Stranger,
            }
        }
        Kin::Stranger
    }

    /// Notes what was found of a process and of its ancestors up to the one that decided it.
    fn note(&mut self, from: usize, found: Kin, decides: impl Fn(u32) -> bool) {
        let mut at = from;
        while let Some(entry) = self.entries.get_mut(at) {
            if entry.kin != Kin::Unknown {
                return;
            }
            entry.kin = found;
            let (pid, parent) = (entry.pid, entry.parent);
            match self.index_of(parent) {
                Some(next) if parent != pid && !decides(pid) => at = next,
                _ => return,
            }
        }
    }

    /// What works in the data directory is ours, even if it has another parent by now.
    fn claim_working_in(&mut self, data: DirId) {
        for i in 0..self.entries.len() {
            let Some(entry) = self.entries.get(i).copied() else {
                break;
            };
            if entry.kin != Kin::Stranger || entry.dead {
                continue;
            }
            let mut path = Path::new();
            let _ = write!(path, "{}/cwd\0", entry.pid);
            let works_there = path.as_cstr().is_some_and(|path| {
                rustix::fs::statat(&self.proc, path, AtFlags::empty())
                    .is_ok_and(|stat| DirId::from_stat(&stat) == data)
            });
            if works_there && let Some(entry) = self.entries.get_mut(i) {
                entry.kin = Kin::Ours;
            }
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn read_stat(proc: std::os::fd::BorrowedFd<'_>, pid: u32) -> Option<Entry> {
    let mut path = Path::new();
    write!(path, "{pid}/stat\0").ok()?;
    let file = rustix::fs::openat(
        proc,
        path.as_cstr()?,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let mut buffer = [0u8; 512];
    let length = rustix::io::read(&file, &mut buffer).ok()?;
    let text = buffer.get(..length)?;
    // pid (name) state ppid …; the name may hold spaces and parentheses, so begin after the last one.
    let after = text.iter().rposition(|byte| *byte == b')')? + 2;
    let mut fields = text.get(after..)?.split(|byte| *byte == b' ');
    let state = *fields.next()?.first()?;
    let parent = number(fields.next()?)?;
    Some(Entry {
        pid,
        parent,
        dead: matches!(state, b'Z' | b'X'),
        kin: Kin::Unknown,
    })
}

/// A short path on the stack.
struct Path {
    bytes: [u8; 48],
    length: usize,
}

impl Path {
    fn new() -> Self {
        Path {
            bytes: [0; 48],
            length: 0,
        }
    }

    fn as_cstr(&self) -> Option<&CStr> {
        CStr::from_bytes_with_nul(self.bytes.get(..self.length)?).ok()
    }
}

impl Write for Path {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let to = self
            .bytes
            .get_mut(self.length..self.length + text.len())
            .ok_or(std::fmt::Error)?;
        to.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// A shell that starts a child in a session of its own, as a postmaster does with backends, and tells its pid.
    fn family(dir: &std::path::Path) -> (std::process::Child, u32) {
        let mut parent = Command::new("sh")
            .args(["-c", "setsid sleep 600 & echo $!; wait"])
            .current_dir(dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(parent.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        (parent, line.trim().parse().unwrap())
    }

    fn alive(pid: u32) -> bool {
        let table = ProcessTable::new().unwrap();
        read_stat(table.proc.as_fd(), pid).is_some_and(|entry| !entry.dead)
    }

    fn until_none(mut kill: impl FnMut() -> usize) {
        for _ in 0..1000 {
            if kill() == 0 {
                return;
            }
            std::thread::yield_now();
        }
        panic!("processes remain");
    }

    #[test]
    fn descendants_in_other_sessions_die_with_the_postmaster() {
        let mut table = ProcessTable::new().unwrap();
        let (mut parent, child) = family(std::path::Path::new("/"));
        until_none(|| table.kill_postgres(Some(parent.id()), None, None));
        assert!(!alive(child));
        assert!(!parent.wait().unwrap().success());
    }

    #[test]
    fn an_ancestor_decides_and_what_is_above_it_is_left_alone() {
        let mut table = ProcessTable::new().unwrap();
        let entry = |pid, parent| Entry {
            pid,
            parent,
            dead: false,
            kin: Kin::Unknown,
        };
        // 1 init; 10 guard; 20 agent, 21 its tool; 30 postmaster, 31 backend, 32 its child; 40 a stranger; 50 and 51 a circle.
        table.entries.clear();
        table.entries.extend([
            entry(1, 0),
            entry(10, 1),
            entry(20, 10),
            entry(21, 20),
            entry(30, 10),
            entry(31, 30),
            entry(32, 31),
            entry(40, 1),
            entry(50, 51),
            entry(51, 50),
        ]);
        table.relate(&[Some(30)], &[Some(20)]);
        let of = |kin| -> Vec<u32> {
            let found = table.entries.iter().filter(|entry| entry.kin == kin);
            found.map(|entry| entry.pid).collect()
        };
        assert_eq!(of(Kin::Ours), [30, 31, 32]);
        assert_eq!(of(Kin::Spared), [20, 21]);
        assert_eq!(of(Kin::Stranger), [1, 10, 40, 50, 51]);
    }

    #[test]
    fn orphans_are_found_by_their_working_directory_and_the_agent_is_spared() {
        let dir = std::env::temp_dir().join(format!("howdah-tree-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut table = ProcessTable::new().unwrap();
        let (mut parent, orphan) = family(&dir);
        let (mut agent, agents) = family(&dir);
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert!(alive(orphan), "killing the parent alone is not a fence");
        let path = std::ffi::CString::new(dir.to_str().unwrap()).unwrap();
        let data = DirId::of(&path).unwrap();
        until_none(|| table.kill_postgres(None, Some(data), Some(agent.id())));
        assert!(!alive(orphan));
        assert!(alive(agents));
        until_none(|| table.kill_postgres(Some(agent.id()), None, None));
        agent.wait().unwrap();
        std::fs::remove_dir(&dir).unwrap();
    }
}
