use std::collections::BTreeMap;

use howdah_config::Dynamic;
use howdah_pgconf::{GucKind, managed_values, same_value};
use howdah_types::BootTime;
use serde_json::{Map, Value, json};

use crate::{PgError, Session};

/// What PostgreSQL could not take of its own files: it goes on with what it had, and would not start.
///
/// # Errors
/// The server does not answer.
pub async fn file_errors(session: &Session, deadline: BootTime) -> Result<Vec<String>, PgError> {
    // The same column shows that a setting waits for a restart; of one that was removed, without a file.
    let sql = "SELECT format('%s line %s: %s', sourcefile, sourceline, error) FROM pg_file_settings \
                WHERE error IS NOT NULL AND error <> 'setting could not be applied' AND sourcefile IS NOT NULL \
                UNION ALL \
                SELECT format('pg_hba.conf line %s: %s', line_number, error) FROM pg_hba_file_rules \
                WHERE error IS NOT NULL";
    let rows = session.rows(sql, deadline).await?;
    Ok(rows
        .iter()
        .filter_map(|row| row.get(0))
        .map(|error| format!("PostgreSQL cannot read its files: {error}"))
        .collect())
}

/// Parameters that take effect only after a restart, with their old and new values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingRestart(pub BTreeMap<String, (String, String)>);

impl PendingRestart {
    /// Asks the server: what PostgreSQL itself marks as pending, and what the command line would say differently.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn find(session: &Session, dynamic: &Dynamic, deadline: BootTime) -> Result<Self, PgError> {
        let rows = session
            .rows(
                "SELECT s.name, s.setting, COALESCE(s.unit, ''), s.vartype, s.pending_restart, f.setting \
                 FROM pg_settings s LEFT JOIN LATERAL (SELECT setting FROM pg_file_settings f \
                   WHERE f.name = s.name ORDER BY seqno DESC LIMIT 1) f ON s.pending_restart \
                 WHERE s.context = 'postmaster'",
                deadline,
            )
            .await?;
        let wanted: BTreeMap<&str, String> = managed_values(&dynamic.parameters)
            .0
            .into_iter()
            .filter(|(guc, _)| guc.on_command_line)
            .map(|(guc, value)| (guc.name, value))
            .collect();
        let mut found = BTreeMap::new();
        for row in &rows {
            let column = |i: usize| row.get(i).unwrap_or_default();
            let (name, old, unit) = (column(0), column(1), column(2));
            let kind = GucKind::from_vartype(column(3));
            let new = match wanted.get(name) {
                Some(wanted) => (!same_value(kind, unit, old, wanted)).then(|| wanted.clone()),
                None => (column(4) == "t").then(|| column(5).to_owned()),
            };
            if let Some(new) = new {
                found.insert(name.to_owned(), (old.to_owned(), new));
            }
        }
        Ok(PendingRestart(found))
    }

    /// As Patroni publishes it: `{name: {old_value, new_value}}`.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        self.0
            .iter()
            .map(|(name, (old, new))| (name.clone(), json!({"old_value": old, "new_value": new})))
            .collect()
    }
}
