use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use howdah_backup::Schedule;
use howdah_types::Timeline;
use jiff::{SignedDuration, Span, Timestamp, tz::TimeZone};

use crate::variables::Sources;

/// Arguments of `howdah backup`.
#[derive(Debug, Args)]
#[command(
    long_about = "Look at an archive of backups and WAL, make backups, restore them, and delete what is not needed any longer.\n\n\
        The archive is named by WAL-G's variables, in the environment or in a directory (--env-dir): WALG_S3_PREFIX, \
        WALG_GS_PREFIX, WALG_AZ_PREFIX or WALG_FILE_PREFIX; with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT, \
        WALG_LIBSODIUM_KEY and so on. Archives that WAL-G or WAL-E has written are read as they are.",
    after_help = "Exit codes: 0 done, 2 refused with a reason, 3 something is damaged or missing (create, verify, gaps), 44 another cluster's archive, 64 a wrong setting, 74 not in the archive, \
        75 the store does not answer, 77 the store refuses the credentials or is not there, 1 anything else.\n\n\
        Examples:\n  howdah backup list\n  howdah backup create -D /var/lib/postgresql/15/main\n  \
        howdah backup plan --to '2026-11-25 10:00'\n  howdah backup restore /srv/pg/restored --to '2026-11-25 10:00'\n  \
        howdah backup apply-retention --keep 7 --window 14d --dry-run"
)]
pub struct BackupArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub sources: Sources,
    /// What to do.
    #[command(subcommand)]
    pub command: BackupCommand,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// List the backups, and what can be restored from each
    List(ListArgs),
    /// Show one backup
    Show(ShowArgs),
    /// Make a full backup of a running server
    Create(CreateArgs),
    /// Delete one backup; its WAL stays until retention takes it
    Delete(DeleteArgs),
    /// Say what a restore would take, or why it cannot be done
    Plan(PlanArgs),
    /// Delete backups and WAL that no rule keeps
    ApplyRetention(RetentionArgs),
    /// Read backups or WAL to the end and compare them with what was stored
    Verify(VerifyArgs),
    /// Restore a backup into an empty directory
    Restore(Box<RestoreArgs>),
    /// Prove that a backup can be restored: restore it into a scratch directory, replay, look
    Drill(Box<DrillArgs>),
    /// List segments that are missing between others
    Gaps(OutputArgs),
    /// Look whether the archive can be reached, and whose it is
    Check(CheckArgs),
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub struct OutputArgs {
    /// How to print
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its name, or LATEST
    #[arg(default_value = "LATEST")]
    pub backup: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The server is the one of PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE, or of the data directory's postmaster.pid. \
        It may be a primary or a replica, and must archive its WAL (archive_mode): the backup is complete only when its WAL \
        is in the archive. Ctrl-C takes away what was stored so far.\n\n\
        Example:\n  howdah backup create -D /var/lib/postgresql/15/main"
)]
pub struct CreateArgs {
    /// The server's data directory
    #[arg(long, short = 'D', env = "PGDATA", value_name = "DIR")]
    pub pgdata: PathBuf,
    /// Retention leaves it alone
    #[arg(long)]
    pub permanent: bool,
    /// Let the server spread its checkpoint instead of making it at once
    #[arg(long)]
    pub spread_checkpoint: bool,
    /// How long to wait for the backup's WAL to be in the archive
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub wait_wal: Duration,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Its name, or LATEST
    pub backup: String,
    /// Also if it is permanent, or the only one
    #[arg(long)]
    pub force: bool,
}

