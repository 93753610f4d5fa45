//! A drill: a backup is restored into a scratch directory, a server of its own replays the archive to the end, and what it then has
//! is looked at. Only that proves that a backup can be restored.

mod checks;
mod confine;
mod programs;
mod schedule;
mod scratch;
mod server;

use std::{path::Path, time::Duration};

use howdah_archive::{ArchiveError, Settings, Store, Tablespaces, wal_get};
use howdah_backup::{
    Backup, Catalogue, Layout, Proof,
    recovery::{Plan, Target},
};
use howdah_clock::now;
use howdah_http::sleep_until;
use howdah_types::BootTime;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

pub use self::confine::ConfineArgs;
pub(crate) use self::{confine::run as confine, schedule::forever};
use self::{
    programs::Programs,
    scratch::Scratch,
    server::{Scratchy, Stopped},
};
use crate::{
    backup::Archive,
    cli::{DrillArgs, Format},
    failure::Failure,
    output::{self, bytes, second},
    recovery_files::{self, Recovery},
};

/// A part of the disk stays free, whatever else writes to it: 5 %, and this at most.
const RESERVE: u64 = 4 << 30;

/// What the scratch server writes beside the files: WAL that it restores and keeps, an extension, temporary files.
const BESIDE: u64 = 512 << 20;

/// How often it is looked whether the disk fills up.
const LOOK: Duration = Duration::from_secs(2);

/// The longest text that is kept.
const LONGEST: usize = 400;

impl Archive {
    /// Runs a drill, says what was proved, and notes it beside the backup.
    pub(crate) async fn drill(&self, args: &DrillArgs) -> anyhow::Result<u8> {
        let refused = |text: String| Failure::of(ArchiveError::Refused(text));
        if args.with_parent {
            // An archiver that is killed leaves no drill behind.
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
        }
        if rustix::process::geteuid().is_root() {
            return Err(refused(
                "PostgreSQL does not run as root: run the drill as its user".to_owned(),
            ));
        }
        let catalogue = self.catalogue().await?;
        let target = crate::backup::target_of(&args.target);
        let is_plain = args.target.backup.is_none() && matches!(target, Target::Latest);
        let newest = catalogue.newest().filter(|_| is_plain);
        let plan = match (self.planned(&catalogue, &args.target, &target), newest) {
            // The newest backup cannot be restored at all: that is what a drill is to find.
            (Err(refusal), Some(newest)) => {
                return self.not_proved(args, newest, &refusal.to_string()).await;
            }
            (planned, _) => planned?,
        };
        let Some(backup) = plan.chain.last().copied() else {
            return Err(refused("the plan names no backup".to_owned()));
        };
        if let Some(newest) = newest.filter(|newest| newest.name != backup.name) {
            let reason = match catalogue.usable(newest) {
                Err(reason) => reason,
                Ok(()) => format!("recovery would begin with {}", backup.name),
            };
            return self.not_proved(args, newest, &reason).await;
        }
        let major = backup.sentinel.as_ref().and_then(howdah_backup::Sentinel::major);
        let programs = Programs::find(args.bin.as_deref(), major)
            .await
            .map_err(|reason| Failure::of(ArchiveError::Setting(reason)))?;
        if !args.unconfined && !confine::is_possible() {
            return Err(refused(
                "this kernel cannot confine the scratch server (Landlock): where WAL makes a tablespace, it would write into the \
                 directory of the original. If no server on this machine has tablespaces, say --unconfined"
                    .to_owned(),
            ));
        }
        let files = files_of(&plan, backup);
        let scratch =
            Scratch::make(args.scratch.as_deref(), files.saturating_add(BESIDE)).map_err(refused)?;
        let mut proof = Proof {
            bytes: files,
            ..Proof::new(hostname())
        };
        let drill = Drill {
            archive: self,
            args,
            catalogue: &catalogue,
            backup,
            target: &target,
            last: is_plain.then(|| plan.last.number(catalogue.size)).flatten(),
            programs: &programs,
            scratch: &scratch,
        };
        let ran = drill.run(&mut proof).await;
        if args.keep {
            output::tell(&format!(
                "The restored directory stays: {}",
                scratch.keep().display()
            ));
        } else {
            scratch.remove();
        }
        match ran {
            Ok(()) => {}
            // Whoever interrupts it has learned nothing of the backup.
            Err(Ended::Interrupted) => return Err(Failure::of(ArchiveError::Interrupted)),
            Err(Ended::Early(error)) => return Err(error),
            Err(Ended::Failed(reason)) => proof.trouble = Some(cut(&reason)),
        }
        self.conclude(args, backup, proof).await
    }

    async fn not_proved(&self, args: &DrillArgs, backup: &Backup, reason: &str) -> anyhow::Result<u8> {
        let proof = Proof {
            trouble: Some(cut(reason)),
            ..Proof::new(hostname())
        };
        self.conclude(args, backup, proof).await
    }

