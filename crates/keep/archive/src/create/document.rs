use howdah_backup::{Layout, Metadata, Receipt, Sentinel, TablespaceSpec};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    server::{Begun, Stopped},
    soon,
    upload::Told,
};
use crate::{ArchiveError, Store};

/// How WAL-G says that its times are written.
const DATE_FORMAT: &str = "%Y-%m-%dT%H:%M:%S.%fZ";

/// All that the documents of a backup say.
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) begun: Begun,
    pub(super) stopped: Stopped,
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
    pub(super) tablespaces: Option<TablespaceSpec>,
    pub(super) data: String,
    pub(super) permanent: bool,
    pub(super) user_data: Option<Value>,
    pub(super) key: Option<String>,
    pub(super) told: Told,
}

/// Writes the documents, the sentinel last.
pub(super) async fn write(store: &Store, facts: &Facts) -> Result<(), ArchiveError> {
    put(store, &Layout::metadata(&facts.name), &facts.metadata()).await?;
    put(store, &Layout::receipt(&facts.name), &facts.receipt()).await?;
    put(store, &Layout::sentinel(&facts.name), &facts.sentinel()).await
}

async fn put(store: &Store, name: &str, document: &impl Serialize) -> Result<(), ArchiveError> {
    let bytes = serde_json::to_vec(document).map_err(|error| ArchiveError::Refused(error.to_string()))?;
    match store.create(name, bytes.clone().into(), &[], soon()).await {
        Ok(()) => Ok(()),
        // The answer to the first try of this request may have been lost.
        Err(ArchiveError::Exists(_)) if store.read(name, soon()).await?[..] == bytes[..] => Ok(()),
        Err(error) => Err(error),
    }
}

impl Facts {
    fn host(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    fn sentinel(&self) -> Sentinel {
        let mut others = Map::new();
        if let Some(data) = &self.user_data {
            others.insert("UserData".to_owned(), data.clone());
        }
        Sentinel {
            start: Some(self.begun.start),
            version: Some(self.begun.version),
            finish: Some(self.stopped.finish),
            system_identifier: Some(self.begun.system_id.0),
            uncompressed_size: self.told.files,
            compressed_size: self.told.stored(),
            data_catalog_size: self.told.files,
            spec: self.tablespaces.clone(),
            sentinel_version: Some(2),
            start_time: Some(self.started),
            finish_time: Some(self.finished),
            date_format: Some(DATE_FORMAT.to_owned()),
            hostname: Some(self.host()),
            data_dir: Some(self.data.clone()),
            is_permanent: self.permanent,
            // WAL-G restores without a list of files, and takes no delta on such a backup.
            files_metadata_disabled: true,
            others,
            ..Sentinel::default()
        }
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            start_time: Some(self.started),
            finish_time: Some(self.finished),
            date_fmt: DATE_FORMAT.to_owned(),
            hostname: self.host(),
            data_dir: self.data.clone(),
            pg_version: self.begun.version,
            start_lsn: self.begun.start,
            finish_lsn: self.stopped.finish,
            is_permanent: self.permanent,
            system_identifier: self.begun.system_id.0,
            uncompressed_size: self.told.files,
            compressed_size: self.told.stored(),
            user_data: self.user_data.clone().unwrap_or_default(),
            others: Map::new(),
        }
    }

    fn receipt(&self) -> Receipt {
        Receipt {
            format: Receipt::FORMAT,
            program: format!("howdah {}", env!("CARGO_PKG_VERSION")),
            timeline: self.begun.timeline,
            start: self.begun.start,
            finish: self.stopped.finish,
            started: self.started,
            finished: self.finished,
            from_replica: self.begun.is_replica,
            pages: self.told.pages.clone(),
            key: self.key.clone(),
            objects: self.told.objects.clone(),
        }
    }
}
