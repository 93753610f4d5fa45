use howdah_types::{Lsn, Timeline};
use serde::Serialize;
use serde_json::Value;

/// One row of `history`: `[timeline, lsn, reason, timestamp?, new_leader?]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// The timeline that ended.
    pub timeline: Timeline,
    /// Where.
    pub lsn: Lsn,
    /// PostgreSQL's text.
    pub reason: String,
    /// When its history file was written (RFC 3339).
    pub timestamp: Option<String>,
    /// Who led the next timeline.
    pub new_leader: Option<String>,
}

/// Parses the key; rows that are not of the form are passed over.
#[must_use]
pub fn history_from_json(text: &str) -> Option<Vec<HistoryEntry>> {
    let rows: Vec<Vec<Value>> = serde_json::from_str(text).ok()?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    Some(
        rows.iter()
            .filter_map(|row| {
                Some(HistoryEntry {
                    timeline: Timeline(u32::try_from(row.first()?.as_u64()?).ok()?),
                    lsn: Lsn(row.get(1)?.as_u64()?),
                    reason: text(row.get(2)).unwrap_or_default(),
                    timestamp: text(row.get(3)),
                    new_leader: text(row.get(4)),
                })
            })
            .collect(),
    )
}

/// The rows as Patroni writes them.
#[must_use]
pub fn history_to_json(rows: &[HistoryEntry]) -> Value {
    Value::Array(
        rows.iter()
            .map(|row| {
                let mut cells: Vec<Value> =
                    vec![row.timeline.0.into(), row.lsn.0.into(), row.reason.clone().into()];
                if let Some(timestamp) = &row.timestamp {
                    cells.push(timestamp.clone().into());
                    cells.extend(row.new_leader.clone().map(Value::from));
                }
                Value::Array(cells)
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip() {
        let text = r#"[[1,25623960,"no recovery target specified","2026-01-02T03:04:05+00:00","node2"],[2,25624999,"x"]]"#;
        let rows = history_from_json(text).unwrap();
        assert_eq!(history_to_json(&rows).to_string(), text);
    }
}
