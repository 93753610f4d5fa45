use std::fmt;

/// A libpq connection string in `key=value` form, quoted by libpq's rules. Order of insertion is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conninfo(Vec<(String, String)>);

impl Conninfo {
    /// Adds a setting; an empty value is left out, because libpq would take it as "use the default".
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.0.push((key.to_owned(), value));
        }
        self
    }

    /// The value of a setting.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            let plain = value
                .chars()
                .all(|c| !c.is_whitespace() && c != '\'' && c != '\\');
            if plain {
                write!(f, "{key}={value}")?;
            } else {
                write!(f, "{key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))?;
            }
        }
        Ok(())
    }
}

/// One line of a `.pgpass` file: fields separated by `:`, with `:` and `\` escaped.
#[must_use]
pub fn pgpass_line(host: &str, port: u16, database: &str, user: &str, password: &str) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
    format!(
        "{}:{port}:{}:{}:{}\n",
        escape(host),
        escape(database),
        escape(user),
        escape(password)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_for_libpq() {
        let dsn = Conninfo::default()
            .with("host", "10.0.0.1")
            .with("password", r"it's a \")
            .with("user", "");
        assert_eq!(dsn.to_string(), r"host=10.0.0.1 password='it\'s a \\'");
    }

    #[test]
    fn pgpass_escapes_colons() {
        assert_eq!(
            pgpass_line("h", 5432, "*", "u", r"a:b\"),
            "h:5432:*:u:a\\:b\\\\\n"
        );
    }
}
