use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

use crate::cli::Format;

/// One column: its title for machines, for people, and whether it is aligned to the right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column<'a> {
    pub(crate) key: &'a str,
    pub(crate) title: &'a str,
    pub(crate) right: bool,
}

pub(crate) const fn column(title: &str, right: bool) -> Column<'_> {
    Column {
        key: title,
        title,
        right,
    }
}

/// Prints rows. `header` is put into the top border of the pretty form. Empty values are left out of JSON and YAML.
pub(crate) fn render(columns: &[Column<'_>], rows: &[Vec<Value>], format: Format, header: &str) -> String {
    match format {
        Format::Pretty => pretty(columns, rows, header),
        Format::Tsv => tsv(columns, rows),
        Format::Json => python_json(&Value::Array(objects(columns, rows))) + "\n",
        Format::Yaml => yaml(&objects(columns, rows)),
    }
}

fn objects(columns: &[Column<'_>], rows: &[Vec<Value>]) -> Vec<Value> {
    rows.iter()
        .map(|row| {
            let pairs = columns.iter().zip(row).filter(|(_, value)| !is_empty(value));
            Value::Object(
                pairs
                    .map(|(column, value)| (column.key.to_owned(), value.clone()))
                    .collect(),
            )
        })
        .collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// A value as a cell.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn tsv(columns: &[Column<'_>], rows: &[Vec<Value>]) -> String {
    let mut text = columns.iter().map(|c| c.key).collect::<Vec<_>>().join("\t") + "\n";
    for row in rows {
        text += &(row.iter().map(cell).collect::<Vec<_>>().join("\t") + "\n");
    }
    text
}

/// JSON with the blanks that Python's serialiser puts in, since scripts compare texts.
pub(crate) fn python_json(value: &Value) -> String {
    match value {
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(python_json).collect::<Vec<_>>().join(", ")
        ),
        Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(k, v)| format!("{}: {}", Value::from(k.as_str()), python_json(v)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

pub(crate) fn yaml(objects: &[Value]) -> String {
    let mut text = String::new();
    for object in objects {
        for (i, line) in to_yaml(object).lines().enumerate() {
            text += if i == 0 { "- " } else { "  " };
            text += line;
            text.push('\n');
        }
    }
    text + "\n"
}

/// Block-style YAML with sorted keys, lists at the level of their key: the form that patronictl prints and edits.
pub(crate) fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    write_yaml(value, 0, &mut text);
    text
}

fn write_yaml(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            for key in keys {
                let Some(inner) = map.get(key) else { continue };
                *out += &format!("{pad}{}:", scalar(&Value::from(key.as_str())));
                write_nested(inner, indent + 2, indent, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                write_yaml(item, indent + 2, &mut inner);
                *out += &format!("{pad}- {}", inner.trim_start());
            }
        }
        other => *out += &format!("{pad}{}\n", scalar(other)),
    }
}

fn write_nested(value: &Value, map_indent: usize, list_indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            write_yaml(value, map_indent, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            write_yaml(value, list_indent, out);
        }
        other => *out += &format!(" {}\n", scalar(other)),
    }
}

/// A scalar, quoted where YAML would read it as something else. The library knows all those cases.
fn scalar(value: &Value) -> String {
    match value {
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
        // Booleans of YAML 1.1 by its text; Python's reader and writer take them for texts.
        Value::String(text) if matches!(text.as_str(), "y" | "Y" | "n" | "N") => text.clone(),
        Value::String(text) if text.contains('\n') => Value::from(text.as_str()).to_string(),
        other => {
            let text = serde_saphyr::to_string(other).unwrap_or_else(|_| other.to_string());
            let text = text.trim_end();
            match text.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
                Some(inner) if !inner.contains(['\\', '\'', '"']) => format!("'{inner}'"),
                _ => text.to_owned(),
            }
        }
    }
}

