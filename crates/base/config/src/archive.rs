use std::path::PathBuf;

use crate::{ConfigError, reader::Reader};

/// The member's archive (`howdah.archive`): a process beside the agent serves `archive_command` and `restore_command`, and makes
/// backups by a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// The directory of the archive's variables, a file for each.
    pub env_dir: PathBuf,
    /// When backups are made: cron's five fields, in UTC. `None`: by somebody else.
    pub backup_schedule: Option<String>,
    /// At least so many backups are kept, and at least those of so many days.
    pub keep: u32,
    /// Whether replicas make them too.
    pub from_replica: bool,
    /// When a restore is tried in a scratch directory: cron's five fields, in UTC.
    pub drill_schedule: Option<String>,
}

impl ArchiveConfig {
    pub(crate) fn read(section: &Reader<'_>) -> Result<Option<Self>, ConfigError> {
        if !section.exists() {
            return Ok(None);
        }
        let keep = section.int("keep", "")?.unwrap_or(5);
        Ok(Some(ArchiveConfig {
            env_dir: PathBuf::from(section.required("env_dir")?),
            backup_schedule: section.text("backup_schedule")?,
            keep: u32::try_from(keep)
                .ok()
                .filter(|keep| *keep > 0)
                .ok_or_else(|| section.error("keep", "must be at least 1"))?,
            from_replica: section.flag("from_replica")?.unwrap_or(false),
            drill_schedule: section.text("drill_schedule")?,
        }))
    }
}