/// Where a recovery is to end.
#[derive(Debug, Clone, Default, Args)]
pub struct TargetArgs {
    /// A moment: before the first transaction that committed after it. RFC 3339, or a local time such as '2026-11-25 10:00'
    #[arg(long, value_name = "TIME", value_parser = moment, group = "target")]
    pub to: Option<Timestamp>,
    /// A position in the WAL, such as 1/6B374D48
    #[arg(long, value_name = "LSN", group = "target")]
    pub to_lsn: Option<howdah_types::Lsn>,
    /// A restore point (pg_create_restore_point)
    #[arg(long, value_name = "NAME", group = "target")]
    pub to_name: Option<String>,
    /// A transaction
    #[arg(long, value_name = "XID", group = "target", value_parser = clap::value_parser!(u64).range(3..))]
    pub to_xid: Option<u64>,
    /// The end of the backup itself
    #[arg(long, group = "target")]
    pub immediate: bool,
    /// The timeline to follow: latest, current (the backup's), or its number
    #[arg(long, default_value = "latest", value_parser = timeline)]
    pub timeline: howdah_backup::recovery::TargetTimeline,
    /// From this backup; else the newest one that leads there
    #[arg(long, value_name = "NAME")]
    pub backup: Option<String>,
    /// Refuse backups of another major version than this
    #[arg(long, value_name = "MAJOR")]
    pub major: Option<u32>,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without a target the server replays to the end of the archive. recovery.signal and settings in \
        postgresql.auto.conf are written, so that starting a server on the directory recovers; --bare writes neither.\n\n\
        Examples:\n  howdah backup restore /srv/pg/restored\n  howdah backup restore /srv/pg/restored --to '2026-11-25 10:00' --action pause\n  \
        howdah backup restore /srv/pg/restored --tablespace /mnt/fast=/srv/fast"
)]
pub struct RestoreArgs {
    /// The new data directory: absent or empty
    pub directory: PathBuf,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Stop before the target and not behind it
    #[arg(long)]
    pub exclusive: bool,
    /// What the server does at the target: promote, pause or shutdown
    #[arg(long, default_value = "promote", value_parser = ["promote", "pause", "shutdown"])]
    pub action: String,
    /// Put a tablespace elsewhere: its old directory, or its number, and the new one
    #[arg(long, value_name = "OLD=NEW", value_parser = moved)]
    pub tablespace: Vec<(String, PathBuf)>,
    /// Let the restored server archive to this archive: only where it takes the place of the one that was backed up. Else
    /// archive_mode is off in it
    #[arg(long)]
    pub keep_archiving: bool,
    /// Only the files: no recovery.signal, no settings
    #[arg(long)]
    pub bare: bool,
    /// Refuse if more WAL than this was archived since the backup: a replica is then made faster by a copy of its leader
    #[arg(long, value_name = "MB")]
    pub max_wal_megabytes: Option<u64>,
    /// Refuse if the WAL since the backup is more than this part of the backup's files
    #[arg(long, value_name = "PERCENT")]
    pub max_wal_percentage: Option<u64>,
    /// Only say what would be done
    #[arg(long)]
    pub plan: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A backup stays when any rule keeps it. What a kept backup builds on stays, and all WAL from the oldest kept backup on (of a \
        permanent one only its own); the newest backup, permanent ones, those being made and those that cannot be read always \
        stay. Backups that cannot be restored, or have damaged pages, count for no rule.\n\n\
        Example:\n  howdah backup apply-retention --keep 7 --window 14d --dry-run"
)]
pub struct RetentionArgs {
    /// Keep the newest full backups, so many, and the deltas on them
    #[arg(long, value_name = "COUNT")]
    pub keep: Option<u32>,
    /// Keep what a restore to any moment of this last while needs, such as 14d
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub window: Option<Duration>,
    /// Keep this backup and all later ones
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
    /// Delete nothing if fewer full backups would stay
    #[arg(long, value_name = "COUNT", default_value = "1")]
    pub at_least: u32,
    /// Delete nothing if fewer verified full backups would stay
    #[arg(long, value_name = "COUNT", default_value = "0")]
    pub at_least_verified: u32,
    /// Also the archives of earlier major versions beside this one (…/wal/14 beside …/wal/15): one goes when all of it is older
    /// than the window, and this one has a backup inside it
    #[arg(long, requires = "window")]
    pub all_majors: bool,
    /// Only say what would be deleted
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Its name, or LATEST
    #[arg(default_value = "LATEST")]
    pub backup: String,
    /// All backups
    #[arg(long, conflicts_with = "backup")]
    pub all: bool,
    /// Also the WAL that can be replayed from it
    #[arg(long)]
    pub wal: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The scratch server has settings of its own: it listens on a socket in the scratch directory only, loads no library, \
        follows no subscription, archives nothing, and can write to no file outside (Landlock). What a --check connects to is not confined. The result is kept beside the backup. \
        Exit codes: 0 proved, 3 not proved, others as above.\n\n\
        Examples:\n  howdah backup drill\n  howdah backup drill --scratch /mnt/scratch --database shop --check 'SELECT count(*) > 0 FROM orders'"
)]
pub struct DrillArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Where the scratch directory is made; else in the directory for temporary files
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Where PostgreSQL's programs are
    #[arg(long, value_name = "DIR")]
    pub bin: Option<PathBuf>,
    /// A statement that must not fail, nor answer false; may be given several times
    #[arg(long, value_name = "SQL")]
    pub check: Vec<String>,
    /// The database that the statements are run in
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    pub database: String,
    /// Do not run pg_amcheck
    #[arg(long)]
    pub no_amcheck: bool,
    /// Let the scratch server write anywhere: for kernels without Landlock, where no server of this machine has tablespaces
    #[arg(long)]
    pub unconfined: bool,
    /// Leave the restored directory where it is
    #[arg(long)]
    pub keep: bool,
    /// End with the process that has started this
    #[arg(long, hide = true)]
    pub with_parent: bool,
    /// How long replay and checks may take
    #[arg(long, default_value = "4h", value_parser = duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Make the archive's directory if it is not there
    #[arg(long)]
    pub init: bool,
    /// A data directory whose cluster the archive must be of
    #[arg(long, short = 'D', value_name = "DIR")]
    pub pgdata: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `howdah wal`.
