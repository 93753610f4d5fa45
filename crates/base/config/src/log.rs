//! How a log line looks: Python's `%`-formats, as Patroni's users write them.

use std::{fmt::Write, path::PathBuf};

use serde_json::{Map, Value};

use crate::{ConfigError, reader::Reader};

/// Patroni's.
const DEFAULT: &str = "%(asctime)s %(levelname)s: %(message)s";

/// What may stand in a format.
const FIELDS: [&str; 9] = [
    "asctime",
    "created",
    "levelname",
    "levelno",
    "message",
    "module",
    "msecs",
    "name",
    "process",
];

/// What else Python has: places in a Python program. They are shown as a dash.
const OF_PYTHON: [&str; 11] = [
    "filename",
    "funcName",
    "lineno",
    "pathname",
    "processName",
    "relativeCreated",
    "taskName",
    "thread",
    "threadName",
    "exc_info",
    "stack_info",
];

/// `log`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Python's level names; `INFO` unless set.
    pub level: String,
    /// What a line has.
    pub layout: Layout,
    /// `strftime`; Python's `2026-11-26 07:00:50,760` unless set.
    pub dateformat: Option<String>,
    /// Where lines go instead of stderr.
    pub file: Option<LogFile>,
    /// Lines that wait for the disk at most (`log.max_queue_size`).
    pub queue: usize,
}

/// `log.dir`: a file `patroni.log` that is replaced when it has grown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The directory.
    pub dir: PathBuf,
    /// Permissions of the files; what the process's mask leaves unless set.
    pub mode: Option<u32>,
    /// How many earlier files are kept beside it: `patroni.log.1` is the last one. With 0 it is never replaced, as with Python's.
    pub keep: usize,
    /// A line that would make the file longer than so many bytes begins a new one; 0: none does.
    pub size: u64,
}

/// What a line has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Text and fields.
    Plain(Vec<Piece>),
    /// One object a line.
    Json {
        /// Fields and the keys that they have.
        fields: Vec<(String, String)>,
        /// Keys that are the same in all lines (`log.static_fields`).
        fixed: Map<String, Value>,
    },
}

/// A part of a plain line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// A field.
    Field {
        /// Its name.
        name: String,
        /// In at least so many places; to the left where negative.
        width: i32,
        /// Zeros fill them.
        zeros: bool,
    },
}

/// One thing that is logged.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The time, formatted.
    pub asctime: &'a str,
    /// Seconds since 1970, and the milliseconds of the second.
    pub created: (i64, u32),
    /// Python's name of the level.
    pub level: &'static str,
    /// What is said.
    pub message: &'a str,
    /// Where.
    pub module: &'a str,
    /// Who.
    pub process: u32,
}

impl LogConfig {
    pub(crate) fn read(log: &Reader<'_>) -> Result<Self, ConfigError> {
        let json = match log.text("type")?.as_deref() {
            None | Some("plain") => false,
            Some("json") => true,
            Some(_) => return Err(log.error("type", "must be plain or json")),
        };
        let wrong = |message: String| log.error("format", &message);
        let layout = if json {
            let fields = match log.value("format") {
                Some(Value::Array(items)) => items.iter().map(renamed).collect::<Result<Vec<_>, _>>(),
                Some(Value::String(text)) => fields_of(text),
                None | Some(Value::Null) => fields_of(DEFAULT),
                Some(_) => Err("must be a string or a list".to_owned()),
            };
            let fields: Vec<(String, String)> = fields.map_err(wrong)?.into_iter().flatten().collect();
            for (field, _) in &fields {
                known(field).map_err(wrong)?;
            }
            Layout::Json {
                fields,
                fixed: log.section("static_fields")?.map(),
            }
        } else {
            let text = log.text("format")?.unwrap_or_else(|| DEFAULT.to_owned());
            Layout::Plain(pieces(&text).map_err(wrong)?)
        };
        Ok(LogConfig {
            level: log.text("level")?.unwrap_or_else(|| "INFO".into()),
            layout,
            dateformat: log.text("dateformat")?,
            file: LogFile::read(log)?,
            queue: usize::try_from(log.int("max_queue_size", "")?.unwrap_or(1000).clamp(1, 100_000))
                .unwrap_or(1000),
        })
    }
}

