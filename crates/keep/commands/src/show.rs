//! What is printed of backups.

use howdah_backup::{Backup, Catalogue, Window};
use serde_json::{Value, json};

use crate::output::{bytes, second, table};

/// Whether a backup can be restored, in a word.
pub(crate) fn state(backup: &Backup, window: Option<&Window>, catalogue: &Catalogue) -> String {
    if let Some(trouble) = &backup.trouble {
        return format!("unreadable: {trouble}");
    }
    if !backup.is_complete() {
        return match backup.running_until {
            Some(until) if until > jiff::Timestamp::now() => "being made".to_owned(),
            _ => "never finished".to_owned(),
        };
    }
    if backup.damage.is_some() {
        return "damaged".to_owned();
    }
    match window {
        Some(window) if !window.is_consistent => "its WAL is missing".to_owned(),
        _ if catalogue.usable(backup).is_err() => "not usable".to_owned(),
        _ if backup.proof.as_ref().is_some_and(|proof| proof.trouble.is_some()) => "drill failed".to_owned(),
        _ if backup.verified.is_some() => "verified".to_owned(),
        _ => "complete".to_owned(),
    }
}

/// Why a backup cannot be restored; `None` for one that can, or is being made.
fn reason(backup: &Backup, catalogue: &Catalogue) -> Option<String> {
    if let Some(trouble) = backup.proof.as_ref().and_then(|proof| proof.trouble.as_ref()) {
        return Some(format!(
            "{}: the last drill has failed: {trouble}.\n",
            backup.name
        ));
    }
    match catalogue.usable(backup) {
        Err(reason) if backup.is_complete() => Some(format!("{}: {reason}.\n", backup.name)),
        Err(_) | Ok(()) => None,
    }
}

