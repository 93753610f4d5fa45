//! Shows how far a long work is, and ends it on a signal.

use std::{
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use howdah_archive::{ArchiveError, Progress, Seen};
use howdah_types::BootTime;
use tokio::signal::unix::{SignalKind, signal};

use crate::output::bytes;

/// How often a line on a terminal is renewed, and how often a line is added to a log.
const TERMINAL: Duration = Duration::from_millis(500);
const LOG: Duration = Duration::from_secs(30);

/// Runs a work to its end and shows meanwhile how far it is. SIGINT and SIGTERM ask it to end early.
pub(crate) async fn follow<T>(
    what: &str,
    progress: &Progress,
    work: impl Future<Output = Result<T, ArchiveError>>,
) -> Result<T, ArchiveError> {
    let is_terminal = stderr().is_terminal();
    let began = howdah_clock::now();
    let signals = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    let (mut interrupt, mut terminate) = signals.map_err(|error| ArchiveError::Refused(error.to_string()))?;
    let mut beat = tokio::time::interval(if is_terminal { TERMINAL } else { LOG });
    beat.tick().await;
    tokio::pin!(work);
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut work => break ended,
            _ = interrupt.recv() => progress.give_up(),
            _ = terminate.recv() => progress.give_up(),
            _ = beat.tick() => match progress.waiting() {
                Some(waiting) => put(&format!("{waiting}, {} so far.", seconds(began)), is_terminal),
                None => show(what, progress.see(), began, is_terminal),
            },
        }
    };
    if is_terminal {
        let _ = write!(stderr(), "\r\x1b[K");
    }
    ended
}

fn show(what: &str, seen: Seen, began: BootTime, is_terminal: bool) {
    if seen.total == 0 {
        return;
    }
    put(&line(what, seen, howdah_clock::now().since(began)), is_terminal);
}

fn put(line: &str, is_terminal: bool) {
    let _ = if is_terminal {
        write!(stderr(), "\r\x1b[K{line}")
    } else {
        writeln!(stderr(), "{line}")
    };
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "for people"
)]
fn line(what: &str, seen: Seen, taken: Duration) -> String {
    let done = seen.done.min(seen.total);
    let rate = done as f64 / taken.as_secs_f64().max(0.001);
    let left = match (seen.total - done) as f64 / rate {
        left if left.is_finite() => format!(", {} s left", left.ceil() as u64),
        _ => String::new(),
    };
    format!(
        "{what}: {} % of {}, {} sent or received, {}/s{left}",
        done * 100 / seen.total.max(1),
        bytes(seen.total),
        bytes(seen.moved),
        bytes(rate as u64)
    )
}

/// How long something took, for a last line.
pub(crate) fn seconds(began: BootTime) -> String {
    format!("{:.1} s", howdah_clock::now().since(began).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far() {
        let seen = Seen {
            total: 1_000_000,
            done: 250_000,
            moved: 60_000,
        };
        let said = line("Backup", seen, Duration::from_secs(5));
        assert_eq!(
            said,
            "Backup: 25 % of 1.0 MB, 60.0 kB sent or received, 50.0 kB/s, 15 s left"
        );
        assert!(!line("Backup", Seen { done: 0, ..seen }, Duration::from_secs(5)).contains("left"));
    }
}
