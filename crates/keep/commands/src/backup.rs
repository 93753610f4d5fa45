use std::path::Path;

use howdah_archive::{
    ArchiveError, CreateOptions, Made, Progress, RestoreOptions, Settings, Store, Tablespaces, catalogue,
    create, delete, identity, restore, verify, verify_wal,
};
use howdah_backup::{
    Catalogue,
    recovery::{Plan, Target, Wish, plan},
};
use howdah_pgconf::ControlData;
use serde_json::{Value, json};

use crate::{
    cli::{
        BackupArgs, BackupCommand, CheckArgs, CreateArgs, Format, RestoreArgs, RetentionArgs, TargetArgs,
        VerifyArgs,
    },
    failure::Failure,
    follow::{follow, seconds},
    output::{self, bytes, second},
    recovery_files::{self, Recovery},
    retain, show, soon,
    variables::{Sources, Variables},
};

/// How long a request of a command for people is tried.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

pub(crate) async fn run(args: BackupArgs) -> anyhow::Result<u8> {
    let variables = args.sources.read()?;
    let sources = args.sources.clone();
    let settings = variables.settings().map_err(Failure::of)?;
    if let BackupCommand::Check(CheckArgs { init: true, .. }) = &args.command {
        Store::init(&settings.place).map_err(Failure::of)?;
    }
    let store = Store::open(&settings.place, PATIENCE).map_err(Failure::of)?;
    let archive = Archive {
        variables,
        settings,
        store,
        sources,
    };
    match args.command {
        BackupCommand::List(list) => archive.list(list.output.output).await,
        BackupCommand::Show(one) => archive.show(&one.backup, one.output.output).await,
        BackupCommand::Create(args) => archive.create(&args).await,
        BackupCommand::Delete(args) => archive.delete(&args.backup, args.force).await,
        BackupCommand::Plan(args) => archive.plan(&args.target, args.output.output).await,
        BackupCommand::ApplyRetention(args) => archive.retain(&args).await,
        BackupCommand::Verify(args) => archive.verify(&args).await,
        BackupCommand::Restore(args) => archive.restore(&args).await,
        BackupCommand::Drill(args) => archive.drill(&args).await,
        BackupCommand::Gaps(args) => archive.gaps(args.output).await,
        BackupCommand::Check(args) => archive.check(&args).await,
    }
}

/// An opened archive and what was said of it.
pub(crate) struct Archive {
    pub(crate) variables: Variables,
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    /// Where variables come from, for commands that a server runs later.
    pub(crate) sources: Sources,
}

fn print(
    format: Format,
    text: impl FnOnce() -> String,
    document: impl FnOnce() -> Value,
) -> anyhow::Result<u8> {
    match format {
        Format::Text => output::say(&text())?,
        Format::Json => output::say(&format!("{}\n", output::json(&document())?))?,
    }
    Ok(0)
}

impl Archive {
    pub(crate) async fn catalogue(&self) -> anyhow::Result<Catalogue> {
        let catalogue = catalogue(&self.store, &self.settings, soon()).await;
        catalogue.map_err(Failure::of)
    }

    async fn list(&self, format: Format) -> anyhow::Result<u8> {
        let catalogue = self.catalogue().await?;
        if catalogue.backups.is_empty() && format == Format::Text {
            output::say(&format!("There are no backups in {}.\n", self.store.name()))?;
            return Ok(0);
        }
        let documents = || {
            catalogue
                .backups
                .iter()
                .map(|backup| show::document(backup, &catalogue))
                .collect()
        };
        print(format, || show::list(&catalogue), documents)
    }

    async fn show(&self, name: &str, format: Format) -> anyhow::Result<u8> {
        let catalogue = self.catalogue().await?;
        let backup = self.named(&catalogue, name)?;
        print(
            format,
            || show::one(backup, &catalogue),
            || show::document(backup, &catalogue),
        )
    }

