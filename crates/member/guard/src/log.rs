//! Lines on stderr that never block and never allocate: a full pipe loses them.

use core::fmt::{self, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

struct Line {
    bytes: [u8; 512],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.length;
        let taken = text.len().min(room);
        if let (Some(to), Some(from)) = (
            self.bytes.get_mut(self.length..self.length + taken),
            text.as_bytes().get(..taken),
        ) {
            to.copy_from_slice(from);
        }
        self.length += taken;
        Ok(())
    }
}

/// Writes one line.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; 512],
        length: 0,
    };
    let _ = writeln!(line, "guard: {text}");
    let stderr = rustix::stdio::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    // A pipe that is writable takes a line of less than PIPE_BUF without blocking.
    let writable = poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .is_ok_and(|ready| ready > 0);
    if writable && let Some(bytes) = line.bytes.get(..line.length) {
        let _ = rustix::io::write(stderr, bytes);
    }
}

macro_rules! say {
    ($($arg:tt)*) => { $crate::log::line(format_args!($($arg)*)) };
}
pub(crate) use say;
