//! Parameters of type string that PostgreSQL reads as a list.

/// Lists of identifiers: separated by commas, each a word or in double quotes (`SplitIdentifierString`).
const IDENTIFIERS: &[&str] = &[
    "search_path",
    "temp_tablespaces",
    "log_destination",
    "wal_consistency_checking",
    "restrict_nonsystem_relation_kind",
    "createrole_self_grant",
    "debug_io_direct",
    "synchronized_standby_slots",
    "DateStyle",
];

/// What is wrong with the value of a string parameter, as far as its form says.
pub(crate) fn error(name: &str, value: &str, major: u32) -> Option<String> {
    if value.contains('\0') {
        return Some("holds a NUL character".into());
    }
    if name == "log_directory" && value.trim().is_empty() {
        return Some("is empty: PostgreSQL would write its log into the root directory".into());
    }
    if !IDENTIFIERS.contains(&name) {
        return None;
    }
    let Some(items) = identifiers(value) else {
        return Some(format!(
            "'{value}' is not a list of names: separate them by a comma, and put names with other characters in double quotes"
        ));
    };
    let words: &[&str] = match name {
        "log_destination" if major < 15 => &["stderr", "csvlog", "syslog"],
        "log_destination" => &["stderr", "csvlog", "jsonlog", "syslog"],
        _ => return None,
    };
    let other = items
        .iter()
        .find(|item| !words.iter().any(|word| word.eq_ignore_ascii_case(item)))?;
    Some(format!("'{other}' is not one of {}", words.join(", ")))
}

/// The items of a list; `None` when it is not one.
fn identifiers(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim_start();
    let mut items = Vec::new();
    if rest.is_empty() {
        return Some(items);
    }
    loop {
        let (item, after) = match rest.strip_prefix('"') {
            // An empty name in quotes is one: '""' is how PostgreSQL itself writes an empty search_path.
            Some(quoted) => in_quotes(quoted)?,
            None => {
                let end = rest
                    .find(|c: char| c == ',' || c.is_ascii_whitespace())
                    .unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                if word.is_empty() {
                    return None;
                }
                (word.to_owned(), after)
            }
        };
        items.push(item);
        let after = after.trim_start();
        if after.is_empty() {
            return Some(items);
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

/// A name up to its closing quote, and what follows. Two quotes stand for one.
fn in_quotes(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_postgresql_reads_them() {
        for good in ["", "a", " a , b ", "\"a b\", c", "\"a\"\"b\"", "\"\"", "$user"] {
            assert_eq!(error("search_path", good, 15), None, "{good}");
        }
        for bad in ["a b", "a,", ",a", "\"a", "\"a\" b"] {
            assert!(error("search_path", bad, 15).is_some(), "{bad}");
        }
        assert!(
            error("log_destination", "stderr, file", 15)
                .unwrap()
                .contains("'file'")
        );
        assert_eq!(error("archive_command", "a b", 15), None);
        assert!(error("log_directory", "", 15).is_some());
    }
}