    async fn conclude(&self, args: &DrillArgs, backup: &Backup, mut proof: Proof) -> anyhow::Result<u8> {
        proof.at = Timestamp::now();
        self.note(backup, &proof).await;
        say(args.output.output, backup, &proof)?;
        Ok(if proof.trouble.is_none() { 0 } else { 3 })
    }

    /// A reader's rights are enough for a drill; then it is only not noted.
    async fn note(&self, backup: &Backup, proof: &Proof) {
        let Ok(text) = serde_json::to_vec(proof) else {
            return;
        };
        // Retention may have taken it meanwhile.
        if let Err(ArchiveError::Missing(_)) = self
            .store
            .length(&Layout::sentinel(&backup.name), crate::soon())
            .await
        {
            return;
        }
        let name = Layout::proof(&backup.name);
        if let Err(error) = self.store.replace(&name, text.into(), crate::soon()).await {
            output::tell(&format!("The result is not noted in the archive: {error}"));
        }
    }
}

/// Why a drill has ended before its end.
enum Ended {
    /// By a signal.
    Interrupted,
    /// By something that says nothing of the backup: the store, this machine.
    Early(anyhow::Error),
    /// The backup could not be restored, or what was restored is not sound.
    Failed(String),
}

struct Drill<'a> {
    archive: &'a Archive,
    args: &'a DrillArgs,
    catalogue: &'a Catalogue,
    backup: &'a Backup,
    target: &'a Target,
    /// The last segment of the archive that replay must reach, where the target is its end.
    last: Option<u64>,
    programs: &'a Programs,
    scratch: &'a Scratch,
}

impl Drill<'_> {
    async fn run(&self, proof: &mut Proof) -> Result<(), Ended> {
        let deadline = now() + self.args.timeout;
        let data = self.scratch.data();
        let began = now();
        let tablespaces = self.scratch.tablespaces(self.backup);
        let restored = self
            .archive
            .fetch_to(
                self.catalogue,
                self.backup,
                &data,
                Tablespaces { moved: tablespaces },
            )
            .await;
        proof.restore_ms = since(began);
        match restored {
            Ok(()) => {}
            Err(ArchiveError::Interrupted) => return Err(Ended::Interrupted),
            Err(error @ (ArchiveError::Damaged { .. } | ArchiveError::Missing(_))) => {
                return Err(Ended::Failed(error.to_string()));
            }
            Err(error) => return Err(Ended::Early(Failure::of(error))),
        }
        self.prepare(&data)
            .map_err(|error| Ended::Early(Failure::of(error)))?;
        let signals =
            signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
        let (mut interrupt, mut terminate) = signals.map_err(|error| Ended::Early(error.into()))?;
        let mut server = Scratchy::start(
            self.programs,
            self.scratch,
            &self.archive.variables,
            self.scratch.tablespaces(self.backup).into_keys().collect(),
            self.catalogue.size,
            !self.args.unconfined,
        )
        .map_err(|error| Ended::Early(Failure::of(ArchiveError::Refused(error))))?;
        let began = now();
        let looked = tokio::select! {
            biased;
            _ = interrupt.recv() => Err(Ended::Interrupted),
            _ = terminate.recv() => Err(Ended::Interrupted),
            full = self.fills_up() => Err(full),
            looked = self.look(&mut server, began, proof, deadline) => looked,
        };
        server.stop().await;
        looked
    }

    /// Nothing of the original's settings counts, and what it is told here reaches no other system: no library is loaded, no
    /// subscription is followed, nothing is archived.
    fn prepare(&self, data: &Path) -> Result<(), ArchiveError> {
        let failed = |path: &Path, source| ArchiveError::Local {
            path: path.to_owned(),
            source,
        };
        let auto = data.join("postgresql.auto.conf");
        std::fs::write(&auto, "").map_err(|error| failed(&auto, error))?;
        let signal = data.join("standby.signal");
        if let Err(error) = std::fs::remove_file(&signal)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(failed(&signal, error));
        }
        let recovery = Recovery {
            target: self.target,
            timeline: self.args.target.timeline,
            exclusive: false,
            action: "promote",
            restore_command: self.archive.restore_command(),
            archives: false,
        };
        recovery_files::write(data, &recovery)
    }

    /// Why a server has ended that could not get a file of WAL: the file is damaged or missing, or the store does not answer.
    async fn of_archive(&self, reason: String) -> Ended {
        let name = reason
            .split_once("could not restore file \"")
            .and_then(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()));
        let Some(name) = name else {
            return early(reason);
        };
        let (archive, target) = (self.archive, self.scratch.sockets().join("fetched"));
        let by = crate::soon();
        let data = self.scratch.data();
        let got = wal_get(
            &archive.store,
            &archive.settings,
            &name,
            &target,
            Some(&data),
            by,
            by,
        )
        .await;
        match got {
            Err(
                error @ (ArchiveError::Damaged { .. }
                | ArchiveError::Missing(_)
                | ArchiveError::Foreign { .. }
                | ArchiveError::Refused(_)),
            ) => Ended::Failed(error.to_string()),
            Ok(_) | Err(_) => early(reason),
        }
    }

    /// Waits until little room is left: whatever else writes to the disk must not run into its end.
    async fn fills_up(&self) -> Ended {
        while self.scratch.has_room() {
            sleep_until(now() + LOOK).await;
        }
        early(
            "the disk of the scratch directory is almost full: name another place with --scratch".to_owned(),
        )
    }

    async fn look(
        &self,
        server: &mut Scratchy,
        began: BootTime,
        proof: &mut Proof,
        deadline: BootTime,
    ) -> Result<(), Ended> {
        let reached = match server.replayed(deadline).await {
            Ok(reached) => reached,
            Err(Stopped::Damaged(reason)) => return Err(Ended::Failed(reason)),
            Err(Stopped::Here(reason)) => return Err(self.of_archive(reason).await),
        };
        proof.replay_ms = since(began);
        (proof.reached, proof.last_commit) = (reached.lsn, reached.last_commit);
        let end = reached.lsn.map(|lsn| self.catalogue.size.number_before(lsn));
        if let Some(last) = self.last
            && end.is_none_or(|end| end < last)
        {
            // A record that is not valid counts as the end of WAL for PostgreSQL.
            let lsn = reached
                .lsn
                .map_or_else(|| "nothing".to_owned(), |lsn| lsn.to_string());
            return Err(Ended::Failed(format!(
                "replay has ended at {lsn}, and the archive goes on behind it: WAL there cannot be replayed"
            )));
        }
        let databases = server.databases(deadline).await.map_err(|reason| {
            let is_damage = ["invalid page", "could not read block", "could not open file"]
                .iter()
                .any(|word| reason.contains(word));
            if is_damage {
                Ended::Failed(reason)
            } else {
                early(reason)
            }
        })?;
        proof
            .checks
            .push(format!("{} databases accept connections", databases.len()));
        if !self.args.no_amcheck {
            match checks::amcheck(self.programs, server, deadline).await {
                Ok(said) => proof.checks.push(said),
                Err(Stopped::Damaged(reason)) => return Err(Ended::Failed(reason)),
                Err(Stopped::Here(reason)) => return Err(early(reason)),
            }
        }
        for sql in &self.args.check {
            let said = checks::sql(server, &self.args.database, sql, deadline)
                .await
                .map_err(Ended::Failed)?;
            proof.checks.push(said);
        }
        Ok(())
    }
}

