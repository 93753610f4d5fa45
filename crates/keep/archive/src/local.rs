//! Listings of an archive in a directory. Names that no object has are passed over: whoever shares the disk may have others.

use std::{fs, io, path::Path};

use howdah_backup::Object;
use jiff::Timestamp;

use crate::ArchiveError;

/// What is directly below a folder.
struct Entries {
    folders: Vec<String>,
    objects: Vec<Object>,
}

/// Text without control characters, and not one of a file that is being written (`NAME#1`).
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('#') && !name.chars().any(char::is_control)
}

fn entries(root: &Path, folder: &str) -> Result<Entries, ArchiveError> {
    let path = root.join(folder);
    let failed = |error: io::Error| ArchiveError::local(&path, error);
    let mut found = Entries {
        folders: Vec::new(),
        objects: Vec::new(),
    };
    let read = match fs::read_dir(&path) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(failed(error)),
    };
    for entry in read {
        let entry = entry.map_err(failed)?;
        let Some(name) = entry
            .file_name()
            .to_str()
            .filter(|name| is_name(name))
            .map(str::to_owned)
        else {
            tracing::warn!(
                "{} is no object of an archive, and is passed over.",
                entry.path().display()
            );
            continue;
        };
        let name = if folder.is_empty() {
            name
        } else {
            format!("{folder}/{name}")
        };
        // What is deleted meanwhile is not there.
        let meta = match fs::metadata(entry.path()) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ArchiveError::local(&entry.path(), error)),
        };
        if meta.is_dir() {
            found.folders.push(name);
        } else if meta.is_file() {
            let modified = meta
                .modified()
                .ok()
                .and_then(|time| Timestamp::try_from(time).ok());
            found.objects.push(Object {
                name,
                size: meta.len(),
                modified: modified.unwrap_or_default(),
            });
        }
    }
    Ok(found)
}

/// All objects below a folder in the order of their names, but not more than `most` of them.
pub(crate) fn listing(root: &Path, folder: &str, most: usize) -> Result<Vec<Object>, ArchiveError> {
    let mut objects = Vec::new();
    let mut folders = vec![folder.trim_end_matches('/').to_owned()];
    while let Some(folder) = folders.pop() {
        let found = entries(root, &folder)?;
        folders.extend(found.folders);
        objects.extend(found.objects);
        if objects.len() >= most {
            break;
        }
    }
    objects.sort_by(|a, b| a.name.cmp(&b.name));
    objects.truncate(most);
    Ok(objects)
}

/// The folders and objects directly below a folder.
pub(crate) fn children(root: &Path, folder: &str) -> Result<(Vec<String>, Vec<Object>), ArchiveError> {
    let found = entries(root, folder)?;
    Ok((found.folders, found.objects))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn odd_names_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("wal_005/deeper");
        fs::create_dir_all(&folder).unwrap();
        fs::write(dir.path().join("wal_005/b"), "xy").unwrap();
        fs::write(folder.join("a"), "x").unwrap();
        fs::write(folder.join("a#1"), "half").unwrap();
        fs::write(folder.join(std::ffi::OsString::from_vec(vec![b'x', 0xff])), "").unwrap();
        fs::write(folder.join("\u{1b}"), "").unwrap();
        let found = listing(dir.path(), "wal_005", usize::MAX).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|object| (object.name.as_str(), object.size))
            .collect();
        assert_eq!(names, [("wal_005/b", 2), ("wal_005/deeper/a", 1)]);
        assert_eq!(listing(dir.path(), "nothing", 1).unwrap(), []);
        assert_eq!(children(dir.path(), "wal_005").unwrap().0, ["wal_005/deeper"]);
    }
}
