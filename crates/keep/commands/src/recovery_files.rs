//! What makes a server recover that is started on a restored directory.

use std::path::Path;

use howdah_archive::ArchiveError;
use howdah_backup::recovery::{Target, TargetTimeline};

/// What is asked for.
pub(crate) struct Recovery<'a> {
    pub(crate) target: &'a Target,
    pub(crate) timeline: TargetTimeline,
    pub(crate) exclusive: bool,
    pub(crate) action: &'a str,
    pub(crate) restore_command: String,
    /// Whether the server goes on archiving to where its original does.
    pub(crate) archives: bool,
}

/// Writes `recovery.signal` and settings.
pub(crate) fn write(directory: &Path, recovery: &Recovery<'_>) -> Result<(), ArchiveError> {
    let failed = |path: &Path, source| ArchiveError::Local {
        path: path.to_owned(),
        source,
    };
    let conf = directory.join("postgresql.auto.conf");
    let before = match std::fs::read_to_string(&conf) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(&conf, error)),
    };
    let beside = directory.join("postgresql.auto.conf.howdah");
    std::fs::write(&beside, settings(&before, recovery)).map_err(|error| failed(&beside, error))?;
    std::fs::rename(&beside, &conf).map_err(|error| failed(&conf, error))?;
    forget_targets(&directory.join("postgresql.conf"), failed)?;
    let signal = directory.join("recovery.signal");
    std::fs::write(&signal, "").map_err(|error| failed(&signal, error))
}

/// A target of an earlier recovery in the main file would be a second one, which PostgreSQL refuses: it becomes a comment.
fn forget_targets(
    path: &Path,
    failed: impl Fn(&Path, std::io::Error) -> ArchiveError,
) -> Result<(), ArchiveError> {
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        // Some keep it elsewhere.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(path, error)),
    };
    let is_target = |line: &str| {
        line.trim_start()
            .to_ascii_lowercase()
            .starts_with("recovery_target")
    };
    if !text.lines().any(is_target) {
        return Ok(());
    }
    let lines = text.lines().map(|line| {
        if is_target(line) {
            format!("#{line}\n")
        } else {
            format!("{line}\n")
        }
    });
    let beside = path.with_extension("conf.howdah");
    std::fs::write(&beside, lines.collect::<String>()).map_err(|error| failed(&beside, error))?;
    std::fs::rename(&beside, path).map_err(|error| failed(path, error))
}

/// The lines that were there without targets of an earlier recovery, and ours.
fn settings(before: &str, recovery: &Recovery<'_>) -> String {
    let is_ours = |line: &&str| {
        let name = line.split('=').next().unwrap_or_default().trim();
        !name.starts_with("recovery_target") && name != "restore_command" && name != "archive_mode"
    };
    let mut lines: Vec<String> = before.lines().filter(is_ours).map(str::to_owned).collect();
    let mut set = |name: &str, value: &str| {
        lines.push(format!(
            "{name} = '{}'",
            value.replace('\\', "\\\\").replace('\'', "''")
        ));
    };
    set("restore_command", &recovery.restore_command);
    match recovery.target {
        Target::Latest => {}
        Target::Immediate => set("recovery_target", "immediate"),
        Target::Time(time) => {
            set(
                "recovery_target_time",
                &time.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string(),
            );
        }
        Target::Lsn(lsn) => set("recovery_target_lsn", &lsn.to_string()),
        Target::Name(name) => set("recovery_target_name", name),
        Target::Xid(xid) => set("recovery_target_xid", &xid.to_string()),
    }
    set(
        "recovery_target_inclusive",
        if recovery.exclusive { "off" } else { "on" },
    );
    set("recovery_target_action", recovery.action);
    match recovery.timeline {
        TargetTimeline::Latest => set("recovery_target_timeline", "latest"),
        TargetTimeline::Current => set("recovery_target_timeline", "current"),
        TargetTimeline::Id(id) => set("recovery_target_timeline", &id.to_string()),
    }
    if !recovery.archives {
        // It begins a timeline of a number that its original may take too; only one of them can be in the archive.
        lines.push("archive_mode = 'off'".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_target_goes_and_the_rest_stays() {
        let before = "# Do not edit\nwork_mem = '8MB'\nrecovery_target_name = 'old'\nrestore_command = 'x'\n";
        let recovery = Recovery {
            target: &Target::Name("it's".to_owned()),
            timeline: TargetTimeline::Latest,
            exclusive: true,
            action: "pause",
            restore_command: "howdah wal get \"%f\" \"%p\"".to_owned(),
            archives: false,
        };
        let after = settings(before, &recovery);
        for line in [
            "work_mem = '8MB'",
            "restore_command = 'howdah wal get \"%f\" \"%p\"'",
            "recovery_target_name = 'it''s'",
            "recovery_target_action = 'pause'",
            "recovery_target_inclusive = 'off'",
            "archive_mode = 'off'",
        ] {
            assert!(after.lines().any(|has| has == line), "{line} in {after}");
        }
        assert!(!after.contains("'old'") && !after.contains("'x'"), "{after}");
        let moment = Recovery {
            target: &Target::Time("2026-11-28T15:46:38.900463Z".parse().unwrap()),
            ..recovery
        };
        assert!(settings("", &moment).contains("recovery_target_time = '2026-11-28 15:46:38.900463+00'"));
    }
}