/// Bytes of the restored files.
fn files_of(plan: &Plan<'_>, backup: &Backup) -> u64 {
    backup
        .sentinel
        .as_ref()
        .map_or(plan.backup_bytes.saturating_mul(4), |sentinel| {
            sentinel.uncompressed_size
        })
}

/// Something of this machine, which says nothing of the backup.
fn early(reason: String) -> Ended {
    Ended::Early(Failure::of(ArchiveError::Refused(reason)))
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

fn since(began: BootTime) -> u64 {
    u64::try_from(now().since(began).as_millis()).unwrap_or(u64::MAX)
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn say(format: Format, backup: &Backup, proof: &Proof) -> anyhow::Result<()> {
    if format == Format::Json {
        let document: Value =
            json!({"backup_name": backup.name, "proved": proof.trouble.is_none(), "proof": proof});
        return output::say(&format!("{}\n", output::json(&document)?));
    }
    let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1000.0);
    let mut text = match &proof.trouble {
        None => format!("{} is proved: it can be restored.\n", backup.name),
        Some(reason) => format!("{} is NOT proved: {reason}.\n", backup.name),
    };
    text.push_str(&format!(
        "  {} restored in {}",
        bytes(proof.bytes),
        seconds(proof.restore_ms)
    ));
    if let Some(lsn) = proof.reached {
        text.push_str(&format!(", replayed to {lsn} in {}", seconds(proof.replay_ms)));
    }
    if let Some(commit) = proof.last_commit {
        text.push_str(&format!(", last commit at {}", second(commit)));
    }
    text.push('\n');
    for check in &proof.checks {
        text.push_str(&format!("  {check}\n"));
    }
    output::say(&text)
}

/// The store and its settings, for the schedule.
pub(crate) fn open(sources: &crate::variables::Sources) -> Result<(Store, Settings), ArchiveError> {
    let said = |error: anyhow::Error| ArchiveError::Setting(format!("{error:#}"));
    let settings = sources.read().map_err(said)?.settings()?;
    let store = Store::open(&settings.place, crate::backup::PATIENCE)?;
    Ok((store, settings))
}