    fn named<'a>(&self, catalogue: &'a Catalogue, name: &str) -> anyhow::Result<&'a howdah_backup::Backup> {
        catalogue.backup(name).ok_or_else(|| {
            Failure::of(ArchiveError::Missing(format!(
                "backup {name} of {}",
                self.store.name()
            )))
        })
    }

    async fn create(&self, args: &CreateArgs) -> anyhow::Result<u8> {
        let began = howdah_clock::now();
        let made = self.make(
            &args.pgdata,
            args.permanent,
            !args.spread_checkpoint,
            args.wait_wal,
            None,
        );
        let made = made.await.map_err(Failure::of)?;
        for page in &made.pages.damaged {
            output::tell(&format!("Damaged: {page}"));
        }
        print(
            args.output.output,
            || {
                format!(
                    "{} is complete: {} of files, {} stored, {} pages checked, {}.\n",
                    made.name,
                    bytes(made.files),
                    bytes(made.stored),
                    made.pages.checked,
                    seconds(began)
                )
            },
            || json!({"backup_name": made.name, "files": made.files, "stored": made.stored, "pages": made.pages}),
        )?;
        Ok(if made.pages.damaged.is_empty() { 0 } else { 3 })
    }

    pub(crate) async fn make(
        &self,
        data: &Path,
        permanent: bool,
        fast: bool,
        wal_patience: std::time::Duration,
        user_data: Option<Value>,
    ) -> Result<Made, ArchiveError> {
        let server = self.variables.server(data)?;
        let progress = Progress::default();
        let options = CreateOptions {
            data: data.to_owned(),
            permanent,
            user_data,
            fast,
            wal_patience,
        };
        let making = create(&self.store, &self.settings, &server, &options, &progress);
        follow("Backup", &progress, making).await
    }

    async fn delete(&self, name: &str, force: bool) -> anyhow::Result<u8> {
        let catalogue = self.catalogue().await?;
        let backup = self.named(&catalogue, name)?;
        delete(&self.store, &catalogue, backup, force)
            .await
            .map_err(Failure::of)?;
        let objects = backup.objects.len();
        output::say(&format!(
            "{} is deleted: {objects} objects, {}.\n",
            backup.name,
            bytes(backup.stored)
        ))?;
        Ok(0)
    }

    async fn plan(&self, target: &TargetArgs, format: Format) -> anyhow::Result<u8> {
        let catalogue = self.catalogue().await?;
        let target_of = target_of(target);
        let plan = self.planned(&catalogue, target, &target_of)?;
        print(
            format,
            || plan_text(&plan, &target_of),
            || plan_document(&plan, &target_of),
        )
    }

    pub(crate) fn planned<'a>(
        &self,
        catalogue: &'a Catalogue,
        args: &'a TargetArgs,
        target: &Target,
    ) -> anyhow::Result<Plan<'a>> {
        let wish = Wish {
            target: target.clone(),
            timeline: args.timeline,
            backup: args.backup.as_deref(),
            major: args.major,
            last_commit: None,
        };
        plan(catalogue, &wish).map_err(|refusal| Failure::of(refusal.into()))
    }

    async fn restore(&self, args: &RestoreArgs) -> anyhow::Result<u8> {
        let catalogue = self.catalogue().await?;
        let target = target_of(&args.target);
        let plan = self.planned(&catalogue, &args.target, &target)?;
        let is_text = args.output.output == Format::Text;
        if is_text {
            output::say(&plan_text(&plan, &target))?;
        }
        if args.plan {
            return print(args.output.output, String::new, || plan_document(&plan, &target));
        }
        let Some(backup) = plan.chain.last().copied() else {
            return Err(Failure::of(ArchiveError::Refused(
                "the plan names no backup".to_owned(),
            )));
        };
        copy_is_cheaper(args, backup, &plan, &catalogue)?;
        let began = howdah_clock::now();
        let moved = args.tablespace.iter().cloned().collect();
        self.fetch(&catalogue, backup, &args.directory, Tablespaces { moved })
            .await?;
        if !args.bare {
            let recovery = Recovery {
                target: &target,
                timeline: args.target.timeline,
                exclusive: args.exclusive,
                action: &args.action,
                restore_command: self.restore_command(),
                archives: args.keep_archiving,
            };
            recovery_files::write(&args.directory, &recovery).map_err(Failure::of)?;
        }
        let next = if args.bare {
            "Nothing says how it is to recover (--bare)"
        } else if self.sources.env_dir.is_some() || self.sources.config.is_some() {
            "Start the server: it recovers"
        } else {
            "Start the server with the same environment: its restore_command needs it"
        };
        let archiving = if args.bare || args.keep_archiving {
            ""
        } else {
            " Its archive_mode is off in postgresql.auto.conf, so that it does not write into the archive of its original: give it \
             an archive of its own, then take the line away."
        };
        if rustix::process::geteuid().is_root() {
            output::tell(&format!(
                "The files are root's, as which PostgreSQL does not start: chown -R them to its user, or restore as that user ({})",
                args.directory.display()
            ));
        }
        print(
            args.output.output,
            || {
                format!(
                    "Restored {} to {} in {}. {next}.{archiving}\n",
                    backup.name,
                    args.directory.display(),
                    seconds(began)
                )
            },
            || json!({"backup_name": backup.name, "directory": args.directory, "plan": plan_document(&plan, &target)}),
        )
    }

    pub(crate) async fn fetch(
        &self,
        catalogue: &Catalogue,
        backup: &howdah_backup::Backup,
        directory: &Path,
        tablespaces: Tablespaces,
    ) -> anyhow::Result<()> {
        let fetched = self.fetch_to(catalogue, backup, directory, tablespaces);
        fetched.await.map_err(Failure::of)
    }

    pub(crate) async fn fetch_to(
        &self,
        catalogue: &Catalogue,
        backup: &howdah_backup::Backup,
        directory: &Path,
        tablespaces: Tablespaces,
    ) -> Result<(), ArchiveError> {
        let progress = Progress::default();
        let options = RestoreOptions {
            target: directory.to_owned(),
            tablespaces,
        };
        let restoring = restore(
            &self.store,
            &self.settings,
            catalogue,
            backup,
            &options,
            &progress,
        );
        follow("Restore", &progress, restoring).await
    }

    pub(crate) fn restore_command(&self) -> String {
        let program =
            std::env::current_exe().map_or_else(|_| "howdah".to_owned(), |path| path.display().to_string());
        // A percent sign is PostgreSQL's there.
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''").replace('%', "%%"));
        let mut command = format!("{} wal get", quoted(&program));
        let sources = [
            ("--env-dir", &self.sources.env_dir),
            ("--config", &self.sources.config),
        ];
        for (option, path) in sources {
            if let Some(path) = path {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                command += &format!(" {option} {}", quoted(&path.display().to_string()));
            }
        }
        command + " \"%f\" \"%p\""
    }

    async fn verify(&self, args: &VerifyArgs) -> anyhow::Result<u8> {
        let catalogue = self.catalogue().await?;
        let backups: Vec<&howdah_backup::Backup> = if args.all {
            catalogue
                .backups
                .iter()
                .filter(|backup| backup.is_complete())
                .collect()
        } else {
            vec![self.named(&catalogue, &args.backup)?]
        };
        if backups.is_empty() {
            // Whoever watches over a prefix that is mistyped must not be told that all is well.
            return Err(Failure::of(ArchiveError::Missing(format!(
                "a complete backup of {}",
                self.store.name()
            ))));
        }
        let mut documents = Vec::new();
        let mut failed = false;
        for backup in backups {
            let progress = Progress::default();
            let verifying = verify(&self.store, &self.settings, backup, &progress);
            let mut verified = follow("Verification", &progress, verifying).await;
            if args.wal && verified.is_ok() {
                let segments = catalogue.segments_from(backup);
                let progress = Progress::default();
                let verifying = verify_wal(&self.store, &self.settings, &segments, &progress);
                verified = follow("Verification of WAL", &progress, verifying)
                    .await
                    .map(|wal| {
                        let mut all = verified.unwrap_or_default();
                        all.objects += wal.objects;
                        all.bytes += wal.bytes;
                        all
                    });
            }
            match verified {
                Ok(seen) => {
                    let against = if seen.against_receipt {
                        "equal to the receipt"
                    } else {
                        "unpacked to the end; there is no receipt to compare with"
                    };
                    if args.output.output == Format::Text {
                        let (name, objects) = (&backup.name, seen.objects);
                        output::say(&format!(
                            "{name}: sound, {objects} objects of {}, {against}.\n",
                            bytes(seen.bytes)
                        ))?;
                    }
                    documents.push(
                        json!({"backup_name": backup.name, "sound": true, "objects": seen.objects,
                        "bytes": seen.bytes, "against_receipt": seen.against_receipt}),
                    );
                }
                Err(error @ ArchiveError::Damaged { .. }) => {
                    failed = true;
                    if args.output.output == Format::Text {
                        output::say(&format!("{}: DAMAGED, {error}.\n", backup.name))?;
                    }
                    documents.push(
                        json!({"backup_name": backup.name, "sound": false, "reason": error.to_string()}),
                    );
                }
                Err(error) => return Err(Failure::of(error)),
            }
        }
        if args.wal {
            for gap in catalogue.gaps() {
                failed = true;
                output::tell(&format!("MISSING: {} ({} segments)", gap.first, gap.count));
            }
        }
        if args.output.output == Format::Json {
            output::say(&format!("{}\n", output::json(&documents)?))?;
        }
        Ok(if failed { 3 } else { 0 })
    }

    async fn gaps(&self, format: Format) -> anyhow::Result<u8> {
        let catalogue = self.catalogue().await?;
        let gaps = catalogue.gaps();
        let text = || {
            if gaps.is_empty() {
                return "No segment is missing.\n".to_owned();
            }
            let lines = gaps.iter().map(|gap| match gap.count {
                1 => format!("{} is missing\n", gap.first),
                count => format!("{} and the {} behind it are missing\n", gap.first, count - 1),
            });
            lines.collect()
        };
        let document = || {
            gaps.iter()
                .map(|gap| json!({"first": gap.first.to_string(), "count": gap.count}))
                .collect()
        };
        print(format, text, document)?;
        let lost = catalogue.without_history();
        for timeline in &lost {
            output::tell(&format!(
                "Timeline {timeline} has WAL and no history file ({:08X}.history).",
                timeline.0
            ));
        }
        Ok(if gaps.is_empty() && lost.is_empty() { 0 } else { 3 })
    }

    async fn check(&self, args: &CheckArgs) -> anyhow::Result<u8> {
        let found = identity(&self.store, &self.settings, soon())
            .await
            .map_err(Failure::of)?;
        if let Some(data) = &args.pgdata {
            let path = data.join("global/pg_control");
            let bytes =
                std::fs::read(&path).map_err(|source| Failure::of(ArchiveError::Local { path, source }))?;
            let control = ControlData::parse(&bytes)?;
            if let Some(identity) = &found {
                identity.check_system(control.system_id).map_err(|reason| {
                    Failure::of(ArchiveError::Foreign {
                        place: self.store.name().to_owned(),
                        reason,
                    })
                })?;
            }
        }
        print(
            args.output.output,
            || match &found {
                Some(identity) => format!(
                    "{} answers. It is of the cluster with system identifier {}{}.\n",
                    self.store.name(),
                    identity.system_identifier,
                    identity
                        .major
                        .map_or_else(String::new, |major| format!(", PostgreSQL {major}"))
                ),
                None => format!("{} answers. It is empty.\n", self.store.name()),
            },
            || json!({"archive": self.store.name(), "identity": found}),
        )
    }

    async fn has_backup_within(&self, window: std::time::Duration) -> anyhow::Result<bool> {
        let catalogue = self.catalogue().await?;
        let begin = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::try_from(window)?)?;
        Ok(catalogue
            .newest()
            .is_some_and(|backup| backup.finished() >= begin))
    }

    async fn retain(&self, args: &RetentionArgs) -> anyhow::Result<u8> {
        let policy = retain::policy(args);
        let mut plans = vec![(
            self.store.name().to_owned(),
            retain::run(&self.store, &self.settings, &policy, args.dry_run)
                .await
                .map_err(Failure::of)?,
        )];
        // While the present major is not backed up, the one before may still be needed.
        let window = args.window.unwrap_or_default();
        let is_backed_up = args.all_majors && self.has_backup_within(window).await?;
        if args.all_majors && !is_backed_up {
            output::tell(
                "Archives of earlier majors stay: this one has no complete backup inside the window.",
            );
        }
        if is_backed_up {
            for place in self
                .store
                .earlier_majors(&self.settings.place, soon())
                .await
                .map_err(Failure::of)?
            {
                let store = Store::open(&place, PATIENCE).map_err(Failure::of)?;
                let retired = howdah_backup::retention::Policy {
                    is_retired: true,
                    ..policy.clone()
                };
                let plan = retain::run(&store, &self.settings, &retired, args.dry_run)
                    .await
                    .map_err(Failure::of)?;
                plans.push((store.name().to_owned(), plan));
            }
        }
        let refused = plans.iter().any(|(_, plan)| plan.refused.is_some());
        let texts = || {
            plans
                .iter()
                .map(|(place, plan)| retain::text(place, plan, args.dry_run))
                .collect::<Vec<_>>()
        };
        let documents = || {
            plans
                .iter()
                .map(|(place, plan)| retain::document(place, plan, args.dry_run))
                .collect()
        };
        print(args.output.output, || texts().join("\n"), documents)?;
        Ok(if refused { 2 } else { 0 })
    }
}

