use howdah_types::{Lsn, SystemId, Timeline};
use serde::Serialize;
use thiserror::Error;

use crate::crc;

/// PostgreSQL's `DBState`: what the cluster was doing when `pg_control` was last written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum DbState {
    /// "starting up"
    Startup,
    /// "shut down": a clean stop of a primary.
    ShutDown,
    /// "shut down in recovery": a clean stop of a replica.
    ShutDownInRecovery,
    /// "shutting down"
    ShuttingDown,
    /// "in crash recovery"
    InCrashRecovery,
    /// "in archive recovery"
    InArchiveRecovery,
    /// "in production"
    InProduction,
}

/// The head of `global/pg_control`: the fields whose place has been the same since PostgreSQL 9.3.
///
/// Read from the file and not through `pg_controldata`, because a switchover waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ControlData {
    /// The system identifier.
    #[serde(serialize_with = "as_text")]
    pub system_id: SystemId,
    /// `pg_control_version`, 1300 for PostgreSQL 13 to 17.
    pub control_version: u32,
    /// The state of the cluster.
    pub state: DbState,
    /// Where the latest checkpoint record begins.
    pub checkpoint: Lsn,
    /// Its redo pointer.
    pub redo: Lsn,
    /// Its timeline.
    pub timeline: Timeline,
}

fn as_text<S: serde::Serializer>(id: &SystemId, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(id)
}

/// Why `pg_control` could not be understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ControlError {
    /// Shorter than the fields that are read.
    #[error("pg_control has {0} bytes, too few to be one")]
    Short(usize),
    /// Its checksum does not fit: it is damaged, or was read while it was written.
    #[error("pg_control is damaged: its checksum does not fit")]
    Checksum,
    /// A state this version does not know, or a file of the other byte order.
    #[error("pg_control has an unknown state {state} (control version {version})")]
    State {
        /// The number found.
        state: u32,
        /// The control version found.
        version: u32,
    },
}

impl ControlData {
    /// Reads the head of the file.
    ///
    /// # Errors
    /// Too short, or not a control file of this machine's byte order.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlError> {
        let short = || ControlError::Short(bytes.len());
        let at = |offset: usize, len: usize| bytes.get(offset..offset + len).ok_or_else(short);
        let u32_at = |offset| {
            at(offset, 4)?
                .try_into()
                .map(u32::from_ne_bytes)
                .map_err(|_| short())
        };
        let u64_at = |offset| {
            at(offset, 8)?
                .try_into()
                .map(u64::from_ne_bytes)
                .map_err(|_| short())
        };
        if bytes.len() > LAST_CHECKSUM && !has_checksum(bytes) {
            return Err(ControlError::Checksum);
        }
        let control_version = u32_at(8)?;
        let state = match u32_at(16)? {
            0 => DbState::Startup,
            1 => DbState::ShutDown,
            2 => DbState::ShutDownInRecovery,
            3 => DbState::ShuttingDown,
            4 => DbState::InCrashRecovery,
            5 => DbState::InArchiveRecovery,
            6 => DbState::InProduction,
            state => {
                return Err(ControlError::State {
                    state,
                    version: control_version,
                });
            }
        };
        Ok(ControlData {
            system_id: SystemId(u64_at(0)?),
            control_version,
            state,
            checkpoint: Lsn(u64_at(32)?),
            redo: Lsn(u64_at(40)?),
            timeline: Timeline(u32_at(48)?),
        })
    }
}

/// The checksum is the last field, behind fields whose number differs between versions: somewhere between these offsets.
const FIRST_CHECKSUM: usize = 200;
const LAST_CHECKSUM: usize = 480;

/// Whether somewhere the next four bytes are the CRC-32C of all before them. That a wrong file passes is as likely as
/// with one place, seventy times over: one in sixty million.
fn has_checksum(bytes: &[u8]) -> bool {
    let mut crc = crc::START;
    for (offset, byte) in bytes.iter().enumerate().take(LAST_CHECKSUM) {
        if offset >= FIRST_CHECKSUM
            && offset % 4 == 0
            && let Some(Ok(stored)) = bytes.get(offset..offset + 4).map(<[u8; 4]>::try_from)
            && u32::from_ne_bytes(stored) == !crc
        {
            return true;
        }
        crc = crc::with_byte(crc, *byte);
    }
    false
}

/// One field of `pg_controldata`'s output (with `LC_ALL=C`), for what has no fixed place in the file.
#[must_use]
pub fn controldata_field<'a>(output: &'a str, field: &str) -> Option<&'a str> {
    output.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name == field).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_control_file() {
        let mut file = vec![0u8; 296];
        file[0..8].copy_from_slice(&7_300_000_000_000_000_001u64.to_ne_bytes());
        file[8..12].copy_from_slice(&1300u32.to_ne_bytes());
        file[16..20].copy_from_slice(&6u32.to_ne_bytes());
        file[32..40].copy_from_slice(&0x1500_0028u64.to_ne_bytes());
        file[48..52].copy_from_slice(&3u32.to_ne_bytes());
        let control = ControlData::parse(&file).unwrap();
        assert_eq!(control.state, DbState::InProduction);
        assert_eq!(control.timeline, Timeline(3));
        assert_eq!(control.checkpoint, Lsn(0x1500_0028));
        assert_eq!(ControlData::parse(&file[..20]), Err(ControlError::Short(20)));
        assert!(!has_checksum(&file));
        let mut whole = file.clone();
        whole.resize(8192, 0);
        assert_eq!(ControlData::parse(&whole), Err(ControlError::Checksum));
        assert_eq!(
            ControlData::parse(&[0; 8192]),
            Err(ControlError::Checksum),
            "zeros are none"
        );
        file[16] = 99;
        assert!(matches!(
            ControlData::parse(&file),
            Err(ControlError::State { state: 99, .. })
        ));
    }
}
