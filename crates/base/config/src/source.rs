use serde_json::{Map, Value};

use crate::{ConfigError, patch};

/// One configuration file as it was read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, for errors.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// Patroni's files are YAML 1.1 in practice: the last of two equal keys wins and 0755 is octal.
pub(crate) fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
    }
}

/// Reads YAML files into one mapping; later files win, and a null deletes (Patroni's directory of files).
///
/// # Errors
/// A file that is not YAML, or whose top is not a mapping.
pub fn load(sources: &[Source]) -> Result<Map<String, Value>, ConfigError> {
    let mut merged = Map::new();
    for source in sources {
        let syntax = |message: String| ConfigError::Syntax {
            file: source.file.clone(),
            message,
        };
        let value: Option<Value> = serde_saphyr::from_str_with_options(&source.text, options())
            // Without the lines around it, which may have a password in them.
            .map_err(|error| syntax(error.without_snippet().to_string()))?;
        match value {
            Some(Value::Object(map)) => {
                patch(&mut merged, &map);
            }
            None | Some(Value::Null) => {}
            Some(_) => return Err(syntax("the top level must be a mapping of keys to values".into())),
        }
    }
    Ok(merged)
}

/// Keys that stand twice in one mapping of a file, with their places. The last one counts, as for Patroni; a reader may see only the
/// first.
#[must_use]
pub fn duplicates(sources: &[Source]) -> Vec<String> {
    let twice = |source: &Source| {
        let options = serde_saphyr::options! {
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
            legacy_octal_numbers: true,
        };
        let read: Result<Option<Value>, _> = serde_saphyr::from_str_with_options(&source.text, options);
        let error = read.err()?.to_string();
        // What follows the comma names the parser's option.
        let first = error.lines().next().unwrap_or_default();
        let first = first.trim_start_matches("error: ").split(", set ").next()?;
        Some(format!("{}: {first}: the last one counts", source.file))
    };
    sources.iter().filter_map(twice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            file: "a.yml".into(),
            text: text.into(),
        }
    }

    #[test]
    fn later_files_win_and_errors_have_a_place() {
        let merged = load(&[
            source("ttl: 30\nname: a\nmode: 0755\n"),
            source("ttl: 20\nname: null\n"),
        ])
        .unwrap();
        assert_eq!(Value::Object(merged), serde_json::json!({"ttl": 20, "mode": 493}));
        let error = load(&[source("a: [1\nb: 2\n")]).unwrap_err().to_string();
        assert!(error.starts_with("a.yml: ") && error.contains("line"), "{error}");
        let twice = [source("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n"), source("a: 1\n")];
        let found = duplicates(&twice);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains('c') && found[0].contains('5'), "{found:?}");
        assert!(load(&[source("- a\n")]).is_err());
        assert!(load(&[source("")]).unwrap().is_empty());
    }
}
