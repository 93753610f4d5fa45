//! What the archive has, looked at every few minutes by the member that leads.

use std::time::Duration;

use howdah_archive::{ArchiveError, Store, catalogue};
use howdah_archiver::{Archiver, FenceWatch};
use howdah_backup::{ArchiveState, Catalogue};
use howdah_clock::now;
use howdah_http::sleep_until;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::{backup::PATIENCE, cli::ArchiverArgs, make_up, soon};

/// A listing of a large archive takes requests, which cost money.
const EVERY: Duration = Duration::from_secs(600);

/// After a look that failed, and after the first ones of a new leader.
const AGAIN: Duration = Duration::from_secs(20);

/// So many first looks of a leader follow one another quickly.
const EARLY: u32 = 3;

/// Segments that may be archived out of their order.
const NEAR: u64 = 32;

/// Gaps that are named.
const NAMED: usize = 5;

/// Looks until it is dropped: while this member leads, and at once when something was done to the archive.
pub(crate) async fn forever(
    args: &ArchiverArgs,
    archiver: &Archiver,
    mut fence: FenceWatch,
    changed: &Notify,
) {
    let mut known: Option<ArchiveState> = None;
    // A server that was just promoted has more to say in a moment.
    let mut early = EARLY;
    loop {
        // One that a person has started is told nothing of leaders.
        let leads = leads(&mut fence);
        let mut pause = EVERY;
        if leads {
            let seen = look(args, &fence).await;
            if seen.trouble.is_some() || early > 0 {
                pause = AGAIN;
            }
            early = early.saturating_sub(1);
            // What was known stays known while the archive does not answer.
            known = Some(match (seen.trouble.as_ref(), known.take()) {
                (Some(_), Some(before)) if seen.place.is_empty() => ArchiveState {
                    trouble: seen.trouble,
                    ..before
                },
                _ => seen,
            });
        } else {
            (known, early) = (None, EARLY);
        }
        archiver.seen(known.clone()).await;
        let limit = now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(limit) => break,
                () = changed.notified() => break,
                ended = fence.changed() => {
                    if ended.is_err() {
                        return;
                    }
                    if self::leads(&mut fence) != leads {
                        break;
                    }
                }
            }
        }
    }
}

fn leads(fence: &mut FenceWatch) -> bool {
    let told = *fence.borrow_and_update();
    told.is_none_or(|fence| fence.until.is_some_and(|until| now() < until))
}

async fn look(args: &ArchiverArgs, fence: &FenceWatch) -> ArchiveState {
    let seen = async {
        let variables = args
            .sources
            .read()
            .map_err(|error| ArchiveError::Setting(format!("{error:#}")))?;
        let settings = variables.settings()?;
        let store = Store::open(&settings.place, PATIENCE)?;
        let mut found = catalogue(&store, &settings, soon()).await?;
        if make_up::run(&args.pgdata, settings.clone(), &found, fence.clone()).await > 0 {
            found = catalogue(&store, &settings, soon()).await?;
        }
        if is_at_end(&found) {
            // Segments are archived side by side: one may be there before the one in front of it.
            sleep_until(now() + AGAIN).await;
            found = catalogue(&store, &settings, soon()).await?;
        }
        Ok::<_, ArchiveError>(state(store.name(), &found))
    };
    match seen.await {
        Ok(state) => state,
        Err(error) => ArchiveState {
            seen: Timestamp::now(),
            trouble: Some(cut(&error.to_string())),
            ..ArchiveState::default()
        },
    }
}

/// Whether a segment is missing close to the last one of its timeline.
fn is_at_end(catalogue: &Catalogue) -> bool {
    catalogue.gaps().iter().any(|gap| {
        let last = catalogue
            .segments
            .get(&gap.first.timeline)
            .and_then(|there| there.last_key_value());
        let number = gap.first.number(catalogue.size);
        last.zip(number)
            .is_some_and(|((last, _), number)| number + NEAR >= *last)
    })
}

/// A text that fits into a report and a member's record.
fn cut(text: &str) -> String {
    text.chars().take(400).collect()
}

fn state(place: &str, catalogue: &Catalogue) -> ArchiveState {
    let health = catalogue.health();
    ArchiveState {
        place: place.to_owned(),
        seen: Timestamp::now(),
        trouble: catalogue.troubles.first().map(|text| cut(text)),
        backups: u64::try_from(health.usable).unwrap_or(u64::MAX),
        last_backup: health.newest.map(|backup| backup.name.clone()),
        last_backup_at: health.newest.map(howdah_backup::Backup::finished),
        restorable_from: health.from,
        restorable_to: health.to,
        gaps: health
            .gaps
            .iter()
            .take(NAMED)
            .map(|gap| format!("{} ({})", gap.first, gap.count))
            .collect(),
        proved_at: health
            .proof
            .filter(|proof| proof.trouble.is_none())
            .map(|proof| proof.at),
        drill_trouble: health.proof.and_then(|proof| proof.trouble.as_deref()).map(cut),
    }
}
