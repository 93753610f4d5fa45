//! Copies of a primary's logical slots for a replica. Before PostgreSQL 17 the server has no way to make them but its files, which it
//! reads when it starts.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use howdah_pgconf::{check_slot_state, newest_at};
use howdah_types::{BootTime, Lsn};

use crate::{DataDir, PgError, Session, slots::literals};

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
         confirmed_flush_lsn, database, plugin \
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
        };
        files.insert(name.to_owned(), file);
    }
    Ok(files)
}

impl DataDir {
    /// Whether all WAL files from one position to another one are here.
    #[must_use]
    pub fn has_wal(&self, from: Lsn, to: Lsn, segment_size: u64) -> bool {
        let Ok(entries) = fs::read_dir(self.path().join("pg_wal")) else {
            return false;
        };
        let names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        let size = segment_size.max(1);
        // A record that ends where a file ends is in that file.
        let last = to.0.saturating_sub(1).max(from.0) / size;
        (from.0 / size..=last).all(|number| {
            let inside = Lsn(number.saturating_mul(size).saturating_add(1));
            newest_at(names.iter().map(String::as_str), inside, size).is_some()
        })
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
