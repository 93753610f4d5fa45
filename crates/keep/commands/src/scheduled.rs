//! Backups by a schedule, and retention after each.

use std::time::Duration;

use howdah_archive::{ArchiveError, Server, Store, claim_backup, is_replica};
use howdah_archiver::Archiver;
use howdah_backup::{Schedule, retention::Policy};
use howdah_http::sleep_until;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::{
    backup::{Archive, PATIENCE},
    cli::ArchiverArgs,
    output::bytes,
    retain, soon,
};

/// How often the server is looked at until there is a first backup.
const LOOK: Duration = Duration::from_secs(15);

/// How often a backup that is due is tried, and after what while.
const ATTEMPTS: u32 = 12;
const AGAIN: Duration = Duration::from_secs(300);

/// A moment that is longer ago is left to the next one.
const LATE: SignedDuration = SignedDuration::from_hours(1);

/// How long the WAL of a backup may take to be in the archive.
const WAL: Duration = Duration::from_secs(3600);

/// Makes backups until it is dropped: the first one as soon as there is a primary, then by the schedule, and when one is wanted
/// because WAL was given up. `changed` is told of each.
pub(crate) async fn forever(
    args: &ArchiverArgs,
    archiver: &Archiver,
    changed: &Notify,
) -> anyhow::Result<u8> {
    let Some(schedule) = &args.backup_schedule else {
        return std::future::pending().await;
    };
    first(args).await;
    // The life before may have ended in the middle of a backup.
    if let Some(missed) = missed(schedule, Timestamp::now()) {
        made_at(args, missed).await;
    }
    loop {
        changed.notify_one();
        let Some(next) = schedule.next(Timestamp::now()) else {
            tracing::error!("The schedule of backups has no next moment.");
            return std::future::pending().await;
        };
        tracing::info!("The next backup is due at {next}.");
        let moment = tokio::select! {
            () = wait_until(next) => next,
            () = archiver.backup_wanted() => Timestamp::now(),
        };
        made_at(args, moment).await;
    }
}

/// The last moment of the schedule that is not too long ago.
fn missed(schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
    let mut found = None;
    let mut at = now.checked_sub(LATE).ok()?;
    while let Some(next) = schedule.next(at).filter(|next| *next < now) {
        found = Some(next);
        at = next;
    }
    found
}

/// Looks until there is a backup that was made since a moment: whoever was to make it may have died, or there was no primary.
async fn made_at(args: &ArchiverArgs, moment: Timestamp) {
    let mut told = String::new();
    for attempt in 1..=ATTEMPTS {
        let claim = format!("{moment}-{attempt}");
        match due(args, moment, &claim).await {
            Ok(Turn::Made | Turn::Other) => return,
            Ok(Turn::NotOurs) => {}
            Err(error) => tell(
                &mut told,
                &format!("The backup that was due at {moment} was not made: {error}."),
            ),
        }
        sleep_until(howdah_clock::now() + AGAIN).await;
    }
}

/// What has come of a look.
enum Turn {
    /// This server has made the backup.
    Made,
    /// There is one that another server made.
    Other,
    /// Another server is to make it, or makes it.
    NotOurs,
}

/// The wall clock may jump, so that it is looked at every minute.
pub(crate) async fn wait_until(moment: Timestamp) {
    loop {
        let left = moment.duration_since(Timestamp::now());
        let Ok(left) = Duration::try_from(left) else {
            return;
        };
        if left.is_zero() {
            return;
        }
        sleep_until(howdah_clock::now() + left.min(Duration::from_secs(60))).await;
    }
}

fn open(args: &ArchiverArgs) -> Result<(Archive, Server), ArchiveError> {
    let said = |error: anyhow::Error| ArchiveError::Setting(format!("{error:#}"));
    let variables = args.sources.read().map_err(said)?;
    let settings = variables.settings()?;
    let server = variables.server(&args.pgdata)?;
    let archive = Archive {
        store: Store::open(&settings.place, PATIENCE)?,
        sources: args.sources.clone(),
        variables,
        settings,
    };
    Ok((archive, server))
}