impl LogFile {
    fn read(log: &Reader<'_>) -> Result<Option<Self>, ConfigError> {
        let count = |key: &str, unit: &str, default: i64| match log.int(key, unit)? {
            Some(number) if number < 0 => Err(log.error(key, "must not be negative")),
            number => Ok(number.unwrap_or(default).unsigned_abs()),
        };
        let keep = count("file_num", "", 4)?;
        let size = count("file_size", "B", 25_000_000)?;
        let mode = match log.value("mode") {
            None | Some(Value::Null) => None,
            Some(value) => match permissions(value) {
                Some(mode) => Some(mode),
                None => return Err(log.error("mode", "must be permissions in octal, such as 0644")),
            },
        };
        let Some(dir) = log.text("dir")?.filter(|dir| !dir.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(LogFile {
            dir: PathBuf::from(dir),
            mode,
            keep: usize::try_from(keep.min(1000)).unwrap_or(4),
            size,
        }))
    }
}

/// A text in octal; YAML reads `0644` as a number, which is one already.
fn permissions(value: &Value) -> Option<u32> {
    let mode = match value {
        Value::Number(number) => u32::try_from(number.as_u64()?).ok()?,
        Value::String(text) => u32::from_str_radix(text.trim_start_matches("0o"), 8).ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (mode <= 0o7777).then_some(mode)
}

impl Layout {
    /// The line, without its end.
    #[must_use]
    pub fn line(&self, record: &Record<'_>) -> String {
        match self {
            Layout::Plain(pieces) => {
                let mut out = String::new();
                for piece in pieces {
                    // Writing to a string does not fail.
                    let _ = match piece {
                        Piece::Text(text) => out.write_str(text),
                        Piece::Field { name, width, zeros } => {
                            let value = match record.field(name) {
                                Value::String(text) => text,
                                other => other.to_string(),
                            };
                            let places = width.unsigned_abs() as usize;
                            if *zeros {
                                write!(out, "{value:0>places$}")
                            } else if *width < 0 {
                                write!(out, "{value:<places$}")
                            } else {
                                write!(out, "{value:>places$}")
                            }
                        }
                    };
                }
                out
            }
            Layout::Json { fields, fixed } => {
                let mut object = Map::new();
                for (field, key) in fields {
                    object.insert(key.clone(), record.field(field));
                }
                object.extend(fixed.clone());
                Value::Object(object).to_string()
            }
        }
    }
}

impl Record<'_> {
    fn field(&self, name: &str) -> Value {
        match name {
            "asctime" => self.asctime.into(),
            "created" => (self.created.0 as f64 + f64::from(self.created.1) / 1000.0).into(),
            "levelname" => self.level.into(),
            "levelno" => match self.level {
                "DEBUG" => 10.into(),
                "WARNING" => 30.into(),
                "ERROR" => 40.into(),
                _ => 20.into(),
            },
            "message" => self.message.into(),
            "module" => self.module.into(),
            "msecs" => self.created.1.into(),
            "process" => self.process.into(),
            "name" => "howdah".into(),
            _ => "-".into(),
        }
    }
}

fn known(field: &str) -> Result<(), String> {
    if FIELDS.contains(&field) || OF_PYTHON.contains(&field) {
        return Ok(());
    }
    Err(format!("unknown field {field}; use {}", FIELDS.join(", ")))
}

/// A list has names, or `{name: key}`.
fn renamed(item: &Value) -> Result<Vec<(String, String)>, String> {
    match item {
        Value::String(name) => Ok(vec![(name.clone(), name.clone())]),
        Value::Object(map) => map
            .iter()
            .map(|(name, key)| match key {
                Value::String(key) => Ok((name.clone(), key.clone())),
                _ => Err(format!("the key for {name} must be a string")),
            })
            .collect(),
        _ => Err("must list field names, or {name: key}".to_owned()),
    }
}

fn fields_of(text: &str) -> Result<Vec<Vec<(String, String)>>, String> {
    let fields = pieces(text)?.into_iter().filter_map(|piece| match piece {
        Piece::Field { name, .. } => Some(vec![(name.clone(), name)]),
        Piece::Text(_) => None,
    });
    Ok(fields.collect())
}

