use std::collections::BTreeMap;

use howdah_types::Lsn;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// WAL-G's sentinel of version 2, and what it and WAL-E wrote before. Unknown keys are kept.
///
/// Positions and the system identifier are integers up to 2^64 in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sentinel {
    /// Where its WAL begins.
    #[serde(rename = "LSN", default)]
    pub start: Option<Lsn>,
    /// A delta's: where the WAL of the backup begins that it builds on.
    #[serde(
        rename = "DeltaLSN",
        alias = "DeltaFromLSN",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub delta_start: Option<Lsn>,
    /// A delta's: the backup that it builds on.
    #[serde(rename = "DeltaFrom", default, skip_serializing_if = "Option::is_none")]
    pub delta_from: Option<String>,
    /// A delta's: the full backup at the head of the chain.
    #[serde(rename = "DeltaFullName", default, skip_serializing_if = "Option::is_none")]
    pub delta_full: Option<String>,
    /// A delta's: its place in the chain.
    #[serde(rename = "DeltaCount", default, skip_serializing_if = "Option::is_none")]
    pub delta_count: Option<u32>,
    /// `server_version_num`.
    #[serde(rename = "PgVersion", default)]
    pub version: Option<u32>,
    /// Where a restore becomes consistent.
    #[serde(rename = "FinishLSN", default)]
    pub finish: Option<Lsn>,
    /// The cluster.
    #[serde(rename = "SystemIdentifier", default)]
    pub system_identifier: Option<u64>,
    /// Bytes of the files.
    #[serde(rename = "UncompressedSize", default)]
    pub uncompressed_size: u64,
    /// Bytes of the objects.
    #[serde(rename = "CompressedSize", default)]
    pub compressed_size: u64,
    /// Bytes of the data directory, for a delta those of the files that it only refers to as well.
    #[serde(rename = "DataCatalogSize", default)]
    pub data_catalog_size: u64,
    /// Tablespaces; `None` without any.
    #[serde(rename = "Spec", alias = "spec", default)]
    pub spec: Option<TablespaceSpec>,
    /// Nothing known writes it.
    #[serde(rename = "ChkpNum", default)]
    pub checkpoints: Option<Value>,
    /// 2 since WAL-G 1.1.
    #[serde(rename = "Version", default, skip_serializing_if = "Option::is_none")]
    pub sentinel_version: Option<u32>,
    /// When `pg_backup_start` returned.
    #[serde(rename = "StartTime", default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When `pg_backup_stop` returned.
    #[serde(rename = "FinishTime", default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Timestamp>,
    /// How times are written, in Go's manner.
    #[serde(rename = "DateFmt", default, skip_serializing_if = "Option::is_none")]
    pub date_format: Option<String>,
    /// Where it was made.
    #[serde(rename = "Hostname", default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Of which directory.
    #[serde(rename = "DataDir", default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
    /// Whether retention leaves it alone.
    #[serde(rename = "IsPermanent", default)]
    pub is_permanent: bool,
    /// That there is no `files_metadata.json`.
    #[serde(rename = "FilesMetadataDisabled", default, skip_serializing_if = "is_false")]
    pub files_metadata_disabled: bool,
    /// What is not known here.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Where tablespaces are: `{"base_prefix": PGDATA, "tablespaces": ["16422"], "16422": {"loc": …, "link": …}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceSpec {
    /// The data directory.
    #[serde(default)]
    pub base_prefix: String,
    /// Their names below `pg_tblspc`.
    #[serde(default)]
    pub tablespaces: Vec<String>,
    /// Each one's place.
    #[serde(flatten)]
    pub places: BTreeMap<String, TablespacePlace>,
}

/// One tablespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespacePlace {
    /// Its directory.
    pub loc: String,
    /// The symbolic link to it, relative to the data directory.
    pub link: String,
}

