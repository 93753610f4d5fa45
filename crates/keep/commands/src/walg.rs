//! WAL-G's and WAL-E's command lines, as existing configurations and Spilo's scripts call them.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use howdah_archive::{ArchiveError, Store, Tablespaces};
use howdah_backup::retention::Policy;
use serde_json::{Value, json};

use crate::{
    backup::{Archive, PATIENCE},
    failure::Failure,
    output::{self, second, table},
    retain, show,
    variables::{Sources, Variables},
    wal,
};

/// Arguments of `wal-g` and `wal-e`.
#[derive(Debug, Args)]
#[command(long_about = "The commands of WAL-G 3 and WAL-E 1 that configurations call, on the same archives.")]
pub struct WalGArgs {
    #[command(flatten)]
    sources: Sources,
    /// WAL-E: an address in place of WALE_S3_PREFIX
    #[arg(long, global = true)]
    s3_prefix: Option<String>,
    /// WAL-E: the machine's role, which is used where no keys are set
    #[arg(long, global = true)]
    aws_instance_profile: bool,
    #[command(subcommand)]
    command: WalGCommand,
}

#[derive(Debug, Subcommand)]
enum WalGCommand {
    /// Archive a file of WAL
    WalPush {
        path: PathBuf,
        #[arg(long, short, hide = true)]
        pool_size: Option<usize>,
    },
    /// Fetch a file of WAL
    WalFetch {
        name: String,
        target: PathBuf,
        #[arg(long, short, hide = true)]
        prefetch: Option<usize>,
    },
    /// Make a full backup
    BackupPush {
        /// The data directory
        pgdata: Option<PathBuf>,
        #[arg(long, short)]
        permanent: bool,
        /// A full one, which every one is
        #[arg(long, short)]
        full: bool,
        /// Check the pages' checksums, which always happens
        #[arg(long, short = 'v')]
        verify: bool,
        #[arg(long)]
        add_user_data: Option<String>,
        #[arg(long, hide = true)]
        pool_size: Option<usize>,
        #[arg(long, hide = true)]
        cluster_read_rate_limit: Option<u64>,
    },
    /// Restore a backup's files into an empty directory
    BackupFetch {
        directory: PathBuf,
        /// Its name, or LATEST
        name: Option<String>,
        /// A file with the places of tablespaces
        #[arg(long)]
        restore_spec: Option<PathBuf>,
        #[arg(long)]
        target_user_data: Option<String>,
        /// WAL-E: tablespaces stay where they were
        #[arg(long, hide = true)]
        blind_restore: bool,
    },
    /// List the backups
    BackupList {
        #[arg(long)]
        json: bool,
        #[arg(long)]
        pretty: bool,
        #[arg(long)]
        detail: bool,
        #[arg(hide = true)]
        name: Option<String>,
    },
    /// Delete backups and WAL
    Delete(DeleteArgs),
    /// Look for segments that are missing
    WalVerify {
        /// integrity, timeline
        checks: Vec<String>,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct DeleteArgs {
    /// Delete; else it is only said what would be
    #[arg(long, global = true)]
    confirm: bool,
    #[command(subcommand)]
    what: DeleteWhat,
}

#[derive(Debug, Subcommand)]
enum DeleteWhat {
    /// Keep the newest ones: [FULL|FIND_FULL] COUNT
    Retain {
        #[arg(required = true, num_args = 1..=2)]
        words: Vec<String>,
    },
    /// Delete what is older than a backup: [FIND_FULL] NAME
    Before {
        #[arg(required = true, num_args = 1..=2)]
        words: Vec<String>,
    },
    /// Delete everything
    Everything {
        #[arg(num_args = 0..=1)]
        words: Vec<String>,
    },
    /// Delete one backup: [FIND_FULL] NAME
    Target {
        #[arg(required = true, num_args = 1..=2)]
        words: Vec<String>,
    },
}

pub(crate) fn run(args: WalGArgs) -> anyhow::Result<u8> {
    let variables = args.sources.read();
    if let WalGCommand::WalFetch { name, target, .. } = &args.command {
        let variables = variables
            .map_err(wal::no_settings)?
            .with("WALE_S3_PREFIX", args.s3_prefix);
        return wal::get(&variables, name, target, false).map_err(anyhow::Error::new);
    }
    let variables = variables?.with("WALE_S3_PREFIX", args.s3_prefix.clone());
    if let WalGCommand::WalPush { path, .. } = &args.command {
        return wal::push(&variables, path).map_err(anyhow::Error::new);
    }
    crate::run(of_archive(args, variables))?
}

async fn of_archive(args: WalGArgs, variables: Variables) -> anyhow::Result<u8> {
    let settings = variables.settings().map_err(Failure::of)?;
    let archive = Archive {
        store: Store::open(&settings.place, PATIENCE).map_err(Failure::of)?,
        sources: args.sources.clone(),
        variables,
        settings,
    };
    match args.command {
        WalGCommand::WalPush { .. } | WalGCommand::WalFetch { .. } => Ok(0),
        WalGCommand::BackupPush {
            pgdata,
            permanent,
            add_user_data,
            ..
        } => {
            let data = pgdata
                .or_else(|| archive.variables.get("PGDATA").map(PathBuf::from))
                .ok_or_else(|| refused("the data directory is not named: give it, or set PGDATA"))?;
            let user_data = add_user_data.or_else(|| archive.variables.get("WALG_SENTINEL_USER_DATA"));
            let made = archive.make(
                &data,
                permanent,
                true,
                std::time::Duration::from_secs(3600),
                user_data.map(user),
            );
            let made = made.await.map_err(Failure::of)?;
            for page in &made.pages.damaged {
                output::tell(&format!("Damaged: {page}"));
            }
            output::tell(&format!("Wrote backup with name {}", made.name));
            Ok(0)
        }
        WalGCommand::BackupFetch {
            directory,
            name,
            restore_spec,
            target_user_data,
            ..
        } => {
            fetch(
                &archive,
                &directory,
                name,
                restore_spec.as_deref(),
                target_user_data,
            )
            .await
        }
        WalGCommand::BackupList {
            json, pretty, detail, ..
        } => list(&archive, json, pretty, detail).await,
        WalGCommand::Delete(args) => delete(&archive, args).await,
        WalGCommand::WalVerify { json, .. } => wal_verify(&archive, json).await,
    }
}

fn refused(text: impl Into<String>) -> anyhow::Error {
    Failure::of(ArchiveError::Refused(text.into()))
}

/// What a user attaches: JSON, or a text.
fn user(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

async fn fetch(
    archive: &Archive,
    directory: &Path,
    name: Option<String>,
    spec: Option<&Path>,
    user_data: Option<String>,
) -> anyhow::Result<u8> {
    let catalogue = archive.catalogue().await?;
    let backup = match (name, user_data) {
        (Some(name), None) => catalogue
            .backup(&name)
            .ok_or_else(|| Failure::of(ArchiveError::Missing(format!("backup {name}"))))?,
        (None, Some(wanted)) => {
            let wanted = user(wanted);
            let has = |backup: &&howdah_backup::Backup| {
                let sentinel = backup.sentinel.as_ref();
                sentinel.and_then(|sentinel| sentinel.others.get("UserData")) == Some(&wanted)
            };
            catalogue
                .backups
                .iter()
                .rev()
                .find(has)
                .ok_or_else(|| refused("no backup has that user data"))?
        }
        _ => {
            return Err(refused(
                "a backup is named by its name, by LATEST, or by --target-user-data",
            ));
        }
    };
    if let Some(trouble) = &backup.trouble {
        return Err(refused(format!(
            "backup {} is not usable: {trouble}",
            backup.name
        )));
    }
    if !backup.is_complete() {
        return Err(refused(format!("backup {} was never finished", backup.name)));
    }
    archive
        .fetch(&catalogue, backup, directory, tablespaces(spec)?)
        .await?;
    output::tell("Backup extraction complete.");
    Ok(0)
}

/// A restore specification of WAL-G: the sentinel's `Spec` with other places.
fn tablespaces(spec: Option<&Path>) -> anyhow::Result<Tablespaces> {
    let Some(path) = spec else {
        return Ok(Tablespaces::default());
    };
    let text =
        std::fs::read_to_string(path).map_err(|error| refused(format!("{}: {error}", path.display())))?;
    let spec: howdah_backup::TablespaceSpec =
        serde_json::from_str(&text).map_err(|error| refused(format!("{}: {error}", path.display())))?;
    let moved = spec
        .places
        .into_iter()
        .map(|(name, place)| (name, PathBuf::from(place.loc)));
    Ok(Tablespaces {
        moved: moved.collect(),
    })
}

async fn list(archive: &Archive, as_json: bool, pretty: bool, detail: bool) -> anyhow::Result<u8> {
    let mut catalogue = archive.catalogue().await?;
    // WAL-G lists what has a sentinel, in the order of the time when that came.
    catalogue.backups.retain(howdah_backup::Backup::is_complete);
    catalogue.backups.sort_by_key(|backup| backup.modified);
    if as_json {
        let short = |backup: &howdah_backup::Backup| {
            json!({"backup_name": backup.name, "time": second(backup.modified),
                "wal_file_name": backup.parsed.segment.to_string(), "storage_name": "default"})
        };
        let documents: Vec<Value> = catalogue
            .backups
            .iter()
            .map(|backup| {
                if detail {
                    show::document(backup, &catalogue)
                } else {
                    short(backup)
                }
            })
            .collect();
        if pretty {
            output::say(&format!("{}\n", output::json(&documents)?))?;
        } else {
            output::say(&format!("{}\n", serde_json::to_string(&documents)?))?;
        }
        return Ok(0);
    }
    if catalogue.backups.is_empty() {
        output::tell("No backups found");
        return Ok(0);
    }
    let mut head = vec!["backup_name", "modified", "wal_file_name", "storage_name"];
    if detail {
        head.extend([
            "start_time",
            "finish_time",
            "hostname",
            "data_dir",
            "pg_version",
            "start_lsn",
            "finish_lsn",
            "is_permanent",
        ]);
    }
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for backup in &catalogue.backups {
        let mut row = vec![
            backup.name.clone(),
            second(backup.modified),
            backup.parsed.segment.to_string(),
            "default".to_owned(),
        ];
        if detail {
            let sentinel = backup.sentinel.clone().unwrap_or_default();
            row.extend([
                sentinel.start_time.map(second).unwrap_or_default(),
                second(backup.finished()),
                sentinel.hostname.unwrap_or_default(),
                sentinel.data_dir.unwrap_or_default(),
                sentinel
                    .version
                    .map(|version| version.to_string())
                    .unwrap_or_default(),
                backup.start(catalogue.size).to_string(),
                backup
                    .finish()
                    .map(|finish| finish.to_string())
                    .unwrap_or_default(),
                sentinel.is_permanent.to_string(),
            ]);
        }
        rows.push(row);
    }
    output::say(&table(&rows))?;
    Ok(0)
}

/// A modifier before a value, such as `FULL 5`.
fn modified<'a>(words: &'a [String], known: &[&str]) -> anyhow::Result<&'a str> {
    match words {
        [value] => Ok(value),
        [modifier, value] if known.contains(&modifier.as_str()) => Ok(value),
        [modifier, _] => Err(refused(format!(
            "'{modifier}' is not known here ({})",
            known.join(", ")
        ))),
        _ => Err(refused("a value is missing")),
    }
}

async fn delete(archive: &Archive, args: DeleteArgs) -> anyhow::Result<u8> {
    let policy = match &args.what {
        DeleteWhat::Retain { words } => {
            let count = modified(words, &["FULL", "FIND_FULL"])?;
            let count: u32 = count
                .parse()
                .ok()
                .filter(|count| *count > 0)
                .ok_or_else(|| refused(format!("'{count}' is not a number of backups")))?;
            Policy {
                count: Some(count),
                at_least: 1,
                ..Policy::default()
            }
        }
        DeleteWhat::Before { words } => Policy {
            // What a delta builds on stays in any case, so FIND_FULL says nothing more.
            from: Some(modified(words, &["FIND_FULL"])?.to_owned()),
            at_least: 1,
            ..Policy::default()
        },
        DeleteWhat::Target { words } => {
            let name = modified(words, &["FIND_FULL"])?;
            let catalogue = archive.catalogue().await?;
            let backup = catalogue
                .backup(name)
                .ok_or_else(|| Failure::of(ArchiveError::Missing(format!("backup {name}"))))?;
            if args.confirm {
                howdah_archive::delete(&archive.store, &catalogue, backup, false)
                    .await
                    .map_err(Failure::of)?;
            }
            let what = if args.confirm {
                "is deleted"
            } else {
                "would be deleted (--confirm)"
            };
            output::say(&format!("{} {what}\n", backup.name))?;
            return Ok(0);
        }
        DeleteWhat::Everything { words } => {
            modified(&[words.clone(), vec![String::new()]].concat(), &["FORCE"])?;
            return everything(archive, !words.is_empty(), args.confirm).await;
        }
    };
    let dry_run = !args.confirm;
    let plan = retain::run(&archive.store, &archive.settings, &policy, dry_run)
        .await
        .map_err(Failure::of)?;
    output::say(&retain::text(archive.store.name(), &plan, dry_run))?;
    Ok(if plan.refused.is_some() { 2 } else { 0 })
}

async fn everything(archive: &Archive, force: bool, confirm: bool) -> anyhow::Result<u8> {
    let catalogue = archive.catalogue().await?;
    let is_permanent =
        |backup: &&howdah_backup::Backup| backup.sentinel.as_ref().is_some_and(|of| of.is_permanent);
    if let Some(backup) = catalogue.backups.iter().find(is_permanent).filter(|_| !force) {
        return Err(refused(format!(
            "{} is permanent: 'delete everything FORCE' deletes it",
            backup.name
        )));
    }
    let deleted = howdah_archive::everything(&archive.store, confirm)
        .await
        .map_err(Failure::of)?;
    let what = if confirm {
        "are deleted"
    } else {
        "would be deleted (--confirm)"
    };
    output::say(&format!("{deleted} objects {what}\n"))?;
    Ok(0)
}

async fn wal_verify(archive: &Archive, as_json: bool) -> anyhow::Result<u8> {
    let catalogue = archive.catalogue().await?;
    let gaps = catalogue.gaps();
    let status = if gaps.is_empty() { "OK" } else { "FAILURE" };
    let mut details = Vec::new();
    for (timeline, there) in &catalogue.segments {
        let (Some((first, _)), Some((last, _))) = (there.first_key_value(), there.last_key_value()) else {
            continue;
        };
        let of = |number: u64| howdah_backup::Segment::new(*timeline, number, catalogue.size);
        let mut from = *first;
        for gap in gaps.iter().filter(|gap| gap.first.timeline == *timeline) {
            let Some(number) = gap.first.number(catalogue.size) else {
                continue;
            };
            if number > from {
                details.push((timeline.0, of(from), of(number - 1), number - from, "FOUND"));
            }
            details.push((
                timeline.0,
                gap.first,
                of(number + gap.count - 1),
                gap.count,
                "MISSING_LOST",
            ));
            from = number + gap.count;
        }
        if from <= *last {
            details.push((timeline.0, of(from), of(*last), last + 1 - from, "FOUND"));
        }
    }
    let highest = catalogue.timelines().last().map_or(0, |timeline| timeline.0);
    if as_json {
        let details: Vec<Value> = details
            .into_iter()
            .map(|(timeline, start, end, count, status)| {
                json!({"timeline_id": timeline, "start_segment": start.to_string(), "end_segment": end.to_string(),
                    "segments_count": count, "status": status})
            })
            .collect();
        let document = json!({"integrity": {"status": status, "details": details},
                "timeline": {"status": "OK", "details": {"current_timeline_id": highest, "highest_storage_timeline_id": highest}}});
        output::say(&format!("{document}\n"))?;
    } else {
        output::say(&format!(
            "[wal-verify] integrity check status: {status}\n[wal-verify] integrity check details:\n"
        ))?;
        let mut rows = vec![
            ["TLI", "START", "END", "SEGMENTS COUNT", "STATUS"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(details.into_iter().map(|(timeline, start, end, count, status)| {
            vec![
                timeline.to_string(),
                start.to_string(),
                end.to_string(),
                count.to_string(),
                status.to_owned(),
            ]
        }));
        output::say(&table(&rows))?;
    }
    Ok(if gaps.is_empty() { 0 } else { 1 })
}
