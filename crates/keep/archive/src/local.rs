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

/// Text without control characters.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('#') && !name.chars().any(char::is_control)
}

/// A file that is being written, or was when its writer was killed (`NAME#1`).
fn is_half(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.chars().all(|char| char.is_ascii_digit()))
}

/// Gives an object, and the folders that it lies in, to the owner of the archive's directory.
pub(crate) fn hand_over(root: &Path, name: &str) {
    use std::os::unix::fs::{MetadataExt, lchown};
    let Ok(owner) = fs::metadata(root) else { return };
    let mut path = root.to_owned();
    for part in name.split('/') {
        path.push(part);
        let is_roots = fs::symlink_metadata(&path).is_ok_and(|of| of.uid() == 0);
        if is_roots && owner.uid() != 0 {
            let _ = lchown(&path, Some(owner.uid()), Some(owner.gid()));
        }
    }
}

/// Removes halves below a folder of which nothing is wanted any longer, and the folders that are empty then.
pub(crate) fn tidy(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            tidy(&path);
        } else if entry.file_name().to_str().is_some_and(is_half)
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!("{}: {error}.", path.display());
        }
    }
    // It fails where something is left.
    let _ = fs::remove_dir(folder);
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
            if entry.file_name().to_str().is_some_and(is_half) {
                continue;
            }
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

    #[test]
    fn halves_and_empty_folders_go_and_objects_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one/parts"), dir.path().join("two"));
        fs::create_dir_all(&one).unwrap();
        fs::create_dir_all(&two).unwrap();
        fs::write(one.join("part_001.tar.zst#12"), "half").unwrap();
        fs::write(two.join("object"), "x").unwrap();
        tidy(&dir.path().join("one"));
        tidy(&two);
        assert!(!dir.path().join("one").exists());
        assert!(two.join("object").exists());
    }
}
