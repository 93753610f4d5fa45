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

/// The password that a `.pgpass` file has for this, as libpq looks it up: the first line whose fields all fit, `*` fitting
/// anything.
#[must_use]
pub fn pgpass_password(text: &str, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let port = port.to_string();
    let wanted = [host, &port, database, user];
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let fields = pgpass_fields(line);
            let (fields, password) = (fields.get(..wanted.len())?, fields.get(wanted.len())?);
            let fits = fields
                .iter()
                .zip(wanted)
                .all(|(field, wanted)| field == "*" || field == wanted);
            fits.then(|| password.clone())
        })
}

/// The fields of a line.
fn pgpass_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match fields.last_mut() {
            _ if c == ':' => fields.push(String::new()),
            Some(field) if c == '\\' => field.extend(chars.next()),
            Some(field) => field.push(c),
            None => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_as_libpq_finds_it() {
        let text = "# comment\nother:5432:*:*:no\n*:5432:db:u\\:1:a\\:b\n*:*:*:*:any\n";
        let look = |host, port, database, user| pgpass_password(text, host, port, database, user);
        assert_eq!(look("h", 5432, "db", "u:1").as_deref(), Some("a:b"));
        assert_eq!(look("h", 5433, "db", "u:1").as_deref(), Some("any"));
        assert_eq!(look("other", 5432, "x", "y").as_deref(), Some("no"));
        assert_eq!(pgpass_password("a:b", "a", 1, "d", "u"), None);
        let line = pgpass_line("h", 1, "d", "u", r"p:\w");
        assert_eq!(pgpass_password(&line, "h", 1, "d", "u").as_deref(), Some(r"p:\w"));
    }

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