/// `%(name)s`, `%(name)-8s`, `%%`, and text.
fn pieces(format: &str) -> Result<Vec<Piece>, String> {
    let mut out = Vec::new();
    let mut rest = format;
    while let Some((text, after)) = rest.split_once('%') {
        if !text.is_empty() {
            out.push(Piece::Text(text.to_owned()));
        }
        if let Some(after) = after.strip_prefix('%') {
            out.push(Piece::Text("%".to_owned()));
            rest = after;
            continue;
        }
        let field = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        let Some((name, after)) = field else {
            return Err("a % must begin %(name)s; write %% for a percent sign".to_owned());
        };
        known(name)?;
        let width = after
            .find(|c: char| !(c.is_ascii_digit() || c == '-' || c == '.'))
            .unwrap_or(after.len());
        let (width, after) = after.split_at(width);
        let kind = after.chars().next();
        let Some(kind @ ('s' | 'd' | 'f')) = kind else {
            return Err(format!("%({name}) must end with s, d or f"));
        };
        // Digits after the point are for numbers that Python shows with six.
        let width = width.split('.').next().unwrap_or_default();
        let zeros = width.starts_with('0');
        let width = match width {
            "" | "-" => 0,
            digits => digits
                .parse::<i32>()
                .ok()
                .filter(|width| width.abs() <= 200)
                .ok_or_else(|| format!("the width after %({name}) must be between -200 and 200"))?,
        };
        out.push(Piece::Field {
            name: name.to_owned(),
            width,
            zeros,
        });
        rest = after.strip_prefix(kind).unwrap_or_default();
    }
    if !rest.is_empty() {
        out.push(Piece::Text(rest.to_owned()));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(log: &Value) -> Result<String, String> {
        let root = json!({ "log": log });
        let map = root.as_object().cloned().unwrap();
        let section = Reader::root(&map, &crate::places::NOWHERE)
            .section("log")
            .unwrap();
        let config = LogConfig::read(&section).map_err(|error| error.to_string())?;
        Ok(config.layout.line(&Record {
            asctime: "T",
            created: (1, 20),
            level: "INFO",
            message: "it \"works\"",
            module: "agent",
            process: 7,
        }))
    }

    #[test]
    fn formats_are_pythons() {
        for (log, expected) in [
            (json!({}), r#"T INFO: it "works""#),
            (
                json!({"format": "%(levelname)-8s|%(process)5d|%(message)s 100%%"}),
                r#"INFO    |    7|it "works" 100%"#,
            ),
            (
                json!({"format": "%(created)f %(msecs)03d %(levelno)s %(name)s %(threadName)s"}),
                "1.02 020 20 howdah -",
            ),
            (
                json!({"type": "json"}),
                r#"{"asctime":"T","levelname":"INFO","message":"it \"works\""}"#,
            ),
            (
                json!({"type": "json", "format": ["message", {"levelname": "level"}], "static_fields": {"app": "db"}}),
                r#"{"message":"it \"works\"","level":"INFO","app":"db"}"#,
            ),
        ] {
            assert_eq!(line(&log).as_deref(), Ok(expected), "{log}");
        }
    }

    fn file(log: Value) -> Result<Option<LogFile>, String> {
        let map = json!({ "log": log }).as_object().cloned().unwrap();
        let section = Reader::root(&map, &crate::places::NOWHERE)
            .section("log")
            .unwrap();
        LogFile::read(&section).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_has_patronis_defaults() {
        let expected = |mode, size| LogFile {
            dir: PathBuf::from("/var/log/patroni"),
            mode,
            keep: 4,
            size,
        };
        let dir = "/var/log/patroni";
        assert_eq!(file(json!({ "dir": dir })), Ok(Some(expected(None, 25_000_000))));
        let set = json!({"dir": dir, "mode": "0640", "file_size": "1MB"});
        assert_eq!(file(set), Ok(Some(expected(Some(0o640), 1024 * 1024))));
        // YAML reads 0640 as a number in octal.
        assert_eq!(
            file(json!({"dir": dir, "mode": 0o640})).unwrap().unwrap().mode,
            Some(0o640)
        );
        assert_eq!(file(json!({"file_size": 1})), Ok(None));
        for wrong in [
            json!({"mode": "rw"}),
            json!({"mode": 99999}),
            json!({"file_num": -1}),
            json!({"file_size": "much"}),
        ] {
            assert!(file(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_format_is_refused_with_its_place() {
        for log in [
            json!({"format": "%(levelName)s"}),
            json!({"format": "100%"}),
            json!({"format": "%(message)x"}),
            json!({"format": "%(message)99999s"}),
            json!({"type": "xml"}),
            json!({"type": "json", "format": [1]}),
            json!({"type": "json", "format": [{"message": 1}]}),
        ] {
            let error = line(&log).unwrap_err();
            assert!(error.contains("log."), "{log}: {error}");
        }
    }
}