fn pretty(columns: &[Column<'_>], rows: &[Vec<Value>], header: &str) -> String {
    let cells: Vec<Vec<Vec<String>>> = rows
        .iter()
        .map(|row| {
            row.iter()
                .map(|value| cell(value).split('\n').map(str::to_owned).collect())
                .collect()
        })
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(i, column)| {
            let widest = cells
                .iter()
                .filter_map(|row| row.get(i))
                .flatten()
                .map(|line| line.width())
                .max();
            widest.unwrap_or(0).max(column.title.width())
        })
        .collect();
    let rule: String = widths
        .iter()
        .map(|width| format!("+{}", "-".repeat(width + 2)))
        .collect::<String>()
        + "+\n";
    let line = |texts: Vec<&str>| -> String {
        let parts = texts
            .iter()
            .zip(columns)
            .zip(&widths)
            .map(|((text, column), width)| {
                let blanks = " ".repeat(width.saturating_sub(text.width()));
                if column.right {
                    format!("| {blanks}{text} ")
                } else {
                    format!("| {text}{blanks} ")
                }
            });
        parts.collect::<String>() + "|\n"
    };
    let multi = cells.iter().flatten().any(|lines| lines.len() > 1);
    let mut out = titled(&rule, header);
    out += &line(columns.iter().map(|column| column.title).collect());
    out += &rule;
    for (n, row) in cells.iter().enumerate() {
        if multi && n > 0 {
            out += &rule;
        }
        let height = row.iter().map(Vec::len).max().unwrap_or(1);
        for i in 0..height {
            out += &line(
                row.iter()
                    .map(|lines| lines.get(i).map_or("", String::as_str))
                    .collect(),
            );
        }
    }
    out + &rule
}

fn titled(rule: &str, header: &str) -> String {
    let shown: String = header.chars().take(rule.len().saturating_sub(3)).collect();
    match rule.get(1 + shown.width()..) {
        Some(rest) => format!("+{shown}{rest}"),
        None => rule.to_owned(),
    }
}

/// A YAML text as a mapping.
pub(crate) fn mapping(text: &str) -> anyhow::Result<Map<String, Value>> {
    match serde_saphyr::from_str::<Option<Value>>(text)? {
        Some(Value::Object(map)) => Ok(map),
        None => Ok(Map::new()),
        Some(_) => anyhow::bail!("the configuration must be a mapping of keys to values"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COLUMNS: &[Column<'_>] = &[column("Member", false), column("TL", true)];

    #[test]
    fn the_title_sits_in_the_border() {
        let rows = vec![
            vec![json!("postgresql0"), json!(12)],
            vec![json!("b"), Value::Null],
        ];
        let text = render(COLUMNS, &rows, Format::Pretty, " Cluster: x (1) ");
        let wanted = "\
+ Cluster: x (1) --+
| Member      | TL |
+-------------+----+
| postgresql0 | 12 |
| b           |    |
+-------------+----+
";
        assert_eq!(text, wanted);
        assert_eq!(
            render(COLUMNS, &rows, Format::Tsv, ""),
            "Member\tTL\npostgresql0\t12\nb\t\n"
        );
        assert_eq!(
            render(COLUMNS, &rows, Format::Json, ""),
            "[{\"Member\": \"postgresql0\", \"TL\": 12}, {\"Member\": \"b\"}]\n"
        );
    }

    #[test]
    fn yaml_is_in_pythons_block_style() {
        let value =
            json!({"ttl": 30, "b": {"list": ["host all all 0.0.0.0/0 md5", "x"], "on": "on"}, "e": {}});
        let wanted = "b:\n  list:\n  - host all all 0.0.0.0/0 md5\n  - x\n  'on': 'on'\ne: {}\nttl: 30\n";
        assert_eq!(to_yaml(&value), wanted);
        assert_eq!(Value::Object(mapping(&to_yaml(&value)).unwrap()), value);
    }
}
