//! Tables and documents.

use serde::Serialize;
use serde_json::Value;

use crate::colour;

/// Columns as wide as they need to be, two spaces apart.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    aligned(rows, colour::are_shown())
}

fn aligned(rows: &[Vec<String>], colours: bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| match (colours, number) {
                (false, _) => format!("{cell:<width$}"),
                (true, 0) => colour::head(cell, *width),
                (true, _) => colour::painted(cell, *width),
            })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// A table whose last column is wrapped between words where the standard output is a terminal.
pub(crate) fn wrapped_table(rows: &[Vec<String>]) -> String {
    let terminal = std::io::stdout();
    if !std::io::IsTerminal::is_terminal(&terminal) {
        return table(rows);
    }
    let width = rustix::termios::tcgetwinsize(&terminal).map_or(80, |size| usize::from(size.ws_col));
    table(&wrapped(rows, width))
}

/// Rows whose last cells leave a table of this width; what does not fit is in rows below.
fn wrapped(rows: &[Vec<String>], width: usize) -> Vec<Vec<String>> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let before: usize = (0..columns.saturating_sub(1))
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + 2
        })
        .sum();
    let room = width.saturating_sub(before).max(20);
    let mut out = Vec::new();
    for row in rows {
        let Some((last, first)) = row.split_last().filter(|_| row.len() == columns) else {
            out.push(row.clone());
            continue;
        };
        let mut lines = vec![String::new()];
        for word in last.split(' ') {
            if let Some(line) = lines.last_mut() {
                if line.is_empty() {
                    line.push_str(word);
                    continue;
                }
                if line.chars().count() + 1 + word.chars().count() <= room {
                    line.push(' ');
                    line.push_str(word);
                    continue;
                }
            }
            lines.push(word.to_owned());
        }
        for (number, line) in lines.into_iter().enumerate() {
            let mut cells = if number == 0 {
                first.to_vec()
            } else {
                vec![String::new(); first.len()]
            };
            cells.push(line);
            out.push(cells);
        }
    }
    out
}

/// A text of several lines in one, for a cell of a table.
pub(crate) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}

/// Bytes as people read them.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", count / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", count / 1_000_000),
        _ => format!("{} GB", count / 1_000_000_000),
    }
}

/// An object without the record of who owns which field, as kubectl shows it.
pub(crate) fn without_managers(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

/// A value as JSON or YAML.
pub(crate) fn document(value: &impl Serialize, format: &str) -> anyhow::Result<String> {
    Ok(match format {
        "yaml" => serde_saphyr::to_string(value)?,
        _ => format!("{}\n", serde_json::to_string_pretty(value)?),
    })
}

/// How long ago a time was.
pub(crate) fn age(time: Option<&str>) -> String {
    let Some(then) = time.and_then(|time| time.parse::<jiff::Timestamp>().ok()) else {
        return "-".to_owned();
    };
    let seconds = (jiff::Timestamp::now().as_second() - then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Text of a value, or a dash.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_is_wrapped_between_words() {
        let rows = [["A", "a long text of words here"], ["BB", "short"]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        assert_eq!(
            aligned(&wrapped(&rows, 24), false),
            "A   a long text of words\n    here\nBB  short\n"
        );
    }
}
