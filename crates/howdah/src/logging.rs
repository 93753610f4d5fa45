//! The log: lines on stderr that never block the agent. A full pipe loses lines, and they are counted.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

static LOST: AtomicU64 = AtomicU64::new(0);

/// Lines that were dropped so far.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Begins to log at a level of Python's logging (`INFO`, `WARNING`, …), or as `HOWDAH_LOG` says.
pub fn start(level: &str) -> anyhow::Result<()> {
    let level = match level.to_ascii_uppercase().as_str() {
        "DEBUG" | "NOTSET" => "debug",
        "WARNING" | "WARN" => "warn",
        "ERROR" | "CRITICAL" | "FATAL" => "error",
        _ => "info",
    };
    // The Kubernetes client wraps every line of a pass in a span of its own.
    let filter = format!("{level},kube_runtime=warn,kube_client=warn,kube=warn");
    let filter = EnvFilter::try_from_env("HOWDAH_LOG").or_else(|_| EnvFilter::try_new(filter))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line
    }
}

struct Line;

impl Write for Line {
    /// One call is one line. A pipe that is ready takes up to PIPE_BUF bytes without blocking.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = rustix::stdio::stderr();
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        let ready = poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        );
        let short = line.get(..line.len().min(4096)).unwrap_or_default();
        if !ready.is_ok_and(|ready| ready > 0) || rustix::io::write(stderr, short).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