/// One row for each backup.
pub(crate) fn list(catalogue: &Catalogue) -> String {
    let mut rows = vec![
        [
            "Backup",
            "Finished",
            "TL",
            "Files",
            "Stored",
            "State",
            "Restorable to",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for backup in &catalogue.backups {
        let window = backup.is_complete().then(|| catalogue.window(backup));
        let files = backup
            .sentinel
            .as_ref()
            .map_or(0, |sentinel| sentinel.uncompressed_size);
        let reach = match window.as_ref().filter(|_| catalogue.usable(backup).is_ok()) {
            Some(window) => match (window.last, window.gap) {
                (Some(last), Some(gap)) => format!("{last}, then {gap} is missing"),
                (Some(last), None) => format!("the end ({last})"),
                (None, _) => "-".to_owned(),
            },
            None => "-".to_owned(),
        };
        rows.push(vec![
            backup.name.clone(),
            second(backup.finished()),
            backup.timeline().to_string(),
            bytes(files),
            bytes(backup.stored),
            state(backup, window.as_ref(), catalogue),
            reach,
        ]);
    }
    let reasons: String = catalogue
        .backups
        .iter()
        .filter_map(|backup| reason(backup, catalogue))
        .collect();
    table(&rows) + &reasons
}

/// A backup for programs: WAL-G's keys of `backup-list --detail --json` and ours.
pub(crate) fn document(backup: &Backup, catalogue: &Catalogue) -> Value {
    let window = backup.is_complete().then(|| catalogue.window(backup));
    let sentinel = backup.sentinel.clone().unwrap_or_default();
    json!({
        "backup_name": backup.name,
        "time": second(backup.modified),
        "wal_file_name": backup.parsed.segment.to_string(),
        "storage_name": "default",
        "start_time": sentinel.start_time,
        "finish_time": backup.finished(),
        "date_fmt": sentinel.date_format,
        "hostname": sentinel.hostname,
        "data_dir": sentinel.data_dir,
        "pg_version": sentinel.version,
        "start_lsn": backup.start(catalogue.size),
        "finish_lsn": backup.finish(),
        "is_permanent": sentinel.is_permanent,
        "system_identifier": sentinel.system_identifier,
        "uncompressed_size": sentinel.uncompressed_size,
        "compressed_size": sentinel.compressed_size,
        "timeline": backup.timeline(),
        "base": sentinel.delta_from,
        "stored": backup.stored,
        "state": state(backup, window.as_ref(), catalogue),
        "not_usable": catalogue.usable(backup).err(),
        "verified": backup.verified,
        "drill": backup.proof,
        "pages": backup.receipt.as_ref().map(|receipt| json!(receipt.pages)),
        "last_segment": window.as_ref().and_then(|window| window.last).map(|last| last.to_string()),
        "missing_segment": window.as_ref().and_then(|window| window.gap).map(|gap| gap.to_string()),
    })
}

/// One backup, line by line.
pub(crate) fn one(backup: &Backup, catalogue: &Catalogue) -> String {
    let window = backup.is_complete().then(|| catalogue.window(backup));
    let sentinel = backup.sentinel.clone().unwrap_or_default();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("Backup", backup.name.clone());
    row("State", state(backup, window.as_ref(), catalogue));
    if let (true, Err(reason)) = (backup.is_complete(), catalogue.usable(backup)) {
        row("Not usable", reason);
    }
    if let Some(base) = &sentinel.delta_from {
        row("Builds on", base.clone());
    }
    if let Some(major) = sentinel.major() {
        row("PostgreSQL", major.to_string());
    }
    if let Some(system) = sentinel.system_identifier {
        row("System identifier", system.to_string());
    }
    row("Timeline", backup.timeline().to_string());
    row("Begins at", backup.start(catalogue.size).to_string());
    if let Some(finish) = backup.finish() {
        row("Consistent at", finish.to_string());
    }
    if let Some(started) = backup.started() {
        row("Started", second(started));
    }
    row("Finished", second(backup.finished()));
    if let Some(host) = &sentinel.hostname {
        row(
            "Made on",
            format!("{host}, {}", sentinel.data_dir.as_deref().unwrap_or_default()),
        );
    }
    row("Files", bytes(sentinel.uncompressed_size));
    row(
        "Stored",
        format!("{} in {} objects", bytes(backup.stored), backup.objects.len()),
    );
    for (name, place) in sentinel.spec.iter().flat_map(|spec| &spec.places) {
        row("Tablespace", format!("{name} in {}", place.loc));
    }
    row(
        "Permanent",
        if sentinel.is_permanent { "yes" } else { "no" }.to_owned(),
    );
    match &backup.receipt {
        Some(receipt) => {
            row("Made by", receipt.program.clone());
            row(
                "Pages checked",
                match receipt.pages.checked {
                    0 => "none: the cluster has no data checksums".to_owned(),
                    checked => format!("{checked}, {} damaged", receipt.pages.damaged.len()),
                },
            );
            for page in &receipt.pages.damaged {
                row("Damaged", page.clone());
            }
            if let Some(key) = &receipt.key {
                row("Key", key.clone());
            }
        }
        None => row(
            "Made by",
            "another program: there are no digests to compare with".to_owned(),
        ),
    }
    row(
        "Verified",
        backup
            .verified
            .map_or_else(|| "never, or not sound".to_owned(), second),
    );
    row(
        "Drill",
        match &backup.proof {
            None => "never".to_owned(),
            Some(proof) => match &proof.trouble {
                None => format!("proved {}", second(proof.at)),
                Some(reason) => format!("NOT proved {}: {reason}", second(proof.at)),
            },
        },
    );
    if let Some(window) = window {
        match (window.last, window.gap) {
            (Some(last), Some(gap)) => row(
                "Restorable to",
                format!("{last}; {gap} is missing, and later ones are there"),
            ),
            (Some(last), None) => row("Restorable to", format!("{last}, the end of the archive")),
            (None, _) => row("Restorable to", "nothing: its WAL is not there".to_owned()),
        }
    }
    table(&rows)
}