/// A cluster without a backup cannot be restored to any moment: the first one is not waited for.
async fn first(args: &ArchiverArgs) {
    let mut told = String::new();
    loop {
        match without_backup(args).await {
            Ok(Some(false)) => return,
            Ok(Some(true)) => {
                // The claim of a server that died runs out with its minute.
                let minutes = Timestamp::now().as_second() / 900;
                match due(args, Timestamp::UNIX_EPOCH, &format!("first-{minutes}")).await {
                    Ok(Turn::Made | Turn::Other) => return,
                    Ok(Turn::NotOurs) => {}
                    Err(error) => tell(&mut told, &format!("The first backup was not made: {error}.")),
                }
            }
            // It becomes the primary, or another member is that and makes the backup.
            Ok(None) => {}
            Err(error) => tell(
                &mut told,
                &format!("Whether there is a backup is not known: {error}."),
            ),
        }
        sleep_until(howdah_clock::now() + LOOK).await;
    }
}

/// A trouble that lasts is told once.
fn tell(told: &mut String, text: &str) {
    if told != text {
        tracing::warn!("{text}");
        text.clone_into(told);
    }
}

/// Whether the archive has no complete backup; `None` where it is not this server's turn to make one.
async fn without_backup(args: &ArchiverArgs) -> Result<Option<bool>, ArchiveError> {
    let (archive, server) = open(args)?;
    let catalogue = howdah_archive::catalogue(&archive.store, &archive.settings, soon()).await?;
    if catalogue.newest().is_some() {
        return Ok(Some(false));
    }
    // A server that is being made does not answer yet.
    Ok(match is_replica(&server).await {
        Ok(false) => Some(true),
        Ok(true) if args.from_replica => Some(true),
        Ok(true) | Err(_) => None,
    })
}

/// Makes a backup if it is this server's turn and there is none since the moment, and deletes what is not needed any longer.
async fn due(args: &ArchiverArgs, moment: Timestamp, claim: &str) -> Result<Turn, ArchiveError> {
    let (archive, server) = open(args)?;
    let catalogue = howdah_archive::catalogue(&archive.store, &archive.settings, soon()).await?;
    let now = Timestamp::now();
    if catalogue
        .backups
        .iter()
        .any(|backup| backup.is_complete() && backup.finished() >= moment)
    {
        return Ok(Turn::Other);
    }
    let is_made = catalogue
        .backups
        .iter()
        .any(|backup| backup.running_until.is_some_and(|until| until > now));
    if is_made || (is_replica(&server).await? && !args.from_replica) {
        return Ok(Turn::NotOurs);
    }
    // Of several servers one makes it.
    if !claim_backup(&archive.store, claim, soon()).await? {
        return Ok(Turn::NotOurs);
    }
    let made = archive.make(&args.pgdata, false, true, WAL, None).await?;
    tracing::info!("{} is complete: {} stored.", made.name, bytes(made.stored));
    for page in &made.pages.damaged {
        tracing::error!("Damaged: {page}.");
    }
    let days = i64::from(args.keep);
    let policy = Policy {
        count: Some(args.keep),
        window: Some(SignedDuration::from_hours(24 * days)),
        at_least: 1,
        ..Policy::default()
    };
    let plan = retain::run(&archive.store, &archive.settings, &policy, false).await?;
    if let Some(why) = &plan.refused {
        tracing::warn!("Retention has deleted nothing: {why}.");
    } else if !plan.objects.is_empty() {
        tracing::info!(
            "Retention has deleted {} backups and {} objects of WAL.",
            plan.delete.len(),
            plan.wal
        );
    }
    Ok(Turn::Made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_moment_is_made_up_for_while_it_is_not_long_ago() {
        let schedule: Schedule = "*/20 1 * * *".parse().unwrap();
        let missed_at = |now: &str| missed(&schedule, now.parse().unwrap()).map(|at| at.to_string());
        assert_eq!(
            missed_at("2026-11-28T01:45:00Z").as_deref(),
            Some("2026-11-28T01:40:00Z")
        );
        assert_eq!(
            missed_at("2026-11-28T02:30:00Z").as_deref(),
            Some("2026-11-28T01:40:00Z")
        );
        assert_eq!(missed_at("2026-11-28T03:00:00Z"), None);
    }
}
