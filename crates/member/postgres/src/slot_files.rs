//! Copies of a primary's logical slots for a replica. Before PostgreSQL 17 the server has no way to make them but its files, which it
//! reads when it starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use howdah_pgconf::check_slot_state;
use howdah_types::{BootTime, Lsn};

use crate::{DataDir, PgError, Session, slots::literals};

/// PostgreSQL's default, in bytes.
const DEFAULT_SEGMENT: u64 = 16 << 20;

/// A logical slot of a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFile {
    /// Its state file.
    pub state: Vec<u8>,
    /// The WAL that it needs begins here.
    pub restart: Lsn,
    /// Its consumer has confirmed this much.
    pub confirmed: Lsn,
    /// Whose changes it decodes.
    pub database: String,
    /// Its output plugin.
    pub plugin: String,
    /// Of the server's WAL files, in bytes.
    pub segment_size: u64,
}

/// The state files of logical slots of a primary, by name; a slot that it does not have is not in it.
///
/// # Errors
/// It does not answer by `deadline`, or a file is damaged.
pub async fn read_slot_files(
    primary: &Session,
    names: &[String],
    deadline: BootTime,
) -> Result<BTreeMap<String, SlotFile>, PgError> {
    // PostgreSQL replaces the file by renaming another one: what is read is whole.
    let sql = format!(
        "SELECT slot_name, encode(pg_read_binary_file('pg_replslot/' || slot_name || '/state'), 'hex'), restart_lsn, \
         confirmed_flush_lsn, database, plugin, \
         (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size') \
         FROM pg_replication_slots s WHERE NOT pg_is_in_recovery() AND slot_type = 'logical' AND NOT temporary \
         AND wal_status <> 'lost' AND slot_name IN ({}) \
         AND NOT COALESCE((to_jsonb(s) ->> 'failover')::boolean, false)",
        literals(names)
    );
    let mut files = BTreeMap::new();
    for row in primary.rows(&sql, deadline).await? {
        let lsn = |column| row.get(column).and_then(|text| text.parse::<Lsn>().ok());
        let (Some(name), Some(hex), Some(restart), Some(confirmed)) =
            (row.get(0), row.get(1), lsn(2), lsn(3))
        else {
            continue;
        };
        let state = from_hex(hex).unwrap_or_default();
        check_slot_state(&state).map_err(|why| PgError::SlotFile {
            name: name.to_owned(),
            why,
        })?;
        let file = SlotFile {
            state,
            restart,
            confirmed,
            database: row.get(4).unwrap_or_default().to_owned(),
            plugin: row.get(5).unwrap_or_default().to_owned(),
            segment_size: row
                .get(6)
                .and_then(|text| text.parse().ok())
                .unwrap_or(DEFAULT_SEGMENT),
        };
        files.insert(name.to_owned(), file);
    }
    Ok(files)
}

/// The WAL files of a data directory, on whatever timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalFiles {
    numbers: BTreeSet<u64>,
    segment_size: u64,
}

impl WalFiles {
    /// Whether all of them are there from one position to another one.
    #[must_use]
    pub fn covers(&self, from: Lsn, to: Lsn) -> bool {
        // A record that ends where a file ends is in that file.
        let last = to.0.saturating_sub(1).max(from.0) / self.segment_size;
        (from.0 / self.segment_size..=last).all(|number| self.numbers.contains(&number))
    }
}

impl DataDir {
    /// Which WAL files are here.
    #[must_use]
    pub fn wal_files(&self, segment_size: u64) -> WalFiles {
        let size = segment_size.max(1);
        // How many files the high half of a position has.
        let files = (1u64 << 32) / size;
        let entries = fs::read_dir(self.path().join("pg_wal"))
            .into_iter()
            .flatten()
            .flatten();
        let number = |name: &str| {
            let (high, low) = (name.get(8..16)?, name.get(16..24)?);
            let number = |text| u64::from_str_radix(text, 16).ok();
            (name.len() == 24).then_some(())?;
            Some(number(high)?.saturating_mul(files) + number(low)?)
        };
        let numbers = entries.filter_map(|entry| number(entry.file_name().to_str()?));
        WalFiles {
            numbers: numbers.collect(),
            segment_size: size,
        }
    }

    /// Puts a slot file into the data of a server that is stopped, in the order in which PostgreSQL makes one: a crash leaves the
    /// whole slot, or a directory that PostgreSQL removes.
    ///
    /// # Errors
    /// It cannot be written.
    #[expect(
        clippy::disallowed_methods,
        reason = "the agent calls it through its blocking()"
    )]
    pub fn put_slot_file(&self, name: &str, state: &[u8]) -> Result<(), PgError> {
        let slots = self.path().join("pg_replslot");
        let (dir, temporary) = (slots.join(name), slots.join(format!("{name}.tmp")));
        let put = || {
            remove(&temporary)?;
            fs::DirBuilder::new().mode(0o700).create(&temporary)?;
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(temporary.join("state"))?;
            file.write_all(state)?;
            file.sync_all()?;
            fs::File::open(&temporary)?.sync_all()?;
            remove(&dir)?;
            fs::rename(&temporary, &dir)?;
            fs::File::open(&slots)?.sync_all()
        };
        put().map_err(PgError::file(&dir))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the agent calls it through its blocking()"
)]
fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wal_is_there_from_file_to_file() {
        let wal = WalFiles {
            numbers: [2, 3, 4].into(),
            segment_size: 16,
        };
        assert!(wal.covers(Lsn(32), Lsn(80)), "to the end of the last file");
        assert!(!wal.covers(Lsn(32), Lsn(81)));
        assert!(!wal.covers(Lsn(31), Lsn(40)));
        assert!(wal.covers(Lsn(64), Lsn(64)));
    }
}