/// A replica that is made from the archive replays all WAL since the backup. Beyond some measure a copy of the leader is faster.
fn copy_is_cheaper(
    args: &RestoreArgs,
    backup: &howdah_backup::Backup,
    plan: &Plan<'_>,
    catalogue: &Catalogue,
) -> anyhow::Result<()> {
    let wal = plan.segments.saturating_mul(catalogue.size.bytes());
    let files = backup
        .sentinel
        .as_ref()
        .map_or(0, |sentinel| sentinel.uncompressed_size);
    let limits = [
        args.max_wal_megabytes
            .map(|megabytes| megabytes.saturating_mul(1 << 20)),
        args.max_wal_percentage
            .map(|percentage| (u128::from(files) * u128::from(percentage) / 100) as u64),
    ];
    match limits.into_iter().flatten().min() {
        // The segments of the backup itself are needed in any case.
        Some(limit) if wal > limit.max(2 * catalogue.size.bytes()) => {
            Err(Failure::of(ArchiveError::Refused(format!(
                "{} of WAL were archived since {}, more than the {} that may be: a copy of the leader is faster",
                bytes(wal),
                backup.name,
                bytes(limit)
            ))))
        }
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn target_of(args: &TargetArgs) -> Target {
    if let Some(time) = args.to {
        Target::Time(time)
    } else if let Some(lsn) = args.to_lsn {
        Target::Lsn(lsn)
    } else if let Some(name) = &args.to_name {
        Target::Name(name.clone())
    } else if let Some(xid) = args.to_xid {
        Target::Xid(xid)
    } else if args.immediate {
        Target::Immediate
    } else {
        Target::Latest
    }
}

fn plan_text(plan: &Plan<'_>, target: &Target) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("Target", target.to_string());
    for backup in &plan.chain {
        row(
            "Backup",
            format!("{}, finished {}", backup.name, second(backup.finished())),
        );
    }
    let timelines: Vec<String> = plan.path.iter().map(|step| step.timeline.to_string()).collect();
    row("Timelines", timelines.join(" -> "));
    row(
        "WAL",
        format!("{} to {}: {} segments", plan.first, plan.last, plan.segments),
    );
    row(
        "Bytes to read",
        format!(
            "{} and {} of WAL",
            bytes(plan.backup_bytes),
            bytes(plan.wal_bytes)
        ),
    );
    let mut text = output::table(&rows);
    for note in &plan.notes {
        text.push_str(&format!("Note: {note}\n"));
    }
    text
}

fn plan_document(plan: &Plan<'_>, target: &Target) -> Value {
    json!({
        "target": target.to_string(),
        "backups": plan.chain.iter().map(|backup| &backup.name).collect::<Vec<_>>(),
        "timelines": plan.path.iter().map(|step| json!({"timeline": step.timeline, "from": step.from.to_string(),
            "until": step.until.map(|until| until.to_string())})).collect::<Vec<_>>(),
        "first_segment": plan.first.to_string(),
        "last_segment": plan.last.to_string(),
        "segments": plan.segments,
        "backup_bytes": plan.backup_bytes,
        "wal_bytes": plan.wal_bytes,
        "notes": plan.notes,
    })
}
