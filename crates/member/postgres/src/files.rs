use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::PgError;

/// Writes a file so that a reader, or a crash, sees the old text or the new one. Readable by its owner alone.
#[expect(
    clippy::disallowed_methods,
    reason = "the agent calls it through its blocking()"
)]
pub(crate) fn write_atomically(path: &Path, text: &str) -> Result<(), PgError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(PgError::file(path))
}
