//! System calls that have no safe wrapper: fork and exec, and a descriptor for signals.

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_ulong},
    io,
    marker::PhantomData,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
    time::Duration,
};

use rustix::process::Pid;

/// The signals that the guard reads from its descriptor; children get them unblocked again.
const WATCHED: [c_int; 6] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGHUP,
    libc::SIGCHLD,
    libc::SIGUSR2,
];

/// Blocks the watched signals and returns a descriptor to read them from.
pub(crate) fn signal_descriptor() -> io::Result<OwnedFd> {
    let set = watched_set();
    // JUSTIFICATION: signalfd has no safe wrapper in the libraries we use.
    // SAFETY: `set` is initialised and outlives the calls; the returned descriptor has no other owner.
    unsafe {
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// A command whose output goes to a pipe that is closed ends, as any other command does; Rust's default is a panic in
/// `println!`. Not for servers: a connection that is closed must not end them.
pub fn end_at_closed_pipes() {
    // JUSTIFICATION: no library that we use sets a signal's disposition.
    // SAFETY: no handler is installed, only the default restored, before any other thread runs.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Descriptors that the caller has left open beyond the first three are not for what is started from here: a server in the
/// background would hold the caller's locks and pipes. Kernels before 5.11 do not know how; nothing is changed then.
pub fn pass_no_descriptors_on() {
    const FIRST: c_uint = 3;
    // JUSTIFICATION: no library that we use marks descriptors that it does not own.
    // SAFETY: only the flag close-on-exec is set; no descriptor is closed or changed otherwise.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
}

/// The next signal from the descriptor, if one is waiting.
pub(crate) fn next_signal(fd: BorrowedFd<'_>) -> Option<c_int> {
    let mut buffer = [0u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut buffer) {
        Ok(length) if length == buffer.len() => {
            // The signal's number is the first field of the structure.
            Some(c_int::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]))
        }
        _ => None,
    }
}

/// `struct watchdog_info` of the kernel's `linux/watchdog.h`.
#[repr(C)]
struct WatchdogInfo {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

/// The kernel's `_IOR` and `_IOWR` for the letter `W`, on all architectures that PostgreSQL is packaged for but MIPS, PowerPC
/// and SPARC, whose bits differ.
const fn watchdog_request(writes: bool, number: c_ulong, size: usize) -> c_ulong {
    const LETTER: c_ulong = b'W' as c_ulong;
    let (read, write, shift) = if cfg!(any(
        target_arch = "powerpc",
        target_arch = "powerpc64",
        target_arch = "mips",
        target_arch = "mips64",
        target_arch = "sparc64"
    )) {
        (2, 4, 29)
    } else {
        (2, 1, 30)
    };
    let direction: c_ulong = if writes { read | write } else { read };
    direction << shift | (size as c_ulong) << 16 | LETTER << 8 | number
}

const GET_SUPPORT: c_ulong = watchdog_request(false, 0, size_of::<WatchdogInfo>());
const SET_TIMEOUT: c_ulong = watchdog_request(true, 6, size_of::<c_int>());
const GET_TIMEOUT: c_ulong = watchdog_request(false, 7, size_of::<c_int>());

/// `WDIOF_SETTIMEOUT` and `WDIOF_MAGICCLOSE`.
const HAS_TIMEOUT: u32 = 0x80;
const STOPS_WHEN_CLOSED: u32 = 0x100;

/// What the device can do; nothing if it does not say so.
fn watchdog_options(device: BorrowedFd<'_>) -> u32 {
    let mut info = WatchdogInfo {
        options: 0,
        firmware_version: 0,
        identity: [0; 32],
    };
    // JUSTIFICATION: ioctl has no safe form.
    // SAFETY: the request's size is that of the structure, which outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), GET_SUPPORT as _, &raw mut info) };
    if result == 0 { info.options } else { 0 }
}

/// Whether a watchdog stops when `V` was written before it is closed.
pub(crate) fn watchdog_stops_when_closed(device: BorrowedFd<'_>) -> bool {
    watchdog_options(device) & STOPS_WHEN_CLOSED != 0
}

/// Sets a watchdog's timeout in whole seconds if it can be set; gives the one that it has then.
///
/// # Errors
/// It refuses, or is no watchdog.
pub(crate) fn set_watchdog_timeout(device: BorrowedFd<'_>, timeout: Duration) -> io::Result<Duration> {
    let mut seconds = c_int::try_from(timeout.as_secs()).unwrap_or(c_int::MAX);
    if watchdog_options(device) & HAS_TIMEOUT != 0 {
        // JUSTIFICATION: ioctl has no safe form.
        // SAFETY: the request's size is that of an int, which outlives the call.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), SET_TIMEOUT as _, &raw mut seconds) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // JUSTIFICATION: ioctl has no safe form.
    // SAFETY: as above.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), GET_TIMEOUT as _, &raw mut seconds) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn watched_set() -> libc::sigset_t {
    // JUSTIFICATION: the kernel's signal sets have no safe constructor.
    // SAFETY: sigemptyset initialises the set before anything reads it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in WATCHED {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Room for a null-terminated vector of C strings for exec. Allocated before the guard's loop, never grown.
pub(crate) struct Room(Vec<*const c_char>);

/// A filled vector: it borrows the strings that it points at, and so cannot outlive them.
pub(crate) struct Vector<'a> {
    pointers: &'a [*const c_char],
    strings: PhantomData<&'a CStr>,
}

impl Room {
    /// For `capacity` strings.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Room(Vec::with_capacity(capacity + 1))
    }

    /// Points at `strings`. `None` if there are too many.
    pub(crate) fn fill<'a>(&'a mut self, strings: impl Iterator<Item = &'a CStr>) -> Option<Vector<'a>> {
        self.0.clear();
        for string in strings {
            if self.0.len() + 1 >= self.0.capacity() {
                return None;
            }
            self.0.push(string.as_ptr());
        }
        self.0.push(ptr::null());
        Some(Vector {
            pointers: &self.0,
            strings: PhantomData,
        })
    }
}

/// How a child differs from the guard.
pub(crate) struct Child<'a> {
    pub(crate) program: &'a CStr,
    pub(crate) argv: Vector<'a>,
    pub(crate) envp: Vector<'a>,
    /// Given to the child as descriptor 3.
    pub(crate) descriptor: Option<BorrowedFd<'a>>,
    /// Sent to the child by the kernel when the guard dies.
    pub(crate) death_signal: c_int,
}

/// Starts a program in a session of its own. Returns when exec has succeeded or failed.
pub(crate) fn spawn(child: &Child<'_>) -> io::Result<Pid> {
    let (report_in, report_out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let descriptor = child.descriptor.map_or(-1, |fd| fd.as_raw_fd());
    let guard = rustix::process::getpid();
    // JUSTIFICATION: std's Command allocates and cannot set a parent-death signal before the parent may be gone.
    // SAFETY: the guard has one thread, so the child may run any code; it only calls functions that are safe after
    // fork, on memory that was prepared before, and ends in exec or _exit. The vectors end in a null pointer and borrow
    // the strings that they point at.
    let pid = unsafe {
        match libc::fork() {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                let error = become_program(child, descriptor, guard.as_raw_nonzero().get());
                let code = error.to_ne_bytes();
                libc::write(report_out.as_raw_fd(), code.as_ptr().cast(), code.len());
                libc::_exit(127)
            }
            pid => pid,
        }
    };
    drop(report_out);
    let mut code = [0u8; 4];
    match rustix::io::retry_on_intr(|| rustix::io::read(&report_in, &mut code)) {
        Ok(4) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(code))),
        _ => Pid::from_raw(pid).ok_or_else(|| io::Error::other("fork gave no pid")),
    }
}

