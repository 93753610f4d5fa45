//! Backups by a schedule, and retention after each: the process that an agent keeps beside itself.

use std::{os::fd::AsFd, path::PathBuf, time::Duration};

use clap::Args;
use howdah_archive::{ArchiveError, Server, Store, claim_backup, is_replica};
use howdah_backup::{Schedule, retention::Policy};
use howdah_http::sleep_until;
use jiff::{SignedDuration, Timestamp};
use tokio::io::AsyncReadExt;

use crate::{
    backup::{Archive, PATIENCE},
    output::bytes,
    retain, soon,
    variables::Sources,
};

/// Arguments of the scheduler.
#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub sources: Sources,
    /// The server's data directory.
    #[arg(long, short = 'D')]
    pub pgdata: PathBuf,
    /// cron's five fields, in UTC.
    #[arg(long)]
    pub cron: Schedule,
    /// Keep at least so many backups, and at least so many days.
    #[arg(long)]
    pub keep: u32,
    /// Also where the server is a replica.
    #[arg(long)]
    pub from_replica: bool,
}

/// How often the server is looked at until there is a first backup.
const LOOK: Duration = Duration::from_secs(15);

/// How often a backup that is due is tried, and after what while.
const ATTEMPTS: u32 = 12;
const AGAIN: Duration = Duration::from_secs(300);

/// How long the WAL of a backup may take to be in the archive.
const WAL: Duration = Duration::from_secs(3600);

/// Runs until the standard input ends, which it does with the process that holds its other end.
pub(crate) async fn run(args: ScheduleArgs) -> anyhow::Result<u8> {
    tokio::select! {
        biased;
        () = standard_input_ends() => Ok(0),
        ended = forever(&args) => ended,
    }
}

/// One that is no pipe does not end: then a person has started this.
async fn standard_input_ends() {
    let input = std::io::stdin().as_fd().try_clone_to_owned();
    let Ok(mut pipe) = input.and_then(tokio::net::unix::pipe::Receiver::from_owned_fd) else {
        return std::future::pending().await;
    };
    let mut nothing = [0];
    while !matches!(pipe.read(&mut nothing).await, Ok(0) | Err(_)) {}
}

async fn forever(args: &ScheduleArgs) -> anyhow::Result<u8> {
    first(args).await;
    loop {
        let Some(next) = args.cron.next(Timestamp::now()) else {
            anyhow::bail!("the schedule has no next moment");
        };
        tracing::info!("The next backup is due at {next}.");
        wait_until(next).await;
        made_at(args, next).await;
    }
}

/// Looks until there is a backup that was made since a moment: whoever was to make it may have died, or there was no primary.
async fn made_at(args: &ScheduleArgs, moment: Timestamp) {
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
async fn wait_until(moment: Timestamp) {
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

fn open(args: &ScheduleArgs) -> Result<(Archive, Server), ArchiveError> {
    let said = |error: anyhow::Error| ArchiveError::Setting(format!("{error:#}"));
    let variables = args.sources.read().map_err(said)?;
    let settings = variables.settings()?;
    let server = variables.server(&args.pgdata)?;
    let archive = Archive {
        store: Store::open(&settings.place, PATIENCE)?,
        env_dir: args.sources.env_dir.clone(),
        variables,
        settings,
    };
    Ok((archive, server))
}

/// A cluster without a backup cannot be restored to any moment: the first one is not waited for.
async fn first(args: &ScheduleArgs) {
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
async fn without_backup(args: &ScheduleArgs) -> Result<Option<bool>, ArchiveError> {
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
async fn due(args: &ScheduleArgs, moment: Timestamp, claim: &str) -> Result<Turn, ArchiveError> {
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