#[derive(Debug, Args)]
#[command(
    long_about = "What PostgreSQL's archive_command and restore_command run.\n\n\
        push never overwrites: a file that is archived with the same content is success, with other content an error. get \
        answers 74 only when the archive is there and does not have the file, and 255 for anything else, which stops a server \
        in recovery instead of promoting it with what it has.",
    after_help = "Examples:\n  archive_command = 'howdah wal push --env-dir /etc/howdah/archive %p'\n  \
        restore_command = 'howdah wal get --env-dir /etc/howdah/archive %f %p'"
)]
pub struct WalArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub sources: Sources,
    /// What to do.
    #[command(subcommand)]
    pub command: WalCommand,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum WalCommand {
    /// Archive a file of WAL
    #[command(
        after_help = "Exit codes: 0 archived, 44 it is another cluster's, 45 other content is archived under its name, 64 a wrong setting, \
            75 the store does not answer within HOWDAH_ARCHIVE_TIMEOUT (30 s), 77 it refuses the credentials or is not there, 1 anything else. \
            PostgreSQL tries again after each but 0."
    )]
    Push {
        /// The file (%p)
        path: PathBuf,
    },
    /// Fetch a file of WAL
    #[command(
        after_help = "Exit codes: 0 fetched, 74 it is not in the archive, 255 anything else: also when the store does not answer within \
            HOWDAH_RESTORE_TIMEOUT (60 s)."
    )]
    Get {
        /// The file's name (%f)
        name: String,
        /// Where it goes (%p)
        target: PathBuf,
        /// For members of a cluster that stream: where the server is a standby, an archive that does not answer at once counts as
        /// one that does not have the file, so that an outage does not stop a promotion
        #[arg(long)]
        or_stream: bool,
    },
}

/// Arguments of the archiver.
#[derive(Debug, Args)]
#[command(
    long_about = "Serve archive_command and restore_command of the server in a data directory over a Unix socket beside that \
        directory. `howdah wal push` and `howdah wal get` ask it when it is there, and do the work themselves when it is not. \
        Segments are archived before their turn and fetched before their turn.\n\nAn agent with 'howdah.archive' in its \
        configuration starts one; for a server without an agent it can be started by hand or by systemd."
)]
pub struct ArchiverArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub sources: Sources,
    /// The server's data directory
    #[arg(long, short = 'D', env = "PGDATA", value_name = "DIR")]
    pub pgdata: PathBuf,
    /// Make backups at these times: cron's five fields, in UTC
    #[arg(long, value_name = "CRON")]
    pub backup_schedule: Option<Schedule>,
    /// Keep at least so many backups, and at least those of so many days
    #[arg(long, default_value = "5", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: u32,
    /// Make them also where the server is a replica
    #[arg(long)]
    pub from_replica: bool,
    /// Try a restore in a scratch directory at these times: cron's five fields, in UTC
    #[arg(long, value_name = "CRON")]
    pub drill_schedule: Option<Schedule>,
}