/// The child's side of [`spawn`]; returns errno if exec did not succeed.
///
/// # Safety
/// Must run in a child that was just forked from a process with one thread.
unsafe fn become_program(child: &Child<'_>, descriptor: c_int, guard: c_int) -> c_int {
    // JUSTIFICATION: between fork and exec only raw calls are allowed.
    // SAFETY: async-signal-safe calls on prepared memory.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_PDEATHSIG, child.death_signal as libc::c_ulong);
        if libc::getppid() != guard {
            // The guard died before the death signal was set.
            libc::_exit(126);
        }
        if descriptor >= 0 {
            if descriptor == 3 {
                libc::fcntl(3, libc::F_SETFD, 0);
            } else if libc::dup2(descriptor, 3) < 0 {
                return *libc::__errno_location();
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::execve(
            child.program.as_ptr(),
            child.argv.pointers.as_ptr(),
            child.envp.pointers.as_ptr(),
        );
        *libc::__errno_location()
    }
}

/// Takes ownership of the descriptor that [`spawn`] gave this process, once, and closes it for programs that this
/// process starts.
pub(crate) fn take_descriptor() -> Option<OwnedFd> {
    use std::sync::atomic::{AtomicBool, Ordering};
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return None;
    }
    // JUSTIFICATION: an inherited descriptor is a number until its owner is known.
    // SAFETY: descriptor 3 was opened by the guard for this process and is taken only once; fcntl checks that it is
    // open at all.
    unsafe {
        if libc::fcntl(3, libc::F_SETFD, libc::FD_CLOEXEC) != 0 {
            return None;
        }
        Some(OwnedFd::from_raw_fd(3))
    }
}

#[cfg(test)]
mod tests {
    /// As `strace` shows them for other programs on these machines.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn watchdog_requests_are_the_kernels() {
        assert_eq!(super::GET_SUPPORT, 0x8028_5700);
        assert_eq!(super::SET_TIMEOUT, 0xC004_5706);
        assert_eq!(super::GET_TIMEOUT, 0x8004_5707);
    }
}
