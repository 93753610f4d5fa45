//! The log: lines on stderr, or in a file, that never block the agent. A full pipe loses lines, and they are counted.

use std::{
    fmt::{self, Write as _},
    io,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use howdah_config::{LogConfig, Record};
use jiff::Zoned;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{
    Event, Level,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter, SubscriberBuilder,
        format::{DefaultFields, Format, Writer},
    },
    registry::LookupSpan,
};

use crate::logfile;

static LOST: AtomicU64 = AtomicU64::new(0);

/// Where lines go instead of stderr.
static FILE: OnceLock<logfile::Lines> = OnceLock::new();

/// A line was dropped.
pub fn count_lost() {
    LOST.fetch_add(1, Ordering::Relaxed);
}

/// Lines that were dropped so far.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Begins to log at a level of Python's logging (`INFO`, `WARNING`, …), or as `HOWDAH_LOG` says.
pub fn start(level: &str) -> anyhow::Result<()> {
    subscriber(level)?
        .with_target(false)
        .try_init()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

/// For a server other than the agent: at the level `INFO`, in lines of text or of JSON.
pub fn start_for_server(json: bool) -> anyhow::Result<()> {
    let subscriber = subscriber("INFO")?.with_target(false);
    let started = if json {
        subscriber.json().flatten_event(true).try_init()
    } else {
        subscriber.try_init()
    };
    started.map_err(|error| anyhow::anyhow!("{error}"))
}

/// The same, in lines that look as the configuration says.
pub fn start_as(log: LogConfig) -> anyhow::Result<()> {
    if let Some(file) = &log.file {
        // A second one in this process would be a mistake, and changes nothing.
        let _ = FILE.set(logfile::Lines::open(file, log.queue)?);
    }
    subscriber(&log.level)?
        .event_format(Lines(log))
        .try_init()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

/// The process ends, with an error that is shown on stderr: whoever reads the file sees it too, and all that was said before.
pub fn finish(error: Option<&anyhow::Error>) {
    if let Some(file) = FILE.get() {
        if let Some(error) = error {
            tracing::error!("{error:#}.");
        }
        file.finish();
    }
}

type Subscriber<F> = SubscriberBuilder<DefaultFields, F, EnvFilter, Stderr>;

fn subscriber(level: &str) -> anyhow::Result<Subscriber<Format>> {
    let level = match level.to_ascii_uppercase().as_str() {
        "DEBUG" | "NOTSET" => "debug",
        "WARNING" | "WARN" => "warn",
        "ERROR" | "CRITICAL" | "FATAL" => "error",
        _ => "info",
    };
    // The Kubernetes client wraps every line of a pass in a span of its own.
    let filter = format!("{level},kube_runtime=warn,kube_client=off,kube=warn");
    let filter = EnvFilter::try_from_env("HOWDAH_LOG").or_else(|_| EnvFilter::try_new(filter))?;
    Ok(tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr)
        .with_ansi(false))
}

/// Patroni's lines, or what `log.format` says.
struct Lines(LogConfig);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let now = Zoned::now();
        let millis = u32::from(now.millisecond().unsigned_abs());
        let asctime = match &self.0.dateformat {
            Some(format) => now.strftime(format).to_string(),
            None => format!("{},{millis:03}", now.strftime("%Y-%m-%d %H:%M:%S")),
        };
        let meta = event.metadata();
        let line = self.0.layout.line(&Record {
            asctime: &asctime,
            created: (now.timestamp().as_second(), millis),
            level: match *meta.level() {
                Level::ERROR => "ERROR",
                Level::WARN => "WARNING",
                Level::INFO => "INFO",
                Level::DEBUG | Level::TRACE => "DEBUG",
            },
            message: &format!("{}{}", said.message, said.fields),
            module: meta.target().rsplit("::").next().unwrap_or_default(),
            process: std::process::id(),
        });
        writeln!(writer, "{line}")
    }
}

/// The text of an event, and ` key=value` of its fields.
#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line
    }
}

struct Line;

impl io::Write for Line {
    /// One call is one line. A pipe that is ready takes up to PIPE_BUF bytes without blocking.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(file) = FILE.get() {
            if !file.put(line) {
                count_lost();
            }
            return Ok(line.len());
        }
        let stderr = rustix::stdio::stderr();
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        let ready = poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        );
        let mut cut = Vec::new();
        let short = match line.get(..4095) {
            // Also a line that is cut ends with its end.
            Some(start) if line.len() > 4096 => {
                cut.extend_from_slice(start);
                cut.push(b'\n');
                &cut
            }
            _ => line,
        };
        if !ready.is_ok_and(|ready| ready > 0) || rustix::io::write(stderr, short).is_err() {
            count_lost();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