/// Arguments of `envdir`.
#[derive(Debug, Args)]
pub struct EnvdirArgs {
    /// A directory with a file for each variable
    pub dir: PathBuf,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<OsString>,
}

/// A while such as 90s, 10m, 1h, 14d or 2w.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let said = || format!("'{text}' is not a while: 90s, 10m, 1h, 14d or 2w are");
    // A number alone would be seconds here and days there.
    let span: Span = text.parse().map_err(|_| said())?;
    let days_are = jiff::SpanRelativeTo::days_are_24_hours();
    let exact: SignedDuration = span.to_duration(days_are).map_err(|_| said())?;
    match Duration::try_from(exact) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) | Err(_) => Err(said()),
    }
}

/// A moment, with its offset from UTC or in this machine's zone.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let said = || {
        format!(
            "'{text}' is not a moment: '2026-11-25 10:00', '2026-11-25T10:00:00Z' and '2026-11-25 10:00:00+01' are"
        )
    };
    let local: jiff::civil::DateTime = text
        .parse()
        .or_else(|_| text.parse::<jiff::civil::Date>().map(|day| day.at(0, 0, 0, 0)))
        .map_err(|_| said())?;
    // A zone that is not known must not silently become UTC.
    let zone = system_zone()?;
    // When clocks are put back, an hour comes twice; when they are put forward, one is left out.
    match zone.to_ambiguous_timestamp(local).unambiguous() {
        Ok(moment) => Ok(moment),
        Err(_) => Err(format!(
            "'{text}' comes twice or not at all in this machine's time zone, whose clocks change then: give an offset"
        )),
    }
}

fn system_zone() -> Result<TimeZone, String> {
    let unknown =
        |error: jiff::Error| format!("this machine's time zone is not known ({error}): give an offset");
    match std::env::var("TZ") {
        // The C library takes rules in place of a name too.
        Ok(rule) if rule.contains(|char: char| char.is_ascii_digit()) && !rule.contains('/') => {
            TimeZone::posix(&rule).map_err(unknown)
        }
        Ok(_) | Err(_) => TimeZone::try_system().map_err(unknown),
    }
}

fn timeline(text: &str) -> Result<howdah_backup::recovery::TargetTimeline, String> {
    use howdah_backup::recovery::TargetTimeline;
    match text {
        "latest" => Ok(TargetTimeline::Latest),
        "current" => Ok(TargetTimeline::Current),
        _ => text
            .parse()
            .ok()
            .filter(|id| *id > 0)
            .map(|id| TargetTimeline::Id(Timeline(id)))
            .ok_or_else(|| format!("'{text}' is not a timeline: latest, current or a number is")),
    }
}

fn moved(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && new.starts_with('/') => {
            Ok((old.to_owned(), PathBuf::from(new)))
        }
        _ => Err(format!(
            "'{text}' is not of the form OLD=NEW with an absolute NEW"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_whiles() {
        let utc = moment("2026-11-25T10:00:00Z").unwrap();
        assert_eq!(moment("2026-11-25T11:00:00+01:00").unwrap(), utc);
        assert_eq!(moment("2026-11-25 11:00:00+01").unwrap(), utc);
        assert!(moment("2026-11-25 10:00").is_ok());
        assert!(moment("2026-11-25").is_ok());
        assert!(moment("yesterday").is_err());
        assert_eq!(duration("14d").unwrap(), Duration::from_secs(14 * 86_400));
        assert_eq!(duration("2w").unwrap(), duration("14d").unwrap());
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let twice: jiff::civil::DateTime = "2026-10-25T02:30".parse().unwrap();
        assert!(berlin.to_ambiguous_timestamp(twice).unambiguous().is_err());
        for bad in ["14", "0s", "-1h", "x", ""] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
