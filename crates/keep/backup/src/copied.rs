use std::path::{Component, Path};

/// What a base backup does with something in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It is copied, and what is in it is looked at.
    Whole,
    /// The directory is copied, without what is in it.
    Empty,
    /// It is left out.
    Not,
    /// `backup_label` and `tablespace_map` of a backup come from the server, and `pg_control` is copied last.
    Last,
}

/// Directories whose contents belong to the running server or are made again at its start.
const EMPTY: &[&str] = &[
    "pg_wal",
    "pg_xlog",
    "log",
    "pg_log",
    "pg_replslot",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
];

/// Files at the top of the directory that would make a restored server something else than restored.
const NOT: &[&str] = &[
    "postmaster.pid",
    "postmaster.opts",
    "recovery.conf",
    "recovery.signal",
    "standby.signal",
    "postgresql.auto.conf.tmp",
    "current_logfiles.tmp",
    "backup_manifest",
    "backup_label",
    "tablespace_map",
    "backup_label.old",
    "tablespace_map.old",
];

/// How a path below the data directory is copied (PostgreSQL's documentation of low-level base backups, and WAL-G's list).
#[must_use]
pub fn how_copied(path: &Path) -> Copied {
    let mut parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    let Some(first) = parts.next() else {
        return Copied::Whole;
    };
    let last = path
        .file_name()
        .map(std::ffi::OsStr::to_string_lossy)
        .unwrap_or_default();
    if last.starts_with("pgsql_tmp") || last == "pg_internal.init" || last.starts_with("pg_internal.init.") {
        return Copied::Not;
    }
    let second = parts.next();
    match &second {
        None if EMPTY.contains(&&*first) => Copied::Empty,
        None if NOT.contains(&&*first) => Copied::Not,
        Some(_) if EMPTY.contains(&&*first) => Copied::Not,
        Some(name) if first == "global" && name == "pg_control" => Copied::Last,
        _ => Copied::Whole,
    }
}

/// Whether a file has pages of a relation: its segment's number and nothing else may follow the name.
///
/// The free space map and the visibility map have pages with checksums too; WAL-G counts only main forks, and a delta
/// refers to these.
#[must_use]
pub fn is_relation(path: &Path) -> Option<u32> {
    let mut parts = path.components();
    let first = parts.next()?.as_os_str();
    if first != "base" && first != "pg_tblspc" && first != "global" {
        return None;
    }
    let name = path.file_name()?.to_str()?;
    let (node, segment) = name.split_once('.').unwrap_or((name, "0"));
    let node = node
        .strip_suffix("_fsm")
        .or_else(|| node.strip_suffix("_vm"))
        .or_else(|| node.strip_suffix("_init"))
        .unwrap_or(node);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(node) && digits(segment))
        .then(|| segment.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied() {
        for (path, how) in [
            ("", Copied::Whole),
            ("base/1/112", Copied::Whole),
            ("pg_wal", Copied::Empty),
            ("pg_wal/archive_status", Copied::Not),
            ("pg_wal/000000010000000000000001", Copied::Not),
            ("postmaster.pid", Copied::Not),
            ("standby.signal", Copied::Not),
            ("base/pgsql_tmp/pgsql_tmp12.0", Copied::Not),
            ("base/pgsql_tmp", Copied::Not),
            ("global/pg_control", Copied::Last),
            ("global/pg_filenode.map", Copied::Whole),
            ("global/pg_internal.init", Copied::Not),
            ("postgresql.conf", Copied::Whole),
            ("patroni.dynamic.json", Copied::Whole),
            ("pg_stat/pgstat.stat", Copied::Whole),
            ("base/5/pg_wal", Copied::Whole),
        ] {
            assert_eq!(how_copied(Path::new(path)), how, "{path}");
        }
    }

    #[test]
    fn pages_of_relations() {
        let is = |path: &str| is_relation(Path::new(path));
        assert_eq!(is("base/1/112"), Some(0));
        assert_eq!(is("base/1/112.3"), Some(3));
        assert_eq!(is("base/1/112_fsm"), Some(0));
        assert_eq!(is("pg_tblspc/16422/PG_15_202209061/5/16423_vm"), Some(0));
        assert_eq!(is("global/1262"), Some(0));
        for other in [
            "base/1/PG_VERSION",
            "global/pg_control",
            "pg_xact/0000",
            "base/1/t3_16384",
            "base/1/112.",
        ] {
            assert_eq!(is(other), None, "{other}");
        }
    }
}
