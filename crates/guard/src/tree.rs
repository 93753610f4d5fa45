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

/// More processes than this on one machine are not looked at.
const CAPACITY: usize = 65_536;

#[derive(Clone, Copy)]
struct Entry {
    pid: u32,
    parent: u32,
    dead: bool,
    marked: bool,
}

/// A reusable picture of all processes. Allocates once, when it is made.
pub struct ProcessTable {
    proc: OwnedFd,
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
    /// Opens `/proc`.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn new() -> io::Result<Self> {
        let proc = rustix::fs::open(
            "/proc",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(ProcessTable {
            proc,
            entries: Vec::with_capacity(CAPACITY),
        })
    }

    /// Kills what belongs to a PostgreSQL, once. Returns how many processes were still alive; call again until it is
    /// zero. `spare` and its descendants (the agent) are never touched, nor is the caller.
    ///
    /// With a postmaster, that is frozen first, so that it cannot start new processes, and killed last.
    pub fn kill_postgres(
        &mut self,
        postmaster: Option<u32>,
        data: Option<DirId>,
        spare: Option<u32>,
    ) -> usize {
        if let Some(pid) = postmaster {
            signal(pid, Signal::STOP);
        }
        let me = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
        self.refresh();
        self.mark(|entry| Some(entry.pid) == postmaster);
        if let Some(data) = data {
            self.mark_working_in(data);
        }
        self.unmark_family(spare);
        let mut alive = 0;
        for entry in self
            .entries
            .iter()
            .filter(|e| e.marked && !e.dead && e.pid != me && Some(e.pid) != postmaster)
        {
            signal(entry.pid, Signal::KILL);
            alive += 1;
        }
        if alive == 0
            && let Some(pid) = postmaster
            && self.entries.iter().any(|entry| entry.pid == pid && !entry.dead)
        {
            signal(pid, Signal::KILL);
            alive += 1;
        }
        alive
    }

    /// Kills the descendants of `root` except those of `spare`. Returns how many were still alive.
    pub fn kill_descendants(&mut self, root: u32, spare: &[Option<u32>]) -> usize {
        self.refresh();
        self.mark(|entry| entry.parent == root);
        for one in spare {
            self.unmark_family(*one);
        }
        let mut alive = 0;
        for entry in self
            .entries
            .iter()
            .filter(|entry| entry.marked && !entry.dead && entry.pid != root)
        {
            signal(entry.pid, Signal::KILL);
            alive += 1;
        }
        alive
    }

    fn refresh(&mut self) {
        self.entries.clear();
        let mut buffer = [MaybeUninit::<u8>::uninit(); 8192];
        let Ok(dir) = rustix::fs::openat(
            &self.proc,
            c".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        ) else {
            return;
        };
        let mut dir = RawDir::new(&dir, &mut buffer);
        while let Some(Ok(found)) = dir.next() {
            let Some(pid) = number(found.file_name().to_bytes()) else {
                continue;
            };
            if self.entries.len() == self.entries.capacity() {
                return;
            }
            if let Some(entry) = read_stat(self.proc.as_fd(), pid) {
                self.entries.push(entry);
            }
        }
    }

    /// Marks the processes that `is_root` names, and all their descendants.
    fn mark(&mut self, is_root: impl Fn(&Entry) -> bool) {
        for entry in &mut self.entries {
            entry.marked = is_root(entry);
        }
        self.spread(true);
    }

    fn unmark_family(&mut self, root: Option<u32>) {
        let Some(root) = root else { return };
        let mut changed = true;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.pid == root) {
            entry.marked = false;
        }
        // A descendant is unmarked when its parent is of the family and unmarked.
        while changed {
            changed = false;
            for i in 0..self.entries.len() {
                let Some(entry) = self.entries.get(i).copied() else {
                    break;
                };
                if entry.marked && self.is_family(entry.parent, root) {
                    if let Some(entry) = self.entries.get_mut(i) {
                        entry.marked = false;
                    }
                    changed = true;
                }
            }
        }
    }

    fn is_family(&self, pid: u32, root: u32) -> bool {
        let mut at = pid;
        for _ in 0..64 {
            if at == root {
                return true;
            }
            match self.entries.iter().find(|entry| entry.pid == at) {
                Some(entry) if entry.parent > 1 => at = entry.parent,
                _ => return false,
            }
        }
        false
    }

    fn spread(&mut self, to: bool) {
        let mut changed = true;
        while changed {
            changed = false;
            for i in 0..self.entries.len() {
                let Some(entry) = self.entries.get(i).copied() else {
                    break;
                };
                let parent_marked = self
                    .entries
                    .iter()
                    .any(|other| other.pid == entry.parent && other.marked == to);
                if entry.marked != to && parent_marked {
                    if let Some(entry) = self.entries.get_mut(i) {
                        entry.marked = to;
                    }
                    changed = true;
                }
            }
        }
    }

    fn mark_working_in(&mut self, data: DirId) {
        for i in 0..self.entries.len() {
            let Some(entry) = self.entries.get(i).copied() else {
                break;
            };
            let mut path = Path::new();
            let _ = write!(path, "{}/cwd\0", entry.pid);
            let works_there = path.as_cstr().is_some_and(|path| {
                rustix::fs::statat(&self.proc, path, AtFlags::empty())
                    .is_ok_and(|stat| DirId::from_stat(&stat) == data)
            });
            if works_there && let Some(entry) = self.entries.get_mut(i) {
                entry.marked = true;
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
        marked: false,
    })
}

/// A short path on the stack.
struct Path {
    bytes: [u8; 32],
    length: usize,
}

impl Path {
    fn new() -> Self {
        Path {
            bytes: [0; 32],
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
