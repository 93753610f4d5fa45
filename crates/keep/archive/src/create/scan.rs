use std::{
    fs,
    path::{Path, PathBuf},
};

use howdah_backup::{Copied, TablespacePlace, TablespaceSpec, how_copied};

use super::part::{Member, Part};
use crate::ArchiveError;

/// What a data directory has.
pub(super) struct Scanned {
    pub(super) parts: Vec<Part>,
    pub(super) bytes: u64,
    pub(super) tablespaces: Option<TablespaceSpec>,
}

/// An archive smaller than this costs more requests than it gains in parallel.
const LEAST: u64 = 64 << 20;

/// Looks at every file, and shares them out among archives.
pub(super) fn scan(data: &Path, workers: usize, most: u64) -> Result<Scanned, ArchiveError> {
    let mut members = Vec::new();
    let inside = inside(data);
    walk(data, Path::new(""), &inside, &mut members)?;
    let tablespaces = tablespaces(data, &mut members)?;
    let bytes: u64 = members.iter().map(Member::size).sum();
    // So many that workers end at about the same time.
    let share = bytes / u64::try_from(workers.max(1) * 4).unwrap_or(1);
    let parts = share_out(members, share.max(LEAST).min(most));
    Ok(Scanned {
        parts,
        bytes,
        tablespaces,
    })
}

/// Directories of tablespaces that lie in the data directory: they are copied as tablespaces.
fn inside(data: &Path) -> Vec<PathBuf> {
    let links = fs::read_dir(data.join("pg_tblspc"))
        .into_iter()
        .flatten()
        .flatten();
    links
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|place| place.starts_with(data))
        .collect()
}

fn walk(
    data: &Path,
    relative: &Path,
    except: &[PathBuf],
    members: &mut Vec<Member>,
) -> Result<(), ArchiveError> {
    let path = data.join(relative);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        // A table's directory may have been dropped since it was listed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !relative.as_os_str().is_empty() => {
            return Ok(());
        }
        Err(error) => return Err(ArchiveError::local(&path, error)),
    };
    members.push(Member::Directory(relative.to_owned()));
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| ArchiveError::local(&path, error))?;
        names.push(relative.join(entry.file_name()));
    }
    names.sort();
    for name in names {
        let how = how_copied(&name);
        if how == Copied::Not || how == Copied::Last {
            continue;
        }
        let path = data.join(&name);
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ArchiveError::local(&path, error)),
        };
        // The directory of WAL is often a link to another disk.
        if how == Copied::Empty {
            members.push(Member::Directory(name));
        } else if meta.is_dir() {
            if !except.contains(&path) {
                walk(data, &name, except, members)?;
            }
        } else if meta.is_file() {
            members.push(Member::File {
                path: name,
                size: meta.len(),
            });
        } else if meta.is_symlink() && name.parent() != Some(Path::new("pg_tblspc")) {
            linked(&path, name, members);
        }
    }
    Ok(())
}

/// A configuration file is often a link: its content is copied. Anything else that is none of PostgreSQL's is left out.
fn linked(path: &Path, name: PathBuf, members: &mut Vec<Member>) {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => members.push(Member::File {
            path: name,
            size: meta.len(),
        }),
        Ok(_) => tracing::warn!(
            "{} is a link to a directory: it is not in the backup",
            path.display()
        ),
        Err(error) => tracing::warn!(
            "{} leads nowhere ({error}): it is not in the backup",
            path.display()
        ),
    }
}

fn tablespaces(data: &Path, members: &mut Vec<Member>) -> Result<Option<TablespaceSpec>, ArchiveError> {
    let folder = data.join("pg_tblspc");
    let mut spec = TablespaceSpec {
        base_prefix: data.display().to_string(),
        ..TablespaceSpec::default()
    };
    let entries = fs::read_dir(&folder).map_err(|error| ArchiveError::local(&folder, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| ArchiveError::local(&folder, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let place = match fs::read_link(entry.path()) {
            Ok(place) => place,
            // A tablespace inside the data directory.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => continue,
            Err(error) => return Err(ArchiveError::local(&entry.path(), error)),
        };
        if !entry.path().is_dir() {
            return Err(ArchiveError::Refused(format!(
                "the tablespace {} leads to {}, which is not there",
                entry.path().display(),
                place.display()
            )));
        }
        let link = format!("pg_tblspc/{name}");
        walk(data, Path::new(&link), &[], members)?;
        spec.tablespaces.push(name.clone());
        spec.places.insert(
            name,
            TablespacePlace {
                loc: place.display().to_string(),
                link,
            },
        );
    }
    Ok((!spec.tablespaces.is_empty()).then_some(spec))
}

fn share_out(members: Vec<Member>, most: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut of, mut bytes) = (Vec::new(), 0);
    for member in members {
        let size = member.size();
        if bytes > 0 && bytes + size > most {
            parts.push(Part::files(std::mem::take(&mut of)));
            bytes = 0;
        }
        bytes += size;
        of.push(member);
    }
    if !of.is_empty() {
        parts.push(Part::files(of));
    }
    parts
}
