use howdah_pgconf::parse_number;
use serde_json::{Map, Value};

use crate::{ConfigError, Places};

impl ConfigError {
    /// The same mistake, of a mapping that stands in a file below this path.
    #[must_use]
    pub fn below(self, prefix: &str, places: &Places) -> Self {
        match self {
            ConfigError::Value { path, message, .. } => {
                let path = format!("{prefix}.{path}");
                ConfigError::Value {
                    place: places.nearest(&path).cloned(),
                    path,
                    message,
                }
            }
            syntax @ ConfigError::Syntax { .. } => syntax,
        }
    }
}

/// Reads typed values from one mapping and remembers where it is, for errors.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    places: &'a Places,
}

impl<'a> Reader<'a> {
    pub(crate) fn root(map: &'a Map<String, Value>, places: &'a Places) -> Self {
        Reader {
            path: String::new(),
            map: Some(map),
            places,
        }
    }

    /// The mapping below `key`; one that is absent or null reads as empty.
    pub(crate) fn section(&self, key: &str) -> Result<Reader<'a>, ConfigError> {
        let map = match self.value(key) {
            None => None,
            Some(Value::Object(map)) => Some(map),
            Some(_) => return Err(self.error(key, "must be a mapping")),
        };
        Ok(Reader {
            path: self.join(key),
            map,
            places: self.places,
        })
    }

    pub(crate) fn exists(&self) -> bool {
        self.map.is_some()
    }

    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map?.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn map(&self) -> Map<String, Value> {
        self.map.cloned().unwrap_or_default()
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(_) | Value::Array(_)) => Err(self.error(key, "must be a single value")),
            Some(Value::Bool(flag)) => Ok(Some(flag.to_string())),
            Some(value) => Ok(Some(crate::string_form(value))),
        }
    }

    pub(crate) fn required(&self, key: &str) -> Result<String, ConfigError> {
        self.text(key)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.error(key, "is required and missing"))
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => parse_bool(value)
                .map(Some)
                .ok_or_else(|| self.error(key, "must be true or false")),
        }
    }

    /// An integer; `unit` is the unit of the result, and the text may carry another one (`30min` for `s`).
    pub(crate) fn int(&self, key: &str, unit: &str) -> Result<Option<i64>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => parse_int(value, unit)
                .map(Some)
                .ok_or_else(|| self.error(key, "must be a number")),
        }
    }

    /// A list of texts; a single text is split at commas.
    pub(crate) fn list(&self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items.iter().map(crate::string_form).collect())),
            Some(Value::String(text)) => Ok(Some(
                text.split(',')
                    .map(|item| item.trim().to_owned())
                    .filter(|i| !i.is_empty())
                    .collect(),
            )),
            Some(_) => Err(self.error(key, "must be a list")),
        }
    }

    /// A list of configuration lines, such as `pg_hba`, where commas belong to the line.
    pub(crate) fn lines(&self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items.iter().map(crate::string_form).collect())),
            Some(Value::String(text)) => Ok(Some(text.lines().map(str::to_owned).collect())),
            Some(_) => Err(self.error(key, "must be a list of lines")),
        }
    }

    pub(crate) fn error(&self, key: &str, message: &str) -> ConfigError {
        let path = self.join(key);
        ConfigError::Value {
            place: self.places.nearest(&path).cloned(),
            path,
            message: message.to_owned(),
        }
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// A boolean in any of PostgreSQL's spellings.
#[must_use]
pub fn parse_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(n) => match n.as_i64() {
            Some(1) => Some(true),
            Some(0) => Some(false),
            _ => None,
        },
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Some(true),
            "off" | "false" | "no" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// An integer that may be a text, hexadecimal, octal, or carry a unit that converts to `unit`.
#[must_use]
pub fn parse_int(value: &Value, unit: &str) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().map(|f| f.round() as i64)),
        Value::String(text) => parse_number(text, unit).map(|n| n.round() as i64),
        _ => None,
    }
}