/// WAL-G's `metadata.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Timestamp>,
    /// How times are written.
    #[serde(default)]
    pub date_fmt: String,
    /// Where.
    #[serde(default)]
    pub hostname: String,
    /// Of which directory.
    #[serde(default)]
    pub data_dir: String,
    /// `server_version_num`.
    #[serde(default)]
    pub pg_version: u32,
    /// Where its WAL begins.
    #[serde(default)]
    pub start_lsn: Lsn,
    /// Where it is consistent.
    #[serde(default)]
    pub finish_lsn: Lsn,
    /// Whether retention leaves it alone.
    #[serde(default)]
    pub is_permanent: bool,
    /// The cluster.
    #[serde(default)]
    pub system_identifier: u64,
    /// Bytes of the files.
    #[serde(default)]
    pub uncompressed_size: u64,
    /// Bytes of the objects.
    #[serde(default)]
    pub compressed_size: u64,
    /// What a user attached.
    #[serde(default)]
    pub user_data: Value,
    /// What is not known here.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// WAL-G's `files_metadata.json`: what a delta leaves to the backup before, and which archive has which file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FilesMetadata {
    /// By path, which begins with a slash.
    #[serde(rename = "Files", default)]
    pub files: BTreeMap<String, FileEntry>,
    /// By archive.
    #[serde(rename = "TarFileSets", default)]
    pub tars: BTreeMap<String, Vec<String>>,
    /// What is not known here.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Whether the archive has only changed pages of it.
    #[serde(rename = "IsIncremented", default)]
    pub is_incremented: bool,
    /// Whether the backup before has it, unchanged.
    #[serde(rename = "IsSkipped", default)]
    pub is_skipped: bool,
    /// When it changed last.
    #[serde(rename = "MTime", default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
    /// What is not known here.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

impl Sentinel {
    /// The major version.
    #[must_use]
    pub fn major(&self) -> Option<u32> {
        self.version.map(|number| number / 10_000)
    }

    /// Whether restoring it begins with another backup.
    #[must_use]
    pub fn is_delta(&self) -> bool {
        self.delta_from.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_their_digits_and_unknown_keys_stay() {
        let text = r#"{"LSN":18446744073709551615,"PgVersion":150018,"FinishLSN":33554704,
            "SystemIdentifier":17710896281487229203,"UncompressedSize":1,"CompressedSize":2,"DataCatalogSize":3,
            "Spec":null,"ChkpNum":null,"Version":2,"StartTime":"2026-11-25T10:00:00.123456Z",
            "FinishTime":"2026-11-25T10:00:01Z","DateFmt":"%Y-%m-%dT%H:%M:%S.%fZ","Hostname":"a","DataDir":"/d",
            "IsPermanent":false,"UserData":{"a":1}}"#;
        let sentinel: Sentinel = serde_json::from_str(text).unwrap();
        assert_eq!(sentinel.start, Some(Lsn(u64::MAX)));
        assert_eq!(sentinel.system_identifier, Some(17_710_896_281_487_229_203));
        assert_eq!(sentinel.major(), Some(15));
        let again: Value = serde_json::to_value(&sentinel).unwrap();
        assert_eq!(again["UserData"]["a"], 1);
        assert_eq!(
            again["SystemIdentifier"].as_u64(),
            Some(17_710_896_281_487_229_203)
        );
    }

    #[test]
    fn tablespaces_and_older_spellings() {
        let text = r#"{"wal_segment_backup_stop":"000000010000000000000003","wal_segment_offset_backup_stop":"00000130",
            "expanded_size_bytes":42,"spec":{"base_prefix":"/d","tablespaces":["16422"],
            "16422":{"loc":"/t","link":"pg_tblspc/16422"}}}"#;
        let sentinel: Sentinel = serde_json::from_str(text).unwrap();
        let spec = sentinel.spec.unwrap();
        assert_eq!(spec.places["16422"].loc, "/t");
        assert_eq!(sentinel.others["expanded_size_bytes"], 42);
        assert_eq!(sentinel.start, None);
    }
}
