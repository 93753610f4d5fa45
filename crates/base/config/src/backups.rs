use std::path::PathBuf;

use crate::{ConfigError, reader::Reader};

/// Backups by a schedule (`howdah.backups`): a process beside the agent makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupsConfig {
    /// When: cron's five fields, in UTC.
    pub schedule: String,
    /// At least so many backups are kept, and at least those of so many days.
    pub keep: u32,
    /// The directory of the archive's variables, a file for each.
    pub env_dir: PathBuf,
    /// Whether replicas make them too.
    pub from_replica: bool,
}

impl BackupsConfig {
    pub(crate) fn read(section: &Reader<'_>) -> Result<Option<Self>, ConfigError> {
        if !section.exists() {
            return Ok(None);
        }
        let keep = section.int("keep", "")?.unwrap_or(5);
        Ok(Some(BackupsConfig {
            schedule: section.required("schedule")?,
            keep: u32::try_from(keep)
                .ok()
                .filter(|keep| *keep > 0)
                .ok_or_else(|| section.error("keep", "must be at least 1"))?,
            env_dir: PathBuf::from(section.required("env_dir")?),
            from_replica: section.flag("from_replica")?.unwrap_or(false),
        }))
    }
}
