//! Copies of a primary's logical slots for a replica. Before PostgreSQL 17 the server has no way to make them but its files, which it
//! reads when it starts.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use howdah_pgconf::check_slot_state;
use howdah_types::{BootTime, Lsn};

use crate::{DataDir, PgError, Session, slots::literals};

/// A logical slot of a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFile {
    /// Its state file.
    pub state: Vec<u8>,
    /// The WAL that it needs begins here.
    pub restart: Lsn,
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
        "SELECT slot_name, encode(pg_read_binary_file('pg_replslot/' || slot_name || '/state'), 'hex'), restart_lsn \
         FROM pg_replication_slots WHERE NOT pg_is_in_recovery() AND slot_type = 'logical' AND NOT temporary \
         AND wal_status <> 'lost' AND slot_name IN ({})",
        literals(names)
    );
    let mut files = BTreeMap::new();
    for row in primary.rows(&sql, deadline).await? {
        let (Some(name), Some(hex), Some(Ok(restart))) = (row.get(0), row.get(1), row.get(2).map(str::parse))
        else {
            continue;
        };
        let state = from_hex(hex).unwrap_or_default();
        check_slot_state(&state).map_err(|why| PgError::SlotFile {
            name: name.to_owned(),
            why,
        })?;
        files.insert(name.to_owned(), SlotFile { state, restart });
    }
    Ok(files)
}

impl DataDir {
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
